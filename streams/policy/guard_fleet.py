"""The guard, rule 6 for the fleet: what its sites may draw together, and how fast they move together. Pure."""

from datetime import datetime, timedelta

from schemas.fleet import Site
from schemas.plan import ThrottleControl
from streams.capacity import full_power_watts, least_power_watts
from streams.policy.guard_case import Case, Span, gaps, other_names, span_of

_LONGEST_MOVE_SECONDS = 31 * 86_400.0
# A target that changes by less than this in place is no move.
_UNMOVED_WATTS = 1.0


def within_the_fleets_power(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """Where the plan lets the sites draw more than the fleet may: each to its part of it, and none free.

    A plan that divides the power itself, over the next lease and counting a free site at its full power, is left alone.
    """
    if case.limits.power_limit_watts is None:
        return throttles
    parts = parts_of_the_fleet(case)
    # Where even their least power is more than the fleet may draw, that is as far as the sites can go.
    limit = max(case.limits.power_limit_watts, sum(parts.values())) + _UNMOVED_WATTS
    most = _most_drawn(throttles, case)
    if most <= limit:
        return throttles
    case.note(f"the fleet at {most:.0f} W", f"it may draw {limit:.0f} W: each site has its part")
    kept = [_clipped(each, parts[each.site_id], case) for each in throttles]
    until = case.now + timedelta(seconds=case.limits.horizon_seconds + case.limits.lease_seconds)
    for site in case.fleet.sites:
        taken = [span_of(each) for each in throttles if each.site_id == site.id]
        for span in gaps((case.now, until), taken):
            kept.append(_hold(site, parts[site.id], span, {each.control_id for each in kept}, case))
    return kept


def _most_drawn(throttles: list[ThrottleControl], case: Case) -> float:
    """The most in W that the sites may draw together at any moment of the next lease."""
    until = case.now + timedelta(seconds=case.limits.lease_seconds)
    edges = {moment for each in throttles for moment in span_of(each) if case.now < moment < until}
    return max(
        sum(_may_draw(site, throttles, moment, case) for site in case.fleet.sites) for moment in {case.now, *edges}
    )


def _may_draw(site: Site, throttles: list[ThrottleControl], moment: datetime, case: Case) -> float:
    held = [
        each.target_power_watts
        for each in throttles
        if each.site_id == site.id and each.starts_at <= moment < each.ends_at
    ]
    return min([full_power_watts(site, case.fleet_file), *held])


def parts_of_the_fleet(case: Case) -> dict[str, float]:
    """What each site may draw in W: the fleet's power divided by the sites' full power, none below its least."""
    full = {site.id: full_power_watts(site, case.fleet_file) for site in case.fleet.sites}
    limit = case.limits.power_limit_watts
    if limit is None or sum(full.values()) <= limit:
        return full
    least = {site.id: least_power_watts(site, case.fleet_file) for site in case.fleet.sites}
    at_least: set[str] = set()
    while len(at_least) < len(full):
        free = [site_id for site_id in full if site_id not in at_least]
        share = (limit - sum(least[site_id] for site_id in at_least)) / sum(full[site_id] for site_id in free)
        short = [site_id for site_id in free if full[site_id] * share < least[site_id]]
        if not short:
            break
        at_least.update(short)
    return {site_id: least[site_id] if site_id in at_least else full[site_id] * share for site_id in full}


def _clipped(control: ThrottleControl, part: float, case: Case) -> ThrottleControl:
    if control.target_power_watts <= part:
        return control
    case.note(f"{control.control_id} at {control.target_power_watts:.0f} W", f"its site's part is {part:.0f} W")
    fallback = min(control.fallback_power_watts, part)
    return control.model_copy(update={"target_power_watts": part, "fallback_power_watts": fallback})


def _hold(site: Site, part: float, span: Span, names: set[str], case: Case) -> ThrottleControl:
    name = f"limit/{site.id}"
    if name in names:
        name = next(each for each in other_names(name) if each not in names)
    before = [
        each for each in case.before.throttles if each.control_id == name and each.starts_at <= case.now < each.ends_at
    ]
    # Said again by every plan, it is one control that goes on.
    starts_at = before[0].starts_at if before and span[0] == case.now else span[0]
    return ThrottleControl(
        control_id=name,
        site_id=site.id,
        reason="service",
        target_power_watts=part,
        ramp_down_watts_per_second=site.ramp_down_watts_per_second,
        ramp_up_watts_per_second=site.ramp_up_watts_per_second,
        fallback_power_watts=part,
        starts_at=starts_at,
        ends_at=span[1],
        explanation=f"{site.id} to {part / 1000:.1f} kW, its part of what the fleet may draw",
    )


def ramps_together(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """The ramps of sites that may move at the same time add up to the fleet's at most; restores no faster than sheds.

    Down: those whose sheds may meet share the fleet's ramp in proportion to their own. Up: nothing is urgent, and a
    site that was let go rises on after the plan has forgotten it: each has its fixed part.
    """
    sheds = [(each.site_id, _shed(each, case)) for each in throttles]
    return [_ramped(each, shed, sheds, case) for each, (_, shed) in zip(throttles, sheds, strict=True)]


def _ramped(control: ThrottleControl, mine: Span, sheds: list[tuple[str, Span]], case: Case) -> ThrottleControl:
    site = case.sites[control.site_id]
    down, up = site.ramp_down_watts_per_second, site.ramp_up_watts_per_second
    if case.limits.ramp_down_watts_per_second is not None:
        # A shed that is over shares with nobody, but is never faster than the fleet may be.
        others = sheds if mine[1] > case.now else []
        meeting = {site.id, *(site_id for site_id, other in others if _meet(mine, other))}
        together = sum(case.sites[site_id].ramp_down_watts_per_second for site_id in meeting)
        down = min(down, case.limits.ramp_down_watts_per_second * down / together)
    if case.limits.ramp_up_watts_per_second is not None:
        together = sum(each.ramp_up_watts_per_second for each in case.fleet.sites)
        up = min(up, case.limits.ramp_up_watts_per_second * up / together)
    down = min(control.ramp_down_watts_per_second, down)
    up = min(control.ramp_up_watts_per_second, up, down)
    held = control.model_copy(update={"ramp_down_watts_per_second": down, "ramp_up_watts_per_second": up})
    if held != control:
        case.note(f"{control.control_id} as fast as asked", f"{site.id} moves {down:.0f} W/s down and {up:.0f} W/s up")
    return held


def _shed(control: ThrottleControl, case: Case) -> Span:
    """When a site may be moving down to the control's target, at the slowest that its share of the ramp can be."""
    site, limit = case.sites[control.site_id], case.limits.ramp_down_watts_per_second
    slowest = min(control.ramp_down_watts_per_second, site.ramp_down_watts_per_second)
    if limit is not None:
        together = sum(each.ramp_down_watts_per_second for each in case.fleet.sites)
        slowest = min(slowest, limit * site.ramp_down_watts_per_second / together)
    seconds = (site.import_limit_watts - control.target_power_watts) / slowest
    before = [each for each in case.before.throttles if each.control_id == control.control_id]
    unmoved = before and abs(before[0].target_power_watts - control.target_power_watts) <= _UNMOVED_WATTS
    begins_at = control.starts_at if unmoved else max(control.starts_at, case.now)
    ends_at = begins_at + timedelta(seconds=min(seconds, _LONGEST_MOVE_SECONDS))
    return begins_at, min(ends_at, control.ends_at)


def _meet(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]
