"""The policy stage in virtual time: a desk, its planning steps, its end and its successor."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Protocol

from schemas.catalog import (
    COMMAND_ACKS,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    GRID_SIGNALS,
    SITE_COMMANDS,
    SITE_FORECASTS,
    SITE_HEARTBEATS,
    SITE_STATE,
)
from schemas.envelope import Record
from schemas.fleet import FleetFile
from schemas.plan import FleetPlan
from schemas.signals import EventSignal, PriceSignal
from streams.policy.claim import claim
from streams.policy.desk import Desk, PolicyName
from streams.policy.optimise import optimise
from streams.policy.problem import Foresight
from streams.simulate.agenda import PLAN, Agenda
from streams.simulate.bus import Reader
from streams.simulate.faults import Faults

INPUTS = (GRID_SIGNALS, SITE_STATE, SITE_FORECASTS, COMMAND_ACKS, SITE_HEARTBEATS)


class PlannersBus(Protocol):
    """What a planner needs of a bus."""

    def read(self, topic: str, reader: Reader) -> None:
        """Lets the planner have the topic's records."""

    def now(self) -> datetime:
        """The time."""

    def put(self, topic: str, record: Record) -> None:
        """Appends a record."""


class Planner:
    """One fleet's planner; a lost one is followed by another, which knows what stands on the bus and no more."""

    def __init__(
        self,
        fleet_file: FleetFile,
        policy: PolicyName,
        run_id: str,
        foresight: Foresight | None,
        agenda: Agenda,
        bus: PlannersBus,
        faults: Faults,
    ) -> None:
        self._fleet_file, self._fleet = fleet_file, fleet_file.fleets[0]
        self._policy, self._run_id, self._foresight = policy, run_id, foresight
        self._agenda, self._bus, self._faults = agenda, bus, faults
        self._desk: Desk | None = None
        self._plan: FleetPlan | None = None  # the newest on the bus
        self._signals: list[Record] = []
        self._waiting: list[Record] = []
        self._answers = self._urgent = False
        self._step_at = 0.0
        for topic in INPUTS:
            bus.read(topic.name, self._hear)

    @property
    def mode(self) -> str:
        """The mode of the plan in force; empty before the first."""
        return "" if self._plan is None else self._plan.mode

    def start(self) -> None:
        """Takes the fleet on, and notes when its faults begin and end."""
        self._agenda.note(0.0, PLAN, self._take_over)
        for fault in self._faults.of("planner-crash"):
            self._agenda.note(fault.from_seconds, PLAN, self._crash)
            self._agenda.note(fault.until_seconds, PLAN, self._take_over)
        for fault in self._faults.of("bus-lost"):
            if not fault.sites:
                self._agenda.note(fault.until_seconds, PLAN, self._go_on)

    def _is_cut_off(self) -> bool:
        return self._faults.on("bus-lost", self._agenda.now) is not None

    def _is_gone(self) -> bool:
        return self._faults.on("planner-crash", self._agenda.now) is not None

    def _crash(self) -> None:
        self._desk = None

    def _take_over(self) -> None:
        """A new planner: the last plan, the next epoch, the signals; issues what is in force, then hears the rest."""
        if self._is_gone() or self._is_cut_off():
            return
        now = self._bus.now()
        plan = self._claim(0 if self._plan is None else self._plan.epoch)
        self._desk = Desk(self._fleet, self._fleet_file, plan, self._policy, self._foresight)
        for signal in self._signals:
            self._desk.take(signal, now)
        self._decide()
        self._hear_what_waits()
        self._note_step()

    def _go_on(self) -> None:
        """The bus is back: what was missed is heard, then a step is due. Who died meanwhile has a successor."""
        if self._desk is None:
            self._take_over()
        elif not self._is_cut_off():
            self._hear_what_waits()
            self._step()

    def _hear_what_waits(self) -> None:
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._take(record)

    def _claim(self, above_epoch: int) -> FleetPlan:
        epoch = above_epoch + 1
        now = self._bus.now()
        self._plan = claim(self._plan, self._run_id, self._fleet.id, f"planner-{epoch}", epoch, now)
        self._bus.put(FLEET_PLANS.name, self._plan)
        return self._plan

    def _hear(self, record: Record, _headers: Mapping[str, str]) -> None:
        if isinstance(record, PriceSignal | EventSignal):
            self._signals.append(record)
        if self._desk is None or self._is_cut_off():
            self._waiting.append(record)
        else:
            self._take(record)

    def _take(self, record: Record) -> None:
        assert self._desk is not None
        if not self._desk.take(record, self._bus.now()):
            return
        if not self._answers:
            # After all that arrives at the same instant, as a batch is taken before it is decided upon.
            self._answers = True
            self._agenda.note(self._agenda.now, PLAN, self._answer)
        self._urgent |= not (isinstance(record, PriceSignal) and self._desk.wants_solution)

    def _answer(self) -> None:
        """Decides at once; after a price the optimiser is asked, by a step that need not be done again so soon."""
        urgent, self._urgent, self._answers = self._urgent, False, False
        if self._desk is None or self._is_cut_off():
            return
        if urgent:
            self._decide()
        if self._desk.wants_solution:
            self._step()

    def _note_step(self) -> None:
        self._step_at = self._agenda.now + self._fleet.limits.plan_interval_seconds
        self._agenda.note(self._step_at, PLAN, partial(self._step_if, self._step_at))

    def _step_if(self, noted_for: float) -> None:
        """Steps unless the step was done early, or somebody else's is noted since."""
        if self._step_at == noted_for and self._desk is not None and not self._is_cut_off():
            self._step()

    def _step(self) -> None:
        desk = self._desk
        assert desk is not None
        problem = desk.problem(self._bus.now())
        desk.adopt(None if problem is None else optimise(problem))
        self._decide()
        for offer in desk.offers(self._bus.now()):
            self._bus.put(FLEXIBILITY_OFFERS.name, offer)
        self._note_step()

    def _decide(self) -> None:
        desk = self._desk
        assert desk is not None
        if desk.is_outnumbered():
            desk.plan = self._claim(desk.highest_epoch_seen)
            desk.dispatch.sent.clear()
        self._plan, commands = desk.decide(self._bus.now())
        self._bus.put(FLEET_PLANS.name, self._plan)
        for command in commands:
            self._bus.put(SITE_COMMANDS.name, command)
