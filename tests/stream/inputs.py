"""Input for stream tests: what the demo's plants would put on the bus."""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import numpy as np

from infra.clock import wall_now
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.requests import RequestRates
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
