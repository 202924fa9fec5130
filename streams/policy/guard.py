"""The guard: every plan, whoever made it, is made to keep the safety rules before it becomes commands. Pure.

It knows nothing of why the plan is as it is. What it changes stands in the plan's `rejected`, under `guard`.
"""

from collections import defaultdict
from datetime import timedelta

from schemas.command import PRECEDENCE
from schemas.fleet import Fleet, FleetFile, Site
from schemas.plan import FleetPlan, Rejected, ShiftControl, ThrottleControl
from streams.capacity import least_power_watts
from streams.policy.shifts import LIVING


def guard(plan: FleetPlan, fleet: Fleet, fleet_file: FleetFile) -> FleetPlan:
    """The plan, changed as little as the rules need: one target a site, within its limits, restores apart."""
    changes: list[Rejected] = []
    sites = {site.id: site for site in fleet.sites}
    throttles = [_within_limits(each, sites[each.site_id], fleet_file, changes) for each in plan.throttles]
    throttles = _one_a_site(throttles, changes)
    throttles = _restores_apart(throttles, fleet.limits.stagger_seconds, changes)
    shifts = _fair_shifts(plan.shifts, fleet_file, changes)
    return plan.model_copy(update={"throttles": throttles, "shifts": shifts, "rejected": [*plan.rejected, *changes]})


def _within_limits(
    control: ThrottleControl, site: Site, fleet_file: FleetFile, changes: list[Rejected]
) -> ThrottleControl:
    """Rules 1 and 5: a target within [least power, import limit], a fallback never above it, the site's ramps."""
    least = least_power_watts(site, fleet_file)
    target = min(max(control.target_power_watts, least), site.import_limit_watts)
    held = control.model_copy(
        update={
            "target_power_watts": target,
            "fallback_power_watts": min(control.fallback_power_watts, target),
            "ramp_down_watts_per_second": min(control.ramp_down_watts_per_second, site.ramp_down_watts_per_second),
            "ramp_up_watts_per_second": min(control.ramp_up_watts_per_second, site.ramp_up_watts_per_second),
        }
    )
    if held != control:
        wanted = f"{control.control_id} at {control.target_power_watts:.0f} W"
        changes.append(Rejected(alternative=wanted, why=f"guard: limits of {site.id} allow {target:.0f} W"))
    return held


def _one_a_site(throttles: list[ThrottleControl], changes: list[Rejected]) -> list[ThrottleControl]:
    """Rule 4: one power target in force at a site: of two that overlap in time the stronger stands."""
    kept: list[ThrottleControl] = []
    for control in sorted(throttles, key=_strength):
        stronger = next(
            (other for other in kept if other.site_id == control.site_id and _overlap(other, control)), None
        )
        if stronger is None:
            kept.append(control)
        else:
            changes.append(
                Rejected(alternative=control.control_id, why=f"guard: {stronger.control_id} stands above it")
            )
    return sorted(kept, key=lambda control: control.control_id)


def _strength(control: ThrottleControl) -> tuple[int, int, float, str]:
    return (PRECEDENCE.index(control.reason), control.priority, control.target_power_watts, control.control_id)


def _overlap(a: ThrottleControl, b: ThrottleControl) -> bool:
    return a.starts_at < b.ends_at and b.starts_at < a.ends_at


def _restores_apart(
    throttles: list[ThrottleControl], stagger_seconds: float, changes: list[Rejected]
) -> list[ThrottleControl]:
    """Rule 6: no two sites rise within the stagger of each other; the later one holds longer."""
    apart: list[ThrottleControl] = []
    for control in sorted(throttles, key=lambda each: (each.ends_at, each.control_id)):
        earliest = apart[-1].ends_at + timedelta(seconds=stagger_seconds) if apart else control.ends_at
        if control.ends_at < earliest and control.site_id != apart[-1].site_id:
            why = f"guard: restores lie {stagger_seconds:g} s apart"
            changes.append(Rejected(alternative=f"{control.control_id} until {control.ends_at:%H:%M:%S}", why=why))
            control = control.model_copy(update={"ends_at": earliest})  # noqa: PLW2901 - the list is the result
        apart.append(control)
    return sorted(apart, key=lambda control: control.control_id)


def _fair_shifts(shifts: list[ShiftControl], fleet_file: FleetFile, changes: list[Rejected]) -> list[ShiftControl]:
    """Rule 8: shares of a site's class never exceed 1; Flex 0 does not move."""
    flex = {service.id: service.flex for service in fleet_file.service_classes}
    given: dict[tuple[str, str], float] = defaultdict(float)
    kept = []
    for control in shifts:
        place = (control.from_site_id, control.service_class)
        over = control.phase in LIVING and given[place] + control.share_ratio > 1
        if over or flex.get(control.service_class, 0) == 0:
            changes.append(Rejected(alternative=control.control_id, why="guard: more than the class may give"))
            continue
        given[place] += control.share_ratio if control.phase in LIVING else 0.0
        kept.append(control)
    return kept
