"""The plant: what one site's GPUs do with the traffic that comes and the power that they may draw (design, 7).

`step` is the physics, values in and values out. `SitePlant` keeps a site's state and turns it into records.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from schemas.fleet import GpuModel, Pool, ServiceClass, Site
from schemas.requests import RequestRates
from schemas.telemetry import TelemetryFrame
from streams.simulate.curves import interpolate
from streams.simulate.demand import Capacity, ClassDemand, SiteDemand, capacity
from streams.simulate.readings import ClassFlow, GpuTraits, PoolFlow, request_rates, telemetry_frames

BLANK_RATIO = 0.0005
_NOTHING = ClassDemand()
_LIFTED_RATIO = 0.999  # a cap that rises to nothing is gone when so much of full power is allowed


@dataclass(frozen=True, slots=True)
class PlantTruth:
    """What is true of a site and not in the fleet file.

    `pue` (None: as the file says); `actuator_lag_seconds`, first order: how slowly the caps in effect follow the one
    that was set; `curve_error_ratio`: power drawn under a cap is so much above it; the meter reads `meter_factor` times
    the power at it, with normal noise of `meter_noise_ratio`.
    """

    pue: float | None = None
    actuator_lag_seconds: float = 2.0
    meter_noise_ratio: float = 0.003
    curve_error_ratio: float = 0.0
    meter_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class PlantModel:
    """What of a site does not change: its pools with their GPU models, its capacity, its classes by flex.

    `flexible` are the classes of Flex 1 and above; `max_it_power_watts` is IT power with every GPU at full load.
    """

    site: Site
    pools: tuple[tuple[Pool, GpuModel], ...]
    capacity: Capacity
    classes: tuple[str, ...]
    flexible: frozenset[str]
    max_it_power_watts: float
    pue: float
    curve_error_ratio: float

    @classmethod
    def of(
        cls,
        site: Site,
        models: Sequence[GpuModel],
        classes: Sequence[ServiceClass],
        truth: PlantTruth = PlantTruth(),
    ) -> "PlantModel":
        """The model of a site. Classes are served in the order of their flex, Flex 0 first, then as given.

        Raises:
            KeyError: a pool's GPU model is not among `models`.
        """
        by_id = {model.id: model for model in models}
        order = tuple(service.id for service in sorted(classes, key=lambda service: service.flex))
        pools = tuple((pool, by_id[pool.gpu_model]) for pool in site.pools)
        return cls(
            site,
            pools,
            capacity(site, models),
            order,
            frozenset(service.id for service in classes if service.flex > 0),
            sum(pool.gpus * model.max_power_watts for pool, model in pools),
            site.pue if truth.pue is None else truth.pue,
            truth.curve_error_ratio,
        )


@dataclass(frozen=True, slots=True)
class PlantState:
    """What waits, by service class, and the energy that the mean GPU of each pool has used."""

    queues: Mapping[str, ClassDemand]
    gpu_energy_joules: tuple[float, ...]

    @classmethod
    def empty(cls, model: PlantModel) -> "PlantState":
        """Nothing waits, every counter at 0."""
        return cls(dict.fromkeys(model.classes, _NOTHING), (0.0,) * len(model.pools))


@dataclass(frozen=True, slots=True)
class PlantFlow:
    """What happened over one step. Powers are means over it; the meter's is without noise."""

    pools: tuple[PoolFlow, ...]
    classes: Mapping[str, ClassFlow]
    it_power_watts: float
    meter_power_watts: float


def step(
    model: PlantModel,
    state: PlantState,
    demand: SiteDemand,
    power_cap_watts: float | None,
    dt_seconds: float,
    admission_ratio: float = 1.0,
) -> tuple[PlantState, PlantFlow]:
    """The site over `dt_seconds`, held to `power_cap_watts` at the meter (None: no cap).

    The cap reaches every GPU as the same share of its model's full power, by the PUE of the fleet file. The balancer
    loads pools by their uncapped capacity; a pool serves min(desired load, cap_throughput(cap)) and draws max(idle,
    min(cap, load_power(load))): a cap below idle can't be met. Of what arrives for flexible classes `admission_ratio`
    is let in and the rest turned away. What is not served waits; arrived + queued before = served + queued after +
    refused, exactly.

    Raises:
        ValueError: `dt_seconds` is not positive, the cap is negative, or a class is not known to the site.
    """
    if dt_seconds <= 0 or (power_cap_watts is not None and power_cap_watts < 0):
        raise ValueError("dt_seconds must be positive and power_cap_watts not negative")
    if unknown := demand.keys() - state.queues.keys():
        raise ValueError(f"{model.site.id}: unknown service class {min(unknown)!r}")
    admitted = _admitted(model, demand, admission_ratio)
    pending = {name: _sum(state.queues[name], admitted.get(name, _NOTHING)) for name in model.classes}
    can = model.capacity
    work = {name: _work(each, can) for name, each in pending.items()}
    wanted = sum(work.values()) / (can.tokens_per_second * dt_seconds)
    share = None if power_cap_watts is None else power_cap_watts / model.site.pue / model.max_it_power_watts
    pools = tuple(_pool_flow(model, gpu, wanted, share) for _, gpu in model.pools)
    served = _serve(model, pending, work, pools, wanted, dt_seconds)
    speed = can.tokens_per_second / model.site.gpus * min(flow.throughput_ratio for flow in pools)
    rest, classes = {}, {}
    for name, did in served.items():
        arrived = demand.get(name, _NOTHING)
        rest[name] = _NOTHING if did is pending[name] else pending[name] - did
        let_in = admitted.get(name, _NOTHING)
        classes[name] = ClassFlow(
            arrived,
            did,
            rest[name],
            _NOTHING if let_in is arrived else arrived - let_in,
            _waits(can, state.queues[name], did, rest[name], dt_seconds),
            # Prefill of the mean prompt runs on one GPU at the speed that the cap leaves.
            did.prompt_tokens / max(1, did.requests) * can.prompt_token_cost_ratio / speed if speed > 0 else 0.0,
        )
    it_power = sum(pool.gpus * flow.power_watts for (pool, _), flow in zip(model.pools, pools, strict=True))
    energy = tuple(
        joules + flow.power_watts * dt_seconds for joules, flow in zip(state.gpu_energy_joules, pools, strict=True)
    )
    return PlantState(rest, energy), PlantFlow(pools, classes, it_power, it_power * model.pue)


def _admitted(model: PlantModel, demand: SiteDemand, admission_ratio: float) -> SiteDemand:
    if admission_ratio >= 1:
        return demand
    return {name: each.share(admission_ratio) if name in model.flexible else each for name, each in demand.items()}


def _sum(queued: ClassDemand, arriving: ClassDemand) -> ClassDemand:
    # Mostly nothing waits, and a sum costs as much as all the rest of a class's step.
    return arriving if queued is _NOTHING else queued + arriving


def _work(demand: ClassDemand, can: Capacity) -> float:
    return demand.tokens + can.prompt_token_cost_ratio * demand.prompt_tokens


def _pool_flow(model: PlantModel, gpu: GpuModel, wanted_load_ratio: float, share: float | None) -> PoolFlow:
    if share is None:
        load = min(wanted_load_ratio, 1.0)
        return PoolFlow(interpolate(gpu.load_power, load) * gpu.max_power_watts, load, 1.0)
    cap_watts = share * gpu.max_power_watts
    throughput = interpolate(gpu.cap_throughput, cap_watts)
    load = min(wanted_load_ratio, throughput)
    power = interpolate(gpu.load_power, load) * gpu.max_power_watts
    idle = gpu.load_power[0][1] * gpu.max_power_watts
    return PoolFlow(max(idle, min(cap_watts * (1 + model.curve_error_ratio), power)), load, throughput)


def _serve(
    model: PlantModel,
    pending: dict[str, ClassDemand],
    work: Mapping[str, float],
    pools: Sequence[PoolFlow],
    wanted_load_ratio: float,
    dt_seconds: float,
) -> dict[str, ClassDemand]:
    """What is served of each class: all of it, or as much as the pools can, Flex 0 first."""
    if all(wanted_load_ratio <= flow.throughput_ratio for flow in pools):
        return pending
    budget = dt_seconds * sum(
        flow.load_ratio * pool.gpus * gpu.tokens_per_second
        for (pool, gpu), flow in zip(model.pools, pools, strict=True)
    )
    served = {}
    for name in model.classes:
        served[name] = pending[name].share(budget / work[name] if work[name] > budget else 1.0)
        budget = max(0.0, budget - _work(served[name], model.capacity))
    return served


def _waits(
    can: Capacity, queued: ClassDemand, served: ClassDemand, rest: ClassDemand, dt_seconds: float
) -> tuple[float, float]:
    """First come, first served at the rate of this step: the waits run from the queue's before to the queue's after."""
    if queued is _NOTHING and rest is _NOTHING:
        return (0.0, 0.0)
    work = _work(served, can)
    return (dt_seconds * _work(queued, can) / work, dt_seconds * _work(rest, can) / work) if work > 0 else (0.0, 0.0)


@dataclass(slots=True)
class SitePlant:
    """One site's plant as the shells drive it: set the cap, advance by a step, read what came of it.

    Nothing here reads a clock: the same seed and the same calls give the same records.
    """

    model: PlantModel
    state: PlantState
    traits: tuple[GpuTraits, ...]
    rng: np.random.Generator
    truth: PlantTruth = PlantTruth()
    power_cap_watts: float | None = None
    cap_in_effect_watts: float | None = None
    admission_ratio: float = 1.0
    shifts: dict[str, dict[str, float]] = field(default_factory=dict)
    sequence: int = -1
    flow: PlantFlow | None = None
    meter_power_watts: float | None = None

    @classmethod
    def start(
        cls,
        site: Site,
        models: Sequence[GpuModel],
        classes: Sequence[ServiceClass],
        seed: int,
        truth: PlantTruth = PlantTruth(),
    ) -> "SitePlant":
        """A site with nothing waiting and no cap. One seed serves all sites: each mixes its name in.

        Raises:
            KeyError: a pool's GPU model is not among `models`.
        """
        rng = np.random.default_rng([seed, zlib.crc32(site.id.encode())])
        model = PlantModel.of(site, models, classes, truth)
        traits = tuple(GpuTraits.draw(pool.gpus, rng) for pool in site.pools)
        return cls(model, PlantState.empty(model), traits, rng, truth)

    def set_power_cap(self, watts: float | None) -> None:
        """Holds the meter at or below `watts` from the next step on, lag, error and noise aside; None lifts the cap.

        Raises:
            ValueError: `watts` is negative or not finite.
        """
        if watts is not None and not 0 <= watts < float("inf"):
            raise ValueError(f"{self.model.site.id}: a cap must be finite and not negative, not {watts}")
        self.power_cap_watts = watts

    def set_admission(self, ratio: float) -> None:
        """Lets in so much (0–1) of the requests that arrive for classes of Flex 1 and above; Flex 0 always.

        Raises:
            ValueError: it is no ratio.
        """
        if not 0 <= ratio <= 1:
            raise ValueError(f"{self.model.site.id}: an admission must be between 0 and 1, not {ratio}")
        self.admission_ratio = ratio

    def set_shift(self, service_class: str, to_site: str, share_ratio: float) -> None:
        """Sends a share (0–1) of the class's arriving traffic to another site; 0 ends it. `route` does the moving.

        Raises:
            ValueError: the class is unknown, the site is this one, or the shares of the class would exceed 1.
        """
        site_id = self.model.site.id
        targets = {**self.shifts.get(service_class, {}), to_site: share_ratio}
        if service_class not in self.model.classes or to_site == site_id:
            raise ValueError(f"{site_id}: can't shift {service_class!r} to {to_site!r}")
        if not 0 <= share_ratio <= 1 or sum(targets.values()) > 1 + 1e-9:
            raise ValueError(f"{site_id}/{service_class}: shares must be 0 or more and add up to 1 at most")
        self.shifts[service_class] = {name: ratio for name, ratio in targets.items() if ratio > 0}

    def tick(self, demand: SiteDemand, interval_seconds: float) -> PlantFlow:
        """Advances by one step without making records; reads the meter (with its noise).

        Raises:
            ValueError: as `step`.
        """
        cap = self._cap_over(interval_seconds)
        self.state, flow = step(self.model, self.state, demand, cap, interval_seconds, self.admission_ratio)
        reads = self.truth.meter_factor * (1 + self.truth.meter_noise_ratio * float(self.rng.standard_normal()))
        self.sequence, self.flow = self.sequence + 1, flow
        self.meter_power_watts = max(0.0, flow.meter_power_watts * reads)
        return flow

    def _cap_over(self, seconds: float) -> float | None:
        """The mean over the step of the cap in effect, which follows the one that was set; moves it by the step."""
        lag, commanded, before = self.truth.actuator_lag_seconds, self.power_cap_watts, self.cap_in_effect_watts
        if lag <= 0 or seconds <= 0 or (commanded is None and before is None):
            self.cap_in_effect_watts = commanded
            return commanded
        most = self.model.max_it_power_watts * self.model.site.pue
        goal = most if commanded is None else commanded
        if before is None:
            # It takes hold from what is drawn, at once where nothing has run yet.
            drawn = goal if self.flow is None else self.flow.it_power_watts * self.model.site.pue
            before = max(goal, drawn)
        left = math.exp(-seconds / lag)
        after = goal + (before - goal) * left
        self.cap_in_effect_watts = None if commanded is None and after >= most * _LIFTED_RATIO else after
        return goal + (before - goal) * (1 - left) * lag / seconds

    def advance(
        self, demand: SiteDemand, interval_seconds: float, observed_at: datetime, run_id: str
    ) -> tuple[list[TelemetryFrame], RequestRates]:
        """Advances by one step that ends at `observed_at` (aware UTC) and gives its records.

        `demand` is what arrives after `route`. Frames: one per pool and 256 GPUs, the first one with the meter.

        Raises:
            ValueError: as `step`.
        """
        flow = self.tick(demand, interval_seconds)
        stamp = (self.sequence, observed_at, interval_seconds, run_id)
        frames = telemetry_frames(
            self.model.site,
            flow.pools,
            [gpu for _, gpu in self.model.pools],
            self.state.gpu_energy_joules,
            self.traits,
            self.meter_power_watts,
            stamp,
            self.rng,
            BLANK_RATIO,
        )
        return frames, request_rates(self.model.site.id, flow.classes, stamp)
