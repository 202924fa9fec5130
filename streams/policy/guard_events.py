"""The guard, rule 1: every throttle has an end, and none that serves an event ends before it. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from schemas.plan import ThrottleControl
from streams.policy.guard_case import GRID_REASONS, UNEXPLAINED, Case, gaps, span_of, strength

# No end lies further ahead, not even an event's: a later plan extends it.
_FARTHEST = timedelta(days=366)


def through_events(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """What holds a site through an event stays, and until the event's end; what serves none ends in sight."""
    throttles = _put_back(throttles, case)
    return [_until_its_time(each, throttles, case) for each in throttles]


def _put_back(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """A throttle of the plan before that an event still needs, and that nothing takes over from, goes on."""
    kept = {control.control_id: control for control in throttles}
    for control in case.before.throttles:
        runs = any(event.starts_at <= case.now for event in case.served(control))
        if not runs or control.site_id not in case.sites or not control.starts_at <= case.now < control.ends_at:
            continue
        if _is_held(control, [each for each in kept.values() if each.reason in GRID_REASONS], case):
            continue
        wanted = kept.get(control.control_id)
        if wanted is None:
            back = control.model_copy(update={"explanation": control.explanation or UNEXPLAINED})
        elif wanted.starts_at > case.now:
            back = wanted.model_copy(update={"starts_at": control.starts_at})
        else:
            continue  # it only ends too early
        kept[control.control_id] = back
        case.note(f"{control.control_id} dropped", f"{control.site_id} is held until its event ends")
    return list(kept.values())


def _is_held(control: ThrottleControl, by: Iterable[ThrottleControl], case: Case) -> bool:
    """True if others hold its site down from now until the events that it serves are over."""
    due = max(event.ends_at for event in case.served(control))
    return not gaps((case.now, due), [span_of(each) for each in by if each.site_id == control.site_id])


def _until_its_time(control: ThrottleControl, throttles: list[ThrottleControl], case: Case) -> ThrottleControl:
    farthest = case.now + _FARTHEST
    standing = [event.ends_at for event in case.served(control)]
    if standing:
        due = min(max(standing), farthest)
        if control.ends_at < due and not _covered(control, due, throttles):
            case.note(f"{control.control_id} until {control.ends_at:%d %H:%M:%S}", f"its event ends {due:%d %H:%M:%S}")
            return control.model_copy(update={"ends_at": due})
    latest = min(_latest_end(control, case), farthest)
    # Restores are spread over the time after an event: an end may lie a little beyond it.
    spread = timedelta(seconds=case.limits.lease_seconds + 2 * len(case.fleet.sites) * case.limits.stagger_seconds)
    if control.ends_at > latest + spread:
        case.note(f"{control.control_id} until {control.ends_at:%F %H:%M:%S}", "nothing that it serves lasts so long")
        return control.model_copy(update={"ends_at": latest})
    return control


def _covered(control: ThrottleControl, due: datetime, throttles: list[ThrottleControl]) -> bool:
    """True if others, stronger or at least as deep, hold its site from its end until it is due."""
    others = [
        span_of(each)
        for each in throttles
        if each.site_id == control.site_id
        and each.control_id != control.control_id
        and each.reason in GRID_REASONS
        and (strength(each) < strength(control) or each.target_power_watts <= control.target_power_watts)
    ]
    return not gaps((control.ends_at, due), others)


def _latest_end(control: ThrottleControl, case: Case) -> datetime:
    known = [event.ends_at for name in control.caused_by if (event := case.view.events.get(name)) is not None]
    if control.reason in GRID_REASONS and known:
        return max(known)
    return case.now + timedelta(seconds=case.limits.horizon_seconds + case.limits.lease_seconds)
