"""Commands over any sequence of plans, answers and time: numbers rise, nothing is forgotten, nobody is flooded."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from schemas.command import Command, Release, Throttle
from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from streams.policy.commands import Dispatch, next_commands
from streams.policy.guard import guard
from streams.policy.view import FleetView
from tests.policy_cases import FLEET, FLEET_FILE, SITES, ack, at, empty_plan, shift_control, throttle_control

LIMITS = FLEET.limits
ATTEMPTS = 3

controls = st.builds(
    lambda name, site, target, delay, lasts: throttle_control(
        f"{name}/{site}", site, target_power_watts=target, start=delay, end=delay + lasts
    ),
    st.sampled_from("ab"),
    st.sampled_from(SITES),
    st.sampled_from([26_000.0, 30_000.0, 35_000.0]),
    st.sampled_from([-600, 0, 400]),
    st.sampled_from([100, 2000, 9000]),
)
phases = st.sampled_from(["proposed", "reserved", "active", "returning", "done", "aborted"])
shifts = st.lists(st.builds(shift_control, phases), max_size=1)
statuses = st.sampled_from(["received", "accepted", "accepted", "partial", "rejected", "compliant", "expired"])


class Planner(RuleBasedStateMachine):
    """A planner whose plans are anything that the guard lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = at(0)
        self.dispatch = Dispatch()
        self.plan: FleetPlan = empty_plan()
        self.unanswered: list[Command] = []
        self.highest: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        # For each order: when it was sent since something about it changed or was answered.
        self.told: dict[tuple[str, str], list[datetime]] = defaultdict(list)

    def decide(self, throttles: list[ThrottleControl], moving: list[ShiftControl]) -> list[Command]:
        wanted = self.plan.model_copy(update={"throttles": throttles, "shifts": moving, "issued_at": self.now})
        planned = guard(wanted, self.plan, FleetView(FLEET), FLEET_FILE, self.now)
        self.dispatch.inherit(self.plan, planned, LIMITS, self.now)
        held = dict(self.dispatch.sent)
        commands: list[Command] = list(next_commands(planned, self.dispatch, LIMITS, self.now))
        self.plan = planned.model_copy(update={"sequence": planned.sequence + len(commands)})
        for command in commands:
            self.check(command)
        self.vanished_are_released(set(held), commands)
        self.unanswered.extend(commands)
        return commands

    def check(self, command: Command) -> None:
        assert command.order > self.highest[command.site_id]
        self.highest[command.site_id] = command.order
        assert command.issued_at == self.now < command.lease_expires_at
        assert command.ends_at > self.now
        assert type(command).model_validate_json(command.to_json()) == command

    def vanished_are_released(self, held: set[tuple[str, str]], commands: list[Command]) -> None:
        orders = {(each.control_id, each.site_id) for each in self.plan.throttles if each.ends_at > self.now}
        for shift in self.plan.shifts:
            orders |= {(shift.control_id, shift.from_site_id), (shift.control_id, shift.to_site_id)}
        released = {(each.control_id, each.site_id) for each in commands if isinstance(each, Release)}
        pending = {key for key, sent in self.dispatch.sent.items() if isinstance(sent.command, Release)}
        assert released <= pending
        # What was told and is wanted no longer is being released, or was over.
        for key in held - orders:
            assert key in pending or key not in self.dispatch.sent

    @rule(throttles=st.lists(controls, max_size=4), moving=shifts, seconds=st.sampled_from([0, 1, 20, 60, 400]))
    def plans_anew(self, throttles: list[ThrottleControl], moving: list[ShiftControl], seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        by = self.now - at(0)
        update = ("starts_at", "ends_at")
        moved = [each.model_copy(update={name: getattr(each, name) + by for name in update}) for each in throttles]
        self.decide(moved, moving)
        self.told.clear()

    @rule(seconds=st.sampled_from([1, 10, 60, 60, 300]))
    def plans_the_same(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for command in self.decide(list(self.plan.throttles), list(self.plan.shifts)):
            if isinstance(command, Throttle):
                self.told[command.control_id, command.site_id].append(self.now)
        for times in self.told.values():
            recent = [time for time in times if time > self.now - timedelta(seconds=LIMITS.renew_seconds)]
            assert len(recent) <= ATTEMPTS

    @rule()
    def plans_the_same_at_once(self) -> None:
        """Whatever has just been decided: decided again, there is nothing to say."""
        self.decide(list(self.plan.throttles), list(self.plan.shifts))
        assert self.decide(list(self.plan.throttles), list(self.plan.shifts)) == []

    @rule(place=st.integers(0, 50), status=statuses)
    def hears(self, place: int, status: str) -> None:
        if self.unanswered:
            command = self.unanswered[place % len(self.unanswered)]
            found = self.dispatch.answered(ack(command, status))
            assert found is None or found == command
            if found is not None:
                self.told.pop((command.control_id, command.site_id), None)

    @rule()
    def a_successor_takes_over(self) -> None:
        before = {key for key, sent in self.dispatch.sent.items() if not isinstance(sent.command, Release)}
        self.dispatch = Dispatch()
        self.plan = self.plan.model_copy(update={"epoch": self.plan.epoch + 1, "sequence": 0})
        commands = self.decide(list(self.plan.throttles), list(self.plan.shifts))
        again: set[Any] = {(each.control_id, each.site_id) for each in commands if not isinstance(each, Release)}
        living = {(each.control_id, each.site_id) for each in self.plan.throttles if each.ends_at > self.now}
        assert living <= again
        assert before & living <= again
        self.told.clear()

    @invariant()
    def silence_is_noticed(self) -> None:
        for site_id in self.dispatch.unresponsive_sites():
            assert any(
                sent.attempts >= ATTEMPTS and not sent.answered
                for (_, site), sent in self.dispatch.sent.items()
                if site == site_id
            )


Planner.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)
test_planner_under_anything = Planner.TestCase
