"""From plan to commands: standing orders compared with what was last sent. Pure; numbering and leases included.

A plan says what should hold. An order that is new or changed is sent, one whose lease runs on is renewed, one that
vanished before its end is released, one that nobody answered is sent again under a higher sequence.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.command import VERDICTS, CommandAck, Release, Shift, Throttle
from schemas.fleet import Limits
from schemas.plan import FleetPlan
from streams.policy.guard_throttles import first_apart
from streams.policy.orders import LONGEST_EXPLANATION, AnyCommand, OrderKey, not_let_go, orders_of

# After so many unanswered sendings a site counts as unresponsive; it is still told at every renewal.
_ATTEMPTS = 3
# A target that moves by less is within what a meter can tell: it waits for the renewal.
_LEAST_CHANGE_RATIO = 0.0025


@dataclass(slots=True)
class Sent:
    """The newest command of an order."""

    command: AnyCommand
    attempts: int = 1
    answered: bool = False
    overtaken: bool = False  # the site had heard a later command before, and refused: it is to be sent again
    before_watts: float = 0.0  # of a throttle: what the site may hold to as long as this one is not answered


@dataclass(slots=True)
class Dispatch:
    """What was sent last for each order. A new planner starts with none, and so issues again what is in force."""

    sent: dict[OrderKey, Sent] = field(default_factory=dict)
    restores: dict[str, datetime] = field(default_factory=dict)  # by site: when its last release lets it rise
    awaited: set[OrderKey] = field(default_factory=set)  # throttles that fall; others rise when these are answered

    def answered(self, ack: CommandAck) -> AnyCommand | None:
        """Takes an answer; gives the newest command of its order if the answer says what became of that one.

        Of a shift it gives it for progress too.
        """
        sent = self.sent.get((ack.control_id, ack.site_id))
        if sent is None or sent.command.order != (ack.epoch, ack.sequence):
            return None
        if ack.status not in VERDICTS | {"expired"}:
            return sent.command if isinstance(sent.command, Shift) else None  # how far its share has come
        if ack.status == "rejected" and ack.highest_epoch == ack.epoch and ack.highest_sequence > ack.sequence:
            sent.overtaken = True
            return None
        sent.answered = True
        self.awaited.discard((ack.control_id, ack.site_id))
        # A site that refuses to let go (it is locked out, say) still holds: it is told again at every renewal.
        if isinstance(sent.command, Release) and ack.status != "rejected":
            del self.sent[ack.control_id, ack.site_id]
        return sent.command

    def has_overtaken(self) -> bool:
        """True if a command is to be sent again at once."""
        return any(sent.overtaken for sent in self.sent.values())

    def inherit(self, before: FleetPlan, plan: FleetPlan, limits: Limits, now: datetime) -> None:
        """Notes what another planner may have told by the plan `before` and `plan` no longer holds, to release it."""
        held = orders_of(plan, limits, now)
        for key, order in (orders_of(before, limits, now) | not_let_go(before, limits, now)).items():
            if key not in held and key not in self.sent:
                self.sent[key] = Sent(order)

    def unresponsive_sites(self) -> set[str]:
        """Sites that have left a command unanswered through all attempts."""
        return {sent.command.site_id for sent in self.sent.values() if not sent.answered and sent.attempts >= _ATTEMPTS}


def next_commands(plan: FleetPlan, dispatch: Dispatch, limits: Limits, now: datetime) -> list[AnyCommand]:
    """The commands that follow from a plan, numbered from `plan.sequence` + 1; notes in `dispatch` what is sent.

    What starts first comes first, releases last: a site that changes from one control to another is never free between.
    """
    orders = _one_falls_before_another_rises(orders_of(plan, limits, now), dispatch, limits, now)
    commands: list[AnyCommand] = []
    for key in sorted(orders, key=lambda each: (orders[each].starts_at, each)):
        wanted, sent = orders[key], dispatch.sent.get(key)
        if sent is None or isinstance(sent.command, Release) or _changed(wanted, sent.command, limits, now):
            command, attempts = wanted, 1
        elif _unanswered(sent, limits, now) or _due_for_renewal(sent, limits, now):
            command = wanted.model_copy(update={"renewal": sent.answered or sent.command.renewal})
            attempts = 1 if sent.answered or sent.overtaken else sent.attempts + 1
        else:
            continue
        commands.append(_numbered(command, plan, len(commands)))
        dispatch.sent[key] = Sent(commands[-1], attempts, before_watts=_may_hold_watts(sent))
    for key in sorted(set(dispatch.sent) - set(orders)):
        release = _release(plan, dispatch, key, limits, now)
        if release is not None:
            commands.append(_numbered(release, plan, len(commands)))
            dispatch.sent[key].command = commands[-1]
    return commands


def _one_falls_before_another_rises(
    orders: dict[OrderKey, Throttle | Shift], dispatch: Dispatch, limits: Limits, now: datetime
) -> dict[OrderKey, Throttle | Shift]:
    """The orders, with throttles that rise left where they are until all that fall have been answered.

    What the grid asks of a fleet is divided among its sites anew every few minutes. Of a division that arrives in part
    only the part that falls may be in force, else the fleet stands above its target until the rest is sent again.
    """
    falling, rising = set(), {}
    for key, order in orders.items():
        if not isinstance(order, Throttle) or order.reason == "economics":
            continue
        sent = dispatch.sent.get(key)
        if _falls(order, sent, limits, now):
            falling.add(key)
        elif sent is not None and isinstance(sent.command, Throttle):
            watts = sent.command.target_power_watts
            if watts < order.target_power_watts:
                fallback = min(watts, order.fallback_power_watts)
                update = {"target_power_watts": watts, "fallback_power_watts": fallback}
                rising[key] = order.model_copy(update=update)
    dispatch.awaited = falling if rising else set()
    return {**orders, **rising} if falling else orders


def _falls(wanted: Throttle, sent: Sent | None, limits: Limits, now: datetime) -> bool:
    """True if the site may stand above the target that is wanted; a site that never answers is planned without."""
    if sent is None or not isinstance(sent.command, Throttle):
        return True
    if sent.answered:
        lower = wanted.target_power_watts < sent.command.target_power_watts
        return lower and _changed(wanted, sent.command, limits, now)
    return sent.attempts < _ATTEMPTS and _may_hold_watts(sent) > wanted.target_power_watts


def _may_hold_watts(sent: Sent | None) -> float:
    """The highest target that a site may hold to whatever became of what it was sent."""
    if sent is None or not isinstance(sent.command, Throttle):
        return math.inf
    target = sent.command.target_power_watts
    return target if sent.answered else max(target, sent.before_watts)


def _numbered(command: AnyCommand, plan: FleetPlan, place: int) -> AnyCommand:
    return command.model_copy(update={"epoch": plan.epoch, "sequence": plan.sequence + place + 1})


def _changed(wanted: Throttle | Shift, sent: Throttle | Shift, limits: Limits, now: datetime) -> bool:
    """True if the site must hear of a difference now; a later end waits for the renewal, unless that is too late."""
    if isinstance(wanted, Throttle) and isinstance(sent, Throttle):
        moved = abs(wanted.target_power_watts - sent.target_power_watts)
        begins_otherwise = wanted.starts_at != sent.starts_at and max(wanted.starts_at, sent.starts_at) > now
        if moved > _LEAST_CHANGE_RATIO * sent.target_power_watts or begins_otherwise:
            return True
    elif wanted.share_ratio != sent.share_ratio:  # type: ignore[union-attr]
        return True
    if wanted.ends_at < sent.ends_at:
        return True
    return wanted.ends_at > sent.ends_at and sent.ends_at < sent.issued_at + timedelta(seconds=limits.renew_seconds)


def _unanswered(sent: Sent, limits: Limits, now: datetime) -> bool:
    if sent.overtaken:
        return True
    waited = (now - sent.command.issued_at).total_seconds()
    return not sent.answered and sent.attempts < _ATTEMPTS and waited >= limits.ack_timeout_seconds


def _due_for_renewal(sent: Sent, limits: Limits, now: datetime) -> bool:
    return (now - sent.command.issued_at).total_seconds() >= limits.renew_seconds


def _release(plan: FleetPlan, dispatch: Dispatch, key: OrderKey, limits: Limits, now: datetime) -> Release | None:
    """The release of an order that vanished before its end; None where it is over or need not be said again yet."""
    sent = dispatch.sent[key]
    command = sent.command
    # A throttle outlives its lease: the site falls back and holds until the end. A shift does not.
    if command.ends_at <= now or (isinstance(command, Shift) and command.lease_expires_at <= now):
        del dispatch.sent[key]
        return None
    if not isinstance(command, Release):
        starts_at = min(_restore_time(plan, dispatch, command, limits, now), command.ends_at)
        sent.attempts, sent.answered = 1, False
    elif _unanswered(sent, limits, now) or _due_for_renewal(sent, limits, now):
        starts_at = command.starts_at
        heard = sent.answered or sent.overtaken
        sent.attempts, sent.answered = 1 if heard else sent.attempts + 1, False
    else:
        return None
    sent.overtaken = False
    return Release(
        run_id=command.run_id,
        fleet_id=command.fleet_id,
        site_id=command.site_id,
        control_id=command.control_id,
        releases_control_id=command.control_id,
        epoch=command.epoch,
        sequence=command.sequence,
        issued_at=now,
        starts_at=starts_at,
        # Until then the site may still hold, and is told.
        ends_at=command.lease_expires_at if isinstance(command, Shift) else command.ends_at,
        lease_expires_at=now + timedelta(seconds=limits.lease_seconds),
        reason=command.reason,
        priority=command.priority,
        caused_by=command.caused_by,
        explanation=command.explanation
        if isinstance(command, Release)
        else f"no longer needed: {command.explanation}"[:LONGEST_EXPLANATION],
    )


def _restore_time(
    plan: FleetPlan, dispatch: Dispatch, command: Throttle | Shift, limits: Limits, now: datetime
) -> datetime:
    """When a site may let go: sites never rise together, be it by a release or at the end of a throttle."""
    site_id = command.site_id
    held = any(each.site_id == site_id and each.starts_at <= now < each.ends_at for each in plan.throttles)
    if isinstance(command, Shift) or command.starts_at > now or held:
        return now
    ends = [each.ends_at for each in plan.throttles if each.site_id != site_id]
    taken = [*ends, *(at for other, at in dispatch.restores.items() if other != site_id)]
    dispatch.restores[site_id] = first_apart(now, taken, limits.stagger_seconds)
    return dispatch.restores[site_id]
