"""What the guard makes of the shifts of a plan: their phases, shares, room, and who may take part."""

import pytest

from schemas.fleet import Link
from tests.guarded_plans import a_plan, a_seeing_view, guarded, shift_control, throttle_control
from tests.policy_cases import (
    FLEET,
    FLEET_FILE,
    event,
    load,
)


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
    ("was", "wanted", "kept"),
    [
        (None, "active", "proposed"),
        (None, "reserved", "proposed"),
        ("proposed", "reserved", "reserved"),
        ("proposed", "ramping", "proposed"),
        ("reserved", "ramping", "ramping"),
        ("reserved", "aborted", "returning"),
        ("active", "done", "returning"),
        ("active", None, "returning"),
        ("active", "reserved", "active"),
        ("returning", "active", "returning"),
        ("returning", "done", "returning"),
        ("returning", None, "returning"),
        ("done", "active", "done"),
        ("proposed", "aborted", "aborted"),
        ("proposed", None, None),
    ],
)
def test_guard_lets_a_shift_take_one_step_at_a_time(was: str | None, wanted: str | None, kept: str | None) -> None:
    shifts = () if wanted is None else (shift_control(wanted, ramp_seconds=60.0),)
    before = () if was is None else (shift_control(was, ramp_seconds=60.0),)
    plan = guarded(shifts=shifts, now=30, before=a_plan(shifts=before))
    assert [each.phase for each in plan.shifts] == ([] if kept is None else [kept])


def test_guard_ends_a_returned_shift_when_it_had_the_time_to_come_home() -> None:
    before = a_plan(shifts=(shift_control("returning", ramp_seconds=60.0),))
    assert guarded(shifts=(shift_control("done", ramp_seconds=60.0),), now=60, before=before).shifts[0].phase == "done"
    assert guarded(now=60, before=before).shifts == []


def test_guard_lets_a_share_be_lowered_and_not_raised() -> None:
    before = a_plan(shifts=(shift_control("active"),))
    lower = shift_control("active", share_ratio=0.1, reserved_power_watts=0.0)
    (kept,) = guarded(shifts=(lower,), before=before).shifts
    # The acceptor keeps the whole room until the donor says that it has come down.
    assert (kept.share_ratio, kept.reserved_share_ratio, kept.reserved_power_watts) == (0.1, 0.2, 2000.0)
    higher = shift_control("active", share_ratio=0.9, to_site_id="gamma")
    assert guarded(shifts=(higher,), before=before).shifts == [shift_control("active")]


@pytest.mark.parametrize("watts", [12_001.0, 60_000.0])
def test_guard_proposes_no_shift_to_a_site_without_room(watts: float) -> None:
    assert guarded(shifts=(shift_control(reserved_power_watts=watts),)).shifts == []
    assert guarded(shifts=(shift_control(reserved_power_watts=12_000.0),)).shifts
    held = throttle_control(site="beta", target_power_watts=41_000.0)
    assert guarded(held, shifts=(shift_control(reserved_power_watts=1_001.0),)).shifts == []


@pytest.mark.parametrize(("tokens_per_second", "moves"), [(8_900, True), (9_100, False)])
def test_guard_proposes_no_shift_to_a_site_without_capacity(tokens_per_second: float, moves: bool) -> None:
    view = a_seeing_view()
    view.observe(load("beta", 0, tokens_per_second))
    assert bool(guarded(shifts=(shift_control(),), view=view).shifts) is moves


def test_guard_moves_a_class_only_where_it_is_served_in_time() -> None:
    near = tuple(each.model_copy(update={"sites": ("alpha", "gamma")}) for each in FLEET_FILE.service_classes)
    fleet_file = FLEET_FILE.model_copy(update={"service_classes": near})
    assert guarded(shifts=(shift_control(),), fleet_file=fleet_file).shifts == []
    fleet = FLEET.model_copy(update={"links": (Link(between=("beta", "alpha"), latency_seconds=0.2),)})
    assert guarded(shifts=(shift_control(),), view=a_seeing_view(fleet=fleet)).shifts == []
    assert guarded(shifts=(shift_control(to_site_id="gamma"),), view=a_seeing_view(fleet=fleet)).shifts


def test_guard_moves_flex_0_only_in_an_emergency() -> None:
    rigid = (shift_control(service_class="interactive"),)
    emergency = event(start=0, end=3600, kind="emergency")
    assert len(guarded(shifts=rigid, now=10, before=a_plan(), view=a_seeing_view(10, emergency)).shifts) == 1
    before = a_plan(shifts=(shift_control("active", service_class="interactive"),))
    assert guarded(shifts=tuple(before.shifts), now=10, before=before).shifts[0].phase == "returning"
