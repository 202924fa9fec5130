"""Another policy on the same log: what it would have commanded, beside what was commanded. Pure but for the log.

It hears what the planner heard, when it heard it. The sites did not obey it, so what it is told of them follows from
the commands that were given; a command that was not given is taken as accepted and carried out.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from schemas.catalog import COMMAND_ACKS, FLEET_PLANS, GRID_SIGNALS, SITE_COMMANDS
from schemas.command import AckStatus, CommandAck, Release, Shift, Throttle
from schemas.envelope import Record
from schemas.fleet import Fleet
from schemas.plan import FleetPlan
from schemas.signals import PriceSignal
from streams.policy.desk import PolicyName
from streams.simulate.agenda import HEAR, Agenda
from streams.simulate.bus import INSIDE_SECONDS, Reader
from streams.simulate.faults import Faults
from streams.simulate.log import NO_HEADERS, UNSIGNED, ReadLog
from streams.simulate.planner import INPUTS, Planner
from streams.simulate.scenario import Scenario

AnyCommand = Throttle | Shift | Release
Key = tuple[str, str, int, int]

_MOST_SHOWN = 500
_WATTS_PER_MWH_SECOND = 3.6e9


def replayed(open_log: Callable[[], ReadLog], policy: PolicyName) -> dict[str, Any]:
    """What `policy` would have commanded on a log, ready for JSON.

    Args:
        open_log: opens the log from its beginning; it is read twice.
        policy: whose decisions; the oracle's need more than a log.

    Raises:
        LogError: a line of the log is none.
    """
    given = _Given.of(open_log())
    log = open_log()
    scenario, fleet_file = log.heading.scenario, log.heading.fleet_file
    agenda = Agenda()
    bus = _ShadowBus(scenario, agenda, given)
    cost = PlannedCost(fleet_file.fleets[0])
    bus.cost = cost
    planner = Planner(fleet_file, policy, scenario.name, None, agenda, bus, Faults(scenario.faults))
    planner.start()
    inputs = {topic.name for topic in INPUTS}
    for entry in log.entries():
        if entry.topic not in inputs:
            continue
        agenda.run((entry.at - scenario.starts_at).total_seconds() + INSIDE_SECONDS)
        cost.hear(entry.record)
        if bus.is_told(entry.record):
            bus.deliver(entry.topic, entry.record)
    agenda.run(scenario.duration_seconds)
    return {
        "scenario": scenario.name,
        "seed": log.heading.seed,
        "given": {"policy": log.heading.policy, **_counts(given.commands), **given.cost.figures()},
        "would_be": {"policy": policy, **_counts(bus.commands), **cost.figures()},
        **_differing(given.commands, bus.commands),
    }


@dataclass(slots=True)
class PlannedCost:
    """What energy costs as the optimiser planned it: each schedule's first step, for as long as its plan stood."""

    fleet: Fleet
    usd: float = 0.0
    seconds: float = 0.0
    _prices: dict[str, PriceSignal] = field(default_factory=dict)
    _plan: FleetPlan | None = None

    def hear(self, record: Record) -> None:
        """Takes a real-time price that holds from now on."""
        if isinstance(record, PriceSignal) and record.market == "real-time":
            self._prices[record.settlement_point] = record

    def plan(self, plan: FleetPlan) -> None:
        """Takes the next plan; the one before has stood until now."""
        before, self._plan = self._plan, plan
        if before is None or before.schedule is None:
            return
        points = {site.id: site.settlement_point for site in self.fleet.sites}
        seconds = (plan.issued_at - before.issued_at).total_seconds()
        planned = [(each.site_id, each.power_watts[0]) for each in before.schedule.sites if each.power_watts]
        known = [(watts, self._prices[points[site]]) for site, watts in planned if points[site] in self._prices]
        if known:
            self.seconds += seconds
            self.usd += sum(watts * seconds * price.price_usd_per_mwh / _WATTS_PER_MWH_SECOND for watts, price in known)

    def figures(self) -> dict[str, float | None]:
        """The cost, and for how long it is known; None where nothing was optimised."""
        known = self.seconds > 0
        return {"planned_energy_usd": self.usd if known else None, "planned_seconds": self.seconds}


@dataclass(slots=True)
class _Given:
    """What was commanded, by the log."""

    commands: list[AnyCommand]
    by_key: dict[Key, AnyCommand]
    cost: PlannedCost

    @classmethod
    def of(cls, log: ReadLog) -> "_Given":
        commands: list[AnyCommand] = []
        cost = PlannedCost(log.heading.fleet_file.fleets[0])
        for entry in log.entries():
            record = entry.record
            if entry.topic == SITE_COMMANDS.name and entry.headers != UNSIGNED:
                commands.append(record)  # type: ignore[arg-type]  # what the topic holds
            elif entry.topic == FLEET_PLANS.name and isinstance(record, FleetPlan):
                cost.plan(record)
            elif entry.topic == GRID_SIGNALS.name:
                cost.hear(record)
        return cls(commands, {_key(each): each for each in commands}, cost)


class _ShadowBus:
    """What the shadow hears and says; `planner.PlannersBus`."""

    def __init__(self, scenario: Scenario, agenda: Agenda, given: _Given) -> None:
        self.commands: list[AnyCommand] = []
        self.cost: PlannedCost | None = None
        self._scenario, self._agenda, self._given = scenario, agenda, given
        self._readers: dict[str, Reader] = {}
        self._same: set[Key] = set()

    def read(self, topic: str, reader: Reader) -> None:
        self._readers[topic] = reader

    def now(self) -> datetime:
        return self._scenario.starts_at + timedelta(seconds=self._agenda.now)

    def deliver(self, topic: str, record: Record) -> None:
        self._readers[topic](record, NO_HEADERS)

    def is_told(self, record: Record) -> bool:
        """Answers to commands that the shadow did not give are not for it."""
        return not isinstance(record, CommandAck) or _key(record) in self._same

    def put(self, topic: str, record: Record) -> None:
        if isinstance(record, FleetPlan) and self.cost is not None:
            self.cost.plan(record)
        if not isinstance(record, Throttle | Shift | Release):
            return
        self.commands.append(record)
        if self._given.by_key.get(_key(record)) == record:
            self._same.add(_key(record))
            return
        there_and_back = 2 * self._scenario.network.latency_seconds + INSIDE_SECONDS
        self._answer(record, "accepted", there_and_back)
        if isinstance(record, Shift) and record.role == "drain":
            self._answer(record, "compliant", there_and_back + record.ramp_seconds)

    def _answer(self, command: AnyCommand, status: AckStatus, after_seconds: float) -> None:
        at = self._agenda.now + after_seconds
        ack = CommandAck(
            run_id=command.run_id,
            fleet_id=command.fleet_id,
            site_id=command.site_id,
            control_id=command.control_id,
            epoch=command.epoch,
            sequence=command.sequence,
            status=status,
            observed_at=self._scenario.starts_at + timedelta(seconds=at),
            detail="of a shadow's command",
            highest_epoch=command.epoch,
            highest_sequence=command.sequence,
        )
        self._agenda.note(at, HEAR, partial(self.deliver, COMMAND_ACKS.name, ack))


def _key(record: AnyCommand | CommandAck) -> Key:
    return (record.site_id, record.control_id, record.epoch, record.sequence)


def _counts(commands: list[AnyCommand]) -> dict[str, Any]:
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for command in commands:
        by_kind[command.kind][command.reason] += 1
    return {
        "commands": len(commands),
        "renewals": sum(command.renewal for command in commands),
        "by_kind_and_reason": {kind: dict(sorted(reasons.items())) for kind, reasons in sorted(by_kind.items())},
    }


def _differing(given: list[AnyCommand], would_be: list[AnyCommand]) -> dict[str, Any]:
    """The commands, renewals aside, that say something that the other side never said; numbering does not matter."""
    said = {
        side: Counter(map(_meaning, _new(commands))) for side, commands in (("given", given), ("would_be", would_be))
    }
    only = {"given": said["given"] - said["would_be"], "would_be": said["would_be"] - said["given"]}
    shown = []
    for side, commands in (("given", given), ("would_be", would_be)):
        left = Counter(only[side])
        for command in _new(commands):
            if left[_meaning(command)] > 0:
                left[_meaning(command)] -= 1
                shown.append(_shown(side, command))
    shown.sort(key=lambda each: (each["at"], each["site_id"], each["side"]))
    return {
        "only_given": only["given"].total(),
        "only_would_be": only["would_be"].total(),
        "differing": shown[:_MOST_SHOWN],
        "differing_left_out": max(0, len(shown) - _MOST_SHOWN),
    }


def _new(commands: list[AnyCommand]) -> list[AnyCommand]:
    return [command for command in commands if not command.renewal]


def _meaning(command: AnyCommand) -> tuple[object, ...]:
    about: tuple[object, ...] = (command.site_id, command.kind, command.reason, command.starts_at, command.ends_at)
    match command:
        case Throttle():
            return (*about, round(command.target_power_watts))
        case Shift():
            moved = (command.role, command.from_site_id, command.to_site_id, command.service_class)
            return (*about, *moved, round(command.share_ratio, 3))
        case _:
            return (*about, command.releases_control_id)


def _shown(side: str, command: AnyCommand) -> Mapping[str, Any]:
    return {
        "side": side,
        "at": command.issued_at.isoformat(),
        "site_id": command.site_id,
        "kind": command.kind,
        "reason": command.reason,
        "control_id": command.control_id,
        "target_power_watts": command.target_power_watts if isinstance(command, Throttle) else None,
        "share_ratio": command.share_ratio if isinstance(command, Shift) else None,
        "starts_at": command.starts_at.isoformat(),
        "ends_at": command.ends_at.isoformat(),
        "explanation": command.explanation,
    }
