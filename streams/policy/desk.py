"""One fleet's planner: takes records, decides, remembers what it sent. Pure but for its own memory; `now` is given."""

from datetime import datetime, timedelta
from typing import Literal

from schemas.command import CommandAck
from schemas.envelope import Record
from schemas.fleet import Fleet, FleetFile
from schemas.offer import FlexibilityOffer
from schemas.plan import FleetPlan, Rejected
from schemas.signals import EventSignal, PriceSignal
from streams.policy.commands import Dispatch, next_commands
from streams.policy.guard import guard
from streams.policy.offers import offers
from streams.policy.optimise import Solution
from streams.policy.orders import AnyCommand
from streams.policy.plan import plan as next_plan
from streams.policy.problem import Foresight, Problem, problem_of
from streams.policy.shifts import answered
from streams.policy.view import FleetView

# `planner` optimises within the rules, `rules` is what stands without it; the others are what it is held against:
# `price-blind` optimises and hears of no price, `oracle` optimises and knows all prices and loads to come.
PolicyName = Literal["planner", "rules", "price-blind", "oracle"]


class Desk:
    """What a planner of one fleet has on its desk: the view, the plan in force, what it sent last."""

    def __init__(
        self,
        fleet: Fleet,
        fleet_file: FleetFile,
        plan: FleetPlan,
        policy: PolicyName = "planner",
        foresight: Foresight | None = None,
    ) -> None:
        self.fleet = fleet
        self.fleet_file = fleet_file
        self.plan = plan
        self.policy = policy
        self.view = FleetView(fleet, plan.issued_at if plan.kind == "claim" else None)
        self.dispatch = Dispatch()
        self.highest_epoch_seen = plan.epoch
        self.wants_solution = policy != "rules"
        self._foresight = foresight
        self._solution: Solution | None = None
        self._asked = self._failed = False
        # Until it has a solution of its own, a successor leaves what another's has put in force as it is.
        self._goes_on = policy != "rules" and plan.kind == "claim" and plan.planner == "optimiser"

    def take(self, record: Record, now: datetime) -> bool:
        """Takes a record in; True if it calls for a plan at once rather than at the next step.

        A price calls for a step at once: `wants_solution` says that the optimiser should be asked before `decide`.
        """
        if isinstance(record, CommandAck):
            return self._take_ack(record, now)
        if isinstance(record, EventSignal):
            before = self.view.events.get(record.signal_id)
            self.view.observe(record)
            return self.view.events[record.signal_id] != before
        if isinstance(record, PriceSignal):
            return self._take_price(record, now)
        self.view.observe(record)
        return False

    def _take_price(self, price: PriceSignal, now: datetime) -> bool:
        if self.policy == "price-blind":
            return False
        known = self.view.prices.get(price.signal_id)
        self.view.observe(price)
        news = self.view.prices.get(price.signal_id) != known and price.starts_at <= now < price.ends_at
        self.wants_solution |= news and self.policy != "rules"
        return news

    def _take_ack(self, ack: CommandAck, now: datetime) -> bool:
        # A site that has seen a higher epoch obeys another planner: this one goes above it, or is no longer wanted.
        self.highest_epoch_seen = max(self.highest_epoch_seen, ack.highest_epoch)
        awaited = bool(self.dispatch.awaited)
        command = self.dispatch.answered(ack)
        if command is None:
            return self.dispatch.has_overtaken()
        if awaited and not self.dispatch.awaited:
            return True  # what waited for the last that falls may rise
        shifts = list(self.plan.shifts)
        place = next((place for place, each in enumerate(shifts) if each.control_id == ack.control_id), None)
        if place is None:
            return False
        was, is_now = shifts[place], answered(shifts[place], command, ack.status, now)
        shifts[place] = is_now
        self.plan = self.plan.model_copy(update={"shifts": shifts})
        # A reservation that is confirmed once more is noted, and calls for nothing.
        return was.model_copy(update={"reserved_until": is_now.reserved_until}) != is_now

    def is_outnumbered(self) -> bool:
        """True if a site has seen an epoch above this planner's."""
        return self.highest_epoch_seen > self.plan.epoch

    def problem(self, now: datetime) -> Problem | None:
        """What the optimiser should solve now; None where the policy is by rules, or too little is known."""
        self.wants_solution = False
        if self.policy == "rules":
            return None
        blind = self.policy == "price-blind"
        foresight = self._foresight if self.policy == "oracle" else None
        problem = problem_of(self.view, self.plan, self.fleet_file, now, flat_prices=blind, foresight=foresight)
        self._asked = problem is not None
        return problem

    def adopt(self, solution: Solution | None) -> None:
        """Takes the optimiser's answer to the last problem for the decisions to come; without one the rules stand."""
        self._solution = solution
        self._failed = self._asked and solution is None
        self._goes_on &= not self._asked

    def decide(self, now: datetime) -> tuple[FleetPlan, list[AnyCommand]]:
        """The next plan, and the commands that follow from it. The plan must be durable before they go out."""
        self.view.forget(now)
        unresponsive = self.dispatch.unresponsive_sites()
        planned = next_plan(
            self.view,
            self.plan,
            self.fleet_file,
            now,
            unresponsive,
            self._solution_for(now),
            goes_on=self._goes_on,
        )
        if self._failed and planned.mode == "normal":
            planned = planned.model_copy(update={"mode": "rule-based"})
        planned = guard(planned, self.plan, self.view, self.fleet_file, now)
        silent = [
            Rejected(alternative=f"rely on {site_id}", why="it has left commands unanswered")
            for site_id in sorted(unresponsive)
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

    def _solution_for(self, now: datetime) -> Solution | None:
        """The newest solution, unless its first steps are over: it was overtaken by silence or by failures."""
        if self._solution is None:
            return None
        limits = self.fleet.limits
        fresh = timedelta(seconds=limits.step_seconds + 2 * limits.plan_interval_seconds)
        return self._solution if now - self._solution.starts_at < fresh else None

    def offers(self, now: datetime) -> list[FlexibilityOffer]:
        """What each site could give up from now on."""
        return offers(self.view, self.plan, self.fleet_file, now)
