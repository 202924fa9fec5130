"""Delivered against target: when it counts, what is asked for beyond it, when it escalates and is resolved."""

import pytest

from schemas.plan import FleetPlan, Tracking
from streams.policy.feedback import Asked, correction_watts, track
from streams.policy.view import FleetView
from tests.policy_cases import a_view, at, empty_plan, event, power, throttle_control

BASE = {"alpha": 40_000.0, "beta": 40_000.0, "gamma": 40_000.0}
ASKED = Asked(event(start=600, end=4200, ramp_seconds=60.0), BASE, 90_000.0)  # 30 kW less


def drawn(seconds: float, alpha: float, beta: float = 30_000.0, gamma: float = 30_000.0) -> FleetView:
    view = a_view()
    for site, watts in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        view.observe(power(site, seconds, watts))
    return view


def tracked(
    view: FleetView, seconds: float, before: Tracking | None = None, unresponsive: tuple[str, ...] = ()
) -> Tracking | None:
    throttles = [
        throttle_control(f"event/{site}", site, target_power_watts=30_000.0, caused_by=[ASKED.event.signal_id])
        for site in BASE
    ]
    previous: FleetPlan = empty_plan().model_copy(
        update={"tracking": [before] if before else [], "throttles": throttles, "issued_at": at(seconds - 60)}
    )
    found = track(view, [ASKED], previous, unresponsive, at(seconds))
    return found[0] if found else None


def test_tracking_begins_a_minute_after_the_ramp() -> None:
    assert tracked(drawn(719, 30_000.0), 719) is None
    assert tracked(drawn(721, 30_000.0), 721) is not None


def test_delivery_on_target_asks_for_nothing_more() -> None:
    found = tracked(drawn(800, 30_100.0), 800)
    assert found is not None
    assert (found.phase, found.correction_watts) == ("active", 0.0)
    assert found.target_power_watts == 90_000.0
    assert found.delivered_power_watts == 90_100.0


def test_small_shortfall_is_corrected_step_by_step() -> None:
    first = tracked(drawn(800, 33_000.0), 800)
    assert first is not None
    assert first.phase == "active"
    assert first.correction_watts == pytest.approx((3000 - 300) * 60 / 90)
    second = tracked(drawn(860, 33_000.0), 860, first)
    assert second is not None
    assert second.correction_watts == pytest.approx(2 * first.correction_watts)
    for step in range(10):
        again = tracked(drawn(920 + 60 * step, 33_000.0), 920 + 60 * step, second)
        assert again is not None
        second = again
    assert second.correction_watts == pytest.approx(0.25 * 30_000)  # a meter may be wrong: no further


def test_breach_of_a_fifth_escalates_and_is_resolved_when_all_is_delivered() -> None:
    breach = tracked(drawn(800, 36_500.0), 800)
    assert breach is not None
    assert (breach.phase, breach.phase_since) == ("escalated", at(800))
    assert breach.correction_watts >= 6500  # at once: the others are asked for what is missing
    still = tracked(drawn(860, 33_000.0, 30_000.0, 28_000.0), 860, breach)
    assert still is not None
    assert (still.phase, still.phase_since) == ("escalated", at(800))
    made_up = tracked(drawn(920, 36_000.0, 27_000.0, 27_000.0), 920, still)
    assert made_up is not None
    assert (made_up.phase, made_up.phase_since) == ("resolved", at(920))
    assert made_up.correction_watts > 0.25 * 30_000 or made_up.correction_watts == still.correction_watts


def test_over_delivery_takes_the_correction_back() -> None:
    before = tracked(drawn(800, 33_000.0), 800)
    after = tracked(drawn(860, 27_000.0), 860, before)
    assert before is not None
    assert after is not None
    assert 0 <= after.correction_watts < before.correction_watts


def test_correction_stays_as_it_was_until_all_have_let_go() -> None:
    before = tracked(drawn(4100, 33_000.0), 4100)
    assert tracked(drawn(4210, 39_000.0, 39_000.0, 39_000.0), 4210, before) == before


@pytest.mark.parametrize(("unresponsive", "delivered"), [((), 90_000.0), (("alpha",), 100_000.0)])
def test_site_not_heard_of_counts_as_it_answers(unresponsive: tuple[str, ...], delivered: float) -> None:
    view = a_view()
    view.observe(power("alpha", 500, 40_000.0))
    for site in ("beta", "gamma"):
        view.observe(power(site, 800, 30_000.0))
    found = tracked(view, 800, unresponsive=unresponsive)
    assert found is not None
    assert found.delivered_power_watts == delivered


def test_correction_of_an_event_nobody_tracks_is_none() -> None:
    assert correction_watts([], "e1") == 0.0
