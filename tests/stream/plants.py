"""The plants of a run's sites in real time: controllers reach them over HTTP, their windows go on the bus."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.clock import wall_now
from infra.embedded.process import LOCALHOST, free_port
from schemas.catalog import SITE_STATE
from streams.simulate.demand import ClassDemand, capacity, route
from streams.simulate.plant import SitePlant
from streams.simulate.service import PlantService
from streams.simulate.windows import SiteWindow
from tests.stream.rig import Rig

TICK_SECONDS = 1.0
_WINDOW_TICKS = 2
_TOKENS_PER_REQUEST, _PROMPT_TOKENS_PER_REQUEST = 200, 20


@dataclass(frozen=True)
class Seen:
    """What a plant's controller had set when the plant ticked: the cap in W, the shares by class and acceptor; and the
    power that came of it.
    """

    at: datetime
    cap_watts: float | None
    shares: dict[tuple[str, str], float]
    meter_watts: float  # over the tick, without the meter's noise


class Plants:
    """Every site's plant under the same traffic, second after second, and what its controller makes of it."""

    def __init__(self, rig: Rig, load_ratio: float) -> None:
        self._rig = rig
        classes = rig.fleet_file.service_classes
        self.plants = {
            site.id: SitePlant.start(site, rig.fleet_file.gpu_models, classes, seed=7)
            for _, site in rig.fleet_file.sites()
        }
        self._windows = {site.id: SiteWindow(site, fleet.id, rig.run_id) for fleet, site in rig.fleet_file.sites()}
        self._demands = {
            site_id: {each.id: _demand(plant, load_ratio * each.traffic_ratio) for each in classes}
            for site_id, plant in self.plants.items()
        }
        self.seen: dict[str, list[Seen]] = {site_id: [] for site_id in self.plants}
        self.port = free_port()

    async def run(self) -> None:
        """Ticks until cancelled."""
        service = PlantService(self.plants)
        await service.start(LOCALHOST, self.port)
        loop = asyncio.get_running_loop()
        due, began = loop.time(), wall_now()
        try:
            while True:
                for _ in range(_WINDOW_TICKS):
                    due += TICK_SECONDS
                    await asyncio.sleep(due - loop.time())
                    self._tick()
                began, start = began + timedelta(seconds=_WINDOW_TICKS * TICK_SECONDS), began
                closed = [window.close(start, began) for window in self._windows.values()]
                await self._rig.send(SITE_STATE, [state for states in closed for state in states])
        finally:
            await service.stop()

    def _tick(self) -> None:
        shifts = {site_id: plant.shifts for site_id, plant in self.plants.items() if plant.shifts}
        demands = route(self._demands, shifts)
        for site_id, plant in self.plants.items():
            shares = {(name, to): share for name, targets in plant.shifts.items() for to, share in targets.items()}
            flow = plant.tick(demands[site_id], TICK_SECONDS)
            self.seen[site_id].append(Seen(wall_now(), plant.power_cap_watts, shares, flow.meter_power_watts))
            self._windows[site_id].add(flow, plant.meter_power_watts)


def _demand(plant: SitePlant, load_ratio: float) -> ClassDemand:
    """What keeps so much of a site busy for a tick."""
    can = capacity(plant.model.site, [gpu for _, gpu in plant.model.pools])
    work = _TOKENS_PER_REQUEST + can.prompt_token_cost_ratio * _PROMPT_TOKENS_PER_REQUEST
    requests = round(load_ratio * can.tokens_per_second * TICK_SECONDS / work)
    return ClassDemand(requests, requests * _PROMPT_TOKENS_PER_REQUEST, requests * _TOKENS_PER_REQUEST)


@asynccontextmanager
async def plants_of(rig: Rig, load_ratio: float) -> AsyncIterator[Plants]:
    """The plants of a run's sites, running."""
    plants = Plants(rig, load_ratio)
    running = asyncio.create_task(plants.run())
    try:
        yield plants
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
