"""The checker of safety: the shortest log that breaks each rule, and the same told properly."""

from typing import Any

import pytest

from schemas.command import Command
from schemas.envelope import Record
from schemas.fleet import FleetFile, Link
from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from schemas.site import ControllerHeartbeat
from streams.simulate.safety import Violation, violations
from tests.policy_cases import (
    FLEET,
    FLEET_FILE,
    LIMITS,
    ack,
    at,
    empty_plan,
    event,
    power,
    price,
    release,
    shift,
    shift_control,
    throttle,
    throttle_control,
)

Entry = tuple[float, Record]


def found(*entries: Entry, fleet_file: FleetFile = FLEET_FILE) -> list[Violation]:
    """What the checker finds; a last reading of another site lets time pass after the entries."""
    said = [*entries, (entries[-1][0] + 60, power("gamma", entries[-1][0] + 60, 1.0))]
    return violations([(at(seconds), "any", record) for seconds, record in said], fleet_file)


def rules(*entries: Entry, fleet_file: FleetFile = FLEET_FILE) -> set[int]:
    return {each.rule for each in found(*entries, fleet_file=fleet_file)}


def planned(*controls: ThrottleControl | ShiftControl, epoch: int = 1, **more: Any) -> FleetPlan:
    throttles = [each for each in controls if isinstance(each, ThrottleControl)]
    shifts = [each for each in controls if isinstance(each, ShiftControl)]
    fields = {"kind": "plan", "sequence": 99, "throttles": throttles, "shifts": shifts, "issued_at": at(0)}
    return empty_plan(epoch).model_copy(update=fields | more)


PLAN = planned(throttle_control(), shift_control())
WHY: dict[str, Any] = {"explanation": "a case", "caused_by": ["e1"]}


def told(seconds: float, command: Command, **answer: Any) -> list[Entry]:
    """A command and the site's answer to it."""
    return [(seconds, command), (seconds, ack(command, **({"observed_at": at(seconds)} | answer)))]


def beat(seconds: float, order: tuple[int, int], target: float | None, **more: Any) -> Entry:
    fields = {"meter_power_watts": None, "locked_out": False, "epoch": order[0], "sequence": order[1]} | more
    return seconds, ControllerHeartbeat(
        fleet_id="trio", site_id="alpha", observed_at=at(seconds), target_power_watts=target, **fields
    )


HELD: list[Entry] = [(0, PLAN), *told(0, throttle(**WHY))]
AN_EVENT = event(start=0, end=3600, site_ids=["alpha"])
EVENT: list[Entry] = [(0, AN_EVENT), *HELD]


def test_proper_log_has_no_violation() -> None:
    assert found(*EVENT, beat(60, (1, 1), 30_000.0), *told(300, throttle((1, 2), issued=300, **WHY))) == []


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        (1, {"lease": LIMITS.lease_seconds + 60}),
        (1, {"fallback_power_watts": 31_000.0}),
        (5, {"target_power_watts": 24_000.0, "fallback_power_watts": 24_000.0}),
        (5, {"target_power_watts": 53_000.0}),
        (6, {"ramp_up_watts_per_second": 200.0}),
        (6, {"ramp_down_watts_per_second": 1_000.0}),
        (12, {"explanation": " "}),
        (12, {"caused_by": []}),
        (12, {"control_id": "in no plan"}),
        (12, {"order": (2, 1)}),
        (12, {"order": (1, 100)}),
    ],
)
def test_throttle_must_be_within_its_limits_and_explained(rule: int, changes: dict[str, Any]) -> None:
    assert rules((0, PLAN), (0, throttle(**(WHY | changes)))) == {rule}


def test_event_must_be_held_to_its_end() -> None:
    let_go = told(600, release((1, 2), issued=600, **WHY))
    assert rules(*EVENT, *let_go) == {1}
    withdrawn = AN_EVENT.model_copy(update={"cancelled": True, "published_at": at(500)})
    assert rules(*EVENT, (500, withdrawn), *let_go) == set()
    assert rules(*EVENT, *told(60, throttle((1, 2), issued=60, end=900, **WHY)), (1000, PLAN)) == {1}
    deeper = planned(throttle_control(), throttle_control("deeper", target_power_watts=28_000.0))
    other = throttle((1, 2), control_id="deeper", target_power_watts=28_000.0, **WHY)
    after = told(600, release((1, 3), issued=600, **WHY))
    assert rules(*EVENT, (500, deeper), *told(500, other), *after) == set()


@pytest.mark.parametrize(("target", "broken"), [(28_000.0, set()), (30_000.0, {1}), (None, {1}), (27_000.0, {4})])
def test_target_must_not_rise_when_a_lease_lapses(target: float | None, broken: set[int]) -> None:
    assert rules(*EVENT, beat(960, (1, 1), target)) == broken


def test_power_must_not_rise_when_a_lease_lapses_in_an_event() -> None:
    before = [(seconds, power("alpha", seconds, 30_000.0)) for seconds in range(800, 910, 10)]
    quiet = [(seconds, power("alpha", seconds, 30_900.0)) for seconds in range(920, 1100, 10)]
    risen = [(seconds, power("alpha", seconds, 34_000.0)) for seconds in range(920, 1100, 10)]
    assert rules(*EVENT, *before, *quiet) == set()
    assert rules(*EVENT, *before, *risen) == {1}


def test_numbers_must_rise_and_are_given_once() -> None:
    again = throttle(**WHY)
    assert rules(*HELD, (10, again)) == set()  # the same twice is the same
    assert rules(*HELD, (10, throttle(issued=10, **WHY))) == {2}
    assert rules((0, PLAN), (0, throttle((1, 5), **WHY)), (10, throttle((1, 4), issued=10, **WHY))) == {2}
    takeover = [(5.0, planned(throttle_control(), epoch=2)), *told(5, throttle((2, 1), issued=5, **WHY))]
    assert rules(*HELD, *takeover, (10, throttle((1, 2), issued=10, **WHY))) == set()  # nobody need obey it


def test_site_must_act_on_no_lower_pair() -> None:
    takeover = [(5.0, planned(throttle_control(), epoch=2)), *told(5, throttle((2, 1), issued=5, **WHY))]
    stale = throttle((1, 2), issued=10, **WHY)
    assert rules(*HELD, *takeover, *told(10, stale)) == {2}
    owned: dict[str, Any] = {"highest_epoch": 2, "highest_sequence": 1}
    assert rules(*HELD, *takeover, *told(10, stale, status="rejected", **owned)) == set()
    assert rules(*HELD, *takeover, *told(10, stale, **owned)) == {2}
    copy = ack(throttle(**WHY), observed_at=at(20), **owned)
    assert rules(*HELD, *takeover, (20, copy)) == set()  # another copy of one that it had taken


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 7, "highest_sequence": 7},
        {"control_id": "another"},
        {"site_id": "beta"},
        {"observed_at": at(1000)},
        {"observed_at": at(-60)},
    ],
    ids=["never given", "another control", "for another site", "expired", "from the future"],
)
def test_site_must_act_only_on_what_it_was_told_in_time(changes: dict[str, Any]) -> None:
    answer = ack(throttle(**WHY)).model_copy(update=changes)
    assert rules((0, PLAN), (0, throttle(**WHY)), (0, answer)) == {3}


@pytest.mark.parametrize(("target", "broken"), [(30_000.0, set()), (None, {4}), (31_000.0, {4}), (29_000.0, {4})])
def test_site_must_hold_the_one_target_that_it_has_taken_on(target: float | None, broken: set[int]) -> None:
    assert rules(*HELD, beat(60, (1, 1), target)) == broken
    # Where it can't be known, nothing is said: an answer is missing, the site is locked out.
    assert rules(*HELD, (50, throttle((1, 2), issued=50, **WHY)), beat(60, (1, 2), target)) == set()
    assert rules(*HELD, beat(60, (1, 1), target, locked_out=True)) == set()


def test_strongest_of_two_targets_must_be_in_force() -> None:
    plan = planned(throttle_control(), throttle_control("u"))
    emergency = throttle((1, 2), control_id="u", reason="emergency", target_power_watts=40_000.0, **WHY)
    both = [(0.0, plan), *told(0, throttle(**WHY)), *told(0, emergency)]
    assert rules(*both, beat(60, (1, 2), 40_000.0)) == set()
    assert rules(*both, beat(60, (1, 2), 30_000.0)) == {4}


def freed(power_watts: float, seconds: int = 3700) -> list[Entry]:
    """An event over at 3600, and what alpha draws then and a while later."""
    before = [(at, power("alpha", at, 30_000.0)) for at in range(3500, 3610, 10)]
    after = [(at, power("alpha", at, power_watts)) for at in range(3610, seconds, 10)]
    renewed = told(3000, throttle((1, 2), issued=3000, **WHY))
    return [*HELD, *renewed, *before, *after]


def test_site_must_rise_no_faster_than_its_ramp() -> None:
    assert rules(*freed(31_000.0)) == set()
    assert {each.rule for each in found(*freed(50_000.0))} == {6}
    assert len(found(*freed(50_000.0))) == 1  # one jump is one violation


def test_sites_must_not_be_let_go_together() -> None:
    def ends(apart: float) -> list[Entry]:
        both = planned(throttle_control(), throttle_control("b", "beta"))
        other = throttle((1, 2), site_id="beta", control_id="b", end=3600 + apart, **WHY)
        return [(0, both), *told(0, throttle(**WHY)), *told(0, other), (3700, both)]

    assert rules(*ends(20)) == set()
    assert rules(*ends(5)) == {6}


def test_fleet_must_not_rise_faster_than_its_ramp() -> None:
    limits = LIMITS.model_copy(update={"ramp_up_watts_per_second": 200.0})
    slow = FLEET_FILE.model_copy(update={"fleets": (FLEET.model_copy(update={"limits": limits}),)})
    both = planned(throttle_control(), throttle_control("b", "beta"))
    other = throttle((1, 2), site_id="beta", control_id="b", end=3620, **WHY)
    log: list[Entry] = [(0, both), *told(0, throttle(**WHY)), *told(0, other), (3700, both)]
    assert rules(*log, fleet_file=slow) == {6}


def test_site_must_give_the_grid_all_that_it_can() -> None:
    told_less = told(0, throttle(**WHY), status="partial")
    assert rules((0, PLAN), *told_less) == {7}
    for_a_price = told(0, throttle(reason="economics", **WHY), status="partial")
    assert rules((0, PLAN), *for_a_price) == set()


RESERVE = shift((1, 1), "reserve", site_id="beta", from_site_id="alpha", to_site_id="beta", lease=1800, **WHY)
DRAIN = shift((1, 2), "drain", **WHY)
MOVED: list[Entry] = [(0, PLAN), *told(0, RESERVE), *told(10, DRAIN)]
HOME = release((1, 3), issued=100, control_id="s", releases_control_id="s", reason="economics", **WHY)
GIVEN_UP = release((1, 4), issued=200, control_id="s", releases_control_id="s", site_id="beta", **WHY)


def test_traffic_must_have_a_place_before_it_moves() -> None:
    assert rules(*MOVED, *told(100, HOME), *told(200, GIVEN_UP)) == set()
    assert rules((0, PLAN), *told(10, DRAIN)) == {8}
    assert rules((0, PLAN), *told(0, RESERVE, status="rejected"), *told(10, DRAIN)) == {8}
    brief = RESERVE.model_copy(update={"lease_expires_at": at(600)})
    assert rules((0, PLAN), *told(0, brief), *told(10, DRAIN)) == {8}


def test_place_must_be_kept_until_traffic_is_home() -> None:
    assert rules(*MOVED, *told(200, GIVEN_UP)) == {8}
    slow = DRAIN.model_copy(update={"ramp_seconds": 300.0})
    moved = [(0.0, PLAN), *told(0, RESERVE), *told(10, slow)]
    assert rules(*moved, *told(100, HOME), *told(200, GIVEN_UP)) == {8}
    assert rules(*MOVED, (20, planned(shift_control("done")))) == {8}
    silent = GIVEN_UP.model_copy(update={"issued_at": at(950), "starts_at": at(950), "lease_expires_at": at(1850)})
    assert rules(*MOVED, *told(950, silent)) == set()  # the donor's lease is over


def test_shares_must_not_exceed_all() -> None:
    first = [(0.0, PLAN), *told(0, RESERVE), *told(10, DRAIN.model_copy(update={"share_ratio": 0.7}))]
    names = {"control_id": "u", "site_id": "gamma", "from_site_id": "alpha", "to_site_id": "gamma"}
    place = shift((1, 5), "reserve", lease=1800, **(WHY | names))
    more = shift((1, 6), "drain", share_ratio=0.7, **(WHY | names | {"site_id": "alpha"}))
    plan = planned(shift_control(), shift_control(control_id="u", to_site_id="gamma"))
    assert rules(*first, (20, plan), *told(20, place), *told(20, more)) == {8}
    greedy = planned(shift_control(share_ratio=0.6), shift_control(control_id="u", share_ratio=0.6))
    assert rules((0, greedy)) == {8}


def test_classes_must_move_only_where_they_may() -> None:
    rigid = {"service_class": "interactive"}
    log = [(0.0, PLAN), *told(0, RESERVE.model_copy(update=rigid)), *told(10, DRAIN.model_copy(update=rigid))]
    assert rules(*log) == {5}
    emergency = event("x", 0, 3600, kind="emergency", site_ids=["alpha"])
    assert 5 not in rules((0, emergency), *log)
    far = FLEET.model_copy(update={"links": (Link(between=("alpha", "beta"), latency_seconds=1.0),)})
    assert rules(*MOVED, fleet_file=FLEET_FILE.model_copy(update={"fleets": (far,)})) == {8}
    near = tuple(each.model_copy(update={"sites": ("alpha",)}) for each in FLEET_FILE.service_classes)
    assert rules(*MOVED, fleet_file=FLEET_FILE.model_copy(update={"service_classes": near})) == {8}


@pytest.mark.parametrize(
    ("mode", "known", "broken"),
    [
        ("normal", "both", set()),
        ("normal", "power", {9}),
        ("price-blind", "power", set()),
        ("price-blind", "nothing", {9}),
        ("hold", "nothing", set()),
    ],
)
def test_mode_must_be_what_is_known(mode: str, known: str, broken: set[int]) -> None:
    seen: list[Entry] = []
    for site in ("alpha", "beta", "gamma"):
        seen += [(0, power(site, 0, 1.0))] if known != "nothing" else []
        seen += [(0, price(site, 50.0))] if known == "both" else []
    assert rules(*seen, (100, planned(mode=mode, issued_at=at(100)))) == broken


def for_a_price(first_ends: float, next_begins: float) -> list[Entry]:
    """Two price throttles one after the other; the first is released."""
    plan = planned(throttle_control(), throttle_control("u"))
    price_known = price("alpha", 150.0, 0, 7200)
    second = throttle((1, 3), next_begins, next_begins, next_begins + 1200, control_id="u", reason="economics", **WHY)
    return [
        (0, price_known),
        (0, plan),
        *told(0, throttle(reason="economics", **WHY)),
        *told(first_ends, release((1, 2), issued=first_ends, reason="economics", **WHY)),
        *told(next_begins, second),
        (next_begins + 60, plan),
    ]


@pytest.mark.parametrize(
    ("first_ends", "next_begins", "broken"), [(600, 1200, set()), (300, 1000, {10}), (600, 900, {10})]
)
def test_price_throttles_must_not_chatter(first_ends: float, next_begins: float, broken: set[int]) -> None:
    assert rules(*for_a_price(first_ends, next_begins)) == broken


def test_event_must_be_answered_at_once() -> None:
    heard: Entry = (30, event(start=600, site_ids=["alpha"]))
    answer = throttle((1, 2), issued=34, start=600, end=4200, **WHY)
    assert rules((0, PLAN), heard, *told(34, answer)) == set()
    assert rules((0, PLAN), heard, *told(50, answer)) == {11}
    assert rules((0, PLAN), (30, event(start=600)), *told(34, answer)) == {11}  # the other sites
    # Where no planner is there, by the first plan of the next one.
    late = [(1000.0, PLAN), *told(1004, throttle((1, 2), issued=1004, start=700, end=4200, **WHY))]
    assert rules((0, PLAN), (600, event(start=700, site_ids=["alpha"])), *late) == set()
    assert rules((600, event(start=700, site_ids=["alpha"])), (1000, PLAN)) == {11}


def test_violation_says_where_and_when() -> None:
    unheard_of = ack(throttle((1, 7), **WHY), observed_at=at(5))
    (violation,) = found((0, PLAN), (6, unheard_of))
    assert violation == Violation(3, at(6), "alpha", "t (1, 7) accepted: no such command was given to the site")
