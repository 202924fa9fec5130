"""The guard: every plan, whoever made it, is made to keep the safety rules before it becomes commands. Pure.

It knows nothing of why the plan is as it is. What it changes stands in the plan's `rejected`, under `guard`.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from schemas.command import PRECEDENCE
from schemas.fleet import Fleet, FleetFile, Site
from schemas.plan import FleetPlan, Rejected, ShiftControl, ThrottleControl
from streams.capacity import least_power_watts
from streams.policy.shifts import LIVING


def guard(plan: FleetPlan, fleet: Fleet, fleet_file: FleetFile) -> FleetPlan:
    """The plan, changed as little as the rules need: one target a site, within its limits, restores apart."""
    changes: list[Rejected] = []
    sites = {site.id: site for site in fleet.sites}
    throttles = [
        _within_limits(each, sites[each.site_id], fleet_file, changes)
        for each in _possible(plan.throttles, sites, changes)
    ]
    throttles = _one_a_site(throttles, plan.issued_at, changes)
    throttles = _restores_apart(throttles, plan.issued_at, fleet.limits.stagger_seconds, changes)
    shifts = _fair_shifts(plan.shifts, sites, fleet_file, changes)
    return plan.model_copy(update={"throttles": throttles, "shifts": shifts, "rejected": [*plan.rejected, *changes]})


def _possible(
    throttles: list[ThrottleControl], sites: dict[str, Site], changes: list[Rejected]
) -> list[ThrottleControl]:
    """Those at a site of this fleet, with some time to run, and the first of each name."""
    possible: dict[str, ThrottleControl] = {}
    for control in throttles:
        if control.site_id in sites and control.starts_at < control.ends_at and control.control_id not in possible:
            possible[control.control_id] = control
        else:
            changes.append(Rejected(alternative=control.control_id, why="guard: no such site, no time, or named twice"))
    return list(possible.values())


def _within_limits(
    control: ThrottleControl, site: Site, fleet_file: FleetFile, changes: list[Rejected]
) -> ThrottleControl:
    """Rules 1 and 5: a target within [least power, import limit], a fallback never above it, the site's ramps."""
    least = least_power_watts(site, fleet_file)
    target = min(max(control.target_power_watts, least), site.import_limit_watts)
    held = control.model_copy(
        update={
            "target_power_watts": target,
            "fallback_power_watts": min(max(control.fallback_power_watts, least), target),
            "ramp_down_watts_per_second": min(control.ramp_down_watts_per_second, site.ramp_down_watts_per_second),
            "ramp_up_watts_per_second": min(control.ramp_up_watts_per_second, site.ramp_up_watts_per_second),
        }
    )
    if held != control:
        wanted = f"{control.control_id} at {control.target_power_watts:.0f} W"
        changes.append(Rejected(alternative=wanted, why=f"guard: limits of {site.id} allow {target:.0f} W"))
    return held


def _one_a_site(throttles: list[ThrottleControl], now: datetime, changes: list[Rejected]) -> list[ThrottleControl]:
    """Rule 4: one power target in force at a site: of two that overlap in time the stronger stands.

    The weaker holds before it or, once the stronger is in force, after it: it is cut, not dropped, so that a site
    neither rises before an event nor falls back and rises again after one.
    """
    kept: list[ThrottleControl] = []
    for control in sorted(throttles, key=_strength):
        stronger = [each for each in kept if each.site_id == control.site_id and _overlap(each, control)]
        if not stronger:
            kept.append(control)
            continue
        cut = _cut(control, stronger, now)
        if cut is not None:
            kept.append(cut)
        standing = "" if cut is None else f", it holds {cut.starts_at:%d %H:%M:%S} to {cut.ends_at:%d %H:%M:%S}"
        why = f"guard: {stronger[0].control_id} stands above it{standing}"
        changes.append(Rejected(alternative=control.control_id, why=why))
    return sorted(kept, key=lambda control: control.control_id)


def _strength(control: ThrottleControl) -> tuple[int, int, float, str]:
    return (PRECEDENCE.index(control.reason), control.priority, control.target_power_watts, control.control_id)


def _overlap(a: ThrottleControl, b: ThrottleControl) -> bool:
    return a.starts_at < b.ends_at and b.starts_at < a.ends_at


def _cut(control: ThrottleControl, stronger: list[ThrottleControl], now: datetime) -> ThrottleControl | None:
    """The control in the first gap that the stronger ones leave and that is not over yet; None if there is none."""
    starts_at = control.starts_at
    for other in sorted(stronger, key=lambda each: each.starts_at):
        if starts_at < other.starts_at and now < other.starts_at:
            return control.model_copy(update={"starts_at": starts_at, "ends_at": other.starts_at})
        starts_at = max(starts_at, other.ends_at)
    if starts_at < control.ends_at and now < control.ends_at:
        return control.model_copy(update={"starts_at": starts_at})
    return None


def _restores_apart(
    throttles: list[ThrottleControl], now: datetime, stagger_seconds: float, changes: list[Rejected]
) -> list[ThrottleControl]:
    """Rule 6: no two sites rise within the stagger of each other; the later one holds longer.

    A control that hands over to the next at its site lets nothing rise; one that has ended can't be moved.
    """
    apart: list[ThrottleControl] = []
    restores: list[tuple[datetime, str]] = []
    for control in sorted(throttles, key=lambda each: (each.ends_at, each.control_id)):
        following = [each.starts_at for each in throttles if each.site_id == control.site_id]
        following = [starts_at for starts_at in following if starts_at >= control.ends_at]
        ends_at = control.ends_at
        if control.ends_at > now and control.ends_at not in following:
            taken = [at for at, site_id in restores if site_id != control.site_id]
            ends_at = min([first_apart(control.ends_at, taken, stagger_seconds), *following])
        if ends_at != control.ends_at:
            why = f"guard: restores lie {stagger_seconds:g} s apart"
            changes.append(Rejected(alternative=f"{control.control_id} until {control.ends_at:%H:%M:%S}", why=why))
        if ends_at not in following:
            restores.append((ends_at, control.site_id))
        apart.append(control.model_copy(update={"ends_at": ends_at}))
    return sorted(apart, key=lambda control: control.control_id)


def first_apart(earliest: datetime, taken: Iterable[datetime], stagger_seconds: float) -> datetime:
    """The first time from `earliest` on that lies at least the stagger away from each time `taken`."""
    stagger = timedelta(seconds=stagger_seconds)
    for other in sorted(taken):
        if abs(earliest - other) < stagger:
            earliest = other + stagger
    return earliest


def _fair_shifts(
    shifts: list[ShiftControl], sites: dict[str, Site], fleet_file: FleetFile, changes: list[Rejected]
) -> list[ShiftControl]:
    """Rule 8: between two sites of the fleet; shares of a site's class never exceed 1; Flex 0 does not move."""
    flex = {service.id: service.flex for service in fleet_file.service_classes}
    given: dict[tuple[str, str], float] = defaultdict(float)
    kept = []
    for control in shifts:
        place = (control.from_site_id, control.service_class)
        over = control.phase in LIVING and given[place] + control.share_ratio > 1
        ends = {control.from_site_id, control.to_site_id}
        if over or flex.get(control.service_class, 0) == 0 or len(ends) < 2 or not ends <= sites.keys():
            changes.append(Rejected(alternative=control.control_id, why="guard: more than the class may give there"))
            continue
        given[place] += control.share_ratio if control.phase in LIVING else 0.0
        kept.append(control)
    return kept
