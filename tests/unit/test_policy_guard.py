"""What the guard changes in a plan, rule by rule; the property tests try any plan."""

from typing import Any

import pytest

from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from streams.policy.guard import first_apart, guard
from tests.policy_cases import (
    FLEET,
    FLEET_FILE,
    IMPORT_LIMIT,
    LEAST,
    RAMP_DOWN,
    RAMP_UP,
    at,
    empty_plan,
    shift_control,
    throttle_control,
)


def guarded(*throttles: ThrottleControl, shifts: tuple[ShiftControl, ...] = (), now: float = 0) -> FleetPlan:
    before = empty_plan().model_copy(
        update={"throttles": list(throttles), "shifts": list(shifts), "issued_at": at(now)}
    )
    return guard(before, FLEET, FLEET_FILE)


def spans(plan: FleetPlan) -> dict[str, tuple[float, float]]:
    return {
        each.control_id: ((each.starts_at - at(0)).total_seconds(), (each.ends_at - at(0)).total_seconds())
        for each in plan.throttles
    }


def test_guard_leaves_a_good_plan_alone() -> None:
    good = (throttle_control("a", "alpha"), throttle_control("b", "beta", end=3620))
    plan = guarded(*good, shifts=(shift_control("active"),))
    assert plan.throttles == list(good)
    assert plan.shifts == [shift_control("active")]
    assert plan.rejected == []


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        ({"target_power_watts": 10.0}, {"target_power_watts": LEAST, "fallback_power_watts": LEAST}),
        ({"target_power_watts": 1e6}, {"target_power_watts": IMPORT_LIMIT, "fallback_power_watts": 28_000.0}),
        ({"fallback_power_watts": 1e6}, {"fallback_power_watts": 30_000.0}),
        ({"fallback_power_watts": 0.0}, {"fallback_power_watts": LEAST}),
        ({"ramp_down_watts_per_second": 1e6}, {"ramp_down_watts_per_second": RAMP_DOWN}),
        ({"ramp_up_watts_per_second": 1e6}, {"ramp_up_watts_per_second": RAMP_UP}),
    ],
)
def test_guard_keeps_a_throttle_within_its_sites_limits(wanted: dict[str, Any], held: dict[str, Any]) -> None:
    plan = guarded(throttle_control(**wanted))
    assert plan.throttles[0] == throttle_control(**(wanted | held))
    assert len(plan.rejected) == 1
    assert plan.rejected[0].why.startswith("guard: ")


@pytest.mark.parametrize(
    "stronger",
    [
        {"reason": "emergency", "target_power_watts": 40_000.0},
        {"reason": "event", "priority": 0, "target_power_watts": 40_000.0},
        {"reason": "event", "priority": 5, "target_power_watts": 29_000.0},
    ],
    ids=["by precedence", "by priority", "by target"],
)
def test_guard_lets_the_stronger_of_two_stand(stronger: dict[str, Any]) -> None:
    plan = guarded(throttle_control("weak", priority=5), throttle_control("strong", **stronger))
    assert list(spans(plan)) == ["strong"]
    assert any("strong stands above it" in each.why for each in plan.rejected)


@pytest.mark.parametrize(
    ("weaker", "now", "left"),
    [
        ((0, 1500), 0, (0, 1000)),
        ((1500, 3000), 0, (2000, 3000)),
        ((0, 3000), 999, (0, 1000)),
        ((0, 3000), 1000, (2000, 3000)),
        ((1200, 1800), 0, None),
        ((0, 1500), 1000, None),
    ],
    ids=["before", "after", "around, not yet begun", "around, begun", "within", "before, begun"],
)
def test_guard_cuts_the_weaker_to_the_time_that_is_left(
    weaker: tuple[float, float], now: float, left: tuple[float, float] | None
) -> None:
    strong = throttle_control("strong", start=1000, end=2000, target_power_watts=29_000.0)
    plan = guarded(throttle_control("weak", start=weaker[0], end=weaker[1]), strong, now=now)
    assert spans(plan) == {"strong": (1000, 2000)} | ({"weak": left} if left else {})


def test_guard_puts_the_weaker_between_two_stronger() -> None:
    strong = [
        throttle_control(f"strong-{start}", start=start, end=start + 1000, target_power_watts=29_000.0)
        for start in (0, 2000)
    ]
    plan = guarded(throttle_control("weak", start=0, end=4000), *strong, now=500)
    assert spans(plan)["weak"] == (1000, 2000)


def test_guard_puts_equal_ends_apart() -> None:
    plan = guarded(*(throttle_control(site, site) for site in ("gamma", "alpha", "beta")))
    assert spans(plan) == {"alpha": (0, 3600), "beta": (0, 3620), "gamma": (0, 3640)}
    assert len(plan.rejected) == 2


def test_guard_counts_no_restore_where_a_site_goes_from_one_throttle_to_the_next() -> None:
    plan = guarded(
        throttle_control("first", "alpha", end=1000),
        throttle_control("next", "alpha", start=1000, end=2000),
        throttle_control("other", "beta", end=1000),
    )
    assert spans(plan) == {"first": (0, 1000), "next": (1000, 2000), "other": (0, 1000)}


def test_guard_makes_no_throttle_run_into_the_next() -> None:
    plan = guarded(
        throttle_control("other", "beta", end=1000),
        throttle_control("first", "alpha", end=1001),
        throttle_control("next", "alpha", start=1010, end=2000),
    )
    assert spans(plan) == {"first": (0, 1010), "next": (1010, 2000), "other": (0, 1000)}


def test_guard_keeps_away_from_a_restore_that_has_just_been_and_moves_no_past_one() -> None:
    plan = guarded(
        throttle_control("a", "alpha", end=990),
        throttle_control("b", "beta", end=995),
        throttle_control("c", "gamma", end=1002),
        now=1000,
    )
    assert spans(plan) == {"a": (0, 990), "b": (0, 995), "c": (0, 1015)}


def test_guard_drops_what_is_not_possible() -> None:
    plan = guarded(
        throttle_control("nowhere", "delta"),
        throttle_control("never", start=10, end=10),
        throttle_control("twice"),
        throttle_control("twice", "beta"),
        shifts=(
            shift_control(to_site_id="delta"),
            shift_control(to_site_id="alpha"),
            shift_control(service_class="unknown"),
        ),
    )
    assert list(spans(plan)) == ["twice"]
    assert plan.shifts == []
    assert len(plan.rejected) == 6


def test_guard_moves_no_flex_0_and_no_more_than_all_of_a_class() -> None:
    shifts = (
        shift_control(control_id="rigid", service_class="interactive"),
        shift_control("done", control_id="old", share_ratio=1.0),
        shift_control(control_id="first", share_ratio=0.6),
        shift_control(control_id="second", share_ratio=0.6, to_site_id="gamma"),
        shift_control(control_id="other class", share_ratio=0.6, service_class="chat"),
    )
    assert [each.control_id for each in guarded(shifts=shifts).shifts] == ["old", "first", "other class"]


@pytest.mark.parametrize(
    ("taken", "expected"), [([], 100), ([80, 120], 100), ([81], 101), ([110, 125], 145), ([119, 100, 90], 139)]
)
def test_first_apart_finds_the_first_free_time(taken: list[float], expected: float) -> None:
    assert first_apart(at(100), [at(each) for each in taken], 20) == at(expected)
