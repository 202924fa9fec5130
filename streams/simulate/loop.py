"""The closed loop in virtual time: signals, planner, sites and forecaster on one bus, by one agenda, from one seed.

What decides is what decides live: the desk, the controllers' `accept` and `tick`, the forecaster. Only clock, bus and
plants are made up, so the same scenario, policy and seed give the same log to the byte.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from schemas.catalog import (
    COMMAND_ACKS,
    GRID_SIGNALS,
    SITE_COMMANDS,
    SITE_FORECASTS,
    SITE_HEARTBEATS,
    SITE_STATE,
)
from schemas.envelope import Record
from schemas.fleet import FleetFile
from schemas.offer import FlexibilityOffer
from schemas.signals import PriceSignal
from schemas.site import LoadState
from streams.policy.desk import PolicyName
from streams.simulate.agenda import HEAR, TICK, Agenda
from streams.simulate.bus import Bus
from streams.simulate.demand import route
from streams.simulate.faults import Faults
from streams.simulate.feeds import event_feed, forged_command, price_feed, random_target, target_times
from streams.simulate.foresight import TrueForesight
from streams.simulate.log import UNSIGNED, Entry, Outcome, is_kept
from streams.simulate.outlook import Outlook, remembered
from streams.simulate.planner import Planner
from streams.simulate.recorder import Recorder
from streams.simulate.scenario import Fault, Scenario
from streams.simulate.site import VirtualSite
from streams.simulate.sources import Sources
from streams.simulate.traffic import Traffic, traffic_of
from streams.simulate.windows import SiteWindow

Policy = PolicyName | Literal["none"]
Tell = Callable[[float], None]

_LATENESS_SECONDS = 5.0  # a window's states are out so long after its end, as live
_HEARTBEAT_SECONDS = 30.0
_FORGERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What a scenario is under one seed, whoever plans: its traffic, and what the forecaster remembers at the start."""

    scenario: Scenario
    fleet_file: FleetFile
    sources: Sources
    seed: int
    traffic: Traffic
    histories: dict[str, bytes]

    @classmethod
    def of(
        cls, scenario: Scenario, fleet_file: FleetFile, sources: Sources, seed: int, tell: Tell = lambda part: None
    ) -> "World":
        """Draws the traffic and lets the forecaster live through its history; `tell` hears the part done.

        Raises:
            ValueError: the traffic holds no tokens, or a site may serve no class.
        """
        traffic = traffic_of(scenario, fleet_file, sources.requests, seed)
        past = {}
        if scenario.forecast != "none":
            past = remembered(scenario.forecast, scenario, fleet_file, traffic, tell)
        return cls(scenario, fleet_file, sources, seed, traffic, past)


def simulate(
    world: World, policy: Policy, tell: Tell = lambda part: None, note: Callable[[Entry], None] | None = None
) -> Outcome:
    """Runs a scenario. `tell` hears the part done, `note` every entry of the log as it is appended."""
    return _Run(world, policy, tell, note).run()


class _Run:
    def __init__(self, world: World, policy: Policy, tell: Tell, note: Callable[[Entry], None] | None) -> None:
        self._world, self._policy, self._tell, self._note_outside = world, policy, tell, note
        self._scenario, self._fleet_file = world.scenario, world.fleet_file
        self._fleet = world.fleet_file.fleets[0]
        self._log: list[Entry] = []
        self._offers: dict[str, FlexibilityOffer] = {}
        self._agenda, self._faults = Agenda(), Faults(world.scenario.faults)
        self._bus = Bus(world.scenario, self._agenda, self._faults, world.seed, self._note)
        self._recorder = Recorder(world.scenario, world.fleet_file, world.sources, world.traffic)
        self._sites = {
            site.id: VirtualSite(site, world.fleet_file, world.scenario, self._faults, world.seed)
            for site in self._fleet.sites
        }
        self._windows = {site.id: SiteWindow(site, self._fleet.id, world.scenario.name) for site in self._fleet.sites}
        self._planner = self._a_planner(policy)
        self._outlook = self._an_outlook()

    def run(self) -> Outcome:
        """From the start to the end."""
        agenda = self._agenda
        prices = price_feed(self._scenario, self._fleet, self._world.sources)
        for signal in (*prices, *event_feed(self._scenario, self._fleet)):
            seconds = (signal.published_at - self._scenario.starts_at).total_seconds()
            agenda.note(seconds, HEAR, partial(self._publish, signal))
        for number, seconds in enumerate(target_times(self._scenario), start=1):
            agenda.note(seconds, HEAR, partial(self._draw_target, number))
        for site_id, site in self._sites.items():
            self._bus.read_at_site(site_id, partial(self._hear, site))
            for fault in self._faults.of("controller-restart"):
                if not fault.sites or site_id in fault.sites:
                    agenda.note(fault.until_seconds, HEAR, partial(self._restart, site))
        for fault in self._faults.of("forged-command"):
            agenda.note(fault.from_seconds, HEAR, partial(self._forge, fault, 0))
        if self._planner is not None:
            self._planner.start()
        agenda.note(0.0, TICK, partial(self._tick, 0))
        agenda.run(self._scenario.duration_seconds)
        self._tell(1.0)
        return Outcome(self._scenario, self._policy, self._world.seed, self._log, self._recorder.trajectory)

    def _a_planner(self, policy: Policy) -> Planner | None:
        if policy == "none":
            return None
        world, foresight = self._world, None
        if policy == "oracle":
            foresight = TrueForesight.of(world.scenario, world.fleet_file, world.sources, world.traffic)
        run_id = world.scenario.name
        return Planner(world.fleet_file, policy, run_id, foresight, self._agenda, self._bus, self._faults)

    def _an_outlook(self) -> Outlook | None:
        # Who sees what comes, and who does not plan, need no forecast; it is what takes the most time.
        if self._scenario.forecast == "none" or self._policy in {"oracle", "none"}:
            return None
        outlook = Outlook(self._scenario.forecast, self._scenario, self._fleet_file, self._world.histories)

        def hear(record: Record, _headers: Mapping[str, str]) -> None:
            if isinstance(record, LoadState):
                outlook.hear(record)

        self._bus.read(SITE_STATE.name, hear)
        return outlook

    def _at(self, seconds: float) -> datetime:
        return self._scenario.starts_at + timedelta(seconds=seconds)

    def _note(self, entry: Entry) -> None:
        if is_kept(entry):
            self._log.append(entry)
        if isinstance(entry.record, FlexibilityOffer):
            self._offers[entry.record.site_id] = entry.record
        if self._note_outside is not None:
            self._note_outside(entry)

    def _publish(self, signal: Record) -> None:
        if isinstance(signal, PriceSignal):
            points = {site.settlement_point: site.id for site in self._fleet.sites}
            if self._faults.on("price-gap", self._agenda.now, points[signal.settlement_point]):
                return
        self._bus.put(GRID_SIGNALS.name, signal)

    def _draw_target(self, number: int) -> None:
        target = random_target(self._scenario, self._fleet, number, self._bus.now(), self._offers, self._world.seed)
        if target is not None:
            self._bus.put(GRID_SIGNALS.name, target)

    def _hear(self, site: VirtualSite, record: Record, headers: Mapping[str, str]) -> None:
        self._say(site, site.hear(record, headers, self._agenda.now, self._bus.now()))  # type: ignore[arg-type]

    def _restart(self, site: VirtualSite) -> None:
        self._say(site, site.restart(self._agenda.now, self._bus.now()))

    def _say(self, site: VirtualSite, acks: Sequence[Record]) -> None:
        for ack in acks:
            self._bus.put_from_site(site.site.id, COMMAND_ACKS.name, ack)

    def _forge(self, fault: Fault, number: int) -> None:
        for site in self._fleet.sites:
            if not fault.sites or site.id in fault.sites:
                forged = forged_command(self._scenario, self._fleet_file, site, number, self._bus.now())
                self._bus.put(SITE_COMMANDS.name, forged, UNSIGNED)
        again = self._agenda.now + _FORGERY_SECONDS
        if again < fault.until_seconds:
            self._agenda.note(again, HEAR, partial(self._forge, fault, number + 1))

    def _tick(self, number: int) -> None:
        """The tick from `number` on: forecasts of what is known, controllers, then the plants until its end."""
        step, seconds, now = self._scenario.step_seconds, self._agenda.now, self._bus.now()
        if self._outlook is not None:
            for forecast in self._outlook.forecasts():
                self._bus.put(SITE_FORECASTS.name, forecast)
        self._recorder.note_mode(number, "" if self._planner is None else self._planner.mode)
        for site in self._sites.values():
            self._say(site, site.control(seconds, now))
        self._beat(number, seconds, now)
        demands = self._world.traffic.at(number)
        shifts = {site_id: site.plant.shifts for site_id, site in self._sites.items() if site.plant.shifts}
        routed = route(demands, shifts) if shifts else demands
        moved = self._recorder.moved(demands, shifts)
        for site_id, site in self._sites.items():
            flow, reading = site.draw(routed[site_id], step, seconds)
            self._windows[site_id].add(flow, reading)
            self._recorder.note(number, site_id, flow, reading, site.state.limit_watts, moved)
        if (number + 1) % self._scenario.window_ticks == 0:
            ends = (number + 1) * step
            self._agenda.note(ends + _LATENESS_SECONDS, HEAR, partial(self._tell_states, self._close(ends)))
        if number + 1 < self._scenario.ticks:
            self._agenda.note((number + 1) * step, TICK, partial(self._tick, number + 1))
        if number % 100 == 0:
            self._tell(number / self._scenario.ticks)

    def _beat(self, number: int, seconds: float, now: datetime) -> None:
        every = max(1, round(_HEARTBEAT_SECONDS / self._scenario.step_seconds))
        if number % every:
            return
        for site_id, site in self._sites.items():
            beat = site.heartbeat(seconds, now)
            if beat is not None:
                self._bus.put_from_site(site_id, SITE_HEARTBEATS.name, beat)

    def _close(self, ends: float) -> list[Record]:
        start, end = self._at(ends - self._scenario.window_ticks * self._scenario.step_seconds), self._at(ends)
        return [state for window in self._windows.values() for state in window.close(start, end)]

    def _tell_states(self, states: list[Record]) -> None:
        for state in states:
            self._bus.put_from_site(state.site_id, SITE_STATE.name, state)  # type: ignore[attr-defined]
