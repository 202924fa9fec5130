"""The guard, rule 8: traffic moves only where it may, step by step, and is home before its place is given up. Pure."""

from collections import defaultdict
from dataclasses import dataclass, field

from schemas.plan import ShiftControl, ShiftPhase, ThrottleControl
from streams.capacity import class_work_per_second, tokens_per_second, work_per_second
from streams.policy.guard_case import UNEXPLAINED, Case
from streams.policy.view import meter_watts

# The way of a shift; `aborted` ends it anywhere. A drain may be out from `reserved` on.
_WAY: tuple[ShiftPhase, ...] = ("proposed", "reserved", "ramping", "active", "returning", "done")
LIVING = frozenset(_WAY[:5])
_DRAINING = frozenset({"reserved", "ramping", "active"})
# What may not change between two plans: a site has been told it.
_FIXED = (
    "from_site_id",
    "to_site_id",
    "service_class",
    "reserved_power_watts",
    "reserved_until",
    "ramp_seconds",
    "starts_at",
)


def fair_shifts(shifts: list[ShiftControl], throttles: list[ThrottleControl], case: Case) -> list[ShiftControl]:
    """The shifts, each at most one step on from the plan before, within what donor, acceptor and link may do.

    One that may not go on returns if traffic may be moving, and is dropped if none can be.
    """
    before = {control.control_id: control for control in case.before.shifts}
    names = {control.control_id for control in throttles}
    wanted: dict[str, ShiftControl] = {}
    for control in shifts:
        if control.control_id in wanted or control.control_id in names:
            case.note(control.control_id, "named twice")
        else:
            wanted[control.control_id] = control
    wanted |= _forgotten(wanted, before, case)
    stepped = [_stepped(each, before.get(each.control_id), case) for each in wanted.values()]
    # Those under way have their share and their place already; a new one takes what is left.
    stepped.sort(key=lambda each: each.phase == "proposed")
    room = _Room(throttles, case)
    return [kept for each in stepped if (kept := _kept(each, before.get(each.control_id), room, case)) is not None]


def _forgotten(wanted: dict[str, ShiftControl], before: dict[str, ShiftControl], case: Case) -> dict[str, ShiftControl]:
    """Shifts that the plan no longer names, though their traffic may not be home: they return."""
    back = {}
    for name, control in before.items():
        away = control.phase in _DRAINING or (control.phase == "returning" and not _home(control, case))
        if name not in wanted and away:
            back[name] = _returning(control, case)
            case.note(f"{name} dropped", "its traffic comes home first")
    return back


def _home(control: ShiftControl, case: Case) -> bool:
    """True if a returning shift has had the time to."""
    return (case.now - control.phase_since).total_seconds() >= control.ramp_seconds


def _returning(control: ShiftControl, case: Case) -> ShiftControl:
    if control.phase == "returning":
        return control
    explanation = control.explanation or UNEXPLAINED
    return control.model_copy(update={"phase": "returning", "phase_since": case.now, "explanation": explanation})


def _stepped(control: ShiftControl, before: ShiftControl | None, case: Case) -> ShiftControl:
    """The shift no further on than the plan before lets it be."""
    if before is None:
        step = _begun(control, case)
    elif before.phase not in LIVING:
        step = before
    else:
        step = _continued(control, before, case)
    if step != control:
        was = "new" if before is None else before.phase
        case.note(f"{control.control_id} {control.phase}", f"it was {was}: it is {step.phase} as it was agreed")
    return step


def _begun(control: ShiftControl, case: Case) -> ShiftControl:
    """A new shift at the beginning of its way; its traffic moves within a lease, so that it is home within one."""
    if control.phase not in LIVING:
        return control
    since = min(control.phase_since, case.now) if control.phase == "proposed" else case.now
    ramp_seconds = min(control.ramp_seconds, case.limits.lease_seconds)
    return control.model_copy(update={"phase": "proposed", "phase_since": since, "ramp_seconds": ramp_seconds})


def _continued(control: ShiftControl, before: ShiftControl, case: Case) -> ShiftControl:
    phase = _next_phase(control.phase, before, case)
    since = before.phase_since if phase == before.phase else min(max(control.phase_since, before.phase_since), case.now)
    # A share may be lowered, and its reservation once the donor says that it is; to raise it takes a new control.
    share = min(control.share_ratio, before.share_ratio)
    kept = before.reserved_share_ratio or before.share_ratio
    changes = {
        "phase": phase,
        "phase_since": since,
        "share_ratio": share,
        "reserved_share_ratio": kept if kept > share else None,
        "explanation": control.explanation or UNEXPLAINED,
    }
    return control.model_copy(update=changes | {name: getattr(before, name) for name in _FIXED})


def _next_phase(phase: ShiftPhase, before: ShiftControl, case: Case) -> ShiftPhase:
    was = before.phase
    if phase in LIVING:
        skips = was == "proposed" and phase in {"ramping", "active"}
        return was if skips or _WAY.index(phase) < _WAY.index(was) else phase
    if was in _DRAINING or (was == "returning" and not _home(before, case)):
        return "returning"
    return phase


@dataclass(slots=True)
class _Room:
    """What is left of the donors' traffic and of the acceptors' power, as shifts are taken in."""

    throttles: list[ThrottleControl]
    case: Case
    given: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    promised: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    awaited: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    awaited_work: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def take(self, control: ShiftControl) -> None:
        """Counts a shift that stands."""
        self.given[control.from_site_id, control.service_class] += control.share_ratio
        self.promised[control.to_site_id] += control.reserved_power_watts
        if control.phase in {"proposed", "reserved"}:  # the power of the others is in what the site draws
            self.awaited[control.to_site_id] += control.reserved_power_watts
            self.awaited_work[control.to_site_id] += self._work(control)

    def why_not(self, control: ShiftControl) -> str | None:
        """Why there is no room for a shift; None if there is."""
        if self.given[control.from_site_id, control.service_class] + control.share_ratio > 1:
            return "more than the class may give there"
        site = self.case.sites[control.to_site_id]
        if self.promised[site.id] + control.reserved_power_watts > site.import_limit_watts:
            return f"{site.id} has promised its power"
        if control.phase not in {"proposed", "reserved"}:
            return None
        power = self.case.view.sites[site.id].power
        drawn = 0.0 if power is None else meter_watts(power, site)
        targets = [
            each.target_power_watts
            for each in self.throttles
            if each.site_id == site.id and each.starts_at <= self.case.now < each.ends_at
        ]
        room = min([site.import_limit_watts, *targets]) - drawn - self.awaited[site.id]
        if control.reserved_power_watts > room:
            return f"{site.id} has no room"
        # Near full load a site draws hardly more for more work: power alone says little of what it can take.
        load = self.case.view.sites[site.id].load
        arriving = 0.0 if load is None else work_per_second(load, site, self.case.fleet_file)
        work = arriving + self.awaited_work[site.id] + self._work(control)
        most = self.case.limits.site_headroom_ratio * tokens_per_second(site, self.case.fleet_file)
        return f"{site.id} has no capacity left" if work > most else None

    def _work(self, control: ShiftControl) -> float:
        donor = self.case.sites[control.from_site_id]
        load = self.case.view.sites[donor.id].load
        return control.share_ratio * class_work_per_second(load, donor, self.case.fleet_file, control.service_class)


def _kept(control: ShiftControl, before: ShiftControl | None, room: _Room, case: Case) -> ShiftControl | None:
    was_draining = before is not None and before.phase in _DRAINING
    under_way = control.phase == "returning" and before is not None
    why = None if under_way else _why_not(control, before, case)
    if why is None and control.phase in LIVING and not under_way:
        why = room.why_not(control)
    if why is not None:
        case.note(control.control_id, why)
        if not was_draining:
            return None
        control = _returning(control, case)
    if control.phase in LIVING:
        room.take(control)
    return control


def _why_not(control: ShiftControl, before: ShiftControl | None, case: Case) -> str | None:
    """Why a shift may not be; None if it may."""
    donor, acceptor = control.from_site_id, control.to_site_id
    classes = {service.id: service for service in case.fleet_file.service_classes}
    service = classes.get(control.service_class)
    if service is None or donor == acceptor or not {donor, acceptor} <= case.sites.keys():
        return "no such class, or not between two sites of the fleet"
    new = before is None and control.phase in LIVING
    emergency = any(each.kind == "emergency" and each.starts_at <= case.now for each in case.standing_events(donor))
    latency_seconds = case.fleet.link(donor, acceptor).latency_seconds
    reasons = {
        f"{service.id} is not served at both": service.sites and not {donor, acceptor} <= set(service.sites),
        f"too far for {service.id}": latency_seconds > service.added_latency_limit_seconds,
        "it has no time": control.starts_at >= control.ends_at,
        f"{service.id} is untouched outside an emergency": service.flex == 0 and not emergency,
        "unexplained": new and not control.explanation.strip(),
        "no recent power of both sites is known": new and (case.is_stale(donor) or case.is_stale(acceptor)),
    }
    return next((why for why, holds in reasons.items() if holds), None)
