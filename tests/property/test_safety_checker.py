"""A log that keeps the rules has no violation, whatever the bus does; any that is tampered with has."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.command import CommandAck, Shift, Throttle
from schemas.envelope import Record
from schemas.plan import FleetPlan
from schemas.signals import PriceSignal
from schemas.site import ControllerHeartbeat, LoadState, PowerState
from streams.simulate.safety import violations
from tests.policy_cases import FLEET_FILE, at, release
from tests.safety_cases import Log, a_dear_hour, a_lost_planner, a_shift, an_event

Pick = Callable[[list[int]], int]


def broken(log: Log) -> set[int]:
    return {each.rule for each in violations(log, FLEET_FILE)}


@pytest.mark.parametrize("story", [an_event, a_dear_hour, a_shift])
@pytest.mark.parametrize(("loss", "seed"), [(0.0, 1), (0.05, 2), (0.05, 3)])
def test_log_of_a_fleet_that_keeps_the_rules_has_no_violation(
    story: Callable[..., Any], loss: float, seed: int
) -> None:
    assert violations(story(loss, seed), FLEET_FILE) == []


def test_log_of_a_fleet_that_lost_its_planner_has_no_violation() -> None:
    assert violations(a_lost_planner(), FLEET_FILE) == []


def changed(log: Log, place: int, **changes: Any) -> Log:
    seconds, topic, record = log[place]
    return [*log[:place], (seconds, topic, record.model_copy(update=changes)), *log[place + 1 :]]


def places(log: Log, kind: type[Record], where: Callable[[Any], bool] = lambda _: True) -> list[int]:
    return [place for place, (_, _, record) in enumerate(log) if isinstance(record, kind) and where(record)]


def without(log: Log, kind: type[Record], where: Callable[[Any], bool]) -> Log:
    gone = set(places(log, kind, where))
    return [entry for place, entry in enumerate(log) if place not in gone]


def too_long_a_lease(log: Log, pick: Pick) -> Log:
    place = pick(places(log, Throttle))
    return changed(log, place, lease_expires_at=log[place][2].issued_at + timedelta(hours=1))  # type: ignore[attr-defined]


def an_early_release(_: Log, pick: Pick) -> Log:
    log = list(a_lost_planner())
    seconds = pick(list(range(4000, 7000, 10)))
    site = pick([0, 1, 2])
    last = log[places(log, Throttle)[site - 3]][2]
    assert isinstance(last, Throttle)
    names: dict[str, Any] = {"control_id": last.control_id, "releases_control_id": last.control_id}
    names |= {"site_id": last.site_id, "caused_by": last.caused_by, "explanation": "tampered"}
    early = release((1, 10_000), issued=seconds, **names)
    place = next(place for place, entry in enumerate(log) if entry[0] >= at(seconds))
    return [*log[:place], (at(seconds), "", early), *log[place:]]


def a_lower_pair(log: Log, pick: Pick) -> Log:
    place = pick([each for each in places(log, Throttle) if log[each][2].sequence > 10])  # type: ignore[attr-defined]
    return changed(log, place, sequence=1)


def a_pair_taken_late(log: Log, pick: Pick) -> Log:
    first = pick(places(log, CommandAck, lambda each: each.status == "accepted" and each.sequence < 20))
    said = log[first][2]
    assert isinstance(said, CommandAck)
    late = said.model_copy(update={"observed_at": log[-1][0]})
    return [*without(log, CommandAck, lambda each: each == said), (log[-1][0], "", late)]


def an_answer_to_nothing(log: Log, pick: Pick) -> Log:
    place = pick(places(log, CommandAck, lambda each: each.status == "accepted"))
    return changed(log, place, epoch=3, highest_epoch=3)


def another_target(log: Log, pick: Pick) -> Log:
    held = places(log, ControllerHeartbeat, lambda each: each.target_power_watts is not None)
    # One that is far from any change: at a change nothing is said.
    steady = [
        each
        for each in held
        if all(not isinstance(record, CommandAck | Throttle) for _, _, record in log[each - 60 : each + 60])
    ]
    place = pick(steady)
    return changed(log, place, target_power_watts=log[place][2].target_power_watts + 500.0)  # type: ignore[attr-defined]


def below_the_cliff(log: Log, pick: Pick) -> Log:
    return changed(log, pick(places(log, Throttle)), target_power_watts=20_000.0, fallback_power_watts=20_000.0)


def too_fast_a_ramp(log: Log, pick: Pick) -> Log:
    return changed(log, pick(places(log, Throttle)), ramp_up_watts_per_second=500.0)


def a_jump_at_release(log: Log, pick: Pick) -> Log:
    site = ("alpha", "beta", "gamma")[pick([0, 1, 2])]
    after = places(log, PowerState, lambda each: each.site_id == site and at(7230) < each.window_end < at(7400))
    for place in after:
        log = changed(log, place, meter_power_watts=50_000.0)
    return log


def half_of_it(log: Log, pick: Pick) -> Log:
    return changed(log, pick(places(log, CommandAck, lambda each: each.status == "accepted")), status="partial")


def blind_in_normal_mode(log: Log, pick: Pick) -> Log:
    seconds = pick(list(range(900, 5000, 10)))
    return without(log, PriceSignal, lambda each: each.ends_at > at(seconds))


def dark_in_normal_mode(log: Log, pick: Pick) -> Log:
    seconds = pick(list(range(900, 5000, 10)))
    return without(log, PowerState, lambda each: each.window_end > at(seconds))


def an_event_unanswered(log: Log, pick: Pick) -> Log:
    site = ("alpha", "beta", "gamma")[pick([0, 1, 2])]
    return without(log, Throttle, lambda each: each.site_id == site)


def no_explanation(log: Log, pick: Pick) -> Log:
    return changed(log, pick(places(log, Throttle)), explanation="")


def a_plan_after_its_commands(log: Log, pick: Pick) -> Log:
    first = places(log, Throttle)[0]
    plan = max(each for each in places(log, FleetPlan) if each < first)
    return [*log[:plan], *log[plan + 1 : first + 1], log[plan], *log[first + 1 :]]


def a_drain_without_a_place(log: Log, pick: Pick) -> Log:
    return without(log, CommandAck, lambda each: each.site_id != "alpha")


def a_place_too_brief(log: Log, pick: Pick) -> Log:
    for place in places(log, Shift, lambda each: each.role == "reserve"):
        log = changed(log, place, lease_expires_at=log[place][2].issued_at + timedelta(seconds=60))  # type: ignore[attr-defined]
    return log


def a_class_that_must_not_move(log: Log, pick: Pick) -> Log:
    return changed(log, pick(places(log, Shift, lambda each: each.role == "drain")), service_class="interactive")


TAMPERED: list[tuple[int, Callable[[], Any], Callable[[Log, Pick], Log]]] = [
    (1, an_event, too_long_a_lease),
    (1, an_event, an_early_release),
    (2, an_event, a_lower_pair),
    (2, an_event, a_pair_taken_late),
    (3, an_event, an_answer_to_nothing),
    (4, an_event, another_target),
    (5, an_event, below_the_cliff),
    (5, a_shift, a_class_that_must_not_move),
    (6, an_event, too_fast_a_ramp),
    (6, an_event, a_jump_at_release),
    (7, an_event, half_of_it),
    (8, a_shift, a_drain_without_a_place),
    (8, a_shift, a_place_too_brief),
    (9, an_event, blind_in_normal_mode),
    (9, an_event, dark_in_normal_mode),
    (11, an_event, an_event_unanswered),
    (12, a_dear_hour, no_explanation),
    (12, an_event, a_plan_after_its_commands),
]


@pytest.mark.parametrize(("rule", "story", "tamper"), TAMPERED, ids=[each[2].__name__ for each in TAMPERED])
@settings(deadline=None, max_examples=4)
@given(data=st.data())
def test_tampered_log_has_the_violation(
    data: st.DataObject, rule: int, story: Callable[[], Any], tamper: Callable[[Log, Pick], Log]
) -> None:
    log = without(list(story()), LoadState, lambda _: True)
    assert rule in broken(tamper(log, lambda choices: data.draw(st.sampled_from(choices))))
