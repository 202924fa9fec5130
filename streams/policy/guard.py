"""The guard: every plan, whoever made it, is made to keep the safety rules before it becomes commands. Pure.

It knows nothing of why the plan is as it is, and uses nothing that the planners use to make one: an error in one is
caught by the other. What it changes stands in the plan's `rejected`, with a reason that begins with `guard:`.
"""

from datetime import datetime

from schemas.fleet import FleetFile
from schemas.plan import FleetPlan, Mode, ThrottleControl
from streams.capacity import least_power_watts
from streams.policy.guard_case import GRID_REASONS, UNEXPLAINED, Case, other_names
from streams.policy.guard_economics import economics_within_reason
from streams.policy.guard_events import through_events
from streams.policy.guard_fleet import ramps_together, within_the_fleets_power
from streams.policy.guard_shifts import fair_shifts
from streams.policy.guard_throttles import one_a_site, restores_apart
from streams.policy.view import FleetView

# A rule kept late may touch on one kept before: all are gone through again until nothing changes. Two or three times
# are enough for any plan that was tried; a bound keeps a plan that nobody thought of from stopping the loop.
_ROUNDS = 8
# Whose plan it is, and its place among the others: claimed and counted by the desk, no business of a plan's (rule 2).
_IDENTITY = ("run_id", "fleet_id", "owner", "epoch", "sequence", "revision")
_MODES: tuple[Mode, ...] = ("normal", "price-blind", "rule-based", "hold")  # ever more degraded


def guard(plan: FleetPlan, before: FleetPlan, view: FleetView, fleet_file: FleetFile, now: datetime) -> FleetPlan:
    """The plan, changed as little as the safety rules (design, section 6) need.

    Args:
        plan: any plan of the fleet.
        before: the plan in force, as the sites' answers have moved it on; itself guarded.
        view: what is known of the fleet.
        fleet_file: its limits.
        now: the time, aware UTC.
    """
    case = Case(before, view, fleet_file, now)
    plan = _in_its_place(plan, case)
    for _ in range(_ROUNDS):
        kept = _round(plan, case)
        if kept == plan:
            break
        plan = kept
    return plan.model_copy(update={"rejected": [*plan.rejected, *case.changes]})


def _round(plan: FleetPlan, case: Case) -> FleetPlan:
    throttles = _explained(_named(_possible(plan.throttles, case), case), case)
    throttles = economics_within_reason(through_events(throttles, case), case)
    throttles = [_within_limits(each, case) for each in throttles]
    throttles = restores_apart(one_a_site(throttles, case), case)
    throttles = ramps_together(within_the_fleets_power(throttles, case), case)
    throttles.sort(key=lambda control: control.control_id)
    shifts = fair_shifts(plan.shifts, throttles, case)
    return plan.model_copy(update={"throttles": throttles, "shifts": shifts})


def _in_its_place(plan: FleetPlan, case: Case) -> FleetPlan:
    """Rules 2 and 9: the numbers that were claimed, and a mode no less degraded than what is known."""
    identity = {name: getattr(case.before, name) for name in _IDENTITY}
    if identity != {name: getattr(plan, name) for name in _IDENTITY}:
        case.note(f"plan {plan.epoch}/{plan.sequence}/{plan.revision}", "a plan does not number itself")
    mode = max(plan.mode, _mode(case), key=_MODES.index)
    if mode != plan.mode:
        case.note(f"mode {plan.mode}", f"what is known allows {mode}")
    return plan.model_copy(update={**identity, "mode": mode})


def _mode(case: Case) -> Mode:
    if all(case.is_stale(site_id) for site_id in case.sites):
        return "hold"
    if any(case.view.price_at(site.settlement_point, case.now) is None for site in case.fleet.sites):
        return "price-blind"
    return "normal"


def _possible(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """Those at a site of this fleet, with some time to run, and the first of each name."""
    possible: dict[str, ThrottleControl] = {}
    for control in throttles:
        if control.site_id in case.sites and control.starts_at < control.ends_at and control.control_id not in possible:
            possible[control.control_id] = control
        else:
            case.note(control.control_id, "no such site, no time, or named twice")
    return list(possible.values())


def _named(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """A name that the plan before gave to something else is not given anew: sites know controls by their names."""
    held: dict[str, tuple[str, ...]] = {each.control_id: (each.site_id, each.reason) for each in case.before.throttles}
    held |= {each.control_id: ("shift",) for each in case.before.shifts}
    names = {each.control_id for each in throttles}
    named = []
    for control in throttles:
        mine, name = (control.site_id, control.reason), control.control_id
        if held.get(name, mine) != mine:
            name = next(each for each in other_names(name) if each not in names and held.get(each, mine) == mine)
            names.add(name)
            case.note(control.control_id, f"the name is another's: {name}")
        named.append(control.model_copy(update={"control_id": name}))
    return named


def _explained(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """Rule 12: what nobody can explain is not done for a price; for the grid it is, and marked."""
    kept = []
    for control in throttles:
        if control.explanation.strip():
            kept.append(control)
            continue
        case.note(control.control_id, "unexplained")
        if control.reason in GRID_REASONS:
            kept.append(control.model_copy(update={"explanation": UNEXPLAINED}))
    return kept


def _within_limits(control: ThrottleControl, case: Case) -> ThrottleControl:
    """Rules 1, 5 and 6: a target within [least power, import limit], a fallback never above it, the site's ramps."""
    site = case.sites[control.site_id]
    least = least_power_watts(site, case.fleet_file)
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
        case.note(wanted, f"limits of {site.id} allow {target:.0f} W")
    return held
