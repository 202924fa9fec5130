"""The site controller as a state machine: accept, renew, lapse, fall back, release. Pure; `now` is an argument.

What it promises, whatever comes in: it acts on no stale, foreign, expired or future command; taking a command twice
changes nothing; a lapsed lease never raises load while the control's time runs; a lock-out is never overridden.
`tick` does the rest: what the site is held to from one second to the next.
"""

from datetime import datetime, timedelta

from schemas.command import PRECEDENCE, Command, CommandAck, Knob, Release, Shift, Throttle
from streams.dispatch.state import ControlInForce, ControllerState, Surroundings

__all__ = [
    "ControlInForce",
    "ControllerState",
    "Surroundings",
    "accept",
    "answer",
    "as_held",
    "asked_watts",
    "elapse",
    "resumed",
    "strongest_throttle",
    "target_in_force",
]

# How far a planner's clock may be ahead of the site's, or the site's ahead of the planner's.
_CLOCK_TOLERANCE = timedelta(seconds=30)
# Traffic that a place is reserved for begins to come within this; from then on the meter shows it.
_ARRIVES_WITHIN = timedelta(seconds=120)


def accept(
    state: ControllerState, command: Command, around: Surroundings, now: datetime
) -> tuple[ControllerState, CommandAck]:
    """Takes a command: the state after it, and the answer."""
    around = around.plausible()
    refusal = _refusal(state, command, around, now)
    new = command.site_id == state.site_id and command.run_id == state.run_id and command.order > state.highest
    if refusal is None and isinstance(command, Shift):
        refusal = _no_room(command, state, around, now)
    if new:
        update = {"epoch": command.epoch, "sequence": command.sequence, "newest": command, "newest_refusal": refusal}
        state = state.model_copy(update=update)
    if refusal is not None:
        return state, answer(state, command, "rejected", around, now, refusal)
    if isinstance(command, Release):
        return _let_go(state, command, now), answer(state, command, "accepted", around, now)
    status, detail = ("accepted", "")
    if isinstance(command, Throttle) and around.least_watts > command.target_power_watts:
        status, detail = "partial", f"the least power is {around.least_watts:.0f} W"
    said = answer(state, command, status, around, now, detail)
    if (known := _held_already(state, command, around)) is not None:
        # Another copy does not begin the lease anew. Its answer is that of the first: no higher pair was seen then.
        return state, known.answered or said
    held = as_held(command, around)
    uptime = around.uptime_seconds
    return state.with_control(ControlInForce(command=held, answered=said, received_uptime_seconds=uptime)), said


def as_held(command: Throttle | Shift, around: Surroundings) -> Throttle | Shift:
    """What the site makes of a command: its own limits stand above whatever it is told."""
    if isinstance(command, Shift):
        return command
    site = around.site
    return command.model_copy(
        update={
            "target_power_watts": _within_limits(command.target_power_watts, around),
            "fallback_power_watts": _within_limits(command.fallback_power_watts, around),
            "ramp_down_watts_per_second": min(command.ramp_down_watts_per_second, site.ramp_down_watts_per_second),
            "ramp_up_watts_per_second": min(command.ramp_up_watts_per_second, site.ramp_up_watts_per_second),
        }
    )


def _within_limits(watts: float, around: Surroundings) -> float:
    return min(max(watts, around.least_watts), around.site.import_limit_watts)


def _refusal(state: ControllerState, command: Command, around: Surroundings, now: datetime) -> str | None:
    """Why the command may not be acted on; None if it may."""
    if command.site_id != state.site_id:
        return f"for site {command.site_id}"
    if command.run_id != state.run_id:
        return f"of run {command.run_id}"
    return _overtaken(state, command, around) or _out_of_place(state, command, around, now)


def _overtaken(state: ControllerState, command: Command, around: Surroundings) -> str | None:
    """Why the command's pair does not count."""
    if command.order < state.highest and _held_already(state, command, around) is None:
        return "a higher pair has been seen"
    if state.newest is None or not command.order == state.highest == state.newest.order:
        return None
    # Once answered, a command keeps its answer; and no other one has its pair.
    return state.newest_refusal if command == state.newest else "another command of this pair has been seen"


def _out_of_place(state: ControllerState, command: Command, around: Surroundings, now: datetime) -> str | None:
    """Why the command can't be acted on here and now."""
    if around.locked_out:
        return "locked out locally"
    if command.lease_expires_at <= now or (command.ends_at <= now and not isinstance(command, Release)):
        return "expired"
    if command.issued_at > now + _CLOCK_TOLERANCE:
        return "from the future"
    held = state.control(command.control_id)
    if held is not None and not isinstance(command, Release) and held.command.kind != command.kind:
        return f"its control is a {held.command.kind}"  # it would take the place of what holds the site
    return None


def _held_already(state: ControllerState, command: Command, around: Surroundings) -> ControlInForce | None:
    """What the site holds, if the command is another copy of it: no stale one, taking it twice changes nothing."""
    held = state.control(command.control_id)
    if held is None or isinstance(command, Release) or held.command != as_held(command, around):
        return None
    return held


def _let_go(state: ControllerState, command: Release, now: datetime) -> ControllerState:
    """Ends a control; a throttle when the release says so, since sites are let go one after the other."""
    control = state.control(command.releases_control_id)
    if control is None:
        return state
    held = control.command
    if isinstance(held, Shift) and command.reason == "emergency":
        # Its traffic comes home at once; otherwise `shares` brings it home over its ramp.
        kept = tuple(each for each in state.shares if each.control_id != held.control_id)
        state = state.model_copy(update={"shares": kept})
    if isinstance(held, Shift) or command.starts_at <= now or held.starts_at >= command.starts_at:
        return _released(state, held.control_id)
    ending = held.model_copy(
        update={
            "ends_at": min(held.ends_at, command.starts_at),
            "lease_expires_at": max(held.lease_expires_at, command.lease_expires_at),
        }
    )
    return state.with_control(control.model_copy(update={"command": ending}))


def _released(state: ControllerState, control_id: str) -> ControllerState:
    control = state.control(control_id)
    if control is None:
        return state
    if isinstance(control.command, Throttle):
        state = state.model_copy(update={"ramp_up_watts_per_second": control.command.ramp_up_watts_per_second})
    return state.without(control_id)


def _no_room(command: Shift, state: ControllerState, around: Surroundings, now: datetime) -> str | None:
    """Why an acceptor can't reserve, or a donor not drain; None for a reservation that it already holds."""
    if command.role == "drain":
        given = _given_away(command, state)
        over = given + command.share_ratio > 1 + 1e-9
        return f"{given:.0%} of {command.service_class} goes away already" if over else None
    held = state.control(command.control_id)
    if (
        held
        and isinstance(held.command, Shift)
        and held.command.role == "reserve"
        and held.command.reserved_power_watts >= command.reserved_power_watts
    ):
        return None
    drawn = around.meter_power_watts
    if drawn is None:
        return "no room known of: the meter is silent"
    target = target_in_force(state, now)
    ceiling = around.site.import_limit_watts if target is None else min(target, around.site.import_limit_watts)
    promised = sum(
        each.command.reserved_power_watts
        for each in state.controls
        if isinstance(each.command, Shift)
        and each.command.role == "reserve"
        and each.command.control_id != command.control_id
        and now < each.command.starts_at + timedelta(seconds=each.command.ramp_seconds) + _ARRIVES_WITHIN
    )
    if drawn + promised + command.reserved_power_watts > ceiling:
        return f"no room: {drawn:.0f} W drawn, {promised:.0f} W promised, {ceiling:.0f} W allowed"
    return None


def _given_away(command: Shift, state: ControllerState) -> float:
    """The most of the class that goes elsewhere, now or once all shares have moved, this command's own aside."""
    own = (command.control_id, command.service_class, command.to_site_id)
    given: dict[tuple[str, str, str], float] = {}
    for moved in state.shares:  # what is on its way home has not arrived there yet
        given[moved.control_id, moved.service_class, moved.to_site_id] = moved.share_ratio
    for control in state.controls:
        each = control.command
        if isinstance(each, Shift) and each.role == "drain":
            key = (each.control_id, each.service_class, each.to_site_id)
            given[key] = max(each.share_ratio, given.get(key, 0.0))
    return sum(share for key, share in given.items() if key != own and key[1] == command.service_class)


def elapse(state: ControllerState, around: Surroundings, now: datetime) -> tuple[ControllerState, list[CommandAck]]:
    """Lets time pass: controls whose time is over end, leases that were not renewed lapse."""
    answers = []
    for control in state.controls:
        command = control.command
        if now >= command.ends_at:
            state = _released(state, command.control_id)
        elif not control.lapsed and _lease_is_over(control, around, now):
            answers.append(answer(state, command, "expired", around, now, "the lease was not renewed"))
            if isinstance(command, Shift):
                state = state.without(command.control_id)  # traffic comes home, a reservation is given up
            else:
                state = state.with_control(control.model_copy(update={"lapsed": True}))
    return state, answers


def _lease_is_over(control: ControlInForce, around: Surroundings, now: datetime) -> bool:
    """Whether the lease has run out: on the monotonic clock from receipt, never long after what the command says."""
    command, received = control.command, control.received_uptime_seconds
    if received is None or around.uptime_seconds is None:
        return now >= command.lease_expires_at
    lasts_seconds = (command.lease_expires_at - command.issued_at).total_seconds()
    return around.uptime_seconds - received >= lasts_seconds or now >= command.lease_expires_at + _CLOCK_TOLERANCE


def resumed(state: ControllerState) -> ControllerState:
    """The state after the controller has stood still or was started anew.

    What it moves goes on from where it is and does not catch up; its leases go by the wall clock, since nobody knows
    what the monotonic one has missed.
    """
    controls = tuple(each.model_copy(update={"received_uptime_seconds": None}) for each in state.controls)
    return state.model_copy(update={"controls": controls, "moved_at": None, "reading": None})


def strongest_throttle(state: ControllerState, now: datetime) -> ControlInForce | None:
    """The one throttle that rules now: by precedence, then priority, then the lower target."""
    ruling = [
        each
        for each in state.controls
        if isinstance(each.command, Throttle) and each.command.starts_at <= now < each.command.ends_at
    ]
    return min(
        ruling,
        key=lambda each: (PRECEDENCE.index(each.command.reason), each.command.priority, asked_watts(each)),
        default=None,
    )


def asked_watts(control: ControlInForce) -> float:
    """What a throttle asks for, in W: after its lease has lapsed, the lower of its fallback and its last target."""
    assert isinstance(control.command, Throttle)
    target = control.command.target_power_watts
    return min(target, control.command.fallback_power_watts) if control.lapsed else target


def target_in_force(state: ControllerState, now: datetime) -> float | None:
    """The power target in W that rules now; None where the site is free."""
    control = strongest_throttle(state, now)
    return None if control is None else asked_watts(control)


def answer(
    state: ControllerState,
    command: Command,
    status: str,
    around: Surroundings,
    now: datetime,
    detail: str = "",
    *,
    share_ratio: float | None = None,
    knob: Knob | None = None,
) -> CommandAck:
    """The site's answer to a command."""
    return CommandAck.model_validate(
        {
            "run_id": command.run_id,
            "fleet_id": command.fleet_id,
            "site_id": state.site_id,
            "control_id": command.control_id,
            "epoch": command.epoch,
            "sequence": command.sequence,
            "status": status,
            "observed_at": now,
            "detail": detail,
            "meter_power_watts": around.meter_power_watts,
            "share_ratio": share_ratio,
            "knob": knob,
            "highest_epoch": state.epoch,
            "highest_sequence": state.sequence,
        }
    )
