"""A site controller under any sequence of commands and time: duplicated, reordered, stale, expired, future, foreign."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from schemas.command import Command, Release, Shift, Throttle
from streams.dispatch.controller import (
    ControllerState,
    Surroundings,
    accept,
    elapse,
    ramp,
    shares_in_force,
    strongest_throttle,
    target_in_force,
)
from streams.dispatch.recall import recalled
from tests.policy_cases import ALPHA, FULL, IMPORT_LIMIT, MINIMUM_ON, RAMP_DOWN, RAMP_UP, at, release, shift, throttle

unhurried = settings(deadline=None, max_examples=100)

orders = st.tuples(st.integers(0, 3), st.integers(0, 20))
issued = st.integers(-60, 60).map(lambda step: step * 20.0)
leases = st.sampled_from([20.0, 200.0, 900.0])
names = st.sampled_from(["a", "b", "c"])
sites = st.sampled_from(["alpha", "alpha", "alpha", "beta"])
reasons = st.sampled_from(["emergency", "event", "economics"])
powers, ramps = st.floats(0, 70_000), st.floats(1, 3000)


def _throttle(
    order: tuple[int, int], said: float, lease: float, name: str, site: str, parts: tuple[Any, ...]
) -> Throttle:
    delay, lasts, reason, target, fallback, down, up = parts
    return throttle(
        order,
        issued=said,
        start=said + delay,
        end=said + delay + lasts,
        lease=lease,
        control_id=name,
        site_id=site,
        reason=reason,
        target_power_watts=target,
        fallback_power_watts=fallback,
        ramp_down_watts_per_second=down,
        ramp_up_watts_per_second=up,
    )


_parts = st.tuples(st.sampled_from([-100, 0, 300]), st.sampled_from([60, 1000]), reasons, powers, powers, ramps, ramps)
throttles = st.builds(_throttle, orders, issued, leases, names, sites, _parts)
releases = st.builds(
    lambda order, said, name, delay: release(order, said, said + delay, control_id=name, releases_control_id=name),
    orders,
    issued,
    names,
    st.sampled_from([0, 0, 40]),
)
shifts = st.builds(
    lambda order, said, role, name, share: shift(order, role, said, control_id=f"s{name}", share_ratio=share),
    orders,
    issued,
    st.sampled_from(["drain", "reserve"]),
    names,
    st.floats(0, 1),
)
commands = throttles | releases | shifts
steps = st.lists(st.tuples(commands, st.integers(0, 30)), max_size=15)


@unhurried
@given(steps, commands, st.floats(0, 60_000))
def test_accept_twice_changes_nothing(said: list[tuple[Command, int]], command: Command, meter: float) -> None:
    state, seconds, around = ControllerState(site_id="alpha"), 0.0, Surroundings(ALPHA, meter)
    for each, wait in said:
        seconds += wait
        state, _ = accept(state, each, around, at(seconds))
    once, first = accept(state, command, around, at(seconds))
    twice, second = accept(once, command, around, at(seconds))
    assert twice == once
    assert second == first


@unhurried
@given(steps)
def test_state_survives_its_own_bytes(said: list[tuple[Command, int]]) -> None:
    state = ControllerState(site_id="alpha")
    for each, wait in said:
        state, _ = accept(state, each, Surroundings(ALPHA, 40_000.0), at(wait))
        state = ramp(state, Surroundings(ALPHA, 40_000.0), FULL, at(wait))
    assert ControllerState.model_validate_json(state.model_dump_json()) == state


@unhurried
@given(st.lists(commands, max_size=15), st.integers(-1200, 1200))
def test_recalled_state_knows_the_highest_pair_and_holds_what_it_may(said: list[Command], seconds: float) -> None:
    mine = [each for each in said if each.site_id == "alpha"]
    state, answers = recalled(ControllerState(site_id="alpha"), mine, Surroundings(ALPHA), at(seconds))
    assert state.highest == max([(0, 0), *(each.order for each in mine)])
    assert all(answer.site_id == "alpha" for answer in answers)
    assert all(each.command.ends_at > at(seconds) for each in state.controls)


class Controller(RuleBasedStateMachine):
    """A controller that ticks every second or is left alone for a while, and is told anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = at(0)
        self.state = ControllerState(site_id="alpha")
        self.around = Surroundings(ALPHA, 40_000.0)
        self.said: list[Command] = []

    def take(self, command: Command) -> None:
        before, target = self.state, target_in_force(self.state, self.now)
        self.state, answer = accept(self.state, command, self.around, self.now)
        assert self.state.highest >= before.highest
        assert (answer.highest_epoch, answer.highest_sequence) == self.state.highest
        acted_on = self.state.controls != before.controls
        if answer.status == "rejected":
            assert not acted_on
        if acted_on:
            assert command.site_id == "alpha"
            assert not self.around.locked_out
            assert command.order >= before.highest
            assert command.lease_expires_at > self.now
            assert command.issued_at <= self.now + timedelta(seconds=30)
        if isinstance(command, Shift):
            assert target_in_force(self.state, self.now) == target

    @rule(command=commands, ahead=st.integers(-30, 30))
    def told(self, command: Command, ahead: int) -> None:
        # Moved to about now, else most would be long expired or far in the future.
        by = self.now - at(0) + timedelta(seconds=ahead)
        times = ("issued_at", "starts_at", "ends_at", "lease_expires_at")
        moved = command.model_copy(update={name: getattr(command, name) + by for name in times})
        self.said.append(moved)
        self.take(moved)

    @rule(command=throttles)
    def told_rightly(self, command: Throttle) -> None:
        """By a planner that is in its senses: the next pair, issued now."""
        epoch, sequence = self.state.highest
        by = self.now - command.issued_at
        times = ("issued_at", "starts_at", "ends_at", "lease_expires_at")
        update: dict[str, Any] = {name: getattr(command, name) + by for name in times}
        update |= {"epoch": epoch, "sequence": sequence + 1, "site_id": "alpha"}
        self.said.append(command.model_copy(update=update))
        self.take(self.said[-1])

    @rule(place=st.integers(0, 100))
    def told_again(self, place: int) -> None:
        if self.said:
            self.take(self.said[place % len(self.said)])

    @rule(meter=st.none() | st.floats(0, 55_000))
    def reads(self, meter: float | None) -> None:
        self.around = Surroundings(ALPHA, meter, self.around.locked_out)

    @rule()
    def locks_out_or_back_in(self) -> None:
        self.around = Surroundings(ALPHA, self.around.meter_power_watts, not self.around.locked_out)

    @rule(seconds=st.sampled_from([1, 1, 5, 60, 600]))
    def time_passes(self, seconds: int) -> None:
        before, limit = self.state, self.state.limit_watts
        ruling = strongest_throttle(before, self.now)
        target = target_in_force(before, self.now)
        self.now += timedelta(seconds=seconds)
        self.state, answers = elapse(before, self.around, self.now)
        assert self.state.highest == before.highest
        assert all(answer.status == "expired" for answer in answers)
        if ruling is not None and self.now < ruling.command.ends_at:
            then = target_in_force(self.state, self.now)
            assert target is not None
            assert then is not None
            rules_still = strongest_throttle(self.state, self.now)
            assert rules_still is not None
            if rules_still.command == ruling.command:
                assert then <= target
        self.state = ramp(self.state, self.around, FULL, self.now)
        self.kept_to_the_ramps(limit, seconds)
        assert ramp(self.state, self.around, FULL, self.now) == self.state

    def kept_to_the_ramps(self, before: float | None, seconds: float) -> None:
        after = self.state.limit_watts
        if before is not None and after is None:
            assert before + RAMP_UP * seconds >= FULL - 1e-6
        if before is not None and after is not None:
            assert -RAMP_DOWN * seconds - 1e-6 <= after - before <= RAMP_UP * seconds + 1e-6
            if self.around.locked_out:
                assert after == before
        if before is None and after is not None:
            drawn = FULL if self.around.meter_power_watts is None else self.around.meter_power_watts
            assert after >= drawn or after == target_in_force(self.state, self.now)

    @invariant()
    def targets_are_possible(self) -> None:
        target = target_in_force(self.state, self.now)
        assert target is None or MINIMUM_ON <= target <= IMPORT_LIMIT
        assert len({each.command.control_id for each in self.state.controls}) == len(self.state.controls)
        assert not any(isinstance(each.command, Release) for each in self.state.controls)

    @invariant()
    def shares_add_up_to_one_at_most(self) -> None:
        assert sum(shares_in_force(self.state, self.now).values()) <= 1 + 1e-9


Controller.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
test_controller_under_anything = Controller.TestCase
