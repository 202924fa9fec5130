"""Records as the recorder reads them, by the thousand, each with a key of its own; and the tables that they fill."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from schemas.envelope import Record
from schemas.latency import BUCKETS
from schemas.site import ClassLoad, LoadState, PowerState
from schemas.telemetry import TelemetryFrame

_BEGINS = datetime(2026, 3, 1, tzinfo=UTC)
_SITES = 200
_WINDOW = timedelta(seconds=10)
_GPUS = 64


def _places(count: int) -> Iterator[tuple[int, str, datetime]]:
    """Site after site, then the next window: as states come."""
    for number in range(count):
        window, site = divmod(number, _SITES)
        yield number, f"site-{site:05d}", _BEGINS + window * _WINDOW


def _powers(count: int) -> Iterator[Record]:
    for number, site_id, start in _places(count):
        yield PowerState(
            fleet_id="bench",
            site_id=site_id,
            window_start=start,
            window_end=start + _WINDOW,
            records=160,
            duplicates=0,
            it_power_watts=532_000.5 + number % 977,
            it_energy_joules=5_320_005.0 + number % 977,
            meter_power_watts=638_400.6 + number % 977,
            utilization_ratio=0.75,
            temperature_celsius_max=71.0,
            gpu_samples=10_240,
            masked_values=10,
            gpus_reporting=1024,
            reporting_ratio=1.0,
        )


def _loads(count: int) -> Iterator[Record]:
    counts = [0] * BUCKETS
    counts[8], counts[9] = 400, 30
    for number, site_id, start in _places(count):
        classes = [
            ClassLoad(
                service_class=name,
                requests_per_second=43.0 + number % 7,
                prompt_tokens_per_second=43_000.0,
                tokens_arrived_per_second=12_900.5,
                tokens_served_per_second=12_900.5,
                tokens_queued=120,
                ttft_seconds_counts=counts,
                ttft_seconds_p50=0.25,
                ttft_seconds_p99=0.31,
            )
            for name in ("interactive", "batch")
        ]
        yield LoadState(
            fleet_id="bench",
            site_id=site_id,
            window_start=start,
            window_end=start + _WINDOW,
            records=2,
            duplicates=0,
            requests_per_second=86.0,
            tokens_arrived_per_second=25_801.0,
            tokens_served_per_second=25_801.0,
            tokens_queued=240,
            covered_ratio=1.0,
            classes=classes,
        )


def _frames(count: int) -> Iterator[Record]:
    rng = np.random.default_rng(1)
    power = rng.normal(520, 90, (512, _GPUS)).clip(90, 700).round(1).tolist()
    ratios = rng.beta(6, 2, (512, _GPUS)).round(3).tolist()
    for number, site_id, at in _places(count):
        yield TelemetryFrame(
            site_id=site_id,
            pool_id="h100",
            source=f"{site_id}/0",
            sequence=number,
            observed_at=at,
            interval_seconds=10.0,
            first_gpu=0,
            power_watts=power[number % 512],
            energy_joules=power[number % 511],
            utilization_ratio=ratios[number % 512],
            memory_used_ratio=ratios[number % 511],
            temperature_celsius=power[number % 509],
            meter_power_watts=None,
        )


# What to fill: a name for it, its records, and about how large one is on the bus.
MAKERS: dict[str, tuple[Callable[[int], Iterator[Record]], int]] = {
    "site_power": (_powers, 480),
    "site_load": (_loads, 1000),
    "gpu_telemetry": (_frames, 2300),
}
