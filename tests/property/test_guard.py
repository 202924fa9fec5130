"""Any plan through the guard: it keeps its shape, says what it changed, and changes nothing twice.

What each safety rule asks of it is attacked in test_safety_rules.py.
"""

from datetime import timedelta

from hypothesis import given, settings

from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from tests.guard_cases import Situation, calm, situations

unhurried = settings(deadline=None, max_examples=150)


@unhurried
@given(situations)
def test_guarding_twice_changes_nothing(situation: Situation) -> None:
    once = situation.guarded()
    assert situation.guarded(once) == once


@unhurried
@given(situations)
def test_guarded_plan_can_be_written_and_read(situation: Situation) -> None:
    once = situation.guarded()
    assert FleetPlan.model_validate_json(once.to_json()) == once


@unhurried
@given(situations)
def test_guarded_plan_says_what_was_changed(situation: Situation) -> None:
    plan, after = situation.plan, situation.guarded()
    assert after.rejected[: len(plan.rejected)] == plan.rejected
    said = after.rejected[len(plan.rejected) :]
    assert all(each.why.startswith("guard: ") for each in said)
    kept: list[ThrottleControl | ShiftControl] = [*after.throttles, *after.shifts]
    wanted: list[ThrottleControl | ShiftControl] = [*plan.throttles, *plan.shifts]
    for control in wanted:
        assert control in kept or any(each.alternative.startswith(control.control_id) for each in said)
    for control in kept:  # nor does anything come in unsaid
        assert control in wanted or said
    assert after.mode == plan.mode or any(each.alternative == f"mode {plan.mode}" for each in said)


@unhurried
@given(situations)
def test_guard_does_not_care_for_the_order_of_throttles(situation: Situation) -> None:
    names = [each.control_id for each in situation.plan.throttles]
    if len(names) == len(set(names)):
        backwards = situation.plan.model_copy(update={"throttles": situation.plan.throttles[::-1]})
        assert situation.guarded(backwards).throttles == situation.guarded().throttles


@unhurried
@given(calm)
def test_guard_leaves_the_strongest_its_time(situation: Situation) -> None:
    """Whatever else changes: an emergency starts when it was to start, and no sooner ends."""
    plan = situation.plan
    alone = [each for each in plan.throttles if each.reason == "emergency"]
    after = {each.control_id: each for each in situation.guarded().throttles}
    names = {each.control_id for each in plan.throttles}
    if len(alone) == 1 and alone[0].control_id in after and len(plan.throttles) == len(names):
        assert after[alone[0].control_id].starts_at == alone[0].starts_at
        far = situation.now + timedelta(hours=1)
        assert after[alone[0].control_id].ends_at >= min(alone[0].ends_at, far)
