"""What the policy knows: the newest of everything, whatever the order in which it came."""

import pytest

from schemas.site import ControllerHeartbeat
from streams.policy.view import meter_watts
from tests.policy_cases import ALPHA, FLEET, a_view, at, event, load, power, price


def heartbeat(seconds: float, sequence: int) -> ControllerHeartbeat:
    return ControllerHeartbeat(
        fleet_id="trio",
        site_id="alpha",
        observed_at=at(seconds),
        epoch=1,
        sequence=sequence,
        target_power_watts=None,
        meter_power_watts=None,
        locked_out=False,
    )


def test_view_keeps_the_newest_of_each_record_whatever_the_order() -> None:
    view = a_view()
    newest = [power("alpha", 20, 200.0), load("alpha", 20, 2.0), heartbeat(20, 2)]
    for record in [*newest, power("alpha", 10, 100.0), load("alpha", 10, 1.0), heartbeat(10, 1)]:
        view.observe(record)
    site = view.sites["alpha"]
    assert [site.power, site.load, site.heartbeat] == newest


def test_baseline_is_the_mean_of_five_minutes_and_takes_a_window_once() -> None:
    view = a_view()
    for step in range(40):
        for _ in range(2):
            view.observe(power("alpha", step * 10, 1000.0 if step < 10 else 2000.0))
    assert view.sites["alpha"].baseline_watts() == 2000
    assert view.sites["beta"].baseline_watts() is None


def test_meter_stands_in_for_by_gpu_power_and_pue() -> None:
    assert meter_watts(power("alpha", 0, None, it=1000.0), ALPHA) == 1250
    assert meter_watts(power("alpha", 0, 1200.0, it=1000.0), ALPHA) == 1200


def test_stale_sites_are_those_not_heard_of_lately() -> None:
    view = a_view(alpha=1.0, beta=1.0)
    view.observe(power("beta", 100, 1.0))
    assert view.stale_sites(at(180)) == ["gamma"]
    assert view.stale_sites(at(181)) == ["alpha", "gamma"]


def test_price_is_the_one_published_last_and_revisions_hold() -> None:
    view = a_view()
    first = price("alpha", 50.0)
    revised = price("alpha", 70.0, published_at=at(60))
    for signal in (revised, first):
        view.observe(signal)
    assert view.price_at("ALPHA", at(100)) == revised
    assert view.price_at("BETA", at(100)) is None
    hourly = price("alpha", 90.0, -600, 3000, published_at=at(61))
    view.observe(hourly)
    assert view.price_at("ALPHA", at(100)) == hourly


def test_price_just_over_stands_until_the_next_is_published() -> None:
    view = a_view()
    old = price("alpha", 50.0, 0, 300)
    view.observe(old)
    assert view.price_at("ALPHA", at(-1)) is None
    assert view.price_at("ALPHA", at(315)) == old
    assert view.price_at("ALPHA", at(300 + FLEET.limits.stale_seconds)) is None
    new = price("alpha", 60.0, 300, 600)
    view.observe(new)
    assert view.price_at("ALPHA", at(315)) == new


def test_day_ahead_prices_are_no_real_time_prices() -> None:
    view = a_view()
    view.observe(price("alpha", 50.0, market="day-ahead"))
    assert view.price_at("ALPHA", at(100)) is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_events_ahead_leaves_out_withdrawn_ones(order: tuple[int, int]) -> None:
    view = a_view()
    said = [event(), event(cancelled=True, published_at=at(10))]
    for place in order:
        view.observe(said[place])
    assert view.events_ahead(at(0)) == []


def test_events_ahead_puts_emergencies_first_and_keeps_them_through_the_restores() -> None:
    view = a_view()
    for each in (event("e1", 600), event("e2", 0), event("e3", 900, kind="emergency")):
        view.observe(each)
    assert [each.signal_id for each in view.events_ahead(at(0))] == ["e3", "e2", "e1"]
    assert len(list(view.events_ahead(at(4200 + 60)))) == 3
    assert view.events_ahead(at(4200 + 80)) == []


def test_forget_drops_signals_an_hour_after_their_end() -> None:
    view = a_view()
    view.observe(event())
    view.observe(price("alpha", 1.0))
    view.forget(at(4200 + 3599))
    assert view.events
    assert not view.prices
    view.forget(at(4200 + 3600))
    assert not view.events


def test_site_of_another_fleet_is_not_known() -> None:
    with pytest.raises(KeyError):
        a_view().site("delta")
