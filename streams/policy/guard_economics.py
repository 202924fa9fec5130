"""The guard, rules 5, 9 and 10 for price commands: not too deep, not blindly, no chatter. Pure."""

from datetime import datetime

from schemas.plan import ThrottleControl
from streams.capacity import bearable_depth_ratio, full_power_watts
from streams.policy.guard_case import UNEXPLAINED, Case, gaps, span_of
from streams.policy.guard_fleet import parts_of_the_fleet

ECONOMICS = "economics"


def economics_within_reason(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """The throttles, with those of the price as deep as the classes bear, where power is known, and dwelling."""
    others = [each for each in throttles if each.reason != ECONOMICS]
    wanted = [_bearable(each, case) for each in throttles if each.reason == ECONOMICS]
    seeing = [seen for each in wanted if (seen := _not_blindly(each, case)) is not None]
    dwelling = [
        control
        for site in case.fleet.sites
        for control in _dwelling(
            [each for each in seeing if each.site_id == site.id],
            [each for each in others if each.site_id == site.id],
            [each for each in case.before.throttles if each.site_id == site.id],
            case,
        )
    ]
    return [*others, *dwelling]


def _bearable(control: ThrottleControl, case: Case) -> ThrottleControl:
    """Rule 5: the price slows no class by more than its Flex level allows."""
    site = case.sites[control.site_id]
    depth = bearable_depth_ratio(site, case.fleet_file, case.fleet_file.service_classes)
    floor = full_power_watts(site, case.fleet_file) * (1 - depth)
    floor = min(floor, parts_of_the_fleet(case)[site.id])  # what the fleet may draw stands above its classes
    if control.target_power_watts >= floor:
        return control
    wanted = f"{control.control_id} at {control.target_power_watts:.0f} W"
    case.note(wanted, f"the service classes of {site.id} bear {floor:.0f} W")
    return control.model_copy(update={"target_power_watts": floor})


def _not_blindly(control: ThrottleControl, case: Case) -> ThrottleControl | None:
    """Rule 9: at a site whose power is not known nothing new begins, and nothing goes deeper."""
    if not case.is_stale(control.site_id) or control.ends_at <= case.now:  # one that is over is memory, no more
        return control
    before = [each for each in case.before.throttles if each.control_id == control.control_id]
    if not before or before[0].ends_at <= case.now:
        case.note(control.control_id, f"no recent power of {control.site_id} is known")
        return None
    if control.target_power_watts >= before[0].target_power_watts:
        return control
    case.note(f"{control.control_id} at {control.target_power_watts:.0f} W", "no recent power: it stays where it is")
    return control.model_copy(update={"target_power_watts": before[0].target_power_watts})


def _dwelling(
    wanted: list[ThrottleControl], others: list[ThrottleControl], before: list[ThrottleControl], case: Case
) -> list[ThrottleControl]:
    """Rule 10 at one site: a price throttle holds for the dwell, and none starts within the dwell of another's end.

    One that has ended stays in the plan for the dwell, over as it is: the plan is the only memory there is.
    """
    kept: list[ThrottleControl] = []
    for control in before:
        if control.reason == ECONOMICS and control.starts_at <= case.now:
            mine = next((each for each in wanted if each.control_id == control.control_id), None)
            held = _going_on(control, mine, others, case) or _just_over(control, [*others, *before], case)
            kept += [held] if held is not None else []
            if held is not None and held != mine:
                case.note(f"{control.control_id} otherwise", f"in force, it dwells {case.limits.dwell_seconds:g} s")
    names = {each.control_id for each in kept}
    fresh = [each for each in wanted if each.control_id not in names]
    for control in sorted(fresh, key=lambda each: (each.starts_at, each.control_id)):
        begins_at = max(control.starts_at, case.now)
        near = [each for each in kept if begins_at < each.ends_at + case.dwell]
        near = [each for each in near if each.starts_at < control.ends_at + case.dwell]
        if near or control.ends_at <= case.now:
            case.note(control.control_id, f"within the dwell of {near[0].control_id}" if near else "it is over")
            continue
        held = _no_shorter(control, begins_at + case.dwell, others)
        if held != control:
            case.note(f"{control.control_id} until {control.ends_at:%H:%M:%S}", f"it dwells to {held.ends_at:%H:%M:%S}")
        kept.append(held)
    return kept


def _going_on(
    control: ThrottleControl, mine: ThrottleControl | None, others: list[ThrottleControl], case: Case
) -> ThrottleControl | None:
    """A throttle in force as the plan wants it, or, if it wants it no more, for the rest of its dwell."""
    if control.ends_at <= case.now:
        return None
    taken_over = any(_holds_at(each, case.now) for each in others)
    if mine is not None and mine.ends_at > case.now:
        if mine.starts_at > case.now and not taken_over:
            mine = mine.model_copy(update={"starts_at": control.starts_at})
        return _no_shorter(mine, control.starts_at + case.dwell, others)
    if taken_over:
        return None
    # Without a price there is nothing to hold it for.
    blind = case.view.price_at(case.sites[control.site_id].settlement_point, case.now) is None
    ends_at = case.now if blind else max(control.starts_at + case.dwell, case.now)
    explanation = control.explanation or UNEXPLAINED
    return _clear(control.model_copy(update={"ends_at": ends_at, "explanation": explanation}), others)


def _just_over(control: ThrottleControl, others: list[ThrottleControl], case: Case) -> ThrottleControl | None:
    """A throttle that has ended less than the dwell ago, unless another took over from it."""
    if not control.ends_at <= case.now < control.ends_at + case.dwell:
        return None
    taken_over = any(each != control and _holds_at(each, control.ends_at) for each in others)
    return None if taken_over else _clear(control, [each for each in others if each.reason != ECONOMICS])


def _clear(control: ThrottleControl, others: list[ThrottleControl]) -> ThrottleControl | None:
    """The last part of it, of which nothing stronger has any."""
    free = gaps(span_of(control), map(span_of, others))
    if not free or free[-1][1] < control.ends_at:
        return None
    return control.model_copy(update={"starts_at": free[-1][0]})


def _no_shorter(control: ThrottleControl, ends_at: datetime, others: list[ThrottleControl]) -> ThrottleControl:
    """It ends no sooner, unless something stronger takes over from it: its site is not let go then."""
    if control.ends_at >= ends_at or any(_holds_at(each, control.ends_at) for each in others):
        return control
    return control.model_copy(update={"ends_at": ends_at})


def _holds_at(control: ThrottleControl, moment: datetime) -> bool:
    return control.starts_at <= moment < control.ends_at
