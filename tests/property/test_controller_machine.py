"""A site controller, model-checked: told anything at any time, left alone, restarted, locked out, cut off from the bus.

What a site must never do, whatever comes: act on a lower pair, raise a target when a lease lapses, pass its ramps, go
below what it can hold or above its import limit, take a command twice, give away more than all of a class.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas.command import VERDICTS, Command, CommandAck, Release, Shift
from streams.dispatch.controller import (
    ControllerState,
    Surroundings,
    accept,
    resumed,
    strongest_throttle,
    target_in_force,
)
from streams.dispatch.outbox import Outbox
from streams.dispatch.tick import Ticked, tick
from tests.policy_cases import ALPHA, FULL, IMPORT_LIMIT, LEAST, RAMP_DOWN, RAMP_UP, at, release, shift, throttle

TIMES = ("issued_at", "starts_at", "ends_at", "lease_expires_at")
MOST_WAITING = 20

powers, rates = st.floats(0, 70_000), st.floats(1, 3000)
names = st.sampled_from(["a", "b", "c"])
reasons = st.sampled_from(["emergency", "event", "economics"])
orders = st.tuples(st.integers(0, 3), st.integers(0, 20))
sites = st.sampled_from(["alpha", "alpha", "alpha", "beta"])
runs = st.sampled_from(["live", "live", "live", "demo"])
leases = st.sampled_from([20.0, 200.0, 900.0])

throttles = st.builds(
    lambda delay, lasts, lease, **more: throttle(start=delay, end=delay + lasts, lease=lease, **more),
    st.sampled_from([-100, 0, 300]),
    st.sampled_from([60, 1000]),
    leases,
    control_id=names,
    reason=reasons,
    priority=st.integers(0, 2),
    target_power_watts=powers,
    fallback_power_watts=powers,
    ramp_down_watts_per_second=rates,
    ramp_up_watts_per_second=rates,
)
moves: dict[str, Any] = {
    "control_id": names.map(lambda name: f"s{name}"),
    "lease": leases,
    "share_ratio": st.floats(0, 1),
    "ramp_seconds": st.sampled_from([0.0, 30.0, 300.0]),
    "service_class": st.sampled_from(["batch", "chat"]),
}
drains = st.builds(shift, to_site_id=st.sampled_from(["beta", "gamma"]), **moves)
reservations = st.builds(shift, role=st.just("reserve"), reserved_power_watts=st.floats(0, 15_000), **moves)
releases = st.builds(
    lambda name, delay, reason: release(
        issued=0, start=delay, control_id=name, releases_control_id=name, reason=reason
    ),
    st.sampled_from(["a", "b", "c", "sa", "sb", "sc"]),
    st.sampled_from([0, 0, 40]),
    reasons,
)
commands = throttles | drains | drains | reservations | releases


class Controller(RuleBasedStateMachine):
    """A controller that ticks every second or is left alone for a while, and is told anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = at(0)
        self.uptime_seconds = 1000.0
        self.state = ControllerState(site_id="alpha")
        self.around = Surroundings(ALPHA, 40_000.0, least_power_watts=LEAST, uptime_seconds=self.uptime_seconds)
        self.said: list[Command] = []
        self.ticked: Ticked | None = None
        self.bus_is_there = True
        self.outbox = Outbox()
        self.heard: list[CommandAck] = []
        self.verdicts: list[CommandAck] = []

    # What it is told.

    @rule(command=commands, order=orders, site=sites, run=runs, ahead=st.integers(-30, 60))
    def told(self, command: Command, order: tuple[int, int], site: str, run: str, ahead: int) -> None:
        """By anybody: a stale planner, another site's, another run's, from the past or the future."""
        if isinstance(command, Shift):
            site = "alpha"  # a shift for another site would have other ends
        self.take(command, ahead, epoch=order[0], sequence=order[1], site_id=site, run_id=run)

    @rule(command=commands)
    def told_rightly(self, command: Command) -> None:
        """By a planner that is in its senses: the next pair, issued now."""
        self.take(command, 0, epoch=self.state.epoch, sequence=self.state.sequence + 1)

    @rule(command=commands)
    def told_by_a_new_planner(self, command: Command) -> None:
        self.take(command, 0, epoch=self.state.epoch + 1, sequence=1)

    @precondition(lambda self: self.state.controls)
    @rule(place=st.integers(0, 9), share=st.floats(0, 1))
    def renewed(self, place: int, share: float) -> None:
        """What it holds, under a new pair; a drain with a lower share perhaps."""
        held = self.state.controls[place % len(self.state.controls)].command
        lease = held.lease_expires_at - held.issued_at
        update: dict[str, Any] = {"issued_at": self.now, "lease_expires_at": self.now + lease}
        if isinstance(held, Shift):
            update["share_ratio"] = held.share_ratio * share
        update |= {"epoch": self.state.epoch, "sequence": self.state.sequence + 1, "renewal": True}
        self.accept(held.model_copy(update=update))

    @precondition(lambda self: self.state.controls)
    @rule(place=st.integers(0, 9), reason=reasons)
    def let_go(self, place: int, reason: str) -> None:
        """By the next pair, of something that it holds."""
        name = self.state.controls[place % len(self.state.controls)].command.control_id
        command = release(issued=0, control_id=name, releases_control_id=name, reason=reason)
        self.take(command, 0, epoch=self.state.epoch, sequence=self.state.sequence + 1)

    @precondition(lambda self: self.said)
    @rule(place=st.integers(0, 100))
    def told_again(self, place: int) -> None:
        before = self.state
        command = self.said[place % len(self.said)]
        self.accept(command)
        newest = before.newest is not None and command == before.newest
        held = any(each.command == command for each in before.controls)
        if newest or held:
            assert self.state == before

    def take(self, command: Command, ahead: int, **update: Any) -> None:
        # Moved to about now, else most would be long expired or far in the future.
        by = self.now - command.issued_at + timedelta(seconds=ahead)
        moved = {name: getattr(command, name) + by for name in TIMES}
        self.said.append(command.model_copy(update=moved | update))
        self.accept(self.said[-1])

    def accept(self, command: Command) -> None:
        before, target = self.state, target_in_force(self.state, self.now)
        self.state, answer = accept(self.state, command, self.around, self.now)
        self.say([answer])
        assert answer.status in VERDICTS
        assert self.state.highest >= before.highest
        seen = (answer.highest_epoch, answer.highest_sequence)
        assert seen == self.state.highest or (answer.status in ("accepted", "partial") and seen == command.order)
        acted_on = self.state.controls != before.controls
        if answer.status == "rejected":
            assert not acted_on
            assert self.state.shares == before.shares
        if acted_on:
            assert command.site_id == "alpha"
            assert command.run_id == "live"
            assert not self.around.locked_out
            assert command.order >= before.highest
            assert command.lease_expires_at > self.now
            assert command.issued_at <= self.now + timedelta(seconds=30)
        if isinstance(command, Shift):
            assert target_in_force(self.state, self.now) == target
        # Whatever the answer was: the same again changes nothing and is answered the same.
        again, second = accept(self.state, command, self.around, self.now)
        assert again == self.state
        assert second == answer

    # What happens to it.

    @rule(meter=st.none() | st.floats(0, 55_000) | st.sampled_from([-1.0, float("nan"), 200_000.0, 40_000.0]))
    def reads(self, meter: float | None) -> None:
        self.around = self.around.with_meter(meter)

    @rule()
    def locks_out_or_back_in(self) -> None:
        self.set_around(locked_out=not self.around.locked_out)

    @rule(seconds=st.sampled_from([5, 600]))
    def is_locked_out_for_a_while(self, seconds: int) -> None:
        self.set_around(locked_out=True)
        self.pass_time(seconds)
        self.set_around(locked_out=False)
        self.pass_time(1)

    @rule(ratio=st.sampled_from([1.05, 1.5]), then=st.sampled_from([0.5, 1.0]))
    def stands_above_its_target_though_capped_and_then_below(self, ratio: float, then: float) -> None:
        for part in (*[ratio] * 8, *[then] * 8):
            target = target_in_force(self.state, self.now)
            if target is not None:
                self.set_around(meter_power_watts=target * part, cap_refused=True)
            self.pass_time(10)

    @rule()
    def equipment_refuses_or_takes_the_cap(self) -> None:
        self.set_around(cap_refused=not self.around.cap_refused)

    @rule()
    def loses_or_finds_the_bus(self) -> None:
        self.bus_is_there = not self.bus_is_there
        self.say([])

    @rule(away=st.sampled_from([0, 5, 600]))
    def restarts(self, away: int) -> None:
        """From its own bytes, some time later, with a monotonic clock that starts anew."""
        self.now += timedelta(seconds=away)
        self.uptime_seconds = 1.0
        self.set_around(uptime_seconds=1.0)
        loaded = ControllerState.model_validate_json(self.state.model_dump_json())
        assert loaded == self.state
        self.state = resumed(loaded)
        shares = {(each.control_id, each.to_site_id, each.service_class): each for each in self.state.shares}
        self.pass_time(0)  # its limit goes on from where it was, and so does each share that has a ramp
        for each in self.state.shares:
            if each.ratio_per_second is not None:
                before = shares.get((each.control_id, each.to_site_id, each.service_class))
                assert each.share_ratio == pytest.approx(0 if before is None else before.share_ratio, abs=1e-6)

    @rule(seconds=st.sampled_from([1, 1, 5, 60, 600]))
    def time_passes(self, seconds: int) -> None:
        self.pass_time(seconds)

    def set_around(self, **what: Any) -> None:
        fields = {
            "meter_power_watts": self.around.meter_power_watts,
            "locked_out": self.around.locked_out,
            "least_power_watts": LEAST,
            "uptime_seconds": self.uptime_seconds,
            "cap_refused": self.around.cap_refused,
        }
        self.around = Surroundings(ALPHA, **(fields | what))

    def pass_time(self, seconds: int) -> None:
        before = self.state
        ruling, target = strongest_throttle(before, self.now), target_in_force(before, self.now)
        self.now += timedelta(seconds=seconds)
        self.uptime_seconds += seconds
        self.set_around()
        self.ticked = tick(before, self.around, FULL, self.now)
        self.state = self.ticked.state
        self.say(self.ticked.acks)
        assert self.state.highest == before.highest
        assert not VERDICTS & {ack.status for ack in self.ticked.acks}
        self.kept_to_the_target(ruling, target)
        self.kept_to_the_ramps(before, 0 if before.moved_at is None else seconds)
        again = tick(self.state, self.around, FULL, self.now)
        assert (again.limit_watts, again.admission_ratio) == (self.ticked.limit_watts, self.ticked.admission_ratio)

    def kept_to_the_target(self, ruling: Any, target: float | None) -> None:
        """The target that ruled is never raised by time alone before the end of what it serves."""
        if ruling is None or self.now >= ruling.command.ends_at:
            return
        rules_still = strongest_throttle(self.state, self.now)
        assert rules_still is not None
        if rules_still.command == ruling.command:
            then = target_in_force(self.state, self.now)
            assert then is not None
            assert target is not None
            assert then <= target

    def kept_to_the_ramps(self, before: ControllerState, seconds: float) -> None:
        was, limit = before.limit_watts, self.state.limit_watts
        if was is not None and limit is None:
            assert was + RAMP_UP * seconds >= FULL - 1e-6
        if was is not None and limit is not None:
            assert -RAMP_DOWN * seconds - 1e-6 <= limit - was <= RAMP_UP * seconds + 1e-6
        admission = self.state.knob.admission_ratio - before.knob.admission_ratio
        assert admission <= RAMP_UP * seconds / FULL + 1e-9
        if self.around.locked_out:
            assert limit == was
            assert admission == 0
            assert self.state.shares == before.shares

    def say(self, acks: list[CommandAck]) -> None:
        """As the service does: into the outbox, and from there in order when the bus is there."""
        self.verdicts += [ack for ack in acks if ack.status in VERDICTS]
        self.outbox = self.outbox.put(acks, most=MOST_WAITING)
        if self.bus_is_there:
            for ack in self.outbox.entries:
                self.heard.append(ack)
                self.outbox = self.outbox.said(ack)

    # What always holds.

    @invariant()
    def targets_are_possible(self) -> None:
        target = target_in_force(self.state, self.now)
        assert target is None or LEAST <= target <= IMPORT_LIMIT
        assert len({each.command.control_id for each in self.state.controls}) == len(self.state.controls)
        assert not any(isinstance(each.command, Release) for each in self.state.controls)

    @invariant()
    def limits_and_shares_are_possible(self) -> None:
        limit = self.state.limit_watts
        assert limit is None or LEAST - 1e-6 <= limit <= IMPORT_LIMIT
        assert 0 <= self.state.knob.admission_ratio <= 1
        for service in ("batch", "chat"):
            moved = [each.share_ratio for each in self.state.shares if each.service_class == service]
            asked = [
                each.command.share_ratio
                for each in self.state.controls
                if isinstance(each.command, Shift)
                and each.command.role == "drain"
                and each.command.service_class == service
            ]
            assert sum(moved) <= 1 + 1e-6
            assert sum(asked) <= 1 + 1e-6

    @invariant()
    def verdicts_are_heard_in_order_unless_too_many_wait(self) -> None:
        said = [ack for ack in (*self.heard, *self.outbox.entries) if ack.status in VERDICTS]
        if self.outbox.dropped == 0:
            assert said == self.verdicts
        if self.bus_is_there:
            assert self.outbox.entries == ()
        assert len(self.outbox.entries) <= MOST_WAITING


Controller.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
test_controller_under_anything = Controller.TestCase
