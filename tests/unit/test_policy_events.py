"""From events to throttles: depth, time, several events at once, revisions, sites of which nothing is known."""

import pytest

from schemas.plan import FleetPlan
from schemas.signals import EventSignal
from streams.policy.plan import plan
from streams.policy.view import FleetView
from tests.policy_cases import (
    FAILSAFE,
    FLEET_FILE,
    FULL,
    IMPORT_LIMIT,
    LEAST,
    a_desk,
    a_view,
    at,
    empty_plan,
    event,
    power,
)


def planned(view: FleetView, seconds: float, previous: FleetPlan | None = None) -> FleetPlan:
    return plan(view, previous or empty_plan(), FLEET_FILE, at(seconds))


def a_view_of(*events: EventSignal, **powers: float) -> FleetView:
    view = a_view(**(powers or {"alpha": 40_000.0, "beta": 44_000.0, "gamma": 48_000.0}))
    for each in events:
        view.observe(each)
    return view


def targets(found: FleetPlan) -> dict[str, float]:
    return {each.site_id: each.target_power_watts for each in found.throttles}


def test_event_asks_every_site_for_the_same_share_of_its_baseline() -> None:
    found = planned(a_view_of(event()), 0)
    assert targets(found) == pytest.approx({"alpha": 30_000, "beta": 33_000, "gamma": 36_000})
    assert {each.control_id for each in found.throttles} == {f"event/e1/{site}" for site in targets(found)}
    assert all(each.fallback_power_watts == min(each.target_power_watts, FAILSAFE) for each in found.throttles)


def test_event_baseline_stays_what_it_was_when_the_event_was_heard_of() -> None:
    view = a_view_of(event())
    first = planned(view, 0)
    for step in range(1, 40):
        view.observe(power("alpha", step * 10, 26_000.0))
    assert targets(planned(view, 400, first)) == targets(first)


def test_event_concerns_the_sites_that_it_names() -> None:
    assert set(targets(planned(a_view_of(event(site_ids=["beta"])), 0))) == {"beta"}


def test_event_with_an_absolute_target_is_shared_by_baselines() -> None:
    found = planned(a_view_of(event(target_power_watts=99_000.0)), 0)
    assert targets(found) == pytest.approx({"alpha": 30_000, "beta": 33_000, "gamma": 36_000})


def test_event_with_a_high_target_leaves_room_up_to_the_import_limit() -> None:
    found = planned(a_view_of(event(target_power_watts=145_200.0)), 0)
    assert targets(found) == pytest.approx({"alpha": 44_000, "beta": 48_400, "gamma": IMPORT_LIMIT})


def test_event_below_one_sites_least_power_is_made_up_for_by_the_others() -> None:
    found = planned(a_view_of(event(target_power_watts=90_000.0), alpha=30_000.0, beta=45_000.0, gamma=45_000.0), 0)
    assert targets(found)["alpha"] == LEAST
    assert sum(targets(found).values()) == pytest.approx(90_000)
    assert any("alpha" in each.alternative and "least power" in each.why for each in found.rejected)


def test_event_that_asks_for_all_of_it_ends_at_least_power() -> None:
    found = planned(a_view_of(event(reduction_ratio=1.0)), 0)
    assert set(targets(found).values()) == {LEAST}


def test_event_starts_early_enough_to_be_there_when_its_ramp_is_over() -> None:
    # From full power to 30 kW at 750 W/s, and 15 s for bus and actuator.
    at_once = planned(a_view_of(event()), 0)
    assert at_once.throttles[0].starts_at == at(600 - 20_000 / 750 - 15)
    with_time = planned(a_view_of(event(ramp_seconds=300.0)), 0)
    assert {each.starts_at for each in with_time.throttles} == {at(600)}


def test_event_restores_lie_apart() -> None:
    ends = sorted(each.ends_at for each in planned(a_view_of(event()), 0).throttles)
    assert ends == [at(4200), at(4220), at(4240)]


def test_event_that_is_over_stays_planned_until_all_have_risen() -> None:
    view = a_view_of(event())
    during = planned(view, 1000)
    tail = planned(view, 4210, during)
    assert [(each.control_id, each.target_power_watts, each.ends_at) for each in tail.throttles] == [
        (each.control_id, each.target_power_watts, each.ends_at) for each in during.throttles
    ]
    assert planned(view, 4300, tail).throttles == []


def test_event_first_heard_of_when_over_throttles_nobody() -> None:
    assert planned(a_view_of(event()), 4210).throttles == []


def test_event_before_any_power_is_known_takes_full_power_for_the_baseline() -> None:
    found = planned(a_view_of(event(), gamma=40_000.0), 600)
    assert targets(found) == pytest.approx({"alpha": 0.75 * FULL, "beta": 0.75 * FULL, "gamma": 30_000})
    assert {each.site_id for each in found.baselines} == {"gamma"}


@pytest.mark.parametrize(
    ("measured", "baseline"),
    [(30_000.0, 30_000.0), (37_400.0, FULL), (45_000.0, 45_000.0)],
    ids=["free below the target", "held at the target", "on its way down"],
)
def test_event_baseline_of_a_site_first_measured_when_throttled(measured: float, baseline: float) -> None:
    view = a_view_of(event(), gamma=40_000.0)
    first = planned(view, 600)
    view.observe(power("alpha", 650, measured))
    then = planned(view, 660, first)
    assert targets(then)["alpha"] == pytest.approx(max(LEAST, 0.75 * baseline))
    view.observe(power("alpha", 660, 25_000.0))
    assert targets(planned(view, 720, then)) == targets(then)


def test_event_baseline_of_zero_is_a_baseline() -> None:
    assert targets(planned(a_view_of(event(), alpha=0.0), 0))["alpha"] == LEAST


def test_second_event_is_measured_from_before_the_first() -> None:
    desk = a_desk(alpha=40_000.0, beta=40_000.0, gamma=40_000.0)
    desk.take(event("e1", 0, 3600), at(0))
    desk.decide(at(0))
    for step in range(1, 61):
        desk.take(power("alpha", step * 10, 30_000.0), at(step * 10))
    desk.take(event("e2", 3600, 7200), at(610))
    found, _ = desk.decide(at(610))
    assert {each.target_power_watts for each in found.throttles} == {30_000.0}


def test_two_events_at_once_are_both_met() -> None:
    desk = a_desk(alpha=40_000.0, beta=40_000.0, gamma=40_000.0)
    desk.take(event("mild", 0, 7200, reduction_ratio=0.1), at(0))
    desk.take(event("deep", 1800, 3600, reduction_ratio=0.3), at(0))

    def at_alpha(seconds: float) -> list[tuple[str, float, float]]:
        found, _ = desk.decide(at(seconds))
        return [
            (each.caused_by[0], (each.starts_at - at(0)).total_seconds(), (each.ends_at - at(0)).total_seconds())
            for each in sorted(found.throttles, key=lambda each: each.starts_at)
            if each.site_id == "alpha"
        ]

    (mild, start, until), (deep, since, end), rest = at_alpha(0)
    assert (mild, deep) == ("mild", "deep")
    assert start <= 0
    assert until == since <= 1800
    assert end == 3600
    assert rest == ("mild", 3600, 7200)  # told at once: nobody may be there to say it when the deep one is over
    assert [each[0] for each in at_alpha(1860)] == ["deep", "mild"]
    assert at_alpha(1860)[1][1:] == (3600, 7200)


def test_emergency_announced_for_tomorrow_leaves_todays_event_alone() -> None:
    desk = a_desk(alpha=40_000.0)
    desk.take(event("tomorrow", 86_400, 90_000, kind="emergency"), at(0))
    desk.take(event("today", 60, 3600), at(0))
    found, _ = desk.decide(at(0))
    assert {each.caused_by[0] for each in found.throttles if each.site_id == "alpha"} == {"today", "tomorrow"}


def test_event_turned_emergency_is_a_new_control() -> None:
    view = a_view_of(event(), event(kind="emergency", published_at=at(1)))
    found = planned(view, 2)
    assert {each.reason for each in found.throttles} == {"emergency"}
    assert all(each.control_id.startswith("emergency/") for each in found.throttles)


def test_event_with_the_longest_name_makes_commands_with_names_of_their_own() -> None:
    desk = a_desk(alpha=40_000.0)
    for letter in "xy":
        desk.take(event("e" * 199 + letter, 60, 3600), at(0))
    _, commands = desk.decide(at(0))
    assert len({command.control_id for command in commands}) == len(commands)
    assert all(len(command.control_id) <= 200 for command in commands)


def test_mode_says_what_is_missing() -> None:
    view = a_view()
    assert planned(view, 0).mode == "hold"
    assert planned(a_view_of(), 0).mode == "price-blind"
