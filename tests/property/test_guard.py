"""Any plan through the guard: it keeps the safety rules, says what it changed, and changes nothing twice."""

import itertools
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.command import PRECEDENCE
from schemas.plan import FleetPlan, ShiftControl, ShiftPhase, ThrottleControl
from streams.capacity import least_power_watts
from streams.policy.guard import guard
from streams.policy.shifts import LIVING
from tests.policy_cases import FLEET, FLEET_FILE, SITES, at, empty_plan, shift_control, throttle_control

unhurried = settings(deadline=None, max_examples=100)

# Coarse times: ends that meet, spans that touch, and ones within the stagger of each other must be common.
moments = st.integers(-20, 60).map(lambda step: at(step * 15))
somewhere = st.sampled_from([*SITES, "delta"])
powers = st.floats(0, 70_000)


def _throttle(name: str, site: str, times: tuple[datetime, datetime], parts: tuple[Any, ...]) -> ThrottleControl:
    fields = ("reason", "priority", "target_power_watts", "fallback_power_watts")
    ramps = {"ramp_down_watts_per_second": parts[4], "ramp_up_watts_per_second": parts[4] / 2}
    return throttle_control(
        name, site, starts_at=times[0], ends_at=times[1], **dict(zip(fields, parts[:4], strict=True)), **ramps
    )


throttle_controls = st.builds(
    _throttle,
    st.sampled_from("abcdefgh"),
    somewhere,
    st.tuples(moments, moments),
    st.tuples(st.sampled_from(PRECEDENCE), st.integers(0, 2), powers, powers, st.floats(1, 2000)),
)
shift_controls = st.builds(
    lambda name, donor, acceptor, service, share, phase: shift_control(
        phase, control_id=name, from_site_id=donor, to_site_id=acceptor, service_class=service, share_ratio=share
    ),
    st.sampled_from("stuvwxyz"),
    somewhere,
    somewhere,
    st.sampled_from(["interactive", "chat", "batch", "unknown"]),
    st.floats(0, 1),
    st.sampled_from(get_args(ShiftPhase)),
)


def _plan(parts: tuple[list[ThrottleControl], list[ShiftControl], datetime]) -> FleetPlan:
    changes: dict[str, Any] = dict(zip(("throttles", "shifts", "issued_at"), parts, strict=True))
    return empty_plan().model_copy(update=changes)


plans = st.tuples(st.lists(throttle_controls, max_size=8), st.lists(shift_controls, max_size=6), moments).map(_plan)


def guarded(plan: FleetPlan) -> FleetPlan:
    return guard(plan, FLEET, FLEET_FILE)


@unhurried
@given(plans)
def test_guarded_targets_keep_to_their_sites_limits(plan: FleetPlan) -> None:
    for control in guarded(plan).throttles:
        site = FLEET_FILE.site(control.site_id)
        assert site is not None
        least = least_power_watts(site, FLEET_FILE)
        assert least <= control.fallback_power_watts <= control.target_power_watts <= site.import_limit_watts
        assert control.ramp_down_watts_per_second <= site.ramp_down_watts_per_second
        assert control.ramp_up_watts_per_second <= site.ramp_up_watts_per_second
        assert control.starts_at < control.ends_at


@unhurried
@given(plans)
def test_guarded_site_has_one_target_at_a_time(plan: FleetPlan) -> None:
    for a, b in itertools.combinations(guarded(plan).throttles, 2):
        assert a.control_id != b.control_id
        if a.site_id == b.site_id:
            assert a.ends_at <= b.starts_at or b.ends_at <= a.starts_at


@unhurried
@given(plans)
def test_guarded_strongest_throttle_keeps_its_time(plan: FleetPlan) -> None:
    """Whatever else changes: an emergency starts when it was to start, and no sooner ends."""
    alone = [each for each in plan.throttles if each.reason == "emergency"]
    after = {each.control_id: each for each in guarded(plan).throttles}
    if len(alone) == 1 and alone[0].control_id in after and len(plan.throttles) == len({*_names(plan)}):
        assert after[alone[0].control_id].starts_at == alone[0].starts_at
        assert after[alone[0].control_id].ends_at >= alone[0].ends_at


def _names(plan: FleetPlan) -> list[str]:
    return [each.control_id for each in plan.throttles]


@unhurried
@given(plans)
def test_guarded_restores_to_come_lie_apart(plan: FleetPlan) -> None:
    throttles = guarded(plan).throttles
    handed_over = {(each.site_id, each.starts_at) for each in throttles}
    restores = [each for each in throttles if (each.site_id, each.ends_at) not in handed_over]
    stagger = timedelta(seconds=FLEET.limits.stagger_seconds)
    for a, b in itertools.combinations(restores, 2):
        if a.site_id != b.site_id and max(a.ends_at, b.ends_at) > plan.issued_at:
            assert abs(a.ends_at - b.ends_at) >= stagger


@unhurried
@given(plans)
def test_guarded_shifts_are_fair(plan: FleetPlan) -> None:
    given_away: dict[tuple[str, str], float] = defaultdict(float)
    for control in guarded(plan).shifts:
        assert control.service_class in {"chat", "batch"}
        assert {control.from_site_id, control.to_site_id} <= set(SITES)
        assert control.from_site_id != control.to_site_id
        if control.phase in LIVING:
            given_away[control.from_site_id, control.service_class] += control.share_ratio
    assert all(share <= 1 for share in given_away.values())


@unhurried
@given(plans)
def test_guarded_plan_says_what_was_changed(plan: FleetPlan) -> None:
    after = guarded(plan)
    assert after.rejected[: len(plan.rejected)] == plan.rejected
    said = after.rejected[len(plan.rejected) :]
    assert all(each.why.startswith("guard: ") for each in said)
    kept: list[ThrottleControl | ShiftControl] = [*after.throttles, *after.shifts]
    wanted: list[ThrottleControl | ShiftControl] = [*plan.throttles, *plan.shifts]
    for before in wanted:
        assert before in kept or any(each.alternative.startswith(before.control_id) for each in said)


@unhurried
@given(plans)
def test_guarding_twice_changes_nothing(plan: FleetPlan) -> None:
    once = guarded(plan)
    assert guarded(once) == once


@unhurried
@given(plans)
def test_guard_does_not_care_for_the_order_of_throttles(plan: FleetPlan) -> None:
    if len(_names(plan)) == len({*_names(plan)}):
        backwards = plan.model_copy(update={"throttles": plan.throttles[::-1]})
        assert guarded(backwards).throttles == guarded(plan).throttles
