"""A shift of traffic as a two-phase saga: reserved at the acceptor before the donor drains, and back again. Pure.

PROPOSED → RESERVED → RAMPING → ACTIVE → RETURNING → DONE, or ABORTED where nothing had moved yet. What is moved is
decided elsewhere: by the rules (`spread`) or by the optimiser (`moves`).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np

from forecasting.power import SitePower
from schemas.command import Release, Shift, Throttle
from schemas.fleet import FleetFile, Limits, Site
from schemas.plan import ShiftControl
from streams.capacity import class_work_per_second, work_per_second
from streams.policy.names import shortened
from streams.policy.view import FleetView

# Phases in which a shift still concerns somebody.
LIVING = frozenset({"proposed", "reserved", "ramping", "active", "returning"})
# Phases in which its share is, or is about to be, on the acceptor's side.
GIVING = frozenset({"proposed", "reserved", "ramping", "active"})
_HORIZON = timedelta(hours=1)
# A controller sees at one tick that a share is to move, and moves it from the next on.
_TICKS = timedelta(seconds=30)
# A site ends a lease by its own clock, which may be so far behind the planner's.
_CLOCKS = timedelta(seconds=30)
_LONGEST_NAME = 200


def continued(
    previous: Iterable[ShiftControl], view: FleetView, now: datetime, leaving: set[str]
) -> list[ShiftControl]:
    """The shifts under way in their next state; ended ones stay for the dwell, so that their sites rest.

    What a `leaving` site takes part in returns.
    """
    dwell = timedelta(seconds=view.fleet.limits.dwell_seconds)
    going = [_continued(control, view, now, leaving) for control in previous]
    return [control for control in going if control.phase in LIVING or now < control.phase_since + dwell]


def _continued(control: ShiftControl, view: FleetView, now: datetime, leaving: set[str]) -> ShiftControl:
    """A shift in its next state as far as the plan decides it; answers from the sites move it in `answered`."""
    limits = view.fleet.limits
    stood = (now - control.phase_since).total_seconds()
    match control.phase:
        case "returning":
            return _returned(control, view, now)
        case "ramping" if stood > control.ramp_seconds + limits.ack_timeout_seconds:
            control = moved_to(control, "active", now)  # the donor took it on; its word on the way was lost
    if control.phase not in GIVING:
        return control
    unanswered = control.phase in {"proposed", "reserved"} and stood > 3 * limits.ack_timeout_seconds
    # The acceptor has not confirmed its reservation for long: the donor's next lease would outlive it.
    unsure = drained_until(control, limits, now) < now + timedelta(seconds=limits.ack_timeout_seconds)
    if unanswered or unsure or {control.from_site_id, control.to_site_id} & leaving or now >= control.ends_at:
        return ended(control, now)
    return control


def _returned(control: ShiftControl, view: FleetView, now: datetime) -> ShiftControl:
    """A returning shift: done once its share is home."""
    ramp = timedelta(seconds=control.ramp_seconds)
    # A donor that never answers lets go by itself when its lease lapses, or at the end.
    lease_ends_at = control.phase_since + timedelta(seconds=view.fleet.limits.lease_seconds)
    by_itself_at = min(lease_ends_at, max(control.ends_at, control.phase_since)) + _CLOCKS + ramp
    home_at = control.home_at or by_itself_at
    heartbeat = view.sites[control.from_site_id].heartbeat
    # What moves stands still there, and goes home when the lock-out is lifted, perhaps just before the next look.
    lifted_at = now + timedelta(seconds=view.fleet.limits.plan_interval_seconds)
    if heartbeat is not None and heartbeat.locked_out and (control.home_at or lifted_at + ramp >= home_at):
        return control.model_copy(update={"home_at": max(home_at, lifted_at + ramp)})
    return moved_to(control, "done", now) if now >= home_at + _TICKS else control


def drained_until(control: ShiftControl, limits: Limits, now: datetime) -> datetime:
    """When a donor's lease given now ends: soon enough for its share to be home while the acceptor keeps room for it.

    Whatever is lost and whoever plans: it rests on what the acceptor has said.
    """
    lease_ends_at = now + timedelta(seconds=limits.lease_seconds)
    if control.reserved_until is None:
        return lease_ends_at
    return min(lease_ends_at, control.reserved_until - _CLOCKS - timedelta(seconds=control.ramp_seconds) - _TICKS)


def ended(control: ShiftControl, now: datetime) -> ShiftControl:
    """The shift on its way back. Nothing was moved yet by one that is only proposed: there is nothing to return."""
    return moved_to(control, "aborted" if control.phase == "proposed" else "returning", now)


def answered(control: ShiftControl, command: Throttle | Shift | Release, status: str, now: datetime) -> ShiftControl:
    """The shift after a site's answer to its newest command: the donor drains only once the acceptor has reserved."""
    control = _confirmed(control, command, status)
    acceptor, release = command.site_id == control.to_site_id, isinstance(command, Release)
    phase: str = control.phase
    match control.phase, status:
        case "proposed", "accepted" if acceptor:
            phase = "reserved"
        case "proposed", "rejected" | "partial" | "expired":
            phase = "aborted"
        case "reserved", "accepted" if not acceptor:
            phase = "ramping" if control.ramp_seconds > 0 else "active"
        case "ramping", "compliant" if not acceptor:
            phase = "active"
        case "reserved" | "ramping" | "active", "rejected" | "expired":
            phase = "returning"
        case "returning", "accepted" if release and not acceptor and control.home_at is None:
            # Only this says that the donor no longer drains; a donor that refuses is waited for until its lease
            # lapses. Its share comes home over the ramp, and has a place at the acceptor until then.
            return control.model_copy(update={"home_at": now + timedelta(seconds=control.ramp_seconds)})
    return control if phase == control.phase else moved_to(control, phase, now)


def _confirmed(control: ShiftControl, command: Throttle | Shift | Release, status: str) -> ShiftControl:
    """With what the answer says of the reservation: how long it holds, and that it need be no greater any more."""
    if not isinstance(command, Shift):
        return control
    if command.role == "reserve" and status == "accepted":
        until = max(control.reserved_until or command.lease_expires_at, command.lease_expires_at)
        return control.model_copy(update={"reserved_until": until})
    kept = control.reserved_share_ratio
    if command.role == "drain" and status == "compliant" and command.share_ratio == control.share_ratio and kept:
        watts = control.reserved_power_watts * control.share_ratio / kept
        return control.model_copy(update={"reserved_share_ratio": None, "reserved_power_watts": watts})
    return control


def moved_to(control: ShiftControl, phase: str, now: datetime) -> ShiftControl:
    """The shift in another phase from now on."""
    return control.model_copy(update={"phase": phase, "phase_since": now})


def proposed(
    donor: Site,
    acceptor: Site,
    service_class: str,
    share_ratio: float,
    view: FleetView,
    fleet_file: FleetFile,
    now: datetime,
    caused_by: list[str],
    why: str,
    others: Iterable[ShiftControl] = (),
) -> ShiftControl:
    """A new shift, for an hour unless it is prolonged; beside the `others`."""
    return ShiftControl(
        control_id=shortened(f"shift/{now:%Y%m%dT%H%M%SZ}/{donor.id}/{acceptor.id}/{service_class}", _LONGEST_NAME),
        from_site_id=donor.id,
        to_site_id=acceptor.id,
        service_class=service_class,
        share_ratio=share_ratio,
        reserved_power_watts=reserved_watts(view, fleet_file, donor, acceptor, service_class, share_ratio, others),
        ramp_seconds=view.fleet.limits.shift_ramp_seconds,
        phase="proposed",
        phase_since=now,
        starts_at=now,
        ends_at=now + _HORIZON,
        caused_by=caused_by,
        explanation=f"{share_ratio:.0%} of {service_class} from {donor.id} to {acceptor.id}: {why}",
    )


def prolonged(control: ShiftControl, now: datetime) -> ShiftControl:
    """A shift that is still wanted, with time before it: its end moves on in steps of half the horizon."""
    if control.phase in GIVING and control.ends_at - now < _HORIZON / 2:
        return control.model_copy(update={"ends_at": now + _HORIZON})
    return control


def reserved_watts(
    view: FleetView,
    fleet_file: FleetFile,
    donor: Site,
    acceptor: Site,
    service_class: str,
    share_ratio: float,
    others: Iterable[ShiftControl] = (),
) -> float:
    """The power at the acceptor's meter that the moved traffic adds: along its measured curve, after the `others`'."""
    there = view.sites[acceptor.id].load
    own = 0.0 if there is None else work_per_second(there, acceptor, fleet_file)
    for each in others:
        if each.to_site_id == acceptor.id and each.phase in {"proposed", "reserved"}:  # not arrived yet
            sender = view.site(each.from_site_id)
            own += each.share_ratio * class_work_per_second(
                view.sites[sender.id].load, sender, fleet_file, each.service_class
            )
    work = share_ratio * class_work_per_second(view.sites[donor.id].load, donor, fleet_file, service_class)
    curve = SitePower.of(acceptor, fleet_file.gpu_models)
    before, after = curve.watts(np.array([own, own + work]), np.zeros(2))
    return float(after - before)
