"""The desk: what calls for a plan at once, what an answer changes, what a plan remembers."""

import pytest

from schemas.envelope import Record
from schemas.plan import FleetPlan
from streams.policy.desk import Desk
from streams.policy.orders import AnyCommand
from tests.policy_cases import (
    FLEET,
    FLEET_FILE,
    a_desk,
    ack,
    at,
    empty_plan,
    event,
    load,
    power,
    price,
    shift_control,
    throttle,
)


def a_desk_with_an_event() -> Desk:
    desk = a_desk(alpha=40_000.0, beta=40_000.0, gamma=40_000.0)
    desk.take(event(start=0), at(0))
    return desk


@pytest.mark.parametrize(
    ("record", "urgent"),
    [
        (event(), True),
        (event(cancelled=True), True),
        (price("alpha", 50.0), True),
        (price("alpha", 50.0, 300, 600), False),
        (price("alpha", 50.0, market="day-ahead"), False),
        (power("alpha", 0, 1.0), False),
        (load("alpha", 0, 1.0), False),
    ],
    ids=["event", "withdrawn event", "price now", "price to come", "day-ahead price", "power", "load"],
)
def test_record_calls_for_a_plan_at_once_if_it_changes_what_holds(record: Record, urgent: bool) -> None:
    desk = a_desk()
    assert desk.take(record, at(0)) is urgent
    assert desk.take(record, at(0)) is False  # the same again


def test_older_event_changes_nothing() -> None:
    desk = a_desk()
    assert desk.take(event(published_at=at(10)), at(10))
    assert not desk.take(event(published_at=at(5), reduction_ratio=0.5), at(11))


def test_plan_counts_revisions_and_sequence() -> None:
    desk = a_desk_with_an_event()
    first, commands = desk.decide(at(0))
    assert (first.kind, first.revision, first.sequence) == ("plan", 1, 3)
    assert [command.order for command in commands] == [(1, 1), (1, 2), (1, 3)]
    second, commands = desk.decide(at(1))
    assert (second.revision, second.sequence, commands) == (2, 3, [])


def test_unchanged_steps_send_nothing_once_all_is_answered() -> None:
    desk = a_desk_with_an_event()
    for command in desk.decide(at(0))[1]:
        desk.take(ack(command), at(1))
    for seconds in range(10, 300, 10):
        desk.take(power("alpha", seconds, 30_000.0 + seconds), at(seconds))
        assert desk.decide(at(seconds))[1] == []


def test_revised_event_is_told_to_every_site() -> None:
    desk = a_desk_with_an_event()
    desk.decide(at(0))
    assert desk.take(event(start=0, reduction_ratio=0.3, published_at=at(60)), at(60))
    _, commands = desk.decide(at(60))
    assert {command.kind for command in commands} == {"throttle"}
    assert [command.target_power_watts for command in commands if command.kind == "throttle"] == [28_000.0] * 3


def test_event_revised_to_end_sooner_or_later_is_told() -> None:
    desk = a_desk_with_an_event()
    desk.decide(at(0))
    desk.take(event(start=0, end=1800, published_at=at(60)), at(60))
    assert [command.ends_at for command in desk.decide(at(60))[1]] == [at(1800), at(1820), at(1840)]
    desk.take(event(start=0, end=7200, published_at=at(90)), at(90))
    later = [command for seconds in range(90, 500, 10) for command in desk.decide(at(seconds))[1]]
    assert {command.ends_at for command in later} >= {at(7200), at(7220), at(7240)}


def test_cancelled_event_is_released_site_by_site() -> None:
    desk = a_desk_with_an_event()
    desk.decide(at(0))
    desk.take(event(start=0, cancelled=True, published_at=at(60)), at(60))
    plan, commands = desk.decide(at(60))
    assert plan.throttles == []
    assert [(command.kind, command.starts_at) for command in commands] == [
        ("release", at(60)),
        ("release", at(80)),
        ("release", at(100)),
    ]


def test_silent_site_is_named_in_the_plan() -> None:
    desk = a_desk_with_an_event()
    for seconds in (0, 60, 120):
        for command in desk.decide(at(seconds))[1]:
            if command.site_id != "beta":
                desk.take(ack(command), at(seconds))
    plan, _ = desk.decide(at(130))
    assert [each.alternative for each in plan.rejected if "unanswered" in each.why] == ["rely on beta"]


def test_higher_epoch_in_an_answer_outnumbers_the_planner() -> None:
    desk = a_desk()
    desk.take(ack(throttle(), "rejected", highest_epoch=1), at(0))
    assert not desk.is_outnumbered()
    desk.take(ack(throttle(), "rejected", highest_epoch=7), at(0))
    assert desk.is_outnumbered()
    assert desk.highest_epoch_seen == 7


def successor(desk: Desk, epoch: int = 2) -> Desk:
    claim: FleetPlan = desk.plan.model_copy(update={"kind": "claim", "epoch": epoch, "sequence": 0, "revision": 0})
    heir = Desk(FLEET, FLEET_FILE, claim)
    heir.view.events = dict(desk.view.events)
    return heir


def test_successor_issues_the_same_again_under_its_epoch() -> None:
    desk = a_desk_with_an_event()
    _, before = desk.decide(at(0))
    plan, again = successor(desk).decide(at(30))
    assert [(each.control_id, each.site_id) for each in again] == [(each.control_id, each.site_id) for each in before]
    assert [each.order for each in again] == [(2, 1), (2, 2), (2, 3)]
    assert [each.target_power_watts for each in plan.throttles] == [
        each.target_power_watts for each in desk.plan.throttles
    ]


def told(commands: list[AnyCommand]) -> list[tuple[str, str, int]]:
    return [(each.site_id, getattr(each, "role", each.kind), each.epoch) for each in commands]


def test_successor_lets_a_shift_go_on_until_its_sites_would_have_been_heard() -> None:
    desk = a_desk()
    desk.plan = desk.plan.model_copy(update={"shifts": [shift_control("active", explanation="cheaper")]})
    heir = successor(desk)
    plan, commands = heir.decide(at(30))
    assert [each.phase for each in plan.shifts] == ["active"]
    assert told(commands) == [("alpha", "drain", 2), ("beta", "reserve", 2)]
    plan, _ = heir.decide(at(FLEET.limits.stale_seconds + 1))
    assert [each.phase for each in plan.shifts] == ["returning"], "nobody knows what they do"


def test_successor_leaves_the_optimisers_plan_as_it_is_until_the_optimiser_has_answered() -> None:
    desk = a_desk_with_an_event()
    desk.decide(at(0))
    uneven = {"alpha": 26_000.0, "beta": 34_000.0, "gamma": 30_000.0}
    throttles = [each.model_copy(update={"target_power_watts": uneven[each.site_id]}) for each in desk.plan.throttles]
    shifts = [shift_control("active", explanation="the cheapest way")]
    desk.plan = desk.plan.model_copy(update={"planner": "optimiser", "throttles": throttles, "shifts": shifts})
    heir = successor(desk)
    plan, commands = heir.decide(at(30))
    assert plan.planner == "optimiser"
    assert {each.site_id: each.target_power_watts for each in plan.throttles} == pytest.approx(uneven)
    assert [each.phase for each in plan.shifts] == ["active"]
    assert {each.kind for each in commands} == {"throttle", "shift"}
    assert heir.problem(at(40)) is None, "it has heard nothing yet"
    heir.adopt(None)
    assert heir.decide(at(40))[1] == []
    heir.take(power("alpha", 40, 26_000.0), at(45))
    assert heir.problem(at(50)) is not None
    heir.adopt(None)
    plan, _ = heir.decide(at(50))
    assert (plan.planner, plan.shifts[0].phase) == ("rules", "returning"), "it failed: the rules stand"


def test_successor_releases_what_was_cancelled_while_nobody_planned() -> None:
    desk = a_desk_with_an_event()
    desk.decide(at(0))
    heir = successor(desk)
    heir.take(event(start=0, cancelled=True, published_at=at(60)), at(90))
    plan, commands = heir.decide(at(90))
    assert plan.throttles == []
    assert [command.kind for command in commands] == ["release"] * 3


def test_same_inputs_give_the_same_bytes() -> None:
    def bytes_of() -> list[bytes]:
        desk = a_desk_with_an_event()
        desk.take(price("alpha", 150.0), at(0))
        plan, commands = desk.decide(at(0))
        return [plan.to_json(), *(command.to_json() for command in commands)]

    assert bytes_of() == bytes_of()
    assert FleetPlan.model_validate_json(bytes_of()[0]).fleet_id == empty_plan().fleet_id
