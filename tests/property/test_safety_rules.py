"""The safety rules (design, section 6), each attacked with any plan after any other, whatever is known.

The judges are small and know nothing of the guard: each asks of a guarded plan what its rule says.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings

from schemas.command import PRECEDENCE
from schemas.fleet import Site
from schemas.plan import ShiftControl, ThrottleControl
from schemas.signals import EventSignal
from streams.capacity import bearable_depth_ratio, full_power_watts, least_power_watts
from tests.guard_cases import LIVING, Situation, situations

unhurried = settings(deadline=None, max_examples=60)
GRID = ("emergency", "ramp", "event")
FAR = timedelta(days=400)


def sites_of(situation: Situation) -> dict[str, Site]:
    return {site.id: site for site in situation.view.fleet.sites}


def standing(situation: Situation, site_id: str) -> list[EventSignal]:
    events = [each for each in situation.view.events.values() if not each.cancelled and each.ends_at > situation.now]
    return [each for each in events if not each.site_ids or site_id in each.site_ids]


def in_force(throttles: Iterable[ThrottleControl], site_id: str, moment: datetime) -> list[ThrottleControl]:
    return [each for each in throttles if each.site_id == site_id and each.starts_at <= moment < each.ends_at]


def edges(throttles: Iterable[ThrottleControl], start: datetime, end: datetime) -> list[datetime]:
    """The moments in [start, end) at which what is in force may change."""
    inside = {moment for each in throttles for moment in (each.starts_at, each.ends_at) if start < moment < end}
    return [start, *inside] if start < end else []


def known_before(situation: Situation, control: ThrottleControl) -> ThrottleControl | None:
    return next((each for each in situation.before.throttles if each.control_id == control.control_id), None)


# --- 1: every command has an end, the end of the event it serves -----------------------------------------------------


@unhurried
@given(situations)
def test_rule_1_what_serves_an_event_holds_to_its_end(situation: Situation) -> None:
    after = situation.guarded().throttles
    for control in after:
        assert control.starts_at < control.ends_at < situation.now + FAR
        assert control.fallback_power_watts <= control.target_power_watts
        if control.reason not in GRID:
            continue
        for event in standing(situation, control.site_id):
            if event.signal_id in control.caused_by:
                for moment in edges(after, control.ends_at, event.ends_at):
                    (holding,) = in_force(after, control.site_id, moment)
                    assert holding.reason in GRID
                    stronger = PRECEDENCE.index(holding.reason) < PRECEDENCE.index(control.reason) or (
                        (holding.reason, holding.priority) < (control.reason, control.priority)
                    )
                    assert stronger or holding.target_power_watts <= control.target_power_watts


@unhurried
@given(situations)
def test_rule_1_a_site_held_for_an_event_is_held_until_it_is_over(situation: Situation) -> None:
    after = situation.guarded().throttles
    for control in situation.before.throttles:
        if control.reason in GRID and control.starts_at <= situation.now < control.ends_at:
            for event in standing(situation, control.site_id):
                if event.signal_id in control.caused_by and event.starts_at <= situation.now:
                    for moment in edges(after, situation.now, event.ends_at):
                        assert any(each.reason in GRID for each in in_force(after, control.site_id, moment))


# --- 2: numbers never fall -------------------------------------------------------------------------------------------


@unhurried
@given(situations)
def test_rule_2_a_plan_does_not_number_itself(situation: Situation) -> None:
    before = situation.before
    wild = situation.plan.model_copy(update={"epoch": 0, "sequence": 2**62, "revision": 7, "fleet_id": "other"})
    after = situation.guarded(wild)
    assert (after.fleet_id, after.owner, after.run_id) == (before.fleet_id, before.owner, before.run_id)
    assert (after.epoch, after.sequence, after.revision) == (before.epoch, before.sequence, before.revision)


# --- 4: one target at a time -----------------------------------------------------------------------------------------


@unhurried
@given(situations)
def test_rule_4_a_site_has_one_target_at_a_time(situation: Situation) -> None:
    after = situation.guarded()
    assert len({each.control_id for each in after.throttles}) == len(after.throttles)
    for site_id in sites_of(situation):
        spans = sorted((each.starts_at, each.ends_at) for each in after.throttles if each.site_id == site_id)
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
    names = {each.control_id for each in after.throttles}
    assert not names & {each.control_id for each in after.shifts}


# --- 5: within the limits, and as deep as the classes bear -----------------------------------------------------------


@unhurried
@given(situations)
def test_rule_5_targets_keep_to_their_sites_limits(situation: Situation) -> None:
    for control in situation.guarded().throttles:
        site, fleet_file = sites_of(situation)[control.site_id], situation.fleet_file
        least = least_power_watts(site, fleet_file)
        assert least <= control.fallback_power_watts <= control.target_power_watts <= site.import_limit_watts
        divided = situation.view.fleet.limits.power_limit_watts is not None  # a fleet's limit stands above a class
        if control.reason == "economics" and not divided and control.ends_at > situation.now:
            depth = bearable_depth_ratio(site, fleet_file, fleet_file.service_classes)
            assert control.target_power_watts >= full_power_watts(site, fleet_file) * (1 - depth) - 1e-6


@unhurried
@given(situations)
def test_rule_5_flex_0_moves_only_in_an_emergency(situation: Situation) -> None:
    for control in situation.guarded().shifts:
        if control.service_class == "interactive" and control.phase in LIVING[:4]:
            running = [each for each in standing(situation, control.from_site_id) if each.starts_at <= situation.now]
            assert any(each.kind == "emergency" for each in running)


# --- 6: ramps, and no steps together ---------------------------------------------------------------------------------


@unhurried
@given(situations)
def test_rule_6_ramps_hold_for_each_site_and_for_the_fleet(situation: Situation) -> None:
    after, sites, limits = situation.guarded().throttles, sites_of(situation), situation.view.fleet.limits
    for control in after:
        site = sites[control.site_id]
        assert control.ramp_up_watts_per_second <= control.ramp_down_watts_per_second
        assert control.ramp_down_watts_per_second <= site.ramp_down_watts_per_second
        assert control.ramp_up_watts_per_second <= site.ramp_up_watts_per_second
    if limits.ramp_up_watts_per_second is not None:
        fastest = dict.fromkeys(sites, 0.0)
        for control in after:
            fastest[control.site_id] = max(fastest[control.site_id], control.ramp_up_watts_per_second)
        assert sum(fastest.values()) <= limits.ramp_up_watts_per_second * (1 + 1e-9)
    if limits.ramp_down_watts_per_second is not None:
        sheds = [(*shed(situation, each), each) for each in after]
        for moment in (start for start, _, _ in sheds):
            moving = [each for start, end, each in sheds if start <= moment < end and end > situation.now]
            together = sum(each.ramp_down_watts_per_second for each in moving)
            assert together <= limits.ramp_down_watts_per_second * (1 + 1e-9)


def shed(situation: Situation, control: ThrottleControl) -> tuple[datetime, datetime]:
    """From when to when a site that draws all it may can be on its way down to the control's target."""
    before = known_before(situation, control)
    same = before is not None and before.target_power_watts == control.target_power_watts
    start = control.starts_at if same else max(control.starts_at, situation.now)
    way = sites_of(situation)[control.site_id].import_limit_watts - control.target_power_watts
    seconds = min(way / control.ramp_down_watts_per_second, 1e6)
    return start, min(control.ends_at, start + timedelta(seconds=seconds))


@unhurried
@given(situations)
def test_rule_6_restores_to_come_lie_apart(situation: Situation) -> None:
    after = situation.guarded().throttles
    handed_over = {(each.site_id, each.starts_at) for each in after}
    restores = [each for each in after if (each.site_id, each.ends_at) not in handed_over]
    stagger = timedelta(seconds=situation.view.fleet.limits.stagger_seconds)
    for place, a in enumerate(restores):
        for b in restores[place + 1 :]:
            if a.site_id != b.site_id and max(a.ends_at, b.ends_at) > situation.now:
                assert abs(a.ends_at - b.ends_at) >= stagger


@unhurried
@given(situations)
def test_rule_6_the_sites_may_draw_no_more_than_the_fleet_may(situation: Situation) -> None:
    after, limit = situation.guarded().throttles, situation.view.fleet.limits.power_limit_watts
    if limit is None:
        return
    sites, fleet_file = sites_of(situation).values(), situation.fleet_file
    possible = max(limit, sum(least_power_watts(site, fleet_file) for site in sites))
    for moment in edges(after, situation.now, situation.now + timedelta(minutes=15)):
        drawn = 0.0
        for site in sites:
            held = [each.target_power_watts for each in in_force(after, site.id, moment)]
            drawn += min([full_power_watts(site, fleet_file), *held])
        assert drawn <= possible + 1.5


# --- 7: service and economics never weaken what serves the grid ------------------------------------------------------


@unhurried
@given(situations)
def test_rule_7_nothing_weakens_what_serves_the_grid(situation: Situation) -> None:
    """For the time of its event a throttle for the grid stands as it was asked for, or a stronger one does."""
    after, sites = situation.guarded().throttles, sites_of(situation)
    first: dict[str, ThrottleControl] = {}
    for control in situation.plan.throttles:
        first.setdefault(control.control_id, control)
    for control in first.values():
        if control.reason not in GRID or control.site_id not in sites or control.starts_at >= control.ends_at:
            continue
        asked = max(control.target_power_watts, least_power_watts(sites[control.site_id], situation.fleet_file))
        events = [each.ends_at for name, each in situation.view.events.items() if name in control.caused_by]
        soon = min(control.ends_at, situation.now + timedelta(hours=1), max(events, default=control.ends_at))
        for moment in edges(after, max(control.starts_at, situation.now), soon):
            (holding,) = in_force(after, control.site_id, moment)
            assert PRECEDENCE.index(holding.reason) <= PRECEDENCE.index(control.reason)
            same = (holding.reason, holding.priority) == (control.reason, control.priority)
            assert not same or holding.target_power_watts <= asked + 1e-6


# --- 8: shifts -------------------------------------------------------------------------------------------------------


def before_of(situation: Situation, control: ShiftControl) -> ShiftControl | None:
    return next((each for each in situation.before.shifts if each.control_id == control.control_id), None)


@unhurried
@given(situations)
def test_rule_8_no_shift_skips_its_reservation_or_turns_back(situation: Situation) -> None:
    for control in situation.guarded().shifts:
        before = before_of(situation, control)
        was = "none" if before is None else before.phase
        if control.phase in {"reserved", "ramping", "active"}:
            assert was in LIVING
        if control.phase in {"ramping", "active"}:
            assert was in LIVING[1:]
        if was in LIVING and control.phase in LIVING:
            assert LIVING.index(control.phase) >= LIVING.index(was)


@unhurried
@given(situations)
def test_rule_8_traffic_is_home_before_its_place_is_given_up(situation: Situation) -> None:
    after = {each.control_id: each for each in situation.guarded().shifts}
    for control in situation.before.shifts:
        going = after.get(control.control_id)
        if control.phase in {"reserved", "ramping", "active"}:
            assert going is not None
            assert going.phase in LIVING
        away = (situation.now - control.phase_since).total_seconds() < control.ramp_seconds
        if control.phase == "returning" and away:
            assert going is not None
            assert going.phase == "returning"
        if going is not None and going.phase in LIVING and control.phase in LIVING:
            assert going.share_ratio <= control.share_ratio
            same = ("from_site_id", "to_site_id", "service_class")
            assert all(getattr(going, name) == getattr(control, name) for name in same)


@unhurried
@given(situations)
def test_rule_8_shares_never_exceed_one_and_go_where_they_may(situation: Situation) -> None:
    given_away: dict[tuple[str, str], float] = defaultdict(float)
    classes = {service.id: service for service in situation.fleet_file.service_classes}
    for control in situation.guarded().shifts:
        ends = {control.from_site_id, control.to_site_id}
        assert len(ends) == 2
        assert ends <= sites_of(situation).keys()
        service = classes[control.service_class]
        if control.phase in LIVING:
            given_away[control.from_site_id, control.service_class] += control.share_ratio
        if control.phase in LIVING[:4]:
            assert not service.sites or ends <= set(service.sites)
            link = situation.view.fleet.link(control.from_site_id, control.to_site_id)
            assert link.latency_seconds <= service.added_latency_limit_seconds
    assert all(share <= 1 + 1e-9 for share in given_away.values())


@unhurried
@given(situations)
def test_rule_8_an_acceptor_has_room_for_what_it_reserves(situation: Situation) -> None:
    after = situation.guarded()
    for site in sites_of(situation).values():
        coming = [each for each in after.shifts if each.to_site_id == site.id]
        awaited = sum(each.reserved_power_watts for each in coming if each.phase in {"proposed", "reserved"})
        if awaited == 0:
            continue
        known = situation.view.sites[site.id].power
        drawn = 0.0 if known is None or known.meter_power_watts is None else known.meter_power_watts
        held = [each.target_power_watts for each in in_force(after.throttles, site.id, situation.now)]
        assert drawn + awaited <= min([site.import_limit_watts, *held]) + 1e-6


# --- 9: what is not known degrades to a named mode -------------------------------------------------------------------


@unhurried
@given(situations)
def test_rule_9_nothing_new_begins_where_power_is_not_known(situation: Situation) -> None:
    after, view = situation.guarded(), situation.view
    stale = {site_id for site_id, known in view.sites.items() if known.is_stale(situation.now, 180.0)}
    for control in after.throttles:
        if control.reason == "economics" and control.site_id in stale and control.ends_at > situation.now:
            assert known_before(situation, control) is not None
    for shift in after.shifts:
        if shift.phase in LIVING and {shift.from_site_id, shift.to_site_id} & stale:
            assert before_of(situation, shift) is not None
    order = ["normal", "price-blind", "rule-based", "hold"]
    unpriced = any(view.price_at(site.settlement_point, situation.now) is None for site in view.fleet.sites)
    assert order.index(after.mode) >= order.index(situation.plan.mode)
    assert after.mode != "normal" or not unpriced
    assert after.mode == "hold" or len(stale) < len(view.sites)


# --- 10: no chatter --------------------------------------------------------------------------------------------------


@unhurried
@given(situations)
def test_rule_10_price_throttles_dwell(situation: Situation) -> None:
    after, view, dwell = situation.guarded().throttles, situation.view, timedelta(seconds=600)
    economic = [each for each in after if each.reason == "economics"]
    was = {each.control_id for each in situation.before.throttles if each.starts_at <= situation.now < each.ends_at}
    for control in economic:
        if control.control_id not in was and control.ends_at > situation.now:
            begins_at = max(control.starts_at, situation.now)
            for other in (each for each in economic if each.site_id == control.site_id and each != control):
                assert (
                    begins_at >= other.ends_at + dwell
                    or control.ends_at + dwell <= other.starts_at
                    or (max(other.starts_at, situation.now) >= control.ends_at + dwell)
                )
    for control in situation.before.throttles:
        blind = view.price_at(control.site_id.upper(), situation.now) is None
        if control.reason == "economics" and control.starts_at <= situation.now < control.ends_at and not blind:
            # Whoever wants it gone: for the rest of its dwell something holds its site.
            for moment in edges(after, situation.now, control.starts_at + dwell):
                assert in_force(after, control.site_id, moment)


# --- 12: every command can be explained ------------------------------------------------------------------------------


@unhurried
@given(situations)
def test_rule_12_every_control_can_be_explained(situation: Situation) -> None:
    after = situation.guarded()
    assert all(each.explanation.strip() for each in after.throttles)
    assert all(each.explanation.strip() for each in after.shifts if each.phase in LIVING)
