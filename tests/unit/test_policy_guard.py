"""What the guard changes in a plan, rule by rule; the property tests try any plan."""

from functools import partial
from typing import Any

import pytest

from schemas.fleet import Fleet
from schemas.plan import FleetPlan
from streams.policy.guard import guard
from streams.policy.guard_throttles import first_apart
from streams.policy.view import FleetView
from tests.guarded_plans import a_plan, a_seeing_view, guarded, shift_control, throttle_control
from tests.policy_cases import (
    FLEET,
    FLEET_FILE,
    IMPORT_LIMIT,
    LEAST,
    RAMP_DOWN,
    RAMP_UP,
    SITES,
    at,
    event,
    power,
)


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
            shift_control(control_id="out", to_site_id="delta"),
            shift_control(control_id="round", to_site_id="alpha"),
            shift_control(control_id="what", service_class="unknown"),
        ),
    )
    assert list(spans(plan)) == ["twice"]
    assert plan.shifts == []
    assert len(plan.rejected) == 6


@pytest.mark.parametrize(
    ("taken", "expected"), [([], 100), ([80, 120], 100), ([81], 101), ([110, 125], 145), ([119, 100, 90], 139)]
)
def test_first_apart_finds_the_first_free_time(taken: list[float], expected: float) -> None:
    assert first_apart(at(100), [at(each) for each in taken], 20) == at(expected)


AN_EVENT = event(start=0, end=3600)


def test_guard_holds_an_event_to_its_end() -> None:
    short = throttle_control(end=1000)
    assert spans(guarded(short, now=10, view=a_seeing_view(10, AN_EVENT))) == {"t": (0, 3600)}
    withdrawn = AN_EVENT.model_copy(update={"cancelled": True})
    assert spans(guarded(short, now=10, view=a_seeing_view(10, withdrawn))) == {"t": (0, 1000)}


def test_guard_puts_back_what_an_event_still_needs() -> None:
    held = throttle_control()
    view = a_seeing_view(600, AN_EVENT)
    assert guarded(now=600, before=a_plan(held), view=view).throttles == [held]
    later = throttle_control(start=1200)
    assert guarded(later, now=600, before=a_plan(held), view=view).throttles == [held]
    otherwise = throttle_control("deeper", target_power_watts=28_000.0)
    assert guarded(otherwise, now=600, before=a_plan(held), view=view).throttles == [otherwise]


def test_guard_holds_an_event_before_and_after_what_is_stronger() -> None:
    strong = throttle_control("strong", start=1000, end=2000, reason="emergency", caused_by=["other"])
    plan = guarded(throttle_control(), strong, view=a_seeing_view(0, AN_EVENT))
    assert spans(plan) == {"strong": (1000, 2000), "t": (0, 1000), "t~1": (2000, 3600)}


def test_guard_lets_nothing_last_for_ever() -> None:
    plan = guarded(throttle_control(end=1e9), throttle_control("c", "beta", end=1e9, reason="economics"))
    assert max(each.ends_at for each in plan.throttles) <= at(
        FLEET.limits.horizon_seconds + FLEET.limits.lease_seconds + FLEET.limits.stagger_seconds
    )


economic = partial(throttle_control, "c", reason="economics", caused_by=["p"])


def test_guard_holds_a_price_throttle_for_the_dwell_and_starts_none_within_it() -> None:
    dwell = FLEET.limits.dwell_seconds
    held = economic(start=0)
    assert spans(guarded(now=100, before=a_plan(held))) == {"c": (0, dwell)}
    over = guarded(now=dwell + 50, before=a_plan(held))
    assert spans(over) == {"c": (0, dwell + 50)}  # what is over is remembered
    again = throttle_control("d", start=dwell, reason="economics")
    assert spans(guarded(again, now=2 * dwell, before=over)) == {"c": (0, dwell + 50)}
    assert spans(guarded(again, now=2 * dwell + 50, before=over)) == {"d": (dwell, 3600)}


def test_guard_keeps_a_price_throttle_no_longer_than_it_knows_a_price() -> None:
    view = FleetView(FLEET)
    view.observe(power("alpha", 100, 40_000.0))
    plan = guarded(now=100, before=a_plan(economic(start=0)), view=view)
    assert spans(plan) == {"c": (0, 100)}
    assert plan.mode == "price-blind"


def test_guard_starts_nothing_for_a_price_where_power_is_stale() -> None:
    view = a_seeing_view(0)
    assert spans(guarded(economic(), now=200, view=view)) == {}
    deeper = economic(target_power_watts=26_000.0)
    plan = guarded(deeper, now=200, view=view, before=a_plan(economic()))
    assert plan.throttles[0].target_power_watts == 30_000.0
    assert plan.mode == "hold"
    new = (shift_control(),)
    assert guarded(shifts=new, now=200, view=view, before=a_plan()).shifts == []


def test_guard_lets_a_price_slow_no_class_beyond_its_flex_level() -> None:
    rigid = tuple(each for each in FLEET_FILE.service_classes if each.flex < 2)
    fleet_file = FLEET_FILE.model_copy(update={"service_classes": rigid})
    plan = guarded(economic(), throttle_control("e", "beta"), fleet_file=fleet_file)
    assert plan.throttles[0].target_power_watts == pytest.approx(43_750.0)  # 7.5 % of the tokens is 12.5 % of the power
    assert plan.throttles[1].target_power_watts == 30_000.0


def a_fleet(**limits: float) -> Fleet:
    return FLEET.model_copy(update={"limits": FLEET.limits.model_copy(update=limits)})


def test_guard_shares_the_fleets_ramp_among_those_that_move() -> None:
    fleet = a_fleet(ramp_down_watts_per_second=600.0, ramp_up_watts_per_second=300.0)
    together = [throttle_control(site, site, start=60, end=3600 + 20 * n) for n, site in enumerate(SITES[:2])]
    alone = throttle_control("gamma", "gamma", start=1800, end=3640)
    plan = guarded(*together, alone, view=a_seeing_view(fleet=fleet))
    assert [each.ramp_down_watts_per_second for each in plan.throttles] == [300.0, 300.0, 600.0]
    assert {each.ramp_up_watts_per_second for each in plan.throttles} == {100.0}


def test_guard_divides_what_the_fleet_may_draw_where_the_plan_does_not() -> None:
    view = a_seeing_view(fleet=a_fleet(power_limit_watts=120_000.0))
    plan = guarded(throttle_control(target_power_watts=45_000.0, end=600), view=view)
    parts = {(each.site_id, each.control_id): each.target_power_watts for each in plan.throttles}
    assert parts == dict.fromkeys(
        [("alpha", "t"), ("alpha", "limit/alpha"), ("beta", "limit/beta"), ("gamma", "limit/gamma")], 40_000.0
    )
    later = guarded(now=60, view=view, before=plan)
    assert {each.control_id: each.starts_at for each in later.throttles}["limit/beta"] == at(0)  # it goes on
    divided = [throttle_control(site, site, target_power_watts=30_000.0 + 5_000 * n) for n, site in enumerate(SITES)]
    assert [each.target_power_watts for each in guarded(*divided, view=view).throttles] == [30_000, 35_000, 40_000]


def test_guard_remembers_a_price_throttle_that_is_over_though_its_site_fell_silent() -> None:
    over = throttle_control(reason="economics", start=-500, end=200)
    silent = a_seeing_view()  # nothing was heard since
    plan = guarded(now=300, before=a_plan(over), view=silent)
    assert plan.throttles == [over]
    assert not any("no recent power" in each.why for each in plan.rejected)


def test_guard_does_not_let_a_plan_number_itself() -> None:
    plan = guard(
        a_plan(epoch=9, sequence=2**60, revision=4, owner="somebody"), a_plan(), a_seeing_view(), FLEET_FILE, at(0)
    )
    assert (plan.epoch, plan.sequence, plan.revision, plan.owner) == (1, 0, 0, "test")
    assert plan.rejected[0].why.startswith("guard: ")


@pytest.mark.parametrize(("claimed", "kept"), [("normal", "price-blind"), ("rule-based", "rule-based")])
def test_guard_names_the_more_degraded_mode(claimed: str, kept: str) -> None:
    view = a_seeing_view()
    view.prices.clear()
    assert guard(a_plan(mode=claimed), a_plan(), view, FLEET_FILE, at(0)).mode == kept


def test_guard_does_nothing_unexplained_for_a_price_and_marks_it_for_the_grid() -> None:
    plan = guarded(throttle_control(explanation=""), economic(site="beta", explanation=" "))
    assert [(each.control_id, each.explanation) for each in plan.throttles] == [("t", "guard: unexplained")]


def test_guard_gives_no_name_to_another_control() -> None:
    before = a_plan(economic(), shifts=(shift_control(),))
    renamed = guarded(throttle_control("c", "beta"), throttle_control("s", "gamma"), now=700, before=before)
    assert {each.control_id: each.site_id for each in renamed.throttles} == {
        "c": "alpha",
        "c~1": "beta",
        "s~1": "gamma",
    }
    again = guarded(throttle_control("c", "beta"), now=701, before=renamed)
    assert "c~1" in {each.control_id for each in again.throttles}
