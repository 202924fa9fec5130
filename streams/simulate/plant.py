"""The plant: what one site's GPUs do with the traffic that comes and the power that they may draw (design, 7).

`step` is the physics, values in and values out. `SitePlant` keeps a site's state and turns it into records.
"""

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
from streams.simulate.readings import ClassFlow, GpuTraits, PoolFlow, request_rates, telemetry_frames, ttft_counts

METER_NOISE_RATIO = 0.003
BLANK_RATIO = 0.0005


@dataclass(frozen=True, slots=True)
class PlantModel:
    """What of a site does not change: its pools with their GPU models, its capacity, its classes by flex."""

    site: Site
    pools: tuple[tuple[Pool, GpuModel], ...]
    capacity: Capacity
    classes: tuple[str, ...]

    @classmethod
    def of(cls, site: Site, models: Sequence[GpuModel], classes: Sequence[ServiceClass]) -> "PlantModel":
        """The model of a site. Classes are served in the order of their flex, Flex 0 first, then as given.

        Raises:
            KeyError: a pool's GPU model is not among `models`.
        """
        by_id = {model.id: model for model in models}
        order = tuple(service.id for service in sorted(classes, key=lambda service: service.flex))
        pools = tuple((pool, by_id[pool.gpu_model]) for pool in site.pools)
        return cls(site, pools, capacity(site, models), order)

    @property
    def max_it_power_watts(self) -> float:
        """IT power with every GPU at full load."""
        return sum(pool.gpus * model.max_power_watts for pool, model in self.pools)


@dataclass(frozen=True, slots=True)
class PlantState:
    """What waits, by service class, and the energy that the mean GPU of each pool has used."""

    queues: Mapping[str, ClassDemand]
    gpu_energy_joules: tuple[float, ...]

    @classmethod
    def empty(cls, model: PlantModel) -> "PlantState":
        """Nothing waits, every counter at 0."""
        return cls(dict.fromkeys(model.classes, ClassDemand()), (0.0,) * len(model.pools))


@dataclass(frozen=True, slots=True)
class PlantFlow:
    """What happened over one step. Powers are means over it; the meter's is without noise."""

    pools: tuple[PoolFlow, ...]
    classes: Mapping[str, ClassFlow]
    it_power_watts: float
    meter_power_watts: float


def step(
    model: PlantModel, state: PlantState, demand: SiteDemand, power_cap_watts: float | None, dt_seconds: float
) -> tuple[PlantState, PlantFlow]:
    """The site over `dt_seconds`, held to `power_cap_watts` at the meter (None: no cap).

    The cap reaches every GPU as the same share of its model's full power. The balancer loads pools by their uncapped
    capacity; a pool serves min(desired load, cap_throughput(cap)) and draws max(idle, min(cap, load_power(load))):
    a cap below idle can't be met. What is not served waits; arrived + queued before = served + queued after, exactly.

    Raises:
        ValueError: `dt_seconds` is not positive, the cap is negative, or a class is not known to the site.
    """
    if dt_seconds <= 0 or (power_cap_watts is not None and power_cap_watts < 0):
        raise ValueError("dt_seconds must be positive and power_cap_watts not negative")
    if unknown := demand.keys() - state.queues.keys():
        raise ValueError(f"{model.site.id}: unknown service class {min(unknown)!r}")
    pending = {name: state.queues[name] + demand.get(name, ClassDemand()) for name in model.classes}
    can = model.capacity
    wanted = sum(_work(each, can) for each in pending.values()) / (can.tokens_per_second * dt_seconds)
    share = None if power_cap_watts is None else power_cap_watts / model.site.pue / model.max_it_power_watts
    pools = tuple(
        _pool_flow(gpu, wanted, None if share is None else share * gpu.max_power_watts) for _, gpu in model.pools
    )
    served = _serve(model, pending, pools, wanted, dt_seconds)
    rest = {name: pending[name] - served[name] for name in model.classes}
    classes = {
        name: ClassFlow(
            arrived=demand.get(name, ClassDemand()),
            served=served[name],
            queued=rest[name],
            ttft_counts=_ttft(model, state.queues[name], served[name], rest[name], pools, dt_seconds),
        )
        for name in model.classes
    }
    it_power = sum(pool.gpus * flow.power_watts for (pool, _), flow in zip(model.pools, pools, strict=True))
    energy = tuple(
        joules + flow.power_watts * dt_seconds for joules, flow in zip(state.gpu_energy_joules, pools, strict=True)
    )
    return PlantState(rest, energy), PlantFlow(pools, classes, it_power, it_power * model.site.pue)


def _work(demand: ClassDemand, can: Capacity) -> float:
    return demand.tokens + can.prompt_token_cost_ratio * demand.prompt_tokens


def _pool_flow(gpu: GpuModel, wanted_load_ratio: float, cap_watts: float | None) -> PoolFlow:
    idle = gpu.load_power[0][1] * gpu.max_power_watts
    throughput = 1.0 if cap_watts is None else interpolate(gpu.cap_throughput, cap_watts)
    load = min(wanted_load_ratio, throughput)
    power = interpolate(gpu.load_power, load) * gpu.max_power_watts
    if cap_watts is not None:
        power = max(idle, min(cap_watts, power))
    return PoolFlow(power, load, throughput)


def _serve(
    model: PlantModel,
    pending: Mapping[str, ClassDemand],
    pools: Sequence[PoolFlow],
    wanted_load_ratio: float,
    dt_seconds: float,
) -> dict[str, ClassDemand]:
    """What is served of each class: all of it, or as much as the pools can, Flex 0 first."""
    if all(wanted_load_ratio <= flow.throughput_ratio for flow in pools):
        return dict(pending)
    budget = dt_seconds * sum(
        flow.load_ratio * pool.gpus * gpu.tokens_per_second
        for (pool, gpu), flow in zip(model.pools, pools, strict=True)
    )
    served = {}
    for name in model.classes:
        work = _work(pending[name], model.capacity)
        served[name] = pending[name].share(budget / work if work > budget else 1.0)
        budget = max(0.0, budget - _work(served[name], model.capacity))
    return served


def _ttft(
    model: PlantModel,
    queued: ClassDemand,
    served: ClassDemand,
    rest: ClassDemand,
    pools: Sequence[PoolFlow],
    dt_seconds: float,
) -> list[int]:
    """First come, first served at the rate of this step: the waits run from the queue's before to the queue's after.

    Prefill of the mean prompt runs on one GPU at the speed that the cap leaves.
    """
    can, work = model.capacity, _work(served, model.capacity)
    waits = (dt_seconds * _work(queued, can) / work, dt_seconds * _work(rest, can) / work) if work > 0 else (0.0, 0.0)
    speed = can.tokens_per_second / model.site.gpus * min(flow.throughput_ratio for flow in pools)
    prompt = served.prompt_tokens / max(1, served.requests)
    prefill = prompt * can.prompt_token_cost_ratio / speed if speed > 0 else 0.0
    return ttft_counts(served.requests, waits, prefill)


@dataclass(slots=True)
class SitePlant:
    """One site's plant as the shells drive it: set the cap, advance by a step, read what came of it.

    Nothing here reads a clock: the same seed and the same calls give the same records.
    """

    model: PlantModel
    state: PlantState
    traits: tuple[GpuTraits, ...]
    rng: np.random.Generator
    power_cap_watts: float | None = None
    shifts: dict[str, dict[str, float]] = field(default_factory=dict)
    sequence: int = -1
    flow: PlantFlow | None = None
    meter_power_watts: float | None = None

    @classmethod
    def start(cls, site: Site, models: Sequence[GpuModel], classes: Sequence[ServiceClass], seed: int) -> "SitePlant":
        """A site with nothing waiting and no cap. One seed serves all sites: each mixes its name in.

        Raises:
            KeyError: a pool's GPU model is not among `models`.
        """
        rng = np.random.default_rng([seed, zlib.crc32(site.id.encode())])
        model = PlantModel.of(site, models, classes)
        return cls(model, PlantState.empty(model), tuple(GpuTraits.draw(pool.gpus, rng) for pool in site.pools), rng)

    def set_power_cap(self, watts: float | None) -> None:
        """Holds the meter at or below `watts` from the next step on, noise aside; None lifts the cap.

        Raises:
            ValueError: `watts` is negative or not finite.
        """
        if watts is not None and not 0 <= watts < float("inf"):
            raise ValueError(f"{self.model.site.id}: a cap must be finite and not negative, not {watts}")
        self.power_cap_watts = watts

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
        self.state, flow = step(self.model, self.state, demand, self.power_cap_watts, interval_seconds)
        noise = 1 + METER_NOISE_RATIO * float(self.rng.standard_normal())
        self.sequence, self.flow, self.meter_power_watts = self.sequence + 1, flow, flow.meter_power_watts * noise
        return flow

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
