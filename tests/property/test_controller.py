"""A site controller under any sequence of commands and time: duplicated, reordered, stale, expired, future, foreign."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.command import Command, Throttle
from streams.dispatch.controller import ControllerState, Surroundings, accept
from streams.dispatch.recall import recalled
from streams.dispatch.tick import tick
from tests.policy_cases import ALPHA, FULL, at, release, shift, throttle

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
        state = tick(state, Surroundings(ALPHA, 40_000.0), FULL, at(wait)).state
    assert ControllerState.model_validate_json(state.model_dump_json()) == state


@unhurried
@given(st.lists(commands, max_size=15), st.integers(-1200, 1200))
def test_recalled_state_knows_the_highest_pair_and_holds_what_it_may(said: list[Command], seconds: float) -> None:
    mine = [each for each in said if each.site_id == "alpha"]
    state, answers = recalled(ControllerState(site_id="alpha"), mine, Surroundings(ALPHA), at(seconds))
    assert state.highest == max([(0, 0), *(each.order for each in mine)])
    assert all(answer.site_id == "alpha" for answer in answers)
    assert all(each.command.ends_at > at(seconds) for each in state.controls)
