"""From plans to commands: what is sent, sent again, renewed, changed and released; and what is not."""

from typing import Any

import pytest

from schemas.command import Release, Shift, Throttle
from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from streams.policy.commands import Dispatch, next_commands
from streams.policy.orders import AnyCommand
from tests.policy_cases import FLEET, SITES, ack, at, empty_plan, shift_control, throttle_control

LIMITS = FLEET.limits
ACK, RENEW, LEASE, STAGGER = LIMITS.ack_timeout_seconds, LIMITS.renew_seconds, LIMITS.lease_seconds, 20


def a_plan(*throttles: ThrottleControl, shifts: tuple[ShiftControl, ...] = ()) -> FleetPlan:
    return empty_plan().model_copy(update={"sequence": 10, "throttles": list(throttles), "shifts": list(shifts)})


def sent(dispatch: Dispatch, plan: FleetPlan, seconds: float, answer: str = "") -> list[Any]:
    """What goes out at a time; answered, where an answer is given."""
    commands = next_commands(plan, dispatch, LIMITS, at(seconds))
    for command in commands if answer else []:
        dispatch.answered(ack(command, answer))
    return commands


def test_new_order_is_sent_with_lease_end_and_the_next_numbers() -> None:
    plan = a_plan(throttle_control("a", "alpha"), throttle_control("b", "beta"))
    commands = sent(Dispatch(), plan, 0)
    assert [each.order for each in commands] == [(1, 11), (1, 12)]
    for command in commands:
        assert isinstance(command, Throttle)
        assert command.lease_expires_at == at(LEASE)
        assert command.ends_at == at(3600)
        assert not command.renewal


def test_unchanged_plan_sends_nothing_but_renewals() -> None:
    dispatch, plan = Dispatch(), a_plan(throttle_control())
    times = [seconds for seconds in range(0, 3600, 10) if sent(dispatch, plan, seconds, "accepted")]
    assert times == list(range(0, 3600, int(RENEW)))


def test_renewal_says_so_and_only_then() -> None:
    dispatch, plan = Dispatch(), a_plan(throttle_control())
    sent(dispatch, plan, 0)
    (again,) = sent(dispatch, plan, ACK, "accepted")
    (renewal,) = sent(dispatch, plan, ACK + RENEW)
    (renewal_again,) = sent(dispatch, plan, 2 * ACK + RENEW)
    assert [each.renewal for each in (again, renewal, renewal_again)] == [False, True, True]


def test_unanswered_order_is_sent_three_times_then_at_each_renewal() -> None:
    dispatch, plan = Dispatch(), a_plan(throttle_control())
    times = [seconds for seconds in range(0, 1200, 10) if sent(dispatch, plan, seconds)]
    assert times == [0, 60, 120, 420, 720, 1020]
    assert dispatch.unresponsive_sites() == {"alpha"}
    sent(dispatch, plan, 1320, "accepted")
    assert dispatch.unresponsive_sites() == set()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target_power_watts": 30_000.5}, False),
        ({"target_power_watts": 31_000.0}, True),
        ({"start": 15}, True),
        ({"end": 3000}, True),
        ({"end": 4000}, False),
        ({"explanation": "in other words"}, False),
    ],
)
def test_changed_order_is_sent_if_the_site_must_hear_of_it(change: dict[str, Any], told: bool) -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control()), 0, "accepted")
    assert bool(sent(dispatch, a_plan(throttle_control(**change)), 10)) is told


def test_target_that_rises_waits_until_those_that_fall_are_answered() -> None:
    dispatch = Dispatch()
    watts = (30_000.0, 35_000.0, 40_000.0)
    before = a_plan(*(throttle_control(s, s, target_power_watts=w) for s, w in zip(SITES, watts, strict=True)))
    after = a_plan(*(throttle_control(s, s, target_power_watts=w) for s, w in zip(SITES, watts[::-1], strict=True)))
    sent(dispatch, before, 0, "accepted")
    (fall,) = sent(dispatch, after, 10)
    assert (fall.site_id, fall.target_power_watts) == ("gamma", 30_000.0)
    assert sent(dispatch, after, 20) == []  # it is not known to have come down
    dispatch.answered(ack(fall, "accepted"))
    (rise,) = sent(dispatch, after, 20)
    assert (rise.site_id, rise.target_power_watts) == ("alpha", 40_000.0)


def test_target_that_waits_to_rise_is_renewed_with_no_fallback_above_it() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control("a", "alpha"), throttle_control("b", "beta")), 0, "accepted")
    apart = a_plan(
        throttle_control("a", "alpha", target_power_watts=35_000.0, fallback_power_watts=35_000.0),
        throttle_control("b", "beta", target_power_watts=25_000.0),
    )
    (renewal,) = (each for each in sent(dispatch, apart, RENEW) if each.site_id == "alpha")
    assert (renewal.target_power_watts, renewal.fallback_power_watts) == (30_000.0, 30_000.0)


def test_target_that_rises_does_not_wait_for_a_site_that_never_answers() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control("a", "alpha"), throttle_control("b", "beta")), 0, "accepted")
    apart = a_plan(
        throttle_control("a", "alpha", target_power_watts=35_000.0),
        throttle_control("b", "beta", target_power_watts=25_000.0),
    )
    told = {at_: [each.site_id for each in sent(dispatch, apart, at_)] for at_ in (10, 10 + ACK, 10 + 2 * ACK, 200)}
    assert list(told.values()) == [["beta"], ["beta"], ["beta"], ["alpha"]]


def test_order_that_was_overtaken_on_its_way_is_sent_again_at_once() -> None:
    dispatch, plan = Dispatch(), a_plan(throttle_control())
    (late,) = sent(dispatch, plan, 0)
    seen_higher = {"highest_sequence": late.sequence + 2, "detail": "a higher pair has been seen"}
    assert dispatch.answered(ack(late, "rejected").model_copy(update=seen_higher)) is None
    (again,) = sent(dispatch, plan.model_copy(update={"sequence": 20}), 1)
    assert (again.sequence, again.target_power_watts) == (21, late.target_power_watts)
    assert sent(dispatch, plan, 2) == []


def test_start_that_has_been_is_no_change() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control(start=60)), 0, "accepted")
    assert sent(dispatch, a_plan(throttle_control(start=59)), 61) == []
    assert sent(dispatch, a_plan(throttle_control(start=61)), 60)


def test_later_end_is_told_at_once_where_the_renewal_would_be_too_late() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control(end=RENEW - 1)), 0, "accepted")
    (command,) = sent(dispatch, a_plan(throttle_control(end=3600)), 10)
    assert command.ends_at == at(3600)


def test_order_that_ends_by_itself_is_not_released() -> None:
    dispatch, plan = Dispatch(), a_plan(throttle_control(end=100))
    sent(dispatch, plan, 0, "accepted")
    assert sent(dispatch, plan, 100) == []
    assert dispatch.sent == {}


def test_vanished_order_is_released_until_answered() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control()), 0, "accepted")
    times = []
    for seconds in range(10, 1000, 10):
        for command in sent(dispatch, a_plan(), seconds):
            assert isinstance(command, Release)
            assert command.starts_at == at(10)
            assert command.explanation.count("no longer needed") == 1
            times.append(seconds)
    assert times == [10, 70, 130, 430, 730]
    assert dispatch.unresponsive_sites() == {"alpha"}
    sent(dispatch, a_plan(), 1030, "accepted")
    assert dispatch.sent == {}


def test_release_goes_on_until_the_end_of_what_it_releases() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control()), 0, "accepted")
    times = [seconds for seconds in range(10, 5000, 10) if sent(dispatch, a_plan(), seconds)]
    assert times[-1] > 3000
    assert dispatch.sent == {}


def test_release_that_is_refused_is_said_again_at_the_renewal() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control()), 0, "accepted")
    times = [seconds for seconds in range(10, 700, 10) if sent(dispatch, a_plan(), seconds, "rejected")]
    assert times == [10, 310, 610]


def test_throttle_whose_lease_has_lapsed_is_released_all_the_same() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control()), 0, "accepted")
    (command,) = sent(dispatch, a_plan(), LEASE + 1)
    assert isinstance(command, Release)


def test_releases_let_sites_go_one_after_the_other() -> None:
    dispatch, sites = Dispatch(), ("alpha", "beta", "gamma")
    sent(dispatch, a_plan(*(throttle_control(site, site, end=3600 + n) for n, site in enumerate(sites))), 0, "accepted")
    left = throttle_control("gamma", "gamma", end=95)
    first = sent(dispatch, a_plan(left), 60)
    assert [(each.site_id, each.starts_at) for each in first if isinstance(each, Release)] == [
        ("alpha", at(60)),
        ("beta", at(115)),
    ]
    repeated = sent(dispatch, a_plan(left), 60 + ACK)
    assert [each.starts_at for each in repeated] == [at(60), at(115)]


@pytest.mark.parametrize(
    ("vanished", "still"),
    [(throttle_control(start=100), ()), (throttle_control(), (throttle_control("stronger"),))],
    ids=["not begun", "another holds"],
)
def test_release_that_lets_nothing_rise_waits_for_nobody(
    vanished: ThrottleControl, still: tuple[ThrottleControl, ...]
) -> None:
    dispatch, other = Dispatch(), throttle_control("other", "beta", end=20)
    sent(dispatch, a_plan(vanished, other, *still), 0, "accepted")
    (command,) = [each for each in sent(dispatch, a_plan(other, *still), 10) if isinstance(each, Release)]
    assert command.starts_at == at(10)


def test_order_wanted_again_is_sent_anew() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control()), 0, "accepted")
    sent(dispatch, a_plan(), 10)
    (command,) = sent(dispatch, a_plan(throttle_control()), 20)
    assert isinstance(command, Throttle)
    assert not command.renewal


def test_order_that_starts_first_comes_first_and_releases_last() -> None:
    dispatch = Dispatch()
    sent(dispatch, a_plan(throttle_control("a", "beta")), 0, "accepted")
    commands = sent(dispatch, a_plan(throttle_control("b", start=1000), throttle_control("c")), 10)
    assert [each.control_id for each in commands] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("proposed", [("beta", "reserve")]),
        ("reserved", [("alpha", "drain"), ("beta", "reserve")]),
        ("active", [("alpha", "drain"), ("beta", "reserve")]),
        ("returning", [("beta", "reserve")]),
        ("done", []),
        ("aborted", []),
    ],
)
def test_shift_tells_each_side_what_its_phase_needs(phase: str, expected: list[tuple[str, str]]) -> None:
    commands = sent(Dispatch(), a_plan(shifts=(shift_control(phase),)), 0)
    assert sorted((each.site_id, each.role) for each in commands) == expected


def test_reservation_outlives_every_drain_whatever_is_lost() -> None:
    # The acceptor hears nothing more after noon; the donor is still renewed until the planner sees that.
    assert LIMITS.lease_seconds * 2 > RENEW + 2 * ACK + LIMITS.plan_interval_seconds + LEASE
    by_role = {each.role: each for each in sent(Dispatch(), a_plan(shifts=(shift_control("active"),)), 0)}
    assert by_role["reserve"].lease_expires_at > by_role["drain"].lease_expires_at
    assert by_role["reserve"].ends_at > by_role["drain"].ends_at


def test_drain_ends_before_what_the_acceptor_has_confirmed() -> None:
    held = shift_control("active", ramp_seconds=60.0, reserved_until=at(600), reserved_share_ratio=0.3)
    by_role = {each.role: each for each in sent(Dispatch(), a_plan(shifts=(held,)), 0)}
    assert by_role["drain"].lease_expires_at == at(600 - 30 - 60 - 30)
    assert (by_role["drain"].share_ratio, by_role["reserve"].share_ratio) == (0.2, 0.3)
    assert [each.role for each in sent(Dispatch(), a_plan(shifts=(held,)), 480)] == ["reserve"]


def test_shift_returning_past_its_end_floods_nobody() -> None:
    dispatch, plan = Dispatch(), a_plan(shifts=(shift_control("returning"),))
    times = [seconds for seconds in range(3500, 4400, 10) if sent(dispatch, plan, seconds, "accepted")]
    assert times == [3500, 3800, 4100]


@pytest.mark.parametrize(
    ("update", "taken"),
    [
        ({}, True),
        ({"status": "received"}, False),
        ({"status": "compliant"}, False),
        ({"status": "expired"}, True),
        ({"sequence": 10}, False),
        ({"epoch": 0}, False),
        ({"site_id": "beta"}, False),
        ({"control_id": "other"}, False),
    ],
)
def test_answer_counts_for_the_newest_command_of_its_order_alone(update: dict[str, Any], taken: bool) -> None:
    dispatch = Dispatch()
    (command,) = sent(dispatch, a_plan(throttle_control()), 0)
    assert (dispatch.answered(ack(command, **({"status": "accepted"} | update))) is command) is taken


def inherited(before: FleetPlan, plan: FleetPlan) -> list[AnyCommand]:
    dispatch = Dispatch()
    dispatch.inherit(before, plan, LIMITS, at(10))
    return next_commands(plan, dispatch, LIMITS, at(10))


def test_successor_issues_again_what_is_in_force_and_releases_what_is_not() -> None:
    shifts = (shift_control("active"),)
    before = a_plan(throttle_control("kept"), throttle_control("gone", "beta"), throttle_control("over", end=5))
    commands = inherited(before.model_copy(update={"shifts": list(shifts)}), a_plan(throttle_control("kept")))
    assert sorted((each.control_id, each.site_id, each.kind) for each in commands) == [
        ("gone", "beta", "release"),
        ("kept", "alpha", "throttle"),
        ("s", "alpha", "release"),
        ("s", "beta", "release"),
    ]


@pytest.mark.parametrize(("home_at", "told"), [(None, ["alpha", "beta"]), (at(60), ["beta"])])
def test_successor_lets_the_donor_of_a_returning_shift_go_unless_it_has_said_so(home_at: Any, told: list[str]) -> None:
    plan = a_plan(shifts=(shift_control("returning", home_at=home_at),))
    assert sorted(each.site_id for each in inherited(plan, plan)) == told


def test_long_explanation_is_cut_to_what_a_command_may_hold() -> None:
    (command,) = sent(Dispatch(), a_plan(throttle_control(explanation="x" * 3000)), 0)
    assert len(command.explanation) == 2000
    assert not isinstance(command, Shift)
