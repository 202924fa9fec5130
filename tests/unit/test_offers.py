"""Flexibility offers of three sites of 50 kW at full load, 25 kW at the least: reckoned by hand, and by their rules."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.forecast import HorizonForecast, SiteForecast
from schemas.offer import FlexibilityOffer, OfferedReduction
from schemas.plan import Baseline, FleetPlan
from schemas.site import ControllerHeartbeat
from streams.policy.offers import DURATIONS_SECONDS, MARGIN_RATIO, RESPONSES_SECONDS, offers
from streams.policy.view import FleetView
from tests.policy_cases import (
    FLEET_FILE,
    FULL,
    LEAST,
    LIMITS,
    RAMP_DOWN,
    a_view,
    at,
    empty_plan,
    load,
    power,
    shift_control,
    throttle_control,
)

FAST, SLOW = RESPONSES_SECONDS
QUARTER, HOUR, LONG = DURATIONS_SECONDS
MARGIN = MARGIN_RATIO * FULL
REACH = RAMP_DOWN * (FAST - 15)  # bus, controller and actuator take 15 s


def forecast(*medians: float, spread: float = 0.0, issued: float = 0, step: int = 300, tokens: float = 0) -> Any:
    """Alpha's power in the steps ahead: medians, with the outer quantiles `spread` away from them."""
    return SiteForecast(
        fleet_id="trio",
        site_id="alpha",
        issued_at=at(issued),
        model="test 1",
        history_steps=1,
        horizons=[
            HorizonForecast(
                horizon_seconds=step * (place + 1),
                tokens_per_second=[tokens] * 7,
                power_watts=[median + spread * away for away in (-1, -0.8, -0.5, 0, 0.5, 0.8, 1)],
            )
            for place, median in enumerate(medians)
        ],
        spikes=[],
    )


def planned(**changes: Any) -> FleetPlan:
    return empty_plan().model_copy(update=changes)


def of_alpha(view: FleetView, plan: FleetPlan | None = None, now: datetime | None = None) -> FlexibilityOffer:
    (offer,) = (each for each in offers(view, plan or planned(), FLEET_FILE, now or at(0)) if each.site_id == "alpha")
    return offer


def part(offer: FlexibilityOffer, response: float = SLOW, duration: float = QUARTER) -> OfferedReduction:
    (found,) = (each for each in offer.offers if (each.response_seconds, each.duration_seconds) == (response, duration))
    return found


def p50_p90(offer: FlexibilityOffer, **which: float) -> tuple[float, float]:
    found = part(offer, **which)
    return found.firm_power_watts_p50, found.firm_power_watts_p90


def test_offer_without_a_forecast_is_what_the_meter_shows_above_the_least() -> None:
    offer = of_alpha(a_view(alpha=40_000.0))
    assert (offer.fleet_id, offer.issued_at, offer.expected_power_watts) == ("trio", at(0), 40_000.0)
    assert (offer.valid_until - offer.issued_at).total_seconds() == 2 * LIMITS.plan_interval_seconds
    assert p50_p90(offer) == pytest.approx((15_000.0, 15_000.0 - MARGIN))
    assert p50_p90(offer, response=FAST) == pytest.approx((REACH, REACH))


def test_offers_are_of_sites_with_recent_power_that_are_not_locked_out() -> None:
    view = a_view(alpha=40_000.0, beta=40_000.0, gamma=40_000.0)
    view.observe(power("beta", 100, 40_000.0))
    view.observe(power("gamma", 100, 40_000.0))
    lock: dict[str, Any] = {"target_power_watts": None, "meter_power_watts": None, "locked_out": True}
    view.observe(
        ControllerHeartbeat(fleet_id="trio", site_id="gamma", observed_at=at(100), epoch=1, sequence=0, **lock)
    )
    now = at(LIMITS.stale_seconds + 1)
    assert [each.site_id for each in offers(view, planned(), FLEET_FILE, now)] == ["beta"]
    assert offers(a_view(), planned(), FLEET_FILE, at(0)) == []


def test_offer_rests_on_the_lowest_step_of_the_duration() -> None:
    view = a_view(alpha=42_000.0)
    view.observe(forecast(44_000.0, 41_000.0, 40_000.0, 43_000.0, 42_000.0, 30_000.0, spread=2_000.0))
    offer = of_alpha(view, now=at(0))
    assert offer.expected_power_watts == 44_000.0
    # A quarter of an hour that begins in five minutes is four steps, and the one that goes beyond.
    assert p50_p90(offer) == pytest.approx((15_000.0, 13_000.0 - MARGIN))
    assert p50_p90(offer, duration=HOUR) == pytest.approx((5_000.0, 3_000.0 - MARGIN))


def test_offer_counts_from_what_is_drawn_now_where_that_is_less() -> None:
    view = a_view(alpha=36_000.0)
    view.observe(forecast(44_000.0, 44_000.0, 44_000.0, 44_000.0))
    assert p50_p90(of_alpha(view)) == pytest.approx((11_000.0, 11_000.0 - MARGIN))


@pytest.mark.parametrize(("age", "expected"), [(300 + LIMITS.stale_seconds, 30_000.0), (301 + 180, 40_000.0)])
def test_offer_forgets_a_forecast_whose_successor_is_overdue(age: float, expected: float) -> None:
    view = a_view(alpha=40_000.0)
    view.observe(forecast(45_000.0, 30_000.0, 30_000.0))
    view.observe(power("alpha", age, 40_000.0))
    assert of_alpha(view, now=at(age)).expected_power_watts == expected


def test_offer_of_a_site_that_is_held_is_what_lies_below_its_target() -> None:
    view = a_view(alpha=30_000.0)
    held = planned(
        throttles=[throttle_control(end=900)],  # to 30 kW
        baselines=[Baseline(signal_id="e1", site_id="alpha", power_watts=45_000.0)],
    )
    offer = of_alpha(view, held)
    assert offer.expected_power_watts == 45_000.0
    assert p50_p90(offer) == pytest.approx((5_000.0, 5_000.0 - MARGIN))
    to_come = planned(throttles=[throttle_control(start=3000, end=6000)])
    # What is promised for later is promised, to whom it is long enough to meet.
    offer = of_alpha(a_view(alpha=45_000.0), to_come)
    assert part(offer).firm_power_watts_p50 == pytest.approx(20_000.0)
    assert part(offer, duration=HOUR).firm_power_watts_p50 == pytest.approx(5_000.0)


@pytest.mark.parametrize(("phase", "offered"), [("proposed", 13_000.0), ("active", 13_000.0), ("done", 15_000.0)])
def test_offer_keeps_the_room_that_is_reserved(phase: str, offered: float) -> None:
    shift = shift_control(phase, from_site_id="beta", to_site_id="alpha")  # 2 kW
    assert part(of_alpha(a_view(alpha=40_000.0), planned(shifts=[shift]))).firm_power_watts_p50 == offered


def test_offers_share_the_ramp_of_the_fleet() -> None:
    view = a_view(alpha=50_000.0, beta=50_000.0, gamma=50_000.0)
    view.fleet = view.fleet.model_copy(
        update={"limits": LIMITS.model_copy(update={"ramp_down_watts_per_second": 900.0})}
    )
    fast = [part(offer, FAST).firm_power_watts_p50 for offer in offers(view, planned(), FLEET_FILE, at(0))]
    assert fast == pytest.approx([300.0 * 15] * 3)


@pytest.mark.parametrize(
    ("tokens", "lost_per_second"),
    [(8_000.0, 0.0), (9_000.0, 1_000.0), (12_000.0, 2_000.0)],  # 8,000 tokens/s are left at the least power
)
def test_tokens_lost_are_those_above_what_the_cap_lets_through(tokens: float, lost_per_second: float) -> None:
    view = a_view(alpha=50_000.0)
    view.observe(load("alpha", 0, tokens))
    assert part(of_alpha(view)).tokens_lost_per_mwh == pytest.approx(lost_per_second * 3600 / 0.025)


def test_tokens_lost_follow_the_forecast_where_there_is_one() -> None:
    view = a_view(alpha=50_000.0)
    view.observe(load("alpha", 0, 10_000.0))
    view.observe(forecast(*[50_000.0] * 4, tokens=8_500.0))
    assert part(of_alpha(view)).tokens_lost_per_mwh == pytest.approx(500 * 3600 / 0.025)


watts = st.floats(20_000, 52_000)


@settings(deadline=None, max_examples=150)
@given(
    drawn=watts,
    medians=st.lists(watts, max_size=40),
    spread=st.floats(0, 15_000),
    held=st.none() | st.tuples(watts, st.integers(0, 12_000)),
    reserved=st.floats(0, 10_000),
    tokens=st.floats(0, 12_000),
)
def test_offers_keep_their_order(
    drawn: float,
    medians: list[float],
    spread: float,
    held: tuple[float, int] | None,
    reserved: float,
    tokens: float,
) -> None:
    view = a_view(alpha=drawn)
    view.observe(load("alpha", 0, tokens))
    if medians:
        view.observe(forecast(*medians, spread=spread, tokens=tokens))
    throttles = [] if held is None else [throttle_control(start=held[1], end=20_000, target_power_watts=held[0])]
    shift = shift_control(from_site_id="beta", to_site_id="alpha", reserved_power_watts=reserved)
    offer = of_alpha(view, planned(throttles=throttles, shifts=[shift]))
    for response in RESPONSES_SECONDS:
        for duration in DURATIONS_SECONDS:
            found = part(offer, response, duration)
            assert 0 <= found.firm_power_watts_p90 <= found.firm_power_watts_p50
            assert found.firm_power_watts_p50 <= max(0.0, offer.expected_power_watts - LEAST)
            assert found.firm_power_watts_p50 <= RAMP_DOWN * (response - 15)
            assert 0 <= found.tokens_lost_per_mwh <= 2_000 * 3600 / 1e-6 / max(1e-9, found.firm_power_watts_p50) * 1.001
    for shorter, longer in ((QUARTER, HOUR), (HOUR, LONG)):
        for response in RESPONSES_SECONDS:
            assert _not_more(part(offer, response, longer), part(offer, response, shorter))
    for duration in DURATIONS_SECONDS:
        assert _not_more(part(offer, FAST, duration), part(offer, SLOW, duration))


def _not_more(less: OfferedReduction, more: OfferedReduction) -> bool:
    return (
        less.firm_power_watts_p50 <= more.firm_power_watts_p50
        and less.firm_power_watts_p90 <= more.firm_power_watts_p90
    )
