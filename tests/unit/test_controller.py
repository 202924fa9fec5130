"""The site controller, command by command and second by second; the property tests try any sequence."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.command import Command, Shift, Throttle
from streams.dispatch.controller import ControllerState, Surroundings, accept, elapse, resumed, target_in_force
from streams.dispatch.recall import last_in_force, recalled
from tests.policy_cases import (
    ALPHA,
    IMPORT_LIMIT,
    LEAST,
    MINIMUM_ON,
    RAMP_DOWN,
    RAMP_UP,
    at,
    release,
    shift,
    throttle,
)

START = ControllerState(site_id="alpha")
AROUND = Surroundings(ALPHA, meter_power_watts=40_000.0)
LOCKED = Surroundings(ALPHA, meter_power_watts=40_000.0, locked_out=True)


def after(*commands: Command, seconds: float = 0) -> ControllerState:
    state = START
    for command in commands:
        state, _ = accept(state, command, AROUND, at(seconds))
    return state


def answer_to(state: ControllerState, command: Command, around: Surroundings = AROUND, seconds: float = 0) -> Any:
    return accept(state, command, around, at(seconds))[1]


def test_accept_takes_a_throttle_on_and_answers() -> None:
    state, answer = accept(START, throttle((3, 5)), AROUND, at(0))
    assert target_in_force(state, at(0)) == 30_000
    assert (answer.status, answer.epoch, answer.sequence) == ("accepted", 3, 5)
    assert (answer.highest_epoch, answer.highest_sequence) == (3, 5)
    assert answer.meter_power_watts == 40_000


REFUSED: list[tuple[Command, str]] = [
    (throttle((2, 1), run_id="demo"), "of run demo"),
    (shift((2, 1), control_id="t"), "its control is a throttle"),
    (throttle((2, 1), site_id="beta"), "for site beta"),
    (throttle((0, 9)), "a higher pair"),
    (throttle((2, 1), issued=-1000), "expired"),
    (throttle((2, 1), start=-100, end=0), "expired"),
    (throttle((2, 1), issued=31), "from the future"),
    (release((2, 1), issued=-900), "expired"),
]


@pytest.mark.parametrize(("command", "why"), REFUSED)
def test_accept_refuses_what_may_not_be_acted_on(command: Command, why: str) -> None:
    before = after(throttle((1, 1)))
    state, answer = accept(before, command, AROUND, at(0))
    assert answer.status == "rejected"
    assert answer.detail.startswith(why)
    assert state.controls == before.controls
    ours = command.site_id == "alpha" and command.run_id == "live"
    assert state.highest == (max(before.highest, command.order) if ours else before.highest)


def test_accept_bears_a_planners_clock_a_little_ahead() -> None:
    assert answer_to(START, throttle(issued=30)).status == "accepted"


def test_accept_locked_out_refuses_everything_but_notes_the_pair() -> None:
    for command in (throttle((1, 5)), release((1, 5)), shift((1, 5))):
        state, answer = accept(after(throttle()), command, LOCKED, at(0))
        assert (answer.status, answer.detail) == ("rejected", "locked out locally")
        assert state.controls == after(throttle()).controls
        assert state.highest == (1, 5)


def test_accept_twice_changes_nothing_even_after_a_later_command() -> None:
    first, second = throttle((1, 1), control_id="a"), throttle((1, 2), control_id="b")
    state = after(first, second)
    again, answer = accept(state, first, AROUND, at(0))
    assert again == state
    assert (answer.status, answer.highest_sequence) == ("accepted", 1)  # as it was said then
    # But not the first once it was renewed: that one is stale.
    state = after(first, throttle((1, 3), control_id="a"))
    assert accept(state, first, AROUND, at(0))[1].status == "rejected"


def test_accept_of_another_command_with_the_highest_pair_is_refused() -> None:
    state = after(throttle((1, 5)))
    for other in (throttle((1, 5), target_power_watts=26_000.0), release((1, 5), issued=0), throttle((1, 5), lease=90)):
        same, answer = accept(state, other, AROUND, at(0))
        assert (answer.status, answer.detail) == ("rejected", "another command of this pair has been seen")
        assert same == state


def test_accept_keeps_the_answer_that_it_gave_to_a_command() -> None:
    refused = throttle((1, 5))
    state, first = accept(START, refused, LOCKED, at(0))
    again, second = accept(state, refused, AROUND, at(10))
    assert (first.status, second.status, second.detail) == ("rejected", "rejected", "locked out locally")
    assert again == state
    early = throttle((1, 6), issued=100)
    state, _ = accept(state, early, AROUND, at(0))
    assert accept(state, early, AROUND, at(100))[1].detail == "from the future"


def test_accept_holds_no_less_than_the_equipment_makes_sense_at() -> None:
    around = Surroundings(ALPHA, 40_000.0, least_power_watts=LEAST)
    state, answer = accept(START, throttle(target_power_watts=20_000.0), around, at(0))
    assert (answer.status, answer.detail) == ("partial", "the least power is 25000 W")
    assert target_in_force(state, at(0)) == LEAST


def test_accept_keeps_to_the_sites_own_limits() -> None:
    state, answer = accept(START, throttle(target_power_watts=1.0, fallback_power_watts=1.0), AROUND, at(0))
    assert answer.status == "partial"
    assert target_in_force(state, at(0)) == MINIMUM_ON
    lapsed, _ = elapse(state, AROUND, at(900))
    assert target_in_force(lapsed, at(900)) == MINIMUM_ON
    assert target_in_force(after(throttle(target_power_watts=1e9)), at(0)) == IMPORT_LIMIT
    (control,) = after(throttle(ramp_down_watts_per_second=1e9, ramp_up_watts_per_second=1e9)).controls
    assert isinstance(control.command, Throttle)
    assert control.command.ramp_down_watts_per_second == RAMP_DOWN
    assert control.command.ramp_up_watts_per_second == RAMP_UP


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ({"reason": "event", "target_power_watts": 26_000.0}, {"reason": "emergency"}),
        ({"reason": "economics", "target_power_watts": 26_000.0}, {"reason": "event"}),
        ({"priority": 2, "target_power_watts": 26_000.0}, {"priority": 1}),
        ({"target_power_watts": 31_000.0}, {}),
    ],
)
def test_target_in_force_is_that_of_the_strongest(weaker: dict[str, Any], stronger: dict[str, Any]) -> None:
    two = (throttle((1, 1), control_id="weak", **weaker), throttle((1, 2), control_id="strong", **stronger))
    assert target_in_force(after(*two), at(0)) == 30_000


def test_throttle_to_come_waits_for_its_start_and_outlives_its_lease() -> None:
    state = after(throttle(start=1200))
    state, answers = elapse(state, AROUND, at(901))
    assert [answer.status for answer in answers] == ["expired"]
    assert target_in_force(state, at(1199)) is None
    assert target_in_force(state, at(1200)) == 28_000


@pytest.mark.parametrize(("fallback", "held"), [(28_000.0, 28_000), (45_000.0, 30_000)])
def test_lapsed_lease_never_raises_the_target(fallback: float, held: float) -> None:
    state, answers = elapse(after(throttle(fallback_power_watts=fallback)), AROUND, at(900))
    assert [(answer.status, answer.sequence) for answer in answers] == [("expired", 1)]
    assert elapse(state, AROUND, at(901)) == (state, [])
    assert target_in_force(state, at(3599)) == held
    ended, answers = elapse(state, AROUND, at(3600))
    assert (ended.controls, answers) == ((), [])
    renewed, _ = accept(state, throttle((1, 2), issued=1000), AROUND, at(1000))
    assert target_in_force(renewed, at(1000)) == 30_000


def test_release_ends_the_control_and_keeps_its_ramp() -> None:
    state = after(throttle(ramp_up_watts_per_second=50.0), release(issued=0))
    assert state.controls == ()
    assert state.ramp_up_watts_per_second == 50
    assert answer_to(state, release((1, 10), issued=0)).status == "accepted"  # of something not held: done already


def test_release_to_come_holds_until_its_time_whatever_the_lease() -> None:
    state, answer = accept(after(throttle(lease=100)), release(issued=60, start=120), AROUND, at(60))
    assert answer.status == "accepted"
    assert accept(state, release(issued=60, start=120), AROUND, at(70))[0] == state
    state, answers = elapse(state, AROUND, at(119))
    assert (target_in_force(state, at(119)), answers) == (30_000, [])
    state, _ = elapse(state, AROUND, at(120))
    assert state.controls == ()


def test_release_to_come_of_a_throttle_that_starts_later_drops_it() -> None:
    assert after(throttle(start=500), release(issued=0, start=120)).controls == ()


def test_shift_donor_gives_no_more_than_all_of_a_class() -> None:
    state = after(shift(share_ratio=0.7))
    more = shift((1, 2), control_id="s2", to_site_id="gamma", share_ratio=0.4)
    assert answer_to(state, more).status == "rejected"
    assert answer_to(state, shift((1, 2), share_ratio=0.9)).status == "accepted"  # the same control, changed
    other = shift((1, 2), control_id="s2", service_class="chat", share_ratio=0.4)
    assert answer_to(state, other).status == "accepted"


def test_shift_acceptor_reserves_only_what_there_is_room_for() -> None:
    assert answer_to(START, shift(role="reserve", reserved_power_watts=12_000.0)).status == "accepted"
    refused = answer_to(START, shift(role="reserve", reserved_power_watts=12_001.0))
    assert refused.status == "rejected"
    assert "no room" in refused.detail
    assert answer_to(after(throttle()), shift((1, 2), role="reserve")).status == "rejected"
    held = after(shift(role="reserve", reserved_power_watts=12_000.0))
    assert answer_to(held, shift((1, 2), role="reserve", control_id="s2")).status == "rejected"


def test_shift_acceptor_sees_on_its_meter_what_has_arrived() -> None:
    held = after(shift(role="reserve", reserved_power_watts=8_000.0, ramp_seconds=60.0))
    more = shift((1, 2), role="reserve", control_id="s2", reserved_power_watts=8_000.0)
    assert answer_to(held, more, seconds=179).status == "rejected"
    assert answer_to(held, more, seconds=180).status == "accepted"


def test_shift_acceptor_without_a_meter_knows_of_no_room() -> None:
    refused = answer_to(START, shift(role="reserve"), Surroundings(ALPHA))
    assert (refused.status, refused.detail) == ("rejected", "no room known of: the meter is silent")


def test_shift_acceptor_renews_what_it_holds_though_it_draws_more_by_now() -> None:
    held = after(shift(role="reserve"))
    full = Surroundings(ALPHA, meter_power_watts=51_000.0)
    assert answer_to(held, shift((1, 2), role="reserve"), full).status == "accepted"
    assert answer_to(held, shift((1, 2), role="reserve", reserved_power_watts=3000.0), full).status == "rejected"


def test_last_in_force_is_the_newest_of_each_control_that_still_holds() -> None:
    commands: list[Command] = [
        throttle((1, 4), control_id="kept", target_power_watts=29_000.0),
        throttle((1, 1), control_id="kept"),
        throttle((1, 2), control_id="let-go"),
        release((1, 3), control_id="a-release", releases_control_id="let-go"),
        throttle((1, 5), control_id="over", end=50),
        throttle((1, 6), control_id="lapsed", lease=50),
        shift((1, 7), lease=900),
        shift((1, 8), control_id="gone", issued=-850),
    ]
    found = last_in_force(commands, at(100))
    assert [each.control_id for each in found] == ["kept", "lapsed", "s"]
    assert isinstance(found[-1], Shift)


def test_recalled_holds_the_fallback_of_a_throttle_whose_planner_is_gone() -> None:
    old = throttle((4, 2), lease=50, fallback_power_watts=1.0)
    state, answers = recalled(START, [old], AROUND, at(100))
    assert answers == []
    assert target_in_force(state, at(100)) == MINIMUM_ON
    assert state.highest == (4, 2)
    assert recalled(START, [old], LOCKED, at(100))[0].controls == ()


def test_recalled_answers_for_what_still_holds_and_knows_the_highest_pair() -> None:
    commands: list[Command] = [throttle((2, 1)), release((3, 7), releases_control_id="other")]
    state, answers = recalled(START, commands, AROUND, at(10))
    assert [(answer.status, answer.sequence) for answer in answers] == [("accepted", 1)]
    assert state.highest == (3, 7)
    assert recalled(START, [], AROUND, at(10)) == (START, [])


def test_lease_is_kept_to_the_second_of_its_end() -> None:
    state = after(throttle())
    just_before = at(900) - timedelta(microseconds=1)
    assert elapse(state, AROUND, just_before) == (state, [])


def at_uptime(seconds: float) -> Surroundings:
    return Surroundings(ALPHA, 40_000.0, uptime_seconds=seconds)


def test_lease_runs_on_the_monotonic_clock_whatever_is_done_to_the_wall_clock() -> None:
    state, _ = accept(START, throttle(), at_uptime(5000.0), at(10))
    assert elapse(state, at_uptime(5899.0), at(-3000)) == (state, [])
    lapsed, answers = elapse(state, at_uptime(5900.0), at(-3000))
    assert [answer.status for answer in answers] == ["expired"]
    assert target_in_force(lapsed, at(600)) == 28_000


def test_lease_ends_a_little_after_what_the_command_says_at_the_latest() -> None:
    state, _ = accept(START, throttle(), at_uptime(5000.0), at(100))  # on its way for long, or a clock that is behind
    assert elapse(state, at_uptime(5829.0), at(929)) == (state, [])
    assert elapse(state, at_uptime(5830.0), at(930))[1][0].status == "expired"


def test_lease_goes_by_the_wall_clock_after_a_restart() -> None:
    state, _ = accept(START, throttle(), at_uptime(5000.0), at(10))
    state = resumed(ControllerState.model_validate_json(state.model_dump_json()))
    assert elapse(state, at_uptime(3.0), at(899)) == (state, [])
    assert elapse(state, at_uptime(4.0), at(900))[1][0].status == "expired"


def test_lease_is_not_begun_anew_by_another_copy() -> None:
    command = throttle()
    state, _ = accept(START, command, at_uptime(5000.0), at(0))
    again, answer = accept(state, command, at_uptime(5800.0), at(800))
    assert (answer.status, again) == ("accepted", state)
