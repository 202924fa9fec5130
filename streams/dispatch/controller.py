"""The site controller as a state machine: accept, renew, lapse, fall back, release. Pure; `now` is an argument.

What it promises, whatever comes in: it acts on no stale, foreign, expired or future command; taking a command twice
changes nothing; a lapsed lease never raises load while the control's time runs; a lock-out is never overridden.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from schemas.command import PRECEDENCE, Command, CommandAck, Release, Shift, Throttle
from schemas.fleet import Site
from schemas.units import UtcTime

# How far a planner's clock may be ahead of the site's.
_CLOCK_TOLERANCE = timedelta(seconds=30)


class ControlInForce(BaseModel):
    """A command that the site has taken on, and whether its lease has lapsed since."""

    model_config = ConfigDict(frozen=True)

    command: Throttle | Shift
    lapsed: bool = False


class ControllerState(BaseModel):
    """All that a controller must not forget: kept on disk, so that a restart resumes the lease."""

    model_config = ConfigDict(frozen=True)

    site_id: str
    epoch: int = 0
    sequence: int = 0
    controls: tuple[ControlInForce, ...] = ()
    next_offset: int | None = None
    owed: tuple[CommandAck, ...] = ()  # decided, and perhaps not said yet
    limit_watts: float | None = None
    limit_at: UtcTime | None = None
    ramp_up_watts_per_second: float | None = None

    @property
    def highest(self) -> tuple[int, int]:
        """The highest (epoch, sequence) seen."""
        return (self.epoch, self.sequence)

    def control(self, control_id: str) -> ControlInForce | None:
        """The control of that name, if the site holds it."""
        return next((each for each in self.controls if each.command.control_id == control_id), None)

    def with_control(self, control: ControlInForce) -> "ControllerState":
        """With the control in place of any of its name."""
        name = control.command.control_id
        if self.control(name) is None:
            return self.model_copy(update={"controls": (*self.controls, control)})
        controls = tuple(control if each.command.control_id == name else each for each in self.controls)
        return self.model_copy(update={"controls": controls})

    def without(self, control_id: str) -> "ControllerState":
        """Without the control of that name."""
        return self.model_copy(
            update={"controls": tuple(each for each in self.controls if each.command.control_id != control_id)}
        )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the site knows of itself at the moment."""

    site: Site
    meter_power_watts: float | None = None
    locked_out: bool = False


def accept(
    state: ControllerState, command: Command, around: Surroundings, now: datetime
) -> tuple[ControllerState, CommandAck]:
    """Takes a command: the state after it, and the answer."""
    refusal = _refusal(state, command, around, now)
    if command.site_id == state.site_id and command.order > state.highest:
        state = state.model_copy(update={"epoch": command.epoch, "sequence": command.sequence})
    if refusal is None and isinstance(command, Shift):
        refusal = _no_room(command, state, around, now)
    if refusal is not None:
        return state, answer(state, command, "rejected", around, now, refusal)
    if isinstance(command, Release):
        return _let_go(state, command, now), answer(state, command, "accepted", around, now)
    held = as_held(command, around.site)
    status, detail = ("accepted", "")
    if isinstance(command, Throttle) and around.site.minimum_on_watts > command.target_power_watts:
        status, detail = "partial", f"minimum-on is {around.site.minimum_on_watts:.0f} W"
    return state.with_control(ControlInForce(command=held)), answer(state, command, status, around, now, detail)


def as_held(command: Throttle | Shift, site: Site) -> Throttle | Shift:
    """What the site makes of a command: its own limits stand above whatever it is told."""
    if isinstance(command, Shift):
        return command
    target = min(max(command.target_power_watts, site.minimum_on_watts), site.import_limit_watts)
    return command.model_copy(
        update={
            "target_power_watts": target,
            "fallback_power_watts": max(command.fallback_power_watts, site.minimum_on_watts),
            "ramp_down_watts_per_second": min(command.ramp_down_watts_per_second, site.ramp_down_watts_per_second),
            "ramp_up_watts_per_second": min(command.ramp_up_watts_per_second, site.ramp_up_watts_per_second),
        }
    )


def _refusal(state: ControllerState, command: Command, around: Surroundings, now: datetime) -> str | None:
    """Why the command may not be acted on; None if it may."""
    if command.site_id != state.site_id:
        return f"for site {command.site_id}"
    if command.order < state.highest and not _is_held(state, command, around.site):
        return "a higher pair has been seen"
    if around.locked_out:
        return "locked out locally"
    if command.lease_expires_at <= now or (command.ends_at <= now and not isinstance(command, Release)):
        return "expired"
    if command.issued_at > now + _CLOCK_TOLERANCE:
        return "from the future"
    return None


def _is_held(state: ControllerState, command: Command, site: Site) -> bool:
    """True for another copy of a command that the site holds: no stale one, taking it twice changes nothing."""
    held = state.control(command.control_id)
    return held is not None and not isinstance(command, Release) and held.command == as_held(command, site)


def _let_go(state: ControllerState, command: Release, now: datetime) -> ControllerState:
    """Ends a control; a throttle when the release says so, since sites are let go one after the other."""
    control = state.control(command.releases_control_id)
    if control is None:
        return state
    held = control.command
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
    others = [
        each.command
        for each in state.controls
        if isinstance(each.command, Shift) and each.command.control_id != command.control_id
    ]
    if command.role == "drain":
        draining = [each for each in others if each.role == "drain" and each.service_class == command.service_class]
        given = sum(each.share_ratio for each in draining)
        return f"{given:.0%} of {command.service_class} goes away already" if given + command.share_ratio > 1 else None
    held = state.control(command.control_id)
    if held and isinstance(held.command, Shift) and held.command.reserved_power_watts >= command.reserved_power_watts:
        return None
    target = target_in_force(state, now)
    ceiling = around.site.import_limit_watts if target is None else min(target, around.site.import_limit_watts)
    drawn = around.meter_power_watts or 0.0
    promised = sum(each.reserved_power_watts for each in others if each.role == "reserve")
    if drawn + promised + command.reserved_power_watts > ceiling:
        return f"no room: {drawn:.0f} W drawn, {promised:.0f} W promised, {ceiling:.0f} W allowed"
    return None


def elapse(state: ControllerState, around: Surroundings, now: datetime) -> tuple[ControllerState, list[CommandAck]]:
    """Lets time pass: controls whose time is over end, leases that were not renewed lapse."""
    answers = []
    for control in state.controls:
        command = control.command
        if now >= command.ends_at:
            state = _released(state, command.control_id)
        elif now >= command.lease_expires_at and not control.lapsed:
            answers.append(answer(state, command, "expired", around, now, "the lease was not renewed"))
            if isinstance(command, Shift):
                state = state.without(command.control_id)  # traffic comes home, a reservation is given up
            else:
                state = state.with_control(control.model_copy(update={"lapsed": True}))
    return state, answers


def strongest_throttle(state: ControllerState, now: datetime) -> ControlInForce | None:
    """The one throttle that rules now: by precedence, then priority, then the lower target."""
    ruling = [
        each
        for each in state.controls
        if isinstance(each.command, Throttle) and each.command.starts_at <= now < each.command.ends_at
    ]
    return min(
        ruling,
        key=lambda each: (PRECEDENCE.index(each.command.reason), each.command.priority, _asked(each)),
        default=None,
    )


def _asked(control: ControlInForce) -> float:
    """What a throttle asks for: after its lease has lapsed, the lower of its fallback and its last target."""
    assert isinstance(control.command, Throttle)
    target = control.command.target_power_watts
    return min(target, control.command.fallback_power_watts) if control.lapsed else target


def target_in_force(state: ControllerState, now: datetime) -> float | None:
    """The power target in W that rules now; None where the site is free."""
    control = strongest_throttle(state, now)
    return None if control is None else _asked(control)


def ramp(state: ControllerState, around: Surroundings, full_power_watts: float, now: datetime) -> ControllerState:
    """Moves the power limit towards the target at the ramps that hold; free again, it rises until it binds no more.

    Locked out the limit stays; it goes on from there, with no jump.
    """
    control = strongest_throttle(state, now)
    if control is None and state.limit_watts is None:
        return state
    if around.locked_out:
        return resumed(state)
    start = state.limit_watts
    if start is None:
        # From what the site draws now: a limit above that would let the ramp begin with nothing happening. But not
        # from below the target: a site that draws little is not held to that little.
        start = around.meter_power_watts if around.meter_power_watts is not None else full_power_watts
        start = max(start, target_in_force(state, now) or 0.0)
    seconds = (now - state.limit_at).total_seconds() if state.limit_at else 0.0
    if control is not None:
        command = control.command
        assert isinstance(command, Throttle)
        target, down, up = _asked(control), command.ramp_down_watts_per_second, command.ramp_up_watts_per_second
    else:
        target, down = full_power_watts, around.site.ramp_down_watts_per_second
        up = state.ramp_up_watts_per_second or around.site.ramp_up_watts_per_second
    limit = max(target, start - down * seconds) if target < start else min(target, start + up * seconds)
    if control is None and limit >= full_power_watts:
        return state.model_copy(update={"limit_watts": None, "limit_at": None, "ramp_up_watts_per_second": None})
    return state.model_copy(update={"limit_watts": limit, "limit_at": now, "ramp_up_watts_per_second": up})


def resumed(state: ControllerState) -> ControllerState:
    """The state after the controller has stood still: its limit moves on from where it is, it does not catch up."""
    return state.model_copy(update={"limit_at": None})


def shares_in_force(state: ControllerState, now: datetime) -> dict[tuple[str, str], float]:
    """The share of each (service class, acceptor) that the site sends away now."""
    shares: dict[tuple[str, str], float] = {}
    for control in state.controls:
        command = control.command
        if isinstance(command, Shift) and command.role == "drain" and command.starts_at <= now:
            place = (command.service_class, command.to_site_id)
            shares[place] = shares.get(place, 0.0) + command.share_ratio
    return shares


def answer(
    state: ControllerState, command: Command, status: str, around: Surroundings, now: datetime, detail: str = ""
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
            "highest_epoch": state.epoch,
            "highest_sequence": state.sequence,
        }
    )
