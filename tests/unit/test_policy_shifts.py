"""The two-phase shift: reserved before drained, every way it can fail, and its rest afterwards."""

from typing import Any

import pytest

from schemas.command import Release, Shift
from schemas.plan import FleetPlan, Rejected, ShiftControl
from schemas.site import ControllerHeartbeat
from streams.policy.desk import Desk
from streams.policy.orders import AnyCommand
from streams.policy.shifts import answered
from streams.policy.spread import spread_shifts
from streams.policy.view import FleetView
from tests.policy_cases import (
    FLEET,
    FLEET_FILE,
    a_desk,
    a_view,
    ack,
    at,
    load,
    power,
    price,
    release,
    shift,
    shift_control,
)

LEASE, ACK, DWELL = FLEET.limits.lease_seconds, FLEET.limits.ack_timeout_seconds, FLEET.limits.dwell_seconds


def a_market(alpha: float = 60.0, beta: float = 20.0, gamma: float = 55.0, tokens: float = 5000.0) -> FleetView:
    """Prices for two hours, and the same load everywhere."""
    view = a_view()
    for site, usd in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        view.observe(price(site, usd, 0, 7200))
        view.observe(load(site, 0, tokens))
    return view


def heartbeat(seconds: float, *, locked_out: bool) -> ControllerHeartbeat:
    return ControllerHeartbeat(
        fleet_id="trio",
        site_id="alpha",
        observed_at=at(seconds),
        epoch=1,
        sequence=1,
        target_power_watts=None,
        meter_power_watts=None,
        locked_out=locked_out,
    )


def planned(view: FleetView, *previous: ShiftControl, seconds: float = 0, busy: tuple[str, ...] = ()) -> Any:
    rejected: list[Rejected] = []
    found = spread_shifts(view, list(previous), FLEET_FILE, at(seconds), set(busy), rejected)
    return found, [each.why for each in rejected]


def test_new_shift_goes_from_the_dearest_to_the_cheapest_and_takes_the_most_flexible_class() -> None:
    (found,), _ = planned(a_market())
    assert (found.from_site_id, found.to_site_id, found.service_class) == ("alpha", "beta", "batch")
    assert found.phase == "proposed"
    assert found.share_ratio == FLEET.limits.shift_share_ratio
    # Along beta's curve: 70 % of full power at a tenth of the load, all of it at full load.
    assert found.reserved_power_watts == pytest.approx(0.2 * 0.4 * 5000 / 9000 * 0.3 * 10_000 / 10_000 * 50_000)
    assert found.ramp_seconds == FLEET.limits.shift_ramp_seconds


def test_new_shift_takes_no_more_than_there_is_room_for() -> None:
    (found,), _ = planned(a_market(tokens=8800.0))
    assert found.share_ratio == pytest.approx((9000 - 8800) / (8800 * 0.4))
    found, why = planned(a_market(tokens=9500.0))
    assert found == []
    assert "it has no room" in why


@pytest.mark.parametrize(
    "view",
    [a_market(30, 20, 25), a_market(60, 20, 55, tokens=0.0), a_view()],
    ids=["spread too small", "nothing to move", "nothing known"],
)
def test_new_shift_is_left_where_it_is_not_worth_it(view: FleetView) -> None:
    assert planned(view)[0] == []


def test_new_shift_needs_recent_load() -> None:
    view = a_market()
    assert planned(view, seconds=FLEET.limits.stale_seconds + 1)[0] == []


def test_new_shift_leaves_busy_and_engaged_sites_alone() -> None:
    assert planned(a_market(), busy=("beta", "alpha"))[0] == []
    assert planned(a_market(), shift_control("active"))[0] == [shift_control("active")]


@pytest.mark.parametrize("phase", ["done", "aborted"])
def test_sites_of_an_ended_shift_rest_for_the_dwell(phase: str) -> None:
    view = a_market(gamma=20.0)
    ended = shift_control(phase)
    assert planned(view, ended, seconds=100)[0] == [ended]
    for site in ("alpha", "beta"):
        view.observe(load(site, DWELL, 5000.0))
    (new,), _ = planned(view, ended, seconds=DWELL)
    assert new.phase == "proposed"


RETURNS = [
    ("active", {"busy": ("alpha",)}, "returning"),
    ("active", {"busy": ("beta",)}, "returning"),
    ("reserved", {"busy": ("beta",)}, "returning"),
    ("proposed", {"busy": ("beta",)}, "aborted"),
    ("active", {"seconds": 3600}, "returning"),
    ("active", {"seconds": 3599}, "active"),
    ("proposed", {"seconds": 3 * ACK}, "proposed"),
    ("proposed", {"seconds": 3 * ACK + 1}, "aborted"),
    ("reserved", {"seconds": 3 * ACK + 1}, "returning"),
    # A clock that is behind, and a tick of the donor, after its lease.
    ("returning", {"seconds": LEASE + 59}, "returning"),
    ("returning", {"seconds": LEASE + 60}, "done"),
]


@pytest.mark.parametrize(("phase", "when", "then"), RETURNS)
def test_shift_goes_on_or_back(phase: str, when: dict[str, Any], then: str) -> None:
    found, _ = planned(a_market(), shift_control(phase), **when)
    assert found[0].phase == then
    assert found[0].phase_since == at(0 if then == phase else when.get("seconds", 0))


def test_shift_returns_when_the_price_has_turned() -> None:
    assert planned(a_market(20, 21, 20), shift_control("active"))[0][0].phase == "returning"
    assert planned(a_market(21, 20, 20), shift_control("active"))[0][0].phase == "active"


TO_ACCEPTOR = shift(site_id="beta", role="reserve", from_site_id="alpha", to_site_id="beta")
TO_DONOR = shift()
BACK = release(control_id="s")
ANSWERS: list[tuple[str, AnyCommand, str, str]] = [
    ("proposed", TO_ACCEPTOR, "accepted", "reserved"),
    ("proposed", TO_ACCEPTOR, "rejected", "aborted"),
    ("proposed", TO_ACCEPTOR, "partial", "aborted"),
    ("reserved", TO_DONOR, "accepted", "active"),
    ("reserved", TO_ACCEPTOR, "accepted", "reserved"),
    ("reserved", TO_DONOR, "rejected", "returning"),
    ("reserved", TO_ACCEPTOR, "rejected", "returning"),
    ("active", TO_ACCEPTOR, "rejected", "returning"),
    ("active", TO_ACCEPTOR, "expired", "returning"),
    ("active", TO_DONOR, "expired", "returning"),
    ("active", TO_DONOR, "accepted", "active"),
    ("ramping", TO_DONOR, "accepted", "ramping"),
    ("ramping", TO_DONOR, "ramping", "ramping"),
    ("ramping", TO_DONOR, "compliant", "active"),
    ("ramping", TO_DONOR, "rejected", "returning"),
    ("ramping", TO_ACCEPTOR, "expired", "returning"),
    ("returning", BACK, "accepted", "returning"),
    ("returning", BACK, "rejected", "returning"),
    ("returning", TO_DONOR, "accepted", "returning"),
    ("returning", TO_ACCEPTOR, "accepted", "returning"),
    ("done", TO_DONOR, "accepted", "done"),
]


def test_accepted_drain_ramps_where_the_share_moves_over_time() -> None:
    gradual = shift_control("reserved", ramp_seconds=60.0)
    assert answered(gradual, TO_DONOR, "accepted", at(5)).phase == "ramping"


def test_ramping_shift_whose_donor_says_no_more_is_active_after_its_time() -> None:
    ramping = shift_control("ramping", ramp_seconds=60.0)
    assert planned(a_market(), ramping, seconds=60 + ACK)[0][0].phase == "ramping"
    assert planned(a_market(), ramping, seconds=60 + ACK + 1)[0][0].phase == "active"


def test_returning_shift_is_done_when_the_whole_share_is_home() -> None:
    returning = answered(shift_control("returning", ramp_seconds=60.0), BACK, "accepted", at(5))
    assert returning.home_at == at(65)
    assert answered(returning, BACK, "accepted", at(30)).home_at == at(65)  # said twice, it counts once
    assert planned(a_market(), returning, seconds=94)[0][0].phase == "returning"
    assert planned(a_market(), returning, seconds=95)[0][0].phase == "done"


def test_returning_shift_of_a_donor_locked_out_waits_for_it() -> None:
    view, returning = a_market(), answered(shift_control("returning", ramp_seconds=60.0), BACK, "accepted", at(5))
    view.observe(heartbeat(0, locked_out=True))
    (waiting,) = planned(view, returning, seconds=400)[0]
    assert (waiting.phase, waiting.home_at) == ("returning", at(520))  # let in just before the next look
    view.observe(heartbeat(459, locked_out=False))
    assert planned(view, waiting, seconds=549)[0][0].phase == "returning"
    assert planned(view, waiting, seconds=550)[0][0].phase == "done"


@pytest.mark.parametrize(("seconds", "home_at"), [(LEASE - 31, None), (LEASE - 30, LEASE + 90)])
def test_returning_shift_of_a_donor_let_in_as_its_lease_ends_waits_for_it(seconds: int, home_at: int | None) -> None:
    # By itself it would be home 30 s of clocks and a minute of ramp after its lease; let in at the next look, later.
    view, returning = a_market(), shift_control("returning", ramp_seconds=60.0, end=7200)
    view.observe(heartbeat(seconds, locked_out=True))
    assert planned(view, returning, seconds=seconds)[0][0].home_at == (None if home_at is None else at(home_at))


def test_shift_returns_before_the_reservation_that_was_confirmed_could_run_out() -> None:
    held = answered(shift_control("active", ramp_seconds=60.0), TO_ACCEPTOR, "accepted", at(5))
    assert held.reserved_until == TO_ACCEPTOR.lease_expires_at
    # The share is home two minutes after the drain's lease: a clock that is behind, the ramp, a tick.
    last = LEASE - 120 - ACK
    assert planned(a_market(), held, seconds=last)[0][0].phase == "active"
    assert planned(a_market(), held, seconds=last + 1)[0][0].phase == "returning"


def test_lowered_shift_keeps_its_place_until_the_donor_has_come_down() -> None:
    lowered = shift_control("active", share_ratio=0.1, reserved_share_ratio=0.2)
    assert answered(lowered, TO_DONOR, "compliant", at(5)) == lowered  # of the greater share, said before
    lower = TO_DONOR.model_copy(update={"share_ratio": 0.1})
    assert answered(lowered, lower, "accepted", at(5)) == lowered
    down = answered(lowered, lower, "compliant", at(65))
    assert (down.reserved_share_ratio, down.reserved_power_watts) == (None, 1000.0)


@pytest.mark.parametrize(("phase", "command", "status", "then"), ANSWERS)
def test_answer_moves_the_shift(phase: str, command: AnyCommand, status: str, then: str) -> None:
    assert answered(shift_control(phase), command, status, at(5)).phase == then


def a_desk_with_a_market() -> Desk:
    desk = a_desk(alpha=40_000.0, beta=40_000.0, gamma=40_000.0)
    desk.view.prices, sites = a_market().prices, a_market().sites
    for site_id, site in sites.items():
        desk.view.sites[site_id].load = site.load
    return desk


def refresh(desk: Desk, seconds: float) -> tuple[FleetPlan, list[AnyCommand]]:
    for site in FLEET.sites:
        desk.take(power(site.id, seconds, 40_000.0), at(seconds))
        desk.take(load(site.id, seconds, 5000.0), at(seconds))
    return desk.decide(at(seconds))


def roles(commands: list[AnyCommand]) -> list[tuple[str, str]]:
    return [(each.site_id, each.role if isinstance(each, Shift) else each.kind) for each in commands]


def test_saga_reserves_then_drains_and_lets_go_in_reverse() -> None:
    desk = a_desk_with_a_market()
    _, (reserve,) = desk.decide(at(0))
    assert roles([reserve]) == [("beta", "reserve")]
    assert desk.take(ack(reserve), at(1))
    _, (drain,) = desk.decide(at(1))
    assert roles([drain]) == [("alpha", "drain")]
    assert isinstance(drain, Shift)
    assert drain.ramp_seconds == FLEET.limits.shift_ramp_seconds
    assert desk.take(ack(drain), at(2))
    assert desk.decide(at(2))[1] == []
    assert [each.phase for each in desk.plan.shifts] == ["ramping"]
    assert not desk.take(ack(drain, "ramping"), at(3))
    assert desk.take(ack(drain, "compliant"), at(50))
    assert [each.phase for each in desk.plan.shifts] == ["active"]

    desk.take(price("alpha", 10.0, 60, 7200), at(60))
    _, (back,) = refresh(desk, 60)
    assert roles([back]) == [("alpha", "release")]
    assert [each.phase for each in desk.plan.shifts] == ["returning"]
    assert desk.take(ack(back), at(61))
    assert desk.decide(at(150))[1] == []  # traffic may still be on its way home, and has a place until then
    _, (free,) = desk.decide(at(151))
    assert roles([free]) == [("beta", "release")]
    desk.take(ack(free), at(122))
    assert desk.decide(at(122))[1] == []
    assert desk.dispatch.sent == {}


def test_saga_keeps_the_reservation_while_a_donor_may_still_drain() -> None:
    desk = a_desk_with_a_market()
    _, (reserve,) = desk.decide(at(0))
    desk.take(ack(reserve), at(1))
    _, (drain,) = desk.decide(at(1))
    # In one batch: the acceptor's lease is gone, and the donor says that it has begun.
    assert desk.take(ack(reserve, "expired"), at(2))
    desk.take(ack(drain), at(2))
    _, commands = desk.decide(at(2))
    assert desk.plan.shifts[0].phase == "returning"
    assert roles(commands) == [("alpha", "release")]
    assert drain.lease_expires_at < reserve.lease_expires_at


def test_saga_ignores_an_old_lapse_told_again() -> None:
    desk = a_desk_with_a_market()
    _, (reserve,) = desk.decide(at(0))
    desk.take(ack(reserve), at(1))
    _, (drain,) = desk.decide(at(1))
    desk.take(ack(drain), at(2))
    assert not desk.take(ack(drain, "expired", sequence=99), at(3))
    assert desk.plan.shifts[0].phase == "ramping"


def test_saga_refused_is_not_asked_again_at_once() -> None:
    desk = a_desk_with_a_market()
    _, (reserve,) = desk.decide(at(0))
    assert desk.take(ack(reserve, "rejected"), at(1))
    _, (free,) = desk.decide(at(1))
    assert isinstance(free, Release)
    desk.take(ack(free), at(1))
    for seconds in range(60, 600, 60):
        assert refresh(desk, seconds)[1] == []
