"""Input for stream tests: what the demo's plants would put on the bus."""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import numpy as np

from infra.clock import wall_now
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.fleet import FleetFile
from schemas.requests import RequestRates
from schemas.signals import EventSignal
from schemas.site import PowerState
from schemas.telemetry import TelemetryFrame
from streams.collect.generator import generate_requests
from streams.simulate.demand import spread
from streams.simulate.plant import SitePlant


@dataclass(frozen=True)
class Readings:
    """What every site's plant reports, step by step; made once, since the same input goes through many runs."""

    frames: list[list[TelemetryFrame]]
    rates: list[list[RequestRates]]

    def of_run(self, run_id: str, first: int, last: int) -> tuple[list[TelemetryFrame], list[RequestRates]]:
        """The frames and rates of steps [first, last), for a run."""
        marked = {"run_id": run_id}
        return (
            [frame.model_copy(update=marked) for step in self.frames[first:last] for frame in step],
            [rate.model_copy(update=marked) for step in self.rates[first:last] for rate in step],
        )


@lru_cache(maxsize=2)
def readings(steps: int, interval_seconds: float = 10.0) -> Readings:
    """Readings of the demo's fleets from a full hour in the past on: event time is free, but not the future's."""
    fleet_file = load_fleet_file(DEMO_FLEET_FILE)
    starts_at = wall_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    trace = generate_requests(np.random.default_rng(7), starts_at, 3600.0, interval_seconds)
    demand = spread(trace, fleet_file)
    plants = {
        site.id: SitePlant.start(site, fleet_file.gpu_models, fleet_file.service_classes, seed=7)
        for _, site in fleet_file.sites()
    }
    made = Readings([], [])
    for step in range(steps):
        observed_at = starts_at + timedelta(seconds=(step + 1) * interval_seconds)
        reports = [
            plant.advance(demand.at(step)[site_id], interval_seconds, observed_at, "made")
            for site_id, plant in plants.items()
        ]
        made.frames.append([frame for frames, _ in reports for frame in frames])
        made.rates.append([rate for _, rate in reports])
    return made


def power_now(fleet_file: FleetFile, run_id: str) -> list[PowerState]:
    """One window of power of every site, just ended, at 80 % of its import limit."""
    now = wall_now().replace(microsecond=0)
    return [
        PowerState(
            run_id=run_id,
            fleet_id=fleet.id,
            site_id=site.id,
            window_start=now - timedelta(seconds=10),
            window_end=now,
            records=1,
            duplicates=0,
            it_power_watts=site.import_limit_watts / site.pue * 0.8,
            it_energy_joules=1.0,
            meter_power_watts=site.import_limit_watts * 0.8,
            utilization_ratio=0.8,
            temperature_celsius_max=60.0,
            gpu_samples=site.gpus,
            masked_values=0,
            gpus_reporting=site.gpus,
            reporting_ratio=1.0,
        )
        for fleet, site in fleet_file.sites()
    ]


def event_now(fleet_id: str, run_id: str) -> EventSignal:
    """A grid event of a quarter less for an hour, in force now."""
    now = wall_now()
    return EventSignal(
        run_id=run_id,
        fleet_id=fleet_id,
        signal_id=f"event/{fleet_id}",
        source="test",
        published_at=now,
        starts_at=now,
        ends_at=now + timedelta(hours=1),
        kind="event",
        reduction_ratio=0.25,
    )
