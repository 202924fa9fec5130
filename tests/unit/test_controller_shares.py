"""Traffic on its way to another site and home again."""

from typing import Any

import pytest

from schemas.command import Command
from streams.dispatch.controller import ControllerState, Surroundings, accept
from streams.dispatch.tick import Ticked, tick
from tests.policy_cases import ALPHA, FULL, at, release, shift

START = ControllerState(site_id="alpha")
AROUND = Surroundings(ALPHA, 40_000.0)
TO_BETA = ("batch", "beta")


def run(told: dict[float, Command], until: float, step: float = 10.0) -> tuple[dict[float, float], list[Any]]:
    """The share that goes to beta at each time, and what was said: (time, status, share)."""
    state, shares, said = START, {}, list[Any]()
    for number in range(int(until / step) + 1):
        seconds = number * step
        if seconds in told:
            state, answer = accept(state, told[seconds], AROUND, at(seconds))
            assert answer.status == "accepted"
        ticked: Ticked = tick(state, AROUND, FULL, at(seconds))
        state, shares[seconds] = ticked.state, ticked.shares.get(TO_BETA, 0.0)
        said += [(seconds, ack.status, ack.share_ratio) for ack in ticked.acks]
    return shares, said


def test_share_rises_evenly_over_its_ramp_and_says_when_it_starts_and_when_all_of_it_moves() -> None:
    shares, said = run({0: shift(ramp_seconds=60.0)}, 90)
    assert [shares[seconds] for seconds in (0, 10, 30, 60, 90)] == pytest.approx([0, 0.2 / 6, 0.1, 0.2, 0.2])
    assert said == [(0, "ramping", 0.0), (60, "compliant", 0.2)]


def test_share_without_a_ramp_moves_at_once() -> None:
    shares, said = run({0: shift()}, 10)
    assert shares == {0: 0.2, 10: 0.2}
    assert said == [(0, "compliant", 0.2)]


def test_share_comes_home_over_the_ramp_after_a_release() -> None:
    shares, _ = run({0: shift(ramp_seconds=60.0), 100: release(issued=100, releases_control_id="s")}, 180)
    assert [shares[seconds] for seconds in (90, 100, 130, 160)] == pytest.approx([0.2, 0.2, 0.1, 0.0])


def test_share_on_its_way_turns_round_where_it_is() -> None:
    shares, said = run({0: shift(ramp_seconds=60.0), 30: release(issued=30, releases_control_id="s")}, 120)
    assert [shares[seconds] for seconds in (20, 30, 60, 90)] == pytest.approx([0.2 / 3, 0.2 / 3, 0.1 / 3, 0.0])
    assert said == [(0, "ramping", 0.0)]


def test_share_comes_home_over_the_ramp_when_the_lease_lapses_or_its_time_ends() -> None:
    for command, end in ((shift(ramp_seconds=60.0), 900), (shift(ramp_seconds=60.0, ends_at=at(600)), 600)):
        shares, _ = run({0: command}, end + 60)
        assert [shares[end + seconds] for seconds in (-10, 0, 30, 60)] == pytest.approx([0.2, 0.2, 0.1, 0.0])


def test_share_comes_home_at_once_in_an_emergency() -> None:
    back = release(issued=100, releases_control_id="s", reason="emergency")
    shares, _ = run({0: shift(ramp_seconds=60.0), 100: back}, 110)
    assert (shares[90], shares[100]) == (0.2, 0.0)


def test_share_lowered_in_place_goes_on_from_where_it_is_over_the_ramp() -> None:
    lower = shift((1, 2), issued=100, share_ratio=0.1, ramp_seconds=60.0)
    shares, said = run({0: shift(ramp_seconds=60.0), 100: lower}, 200)
    assert [shares[seconds] for seconds in (100, 130, 160, 200)] == pytest.approx([0.2, 0.15, 0.1, 0.1])
    assert said[2:] == [(100, "ramping", 0.2), (160, "compliant", 0.1)]


def test_share_renewed_stays_and_is_told_of_under_the_new_number() -> None:
    shares, said = run({0: shift(), 300: shift((1, 2), issued=300)}, 310)
    assert set(shares.values()) == {0.2}
    assert said == [(0, "compliant", 0.2), (300, "compliant", 0.2)]


def test_shares_of_one_acceptor_add_up() -> None:
    shares, _ = run({0: shift(share_ratio=0.25), 10: shift((1, 2), control_id="s2", share_ratio=0.5)}, 10)
    assert shares == {0: 0.25, 10: 0.75}


def test_share_on_its_way_home_still_counts_until_it_is_there() -> None:
    state, _ = accept(START, shift(share_ratio=0.7, ramp_seconds=60.0), AROUND, at(0))
    for seconds in (0, 60):
        state = tick(state, AROUND, FULL, at(seconds)).state
    state, _ = accept(state, release(issued=60, releases_control_id="s"), AROUND, at(60))
    more = shift((2, 1), control_id="s2", to_site_id="gamma", share_ratio=0.6, issued=60)
    assert accept(state, more, AROUND, at(60))[1].detail == "70% of batch goes away already"
    for seconds in (60, 90):
        state = tick(state, AROUND, FULL, at(seconds)).state
    assert accept(state, more, AROUND, at(90))[1].status == "accepted"


def test_shares_survive_a_restart_and_stand_still_while_locked_out() -> None:
    state, _ = accept(START, shift(ramp_seconds=60.0), AROUND, at(0))
    for seconds in (0, 30):
        state = tick(state, AROUND, FULL, at(seconds)).state
    state = ControllerState.model_validate_json(state.model_dump_json())
    locked = tick(state, Surroundings(ALPHA, 40_000.0, locked_out=True), FULL, at(50))
    assert locked.shares == {TO_BETA: 0.1}
    back = tick(locked.state, AROUND, FULL, at(60))
    assert back.shares == {TO_BETA: 0.1}
    assert tick(back.state, AROUND, FULL, at(75)).shares[TO_BETA] == pytest.approx(0.15)
