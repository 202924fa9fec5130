"""One fleet's planner: takes records, decides, remembers what it sent. Pure but for its own memory; `now` is given."""

from datetime import datetime

from schemas.command import CommandAck
from schemas.envelope import Record
from schemas.fleet import Fleet, FleetFile
from schemas.plan import FleetPlan, Rejected
from schemas.signals import EventSignal, PriceSignal
from streams.policy.commands import AnyCommand, Dispatch, next_commands
from streams.policy.guard import guard
from streams.policy.rules import plan as rule_based_plan
from streams.policy.shifts import answered
from streams.policy.view import FleetView


class Desk:
    """What a planner of one fleet has on its desk: the view, the plan in force, what it sent last."""

    def __init__(self, fleet: Fleet, fleet_file: FleetFile, plan: FleetPlan) -> None:
        self.fleet = fleet
        self.fleet_file = fleet_file
        self.plan = plan
        self.view = FleetView(fleet)
        self.dispatch = Dispatch()
        self.highest_epoch_seen = plan.epoch

    def take(self, record: Record, now: datetime) -> bool:
        """Takes a record in; True if it calls for a plan at once rather than at the next step."""
        if isinstance(record, CommandAck):
            return self._take_ack(record, now)
        if isinstance(record, EventSignal):
            before = self.view.events.get(record.signal_id)
            self.view.observe(record)
            return self.view.events[record.signal_id] != before
        if isinstance(record, PriceSignal):
            known = self.view.prices.get(record.signal_id)
            self.view.observe(record)
            return self.view.prices.get(record.signal_id) != known and record.starts_at <= now < record.ends_at
        self.view.observe(record)
        return False

    def _take_ack(self, ack: CommandAck, now: datetime) -> bool:
        # A site that has seen a higher epoch obeys another planner: this one goes above it, or is no longer wanted.
        self.highest_epoch_seen = max(self.highest_epoch_seen, ack.highest_epoch)
        command = self.dispatch.answered(ack)
        if command is None:
            return False
        shifts = [
            answered(shift, command, ack.status, now) if shift.control_id == ack.control_id else shift
            for shift in self.plan.shifts
        ]
        moved = shifts != self.plan.shifts
        if moved:
            self.plan = self.plan.model_copy(update={"shifts": shifts})
        return moved

    def is_outnumbered(self) -> bool:
        """True if a site has seen an epoch above this planner's."""
        return self.highest_epoch_seen > self.plan.epoch

    def decide(self, now: datetime) -> tuple[FleetPlan, list[AnyCommand]]:
        """The next plan, and the commands that follow from it. The plan must be durable before they go out."""
        self.view.forget(now)
        planned = rule_based_plan(self.view, self.plan, self.fleet_file, now, self.dispatch.unresponsive_sites())
        planned = guard(planned, self.fleet, self.fleet_file)
        silent = [
            Rejected(alternative=f"rely on {site_id}", why="it has left commands unanswered")
            for site_id in sorted(self.dispatch.unresponsive_sites())
        ]
        self.dispatch.inherit(self.plan, planned, self.fleet.limits, now)
        commands = next_commands(planned, self.dispatch, self.fleet.limits, now)
        self.plan = planned.model_copy(
            update={
                "sequence": planned.sequence + len(commands),
                "revision": planned.revision + 1,
                "rejected": [*planned.rejected, *silent],
            }
        )
        return self.plan, commands
