"""From plan to commands: standing orders compared with what was last sent. Pure; numbering and leases included.

A plan says what should hold. An order that is new or changed is sent, one whose lease runs on is renewed, one that
vanished before its end is released, one that nobody answered is sent again under a higher sequence.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.command import VERDICTS, CommandAck, Release, Shift, Throttle
from schemas.fleet import Limits
from schemas.plan import FleetPlan, ShiftControl, ThrottleControl

# After so many unanswered sendings a site counts as unresponsive; it is still told at every renewal.
_ATTEMPTS = 3

OrderKey = tuple[str, str]  # control, site
AnyCommand = Throttle | Shift | Release


@dataclass(slots=True)
class Sent:
    """The newest command of an order."""

    command: AnyCommand
    attempts: int = 1
    answered: bool = False


@dataclass(slots=True)
class Dispatch:
    """What was sent last for each order. A new planner starts with none, and so issues again what is in force."""

    sent: dict[OrderKey, Sent] = field(default_factory=dict)

    def answered(self, ack: CommandAck) -> bool:
        """Takes an answer; True if it is a verdict on the newest command of its order."""
        sent = self.sent.get((ack.control_id, ack.site_id))
        if sent is None or sent.command.order != (ack.epoch, ack.sequence) or ack.status not in VERDICTS:
            return False
        sent.answered = True
        if isinstance(sent.command, Release):
            del self.sent[ack.control_id, ack.site_id]
        return True

    def unresponsive_sites(self) -> set[str]:
        """Sites that have left a command unanswered through all attempts."""
        return {sent.command.site_id for sent in self.sent.values() if not sent.answered and sent.attempts >= _ATTEMPTS}


def next_commands(plan: FleetPlan, dispatch: Dispatch, limits: Limits, now: datetime) -> list[AnyCommand]:
    """The commands that follow from a plan, numbered from `plan.sequence` + 1, in the order of their controls.

    Notes in `dispatch` what is sent.
    """
    orders = _orders(plan, limits, now)
    commands: list[AnyCommand] = []
    for key in sorted(orders):
        wanted, sent = orders[key], dispatch.sent.get(key)
        if sent is None or isinstance(sent.command, Release) or _changed(wanted, sent.command, limits):
            command, attempts = wanted, 1
        elif _unanswered(sent, limits, now) or _due_for_renewal(sent, limits, now):
            command = wanted.model_copy(update={"renewal": True})
            attempts = 1 if sent.answered else sent.attempts + 1
        else:
            continue
        commands.append(_numbered(command, plan, len(commands)))
        dispatch.sent[key] = Sent(commands[-1], attempts)
    for key in sorted(set(dispatch.sent) - set(orders)):
        release = _release(dispatch, key, limits, now)
        if release is not None:
            commands.append(_numbered(release, plan, len(commands)))
            dispatch.sent[key].command = commands[-1]
    return commands


def _numbered(command: AnyCommand, plan: FleetPlan, place: int) -> AnyCommand:
    return command.model_copy(update={"epoch": plan.epoch, "sequence": plan.sequence + place + 1})


def _changed(wanted: Throttle | Shift, sent: Throttle | Shift, limits: Limits) -> bool:
    """True if the site must hear of a difference now; a later end waits for the renewal, unless that is too late."""
    if isinstance(wanted, Throttle) and isinstance(sent, Throttle):
        if abs(wanted.target_power_watts - sent.target_power_watts) > 1.0 or wanted.starts_at != sent.starts_at:
            return True
    elif wanted.share_ratio != sent.share_ratio:  # type: ignore[union-attr]
        return True
    if wanted.ends_at < sent.ends_at:
        return True
    return wanted.ends_at > sent.ends_at and sent.ends_at < sent.issued_at + timedelta(seconds=limits.renew_seconds)


def _unanswered(sent: Sent, limits: Limits, now: datetime) -> bool:
    waited = (now - sent.command.issued_at).total_seconds()
    return not sent.answered and sent.attempts < _ATTEMPTS and waited >= limits.ack_timeout_seconds


def _due_for_renewal(sent: Sent, limits: Limits, now: datetime) -> bool:
    return (now - sent.command.issued_at).total_seconds() >= limits.renew_seconds


def _release(dispatch: Dispatch, key: OrderKey, limits: Limits, now: datetime) -> Release | None:
    """The release of an order that vanished before its end; None where it ended by itself or was told already."""
    sent = dispatch.sent[key]
    command = sent.command
    if isinstance(command, Release):
        if not _unanswered(sent, limits, now):
            if sent.attempts >= _ATTEMPTS:
                del dispatch.sent[key]  # its lease has run out or will: nothing more can be said
            return None
        sent.attempts += 1
    elif command.ends_at <= now or command.lease_expires_at <= now:
        del dispatch.sent[key]
        return None
    else:
        sent.attempts, sent.answered = 1, False
    return Release(
        run_id=command.run_id,
        fleet_id=command.fleet_id,
        site_id=command.site_id,
        control_id=command.control_id,
        releases_control_id=command.control_id,
        epoch=command.epoch,
        sequence=command.sequence,
        issued_at=now,
        starts_at=now,
        ends_at=max(command.ends_at, now),
        lease_expires_at=now + timedelta(seconds=limits.lease_seconds),
        reason=command.reason,
        priority=command.priority,
        caused_by=command.caused_by,
        explanation=f"no longer needed: {command.explanation}"[:2000],
    )


def _orders(plan: FleetPlan, limits: Limits, now: datetime) -> dict[OrderKey, Throttle | Shift]:
    """What each site should have been told, by control and site; unnumbered."""
    orders: dict[OrderKey, Throttle | Shift] = {}
    for throttle in plan.throttles:
        if throttle.ends_at > now:
            orders[throttle.control_id, throttle.site_id] = _throttle(plan, throttle, limits, now)
    for shift in plan.shifts:
        # The acceptor keeps its reservation until the donor has come back; the donor drains only in between.
        if shift.phase in {"proposed", "reserved", "active", "returning"}:
            orders[shift.control_id, shift.to_site_id] = _shift(plan, shift, "reserve", limits, now)
        if shift.phase in {"reserved", "active"}:
            orders[shift.control_id, shift.from_site_id] = _shift(plan, shift, "drain", limits, now)
    return orders


def _throttle(plan: FleetPlan, control: ThrottleControl, limits: Limits, now: datetime) -> Throttle:
    return Throttle(
        run_id=plan.run_id,
        fleet_id=plan.fleet_id,
        site_id=control.site_id,
        control_id=control.control_id,
        epoch=plan.epoch,
        sequence=plan.sequence,
        issued_at=now,
        starts_at=control.starts_at,
        ends_at=control.ends_at,
        lease_expires_at=now + timedelta(seconds=limits.lease_seconds),
        reason=control.reason,
        priority=control.priority,
        caused_by=control.caused_by,
        explanation=control.explanation,
        target_power_watts=control.target_power_watts,
        ramp_down_watts_per_second=control.ramp_down_watts_per_second,
        ramp_up_watts_per_second=control.ramp_up_watts_per_second,
        fallback_power_watts=control.fallback_power_watts,
    )


def _shift(plan: FleetPlan, control: ShiftControl, role: str, limits: Limits, now: datetime) -> Shift:
    reserve = role == "reserve"
    # The reservation outlives the donor's lease: traffic on its way always has a place to land.
    lease_seconds = limits.lease_seconds * (1.5 if reserve else 1.0)
    return Shift(
        run_id=plan.run_id,
        fleet_id=plan.fleet_id,
        site_id=control.to_site_id if reserve else control.from_site_id,
        control_id=control.control_id,
        epoch=plan.epoch,
        sequence=plan.sequence,
        issued_at=now,
        starts_at=control.starts_at,
        ends_at=max(control.ends_at, now) + timedelta(seconds=lease_seconds if reserve else 0),
        lease_expires_at=now + timedelta(seconds=lease_seconds),
        reason="economics",
        caused_by=control.caused_by,
        explanation=control.explanation,
        role="reserve" if reserve else "drain",
        from_site_id=control.from_site_id,
        to_site_id=control.to_site_id,
        service_class=control.service_class,
        share_ratio=control.share_ratio,
        reserved_power_watts=control.reserved_power_watts,
    )
