"""Counts what broke the safety rules (design, section 6), from the topics alone.

It shares nothing with the planner, the guard and the controllers but the contracts: it reads the log as an outsider
would, derives what each site was told, has taken on and should be doing, and compares. docs/explanation/safety.md
says what is counted for each rule.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.envelope import Record
from schemas.fleet import FleetFile
from schemas.plan import FleetPlan
from schemas.signals import EventSignal, PriceSignal
from schemas.site import ControllerHeartbeat, PowerState
from streams.simulate.safety_commands import judge_ack, judge_command, judge_heartbeat
from streams.simulate.safety_ledger import GRACE, AnyCommand, Finding, Ledger
from streams.simulate.safety_plans import Plans
from streams.simulate.safety_power import Power
from streams.simulate.safety_shifts import Shifts


@dataclass(frozen=True, slots=True)
class Violation:
    """A safety rule that was broken at a site; `at` is when it was, or was seen."""

    rule: int
    at: datetime
    site_id: str
    detail: str


def violations(entries: Iterable[tuple[datetime, str, Record]], fleet_file: FleetFile) -> list[Violation]:
    """All that broke a rule in a log, in the order in which it is seen.

    Args:
        entries: (time of the append, topic, record), in time order; records of no concern are passed over. Answers
            that the log has lost make it say less, never more.
        fleet_file: the fleets that the log is of; every record is of one of their sites.
    """
    checker, found, at = _Checker(fleet_file), list[Finding](), None
    for at, _, record in entries:
        if checker.is_due(at):
            found += checker.passed(at, GRACE)
        found += checker.take(at, record)
    if at is not None:
        found += checker.passed(at, timedelta(0))
    return [Violation(*finding) for finding in found]


class _Checker:
    def __init__(self, fleet_file: FleetFile) -> None:
        self._ledger = Ledger(fleet_file)
        self._plans, self._power, self._shifts = Plans(self._ledger), Power(self._ledger), Shifts(fleet_file)

    def is_due(self, at: datetime) -> bool:
        """True if there is something to judge because of the time alone."""
        moment, due = self._ledger.next_moment, self._plans.next_due
        return (moment is not None and moment <= at - GRACE) or (due is not None and due < at)

    def passed(self, at: datetime, grace: timedelta) -> Iterator[Finding]:
        """What the time that has passed shows."""
        yield from self._plans.judge_owed(at)
        for moment, book in self._ledger.moments(at - grace):
            yield from self._plans.judge_moment(moment, book)
            yield from self._power.judge_moment(moment, book)

    def take(self, at: datetime, record: Record) -> Iterable[Finding]:
        """What an entry shows."""
        match record:
            case PowerState():
                self._plans.note_state(record)
                return self._power.judge_state(record)
            case ControllerHeartbeat():
                return judge_heartbeat(self._ledger, at, record)
            case FleetPlan():
                return self._take_plan(at, record)
            case Throttle() | Shift() | Release():
                return self._take_command(at, record)
            case CommandAck():
                return self._take_ack(at, record)
            case EventSignal():
                self._plans.note_event(at, record)
                self._ledger.take_signal(at, record)
            case PriceSignal():
                self._ledger.take_signal(at, record)
        return ()

    def _take_plan(self, at: datetime, plan: FleetPlan) -> Iterator[Finding]:
        yield from self._plans.judge_plan(at, plan)
        yield from self._shifts.judge_plan(at, plan)
        self._ledger.take_plan(at, plan)

    def _take_command(self, at: datetime, command: AnyCommand) -> Iterator[Finding]:
        yield from judge_command(self._ledger, at, command)
        yield from self._shifts.judge_command(self._ledger, at, command)
        self._ledger.take_command(command)
        self._plans.note_command(command)

    def _take_ack(self, at: datetime, ack: CommandAck) -> Iterator[Finding]:
        yield from judge_ack(self._ledger, at, ack)
        self._ledger.take_ack(ack)
        yield from self._shifts.judge_ack(self._ledger, at, ack)
