"""Writes down what the sites did, tick by tick."""

from collections.abc import Mapping

import numpy as np

from schemas.fleet import FleetFile
from streams.simulate.demand import ClassDemand, Demands, Shifts, capacity
from streams.simulate.foresight import price_of, real_time
from streams.simulate.log import Trajectory
from streams.simulate.plant import PlantFlow
from streams.simulate.readings import ClassFlow
from streams.simulate.scenario import Scenario
from streams.simulate.sources import Sources
from streams.simulate.traffic import REQUESTS, TOKENS, Traffic

# Where traffic was moved to: acceptor and class, with the latency of each link in seconds and the requests over it.
Moved = Mapping[tuple[str, str], list[tuple[float, float]]]


class Recorder:
    """Fills a run's trajectory."""

    def __init__(self, scenario: Scenario, fleet_file: FleetFile, sources: Sources, traffic: Traffic) -> None:
        self._fleet = fleet_file.fleets[0]
        self._places = {site.id: place for place, site in enumerate(self._fleet.sites)}
        self._objectives = {each.id: each.ttft_objective_seconds for each in fleet_file.service_classes}
        self._prompt_cost = {
            site.id: capacity(site, fleet_file.gpu_models).prompt_token_cost_ratio for site in self._fleet.sites
        }
        self.trajectory = Trajectory.empty(scenario, fleet_file)
        # What does not depend on anybody's decisions: what arrives, and the prices.
        first = traffic.history_ticks
        given = traffic.counts[:, :, first : first + scenario.ticks].transpose(0, 2, 1, 3)
        self.trajectory.tokens_arrived[:] = given[..., TOKENS]
        self.trajectory.requests_arrived[:] = given[..., REQUESTS]
        file = real_time(sources)
        if file is not None:
            middles = (np.arange(scenario.ticks, dtype=np.float64) + 0.5) * scenario.step_seconds
            for place, site in enumerate(self._fleet.sites):
                prices = price_of(file, scenario, site.settlement_point, middles)
                self.trajectory.price_usd_per_mwh[place] = prices

    def note_mode(self, number: int, mode: str) -> None:
        """Takes the mode of the plan that is in force when tick `number` begins."""
        self.trajectory.mode[number] = mode

    def moved(self, demands: Demands, shifts: Mapping[str, Shifts]) -> Moved:
        """How far the requests travel that `shifts` send from one site to another."""
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for donor, by_class in shifts.items():
            for service_class, targets in by_class.items():
                arrived = demands[donor].get(service_class, ClassDemand()).requests
                for acceptor, share in targets.items():
                    latency = self._fleet.link(donor, acceptor).latency_seconds
                    found.setdefault((acceptor, service_class), []).append((latency, share * arrived))
        return found

    def note(
        self,
        number: int,
        site_id: str,
        flow: PlantFlow,
        read_watts: float | None,
        limit_watts: float | None,
        moved: Moved,
    ) -> None:
        """Takes what a site did in tick `number`."""
        into, place = self.trajectory, self._places[site_id]
        into.meter_power_watts[place, number] = flow.meter_power_watts
        into.it_power_watts[place, number] = flow.it_power_watts
        into.read_power_watts[place, number] = np.nan if read_watts is None else read_watts
        into.limit_watts[place, number] = np.nan if limit_watts is None else limit_watts
        for column, name in enumerate(into.class_ids):
            of_class = flow.classes[name]
            into.tokens_served[place, number, column] = of_class.served.tokens
            waiting = of_class.queued.tokens + self._prompt_cost[site_id] * of_class.queued.prompt_tokens
            into.work_queued[place, number, column] = waiting
            into.requests_late[place, number, column] = late_requests(
                of_class, self._objectives[name], moved.get((site_id, name), ())
            )


def late_requests(
    flow: ClassFlow, objective_seconds: float, moved: list[tuple[float, float]] | tuple[()] = ()
) -> float:
    """Requests of a step that miss the objective for their first token; those turned away miss it as well.

    Of what is served, as large a part as of what arrives has come over links (`moved`: seconds and requests of each),
    and has so much less time left.
    """
    if flow.served.requests == 0:
        return flow.refused.requests
    travelled, late = 0.0, 0.0
    for latency_seconds, requests in moved:
        part = min(1.0 - travelled, requests / max(1, flow.arrived.requests))
        late += part * flow.late_requests(objective_seconds - latency_seconds)
        travelled += part
    return late + (1.0 - travelled) * flow.late_requests(objective_seconds) + flow.refused.requests
