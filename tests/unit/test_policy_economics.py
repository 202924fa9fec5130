"""The strike price: dwell, hysteresis, gaps in the feed, how deep, and what an economic throttle is measured from."""

import pytest

from schemas.fleet import FleetFile
from schemas.plan import Dwell, FleetPlan, ThrottleControl
from streams.policy.desk import Desk
from streams.policy.economics import dwells_after, economic_throttles
from tests.policy_cases import FLEET, FLEET_FILE, LEAST, a_desk, a_view, at, empty_plan, event, power, price

STRIKE, DWELL = 100.0, FLEET.limits.dwell_seconds  # its file names the strike


def dwell_at_alpha(usd: float | None, seconds: float, *known: Dwell) -> Dwell:
    view = a_view()
    if usd is not None:
        view.observe(price("alpha", usd, seconds, seconds + 300))
    previous = empty_plan().model_copy(update={"dwells": list(known)})
    return next(each for each in dwells_after(view, previous, FLEET_FILE, at(seconds)) if each.site_id == "alpha")


def above(since: float = 0) -> Dwell:
    return Dwell(site_id="alpha", above=True, since=at(since))


@pytest.mark.parametrize(
    ("usd", "known", "is_above", "since"),
    [
        (STRIKE + 1, (), True, 500),
        (STRIKE, (), False, 500),
        (STRIKE + 1, (above(),), True, 0),
        (STRIKE * 0.95, (above(),), True, 0),
        (STRIKE * 0.9, (above(),), False, 500),
        (STRIKE * 0.95, (Dwell(site_id="alpha", above=False, since=at(7)),), False, 7),
        (None, (above(),), False, 500),
        (None, (Dwell(site_id="alpha", above=False, since=at(7)),), False, 7),
        (-50.0, (), False, 500),
    ],
)
def test_dwell_keeps_its_side_until_the_price_has_crossed_the_line(
    usd: float | None, known: tuple[Dwell, ...], is_above: bool, since: float
) -> None:
    assert dwell_at_alpha(usd, 500, *known) == Dwell(site_id="alpha", above=is_above, since=at(since))


def a_dear_desk(watts: float = 40_000.0) -> Desk:
    """A desk at noon, the price at alpha above the strike from then on."""
    desk = a_desk(alpha=watts)
    dear(desk, 0)
    desk.decide(at(0))
    return desk


def dear(desk: Desk, seconds: float, watts: float = 40_000.0, usd: float = 150.0) -> FleetPlan:
    """Five minutes later: a new price, and what alpha draws."""
    desk.take(price("alpha", usd, seconds, seconds + 300), at(seconds))
    desk.take(power("alpha", seconds, watts), at(seconds))
    return desk.decide(at(seconds))[0]


def economic(plan: FleetPlan) -> list[ThrottleControl]:
    """Those that hold; one that has ended stays in the plan for the dwell, as the guard's memory."""
    return [each for each in plan.throttles if each.reason == "economics" and each.ends_at > plan.issued_at]


def test_throttle_comes_after_the_dwell_and_stays_the_same_while_the_price_stands() -> None:
    desk = a_dear_desk()
    assert economic(dear(desk, 300)) == []
    (first,) = economic(dear(desk, 600))
    assert first.target_power_watts == pytest.approx(30_000)
    assert first.starts_at == at(DWELL)
    (later,) = economic(dear(desk, 900, watts=30_000.0))
    assert later.target_power_watts == first.target_power_watts
    assert later.control_id == first.control_id
    assert later.ends_at > first.ends_at


def test_throttle_goes_when_the_price_falls_below_the_hysteresis() -> None:
    desk = a_dear_desk()
    dear(desk, 600)
    assert economic(dear(desk, 900, usd=95.0))
    plan = dear(desk, 1200, usd=80.0)
    assert economic(plan) == []
    plan = dear(desk, 1500, usd=150.0)
    assert economic(plan) == []  # the dwell begins anew
    assert not [each for each in plan.baselines if each.signal_id == "economics"]


def test_throttle_outlives_a_price_that_comes_late_but_not_one_that_stays_away() -> None:
    desk = a_dear_desk()
    dear(desk, 300)
    dear(desk, 600)
    assert economic(desk.decide(at(915))[0])
    assert economic(desk.decide(at(900 + FLEET.limits.stale_seconds))[0]) == []
    assert desk.plan.mode in {"price-blind", "hold"}


def test_throttle_is_not_begun_on_stale_power() -> None:
    desk = a_dear_desk()
    desk.take(price("alpha", 150.0, 300, 1500), at(300))
    plan, _ = desk.decide(at(900))
    assert economic(plan) == []
    assert any("no recent power" in each.why for each in plan.rejected)


def test_throttle_is_left_out_where_nothing_is_to_be_gained() -> None:
    desk = a_dear_desk(LEAST)
    dear(desk, 300, watts=LEAST)
    plan = dear(desk, 600, watts=LEAST)
    assert economic(plan) == []
    assert any("least power" in each.why for each in plan.rejected)


def test_throttle_goes_no_deeper_than_the_classes_bear() -> None:
    desk = a_dear_desk()
    rigid = tuple(service for service in desk.fleet_file.service_classes if service.flex == 0)
    desk.fleet_file = desk.fleet_file.model_copy(update={"service_classes": rigid})
    plan = dear(desk, 600)
    assert economic(plan) == []
    assert any("bear 0%" in each.why for each in plan.rejected)


# 400 W of power for 100 % of the tokens, 340 W for 95 %, 280 W for 85 %, 200 W for 70 %: with tokens at 1 USD a million
# each rung of 60, 60 and 80 W of 400 W costs 240, 480, 540 USD/MWh.
RUNGS = FLEET_FILE.model_copy(
    update={
        "gpu_models": (
            FLEET_FILE.gpu_models[0].model_copy(
                update={"cap_throughput": ((80.0, 0.0), (200.0, 0.7), (280.0, 0.85), (340.0, 0.95), (400.0, 1.0))}
            ),
        ),
        "service_classes": tuple(
            service.model_copy(update={"earns_usd_per_million_tokens": 1.0, "flex": 3})
            for service in FLEET_FILE.service_classes
        ),
        "fleets": (
            FLEET.model_copy(
                update={
                    "limits": FLEET.limits.model_copy(
                        update={"strike_price_usd_per_mwh": None, "economic_depth_ratio": 0.4}
                    )
                }
            ),
        ),
    }
)
BASE = 50_000.0


def depths(*prices: float, fleet_file: FleetFile = RUNGS) -> list[float]:
    """How far alpha is throttled, in W, at each price of five minutes, one after another; it draws what it may."""
    desk, watts, found = a_desk(alpha=BASE), BASE, []
    desk.fleet, desk.fleet_file = fleet_file.fleets[0], fleet_file
    desk.view.fleet = desk.fleet
    for place, usd in enumerate(prices):
        throttles = economic(dear(desk, 300 * place, watts, usd))
        watts = throttles[0].target_power_watts if throttles else BASE
        found.append(round(BASE - watts, 3))
    return found


def test_throttle_goes_as_deep_as_the_rungs_that_cost_more_than_they_earn() -> None:
    assert depths(300, 300, 300) == [0, 0, 7_500]
    assert depths(500, 500, 500) == [0, 0, 15_000]
    # Below the lowest rung nothing, however long; the deepest is cut by the fleet's limit of 40 %.
    assert depths(230, 230, 230) == [0, 0, 0]
    assert depths(900, 900, 900) == [0, 0, 20_000]


def test_throttle_waits_for_each_rung_as_for_the_first() -> None:
    # One price of five minutes deepens nothing; after the dwell of ten the next rung goes too.
    assert depths(300, 300, 300, 500, 300) == [0, 0, 7_500, 7_500, 7_500]
    assert depths(300, 300, 300, 500, 500, 500) == [0, 0, 7_500, 7_500, 7_500, 15_000]


def test_throttle_gives_a_rung_back_below_its_hysteresis() -> None:
    # The second rung costs 480: it is held down to 432, and the first, of 240, down to 216.
    assert depths(500, 500, 500, 440, 440, 430, 220, 210)[2:] == [15_000, 15_000, 15_000, 7_500, 7_500, 0]


def test_throttle_never_moves_for_a_price_that_wanders_about_a_rung() -> None:
    moves = depths(500, 500, 500, *[475, 485] * 6)[2:]
    assert set(moves) == {15_000.0}


def test_throttle_is_left_out_where_a_site_draws_less_by_itself() -> None:
    desk = a_desk(alpha=40_000.0)
    desk.fleet_file, desk.view.fleet = RUNGS, RUNGS.fleets[0]
    plans = [dear(desk, seconds, usd=300.0) for seconds in (0, 300, 600)]
    assert economic(plans[-1]) == []
    assert any("no more than 42500 W by itself" in each.why for each in plans[-1].rejected)


@pytest.mark.parametrize(
    ("planned", "targets"),
    [({}, []), ({"alpha": 35_000.0}, [35_000.0]), ({"alpha": 10_000.0}, [30_000.0]), ({"beta": 35_000.0}, [])],
)
def test_throttle_goes_as_deep_as_planned_within_what_is_allowed(
    planned: dict[str, float], targets: list[float]
) -> None:
    view, dwells = a_view(alpha=40_000.0), [above()]
    view.observe(price("alpha", 150.0, 0, 900))
    view.observe(power("alpha", 600, 40_000.0))
    throttles = economic_throttles(view, empty_plan(), dwells, [], FLEET_FILE, at(DWELL), [], planned)
    assert [each.target_power_watts for each in throttles] == pytest.approx(targets)


def test_dwell_of_a_site_that_draws_its_least_at_full_power_never_stands_above() -> None:
    rigid = RUNGS.gpu_models[0].model_copy(update={"cap_cliff_watts": 400.0})
    assert depths(900, 900, 900, fleet_file=RUNGS.model_copy(update={"gpu_models": (rigid,)})) == [0, 0, 0]


def test_event_to_come_cuts_the_throttle_short_and_does_not_drop_it() -> None:
    desk = a_dear_desk()
    dear(desk, 600)
    desk.take(event(start=1300, end=4900, ramp_seconds=300.0), at(610))
    plan, commands = desk.decide(at(610))
    (cut,) = economic(plan)
    assert cut.ends_at == at(1300)
    assert not [each for each in commands if each.kind == "release"]


def test_event_in_force_takes_over_and_hands_back_with_the_same_baseline() -> None:
    desk = a_dear_desk()
    dear(desk, 600)
    desk.take(event(start=1300, end=4900, ramp_seconds=300.0, site_ids=["alpha"]), at(610))
    desk.decide(at(610))
    for seconds in range(900, 4500, 300):
        plan = dear(desk, seconds, watts=30_000.0 if seconds < 1300 else 28_000.0)
    assert [each.target_power_watts for each in plan.throttles] == [pytest.approx(30_000)] * 2
    (after,) = economic(plan)
    assert after.starts_at == at(4900)


def test_throttle_begun_under_an_event_is_measured_from_before_the_event() -> None:
    desk = a_desk(alpha=40_000.0)
    desk.take(event(start=0, end=3600, ramp_seconds=300.0), at(0))
    desk.decide(at(0))
    for seconds in range(300, 3601, 300):
        plan = dear(desk, seconds, watts=30_000.0)
    (control,) = economic(plan)
    assert control.target_power_watts == pytest.approx(30_000)
