"""What the plant's instruments say: GPU frames, request counts and latencies, as records of the bus."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import GpuModel, Pool, Site
from schemas.latency import BUCKETS, LATENCY_BOUNDS_SECONDS
from schemas.requests import ClassRequests, RequestRates
from schemas.telemetry import TelemetryFrame
from streams.simulate.demand import ClassDemand

GPUS_PER_FRAME = 256

_GPU_SPREAD_RATIO = 0.03
_PROMPT_SIGMA = 1.0  # log-normal; Azure's 2023 conversation trace has 0.99, its code trace 1.36
_POINTS = 20
_PREFILL_FACTORS = tuple(
    # Mean 1: exp(sigma z - sigma^2 / 2) at the middles of 20 equal parts.
    float(np.exp(_PROMPT_SIGMA * NormalDist().inv_cdf((point + 0.5) / _POINTS) - _PROMPT_SIGMA**2 / 2))
    for point in range(_POINTS)
)

# Sequence number, time observed, seconds between two, run.
Stamp = tuple[int, datetime, float, str]


@dataclass(frozen=True, slots=True)
class PoolFlow:
    """One pool over one step: power of its mean GPU, share of full throughput served, and the most it could."""

    power_watts: float
    load_ratio: float
    throughput_ratio: float

    @property
    def busy_ratio(self) -> float:
        """How much of what the cap leaves is used."""
        return self.load_ratio / self.throughput_ratio if self.throughput_ratio > 0 else 1.0


@dataclass(frozen=True, slots=True)
class ClassFlow:
    """One service class over one step: arrived, served, waiting at the end, turned away of what arrived.

    What was served waited between the two `wait_seconds`, and the mean prompt then took `prefill_seconds`.
    """

    arrived: ClassDemand
    served: ClassDemand
    queued: ClassDemand
    refused: ClassDemand
    wait_seconds: tuple[float, float]
    prefill_seconds: float

    @property
    def ttft_counts(self) -> list[int]:
        """Served requests by time to first token, in the buckets of LATENCY_BOUNDS_SECONDS."""
        return ttft_counts(self.served.requests, self.wait_seconds, self.prefill_seconds)

    def late_requests(self, objective_seconds: float) -> int:
        """Of the served requests, how many had their first token later than `objective_seconds`."""
        low, high = min(self.wait_seconds), max(self.wait_seconds)
        if high + self.prefill_seconds * _PREFILL_FACTORS[-1] <= objective_seconds:
            return 0
        if low + self.prefill_seconds * _PREFILL_FACTORS[0] > objective_seconds:
            return self.served.requests
        points = ttft_points(self.served.requests, self.wait_seconds, self.prefill_seconds)
        return sum(requests for ttft, requests in points if ttft > objective_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class GpuTraits:
    """How each GPU of a pool differs from their mean, for good: arrays of one place per GPU."""

    power_factor: NDArray[np.float64]
    memory_used_ratio: NDArray[np.float64]
    warmth_celsius: NDArray[np.float64]

    @classmethod
    def draw(cls, gpus: int, rng: np.random.Generator) -> "GpuTraits":
        """Traits for `gpus` GPUs; the power factors' mean is 1, so that sums are kept."""
        factors = 1 + np.clip(rng.normal(0, _GPU_SPREAD_RATIO, gpus), -0.09, 0.09)
        # Serving engines take their share of the memory at the start, whatever the load.
        return cls(factors / factors.mean(), rng.uniform(0.88, 0.92, gpus), rng.normal(0, 2, gpus))


def telemetry_frames(
    site: Site,
    flows: Sequence[PoolFlow],
    models: Sequence[GpuModel],
    gpu_energy_joules: Sequence[float],
    traits: Sequence[GpuTraits],
    meter_power_watts: float | None,
    stamp: Stamp,
    rng: np.random.Generator,
    blank_ratio: float,
) -> list[TelemetryFrame]:
    """Frames of all pools, at most 256 GPUs each; every 256 have their own exporter (source). Blanks are null.

    The temperature follows the power: 32 °C idle air plus 45 K at full power (a choice, not a measurement).
    """
    frames: list[TelemetryFrame] = []
    for pool, flow, gpu, energy, own in zip(site.pools, flows, models, gpu_energy_joules, traits, strict=True):
        power = flow.power_watts * own.power_factor
        columns = {
            "power_watts": power.round(3),
            "energy_joules": (energy * own.power_factor).round(3),
            "utilization_ratio": np.full(pool.gpus, round(flow.busy_ratio, 4)),
            "memory_used_ratio": own.memory_used_ratio.round(4),
            "temperature_celsius": (32 + 45 * power / gpu.max_power_watts + own.warmth_celsius).round(1),
        }
        for first, part in _parts(pool, columns, rng, blank_ratio):
            meter = meter_power_watts if not frames else None
            frames.append(_frame(site.id, pool.id, first, part, meter, stamp))
    return frames


def _parts(
    pool: Pool, columns: Mapping[str, NDArray[np.float64]], rng: np.random.Generator, blank_ratio: float
) -> Iterator[tuple[int, dict[str, list[float | None]]]]:
    blank = rng.random((len(columns), pool.gpus)) < blank_ratio
    lists: dict[str, list[float | None]] = {name: values.tolist() for name, values in columns.items()}
    names = list(lists)
    for column, place in np.argwhere(blank).tolist():
        lists[names[column]][place] = None
    for first in range(0, pool.gpus, GPUS_PER_FRAME):
        yield first, {name: values[first : first + GPUS_PER_FRAME] for name, values in lists.items()}


def _frame(
    site_id: str,
    pool_id: str,
    first_gpu: int,
    columns: dict[str, list[float | None]],
    meter_power_watts: float | None,
    stamp: Stamp,
) -> TelemetryFrame:
    sequence, observed_at, interval_seconds, run_id = stamp
    return TelemetryFrame(
        run_id=run_id,
        site_id=site_id,
        pool_id=pool_id,
        source=f"plant/{pool_id}/{first_gpu}",
        sequence=sequence,
        observed_at=observed_at,
        interval_seconds=interval_seconds,
        first_gpu=first_gpu,
        power_watts=columns["power_watts"],
        energy_joules=columns["energy_joules"],
        utilization_ratio=columns["utilization_ratio"],
        memory_used_ratio=columns["memory_used_ratio"],
        temperature_celsius=columns["temperature_celsius"],
        meter_power_watts=meter_power_watts,
    )


def request_rates(site_id: str, classes: Mapping[str, ClassFlow], stamp: Stamp) -> RequestRates:
    """The step's counts of every class as a record. What arrived is the demand, let in or not."""
    sequence, observed_at, interval_seconds, run_id = stamp
    return RequestRates(
        run_id=run_id,
        site_id=site_id,
        source="plant/router",
        sequence=sequence,
        observed_at=observed_at,
        interval_seconds=interval_seconds,
        classes=[
            ClassRequests(
                service_class=name,
                requests_arrived=flow.arrived.requests,
                requests_served=flow.served.requests,
                prompt_tokens_arrived=flow.arrived.prompt_tokens,
                tokens_arrived=flow.arrived.tokens,
                tokens_served=flow.served.tokens,
                tokens_queued=flow.queued.tokens,
                ttft_seconds_counts=flow.ttft_counts,
            )
            for name, flow in classes.items()
        ],
    )


def ttft_points(
    requests: int, wait_seconds: tuple[float, float], prefill_seconds: float
) -> Iterator[tuple[float, int]]:
    """`requests` by time to first token: (seconds, requests) of twenty points that stand for all, each counted once.

    Time to first token is approximated by wait + prefill: waits even between the two given, prefill log-normal about
    its mean as prompt lengths are.
    """
    before, (lower, upper) = 0, wait_seconds
    for point, factor in enumerate(_PREFILL_FACTORS):
        through = (2 * requests * (point + 1) + _POINTS) // (2 * _POINTS)  # one request alone falls on the middle
        through = requests if point == _POINTS - 1 else through
        if through > before:
            # 7 and 20 share no divisor: waits in another order than prefills, so that neither goes with the other.
            wait = lower + (upper - lower) * ((7 * point) % _POINTS + 0.5) / _POINTS
            yield wait + prefill_seconds * factor, through - before
        before = through


def ttft_counts(requests: int, wait_seconds: tuple[float, float], prefill_seconds: float) -> list[int]:
    """`requests` by time to first token, in the buckets of LATENCY_BOUNDS_SECONDS."""
    counts = [0] * BUCKETS
    for ttft_seconds, share in ttft_points(requests, wait_seconds, prefill_seconds):
        counts[bisect_left(LATENCY_BOUNDS_SECONDS, ttft_seconds)] += share
    return counts
