"""What the optimiser wants moved, against what is moving: raised by new shifts, lowered in place, taken back whole."""

import pytest

from schemas.plan import ShiftControl
from streams.policy.moves import moved_shifts
from tests.policy_cases import FLEET, FLEET_FILE, a_view, at, load, price, shift_control

PAIR = ("alpha", "beta", "batch")
STEP = FLEET.limits.step_seconds


def moved(wanted: float | None, *previous: ShiftControl, seconds: float = 0, leaving: str = "") -> list[ShiftControl]:
    view = a_view()
    for site in ("alpha", "beta", "gamma"):
        view.observe(load(site, 0, 5000.0))
        view.observe(price(site, 40.0, 0, 7200))
    pairs = {} if wanted is None else {PAIR: wanted}
    return moved_shifts(view, list(previous), pairs, FLEET_FILE, at(seconds), {leaving})


def shares(controls: list[ShiftControl]) -> list[tuple[str, float]]:
    return [(each.phase, pytest.approx(each.share_ratio)) for each in controls]  # type: ignore[misc]


def test_move_that_is_new_is_proposed() -> None:
    (found,) = moved(0.3)
    assert (found.from_site_id, found.to_site_id, found.service_class, found.phase) == (*PAIR, "proposed")
    assert found.share_ratio == 0.3
    assert found.reserved_power_watts > 0
    assert found.ramp_seconds == FLEET.limits.shift_ramp_seconds
    assert found.caused_by


def test_move_that_rises_takes_a_new_shift_for_the_rest_of_it() -> None:
    held = shift_control("active", share_ratio=0.2)
    assert shares(moved(0.5, held, seconds=400)) == [("active", 0.2), ("proposed", 0.3)]


def test_move_that_rises_waits_for_the_rise_before_it() -> None:
    held = shift_control("reserved", share_ratio=0.2, ramp_seconds=60.0)
    assert shares(moved(0.5, held, seconds=60)) == [("reserved", 0.2)]


def test_move_that_falls_falls_in_place_the_newest_first() -> None:
    old = shift_control("active", share_ratio=0.3)
    new = shift_control("active", share_ratio=0.3, control_id="t", starts_at=at(10))
    found = {each.control_id: (each.phase, each.share_ratio) for each in moved(0.4, old, new, seconds=60)}
    assert found == {"s": ("active", 0.3), "t": ("active", pytest.approx(0.1))}
    found = {each.control_id: (each.phase, each.share_ratio) for each in moved(0.2, old, new, seconds=60)}
    assert found == {"s": ("active", pytest.approx(0.2)), "t": ("returning", 0.3)}


def test_move_that_falls_in_place_keeps_its_reservation_until_it_is_down() -> None:
    held = shift_control("active", share_ratio=0.5, reserved_power_watts=100.0)
    (found,) = moved(0.4, held, seconds=60)
    (lower,) = moved(0.2, found, seconds=120)
    assert [found.share_ratio, lower.share_ratio] == pytest.approx([0.4, 0.2])
    assert {(each.reserved_share_ratio, each.reserved_power_watts) for each in (found, lower)} == {(0.5, 100.0)}


def test_move_no_longer_wanted_goes_home_to_the_last_per_cent() -> None:
    assert shares(moved(None, shift_control("active", share_ratio=0.02), seconds=60)) == [("returning", 0.02)]
    assert shares(moved(None, shift_control("proposed"), seconds=60)) == [("aborted", 0.2)]


def test_move_that_differs_by_little_is_left() -> None:
    for wanted in (0.18, 0.22):
        assert shares(moved(wanted, shift_control("active"), seconds=60)) == [("active", 0.2)]


def test_move_begins_nothing_at_a_site_that_leaves_and_takes_back_what_it_has() -> None:
    assert moved(0.3, leaving="beta") == []
    assert shares(moved(0.2, shift_control("active"), seconds=60, leaving="alpha")) == [("returning", 0.2)]


def test_pair_rests_for_a_step_after_it_has_moved_back() -> None:
    back = shift_control("done", since=100)
    assert [each.phase for each in moved(0.3, back, seconds=100 + STEP - 1)] == ["done"]
    assert [each.phase for each in moved(0.3, back, seconds=100 + STEP)] == ["done", "proposed"]


def test_move_still_wanted_is_prolonged_before_it_ends() -> None:
    (found,) = moved(0.2, shift_control("active"), seconds=1799)
    assert found.ends_at == at(3600)
    (found,) = moved(0.2, shift_control("active"), seconds=1801)
    assert found.ends_at == at(1801 + 3600)
