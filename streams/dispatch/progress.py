"""How a site tells how it goes: on its way to a target, at it, or above it; a share moving, or moved. Pure."""

from datetime import datetime, timedelta

from schemas.command import CommandAck, Shift, Throttle
from streams.dispatch.controller import answer, strongest_throttle
from streams.dispatch.state import ControllerState, Surroundings

_TOLERANCE_RATIO = 0.02  # meter noise
_GRACE = timedelta(seconds=60)  # actuators and meters lag


def progress(state: ControllerState, around: Surroundings, now: datetime) -> tuple[ControllerState, list[CommandAck]]:
    """An answer for each control whose progress has changed since it was last told."""
    if not (state.controls or state.told or state.at_target_since):
        return state, []
    state = _forgotten(state)
    state, answers = _of_throttle(state, around, now)
    for share in state.shares:
        control = state.control(share.control_id)
        if control is None or not isinstance(control.command, Shift) or share.goal_ratio == 0:
            continue
        command = control.command
        status = "compliant" if share.share_ratio == share.goal_ratio == command.share_ratio else "ramping"
        # Told again for each command of the control: a new planner waits for it under its own number.
        said = f"{status} {command.epoch}.{command.sequence}"
        if state.told.get(share.control_id) != said:
            state = _telling(state, share.control_id, said)
            answers.append(answer(state, command, status, around, now, share_ratio=share.share_ratio))
    return state, answers


def _of_throttle(
    state: ControllerState, around: Surroundings, now: datetime
) -> tuple[ControllerState, list[CommandAck]]:
    control = strongest_throttle(state, now)
    if control is None:
        return state, []
    command = control.command
    assert isinstance(command, Throttle)
    state = _noting_target(state, command, now)
    if around.meter_power_watts is None:
        return state, []
    since = state.at_target_since.get(command.control_id)
    status = _status(command, around.meter_power_watts, timedelta(0) if since is None else now - since)
    said = f"{status} {state.knob.knob}"
    if state.told.get(command.control_id) == said:
        return state, []
    state = _telling(state, command.control_id, said)
    return state, [answer(state, command, status, around, now, knob=state.knob.knob)]


def _forgotten(state: ControllerState) -> ControllerState:
    """Without what was told of controls that are gone."""
    held = {each.command.control_id for each in state.controls}
    if held >= state.told.keys() and held >= state.at_target_since.keys():
        return state
    told = {name: said for name, said in state.told.items() if name in held}
    since = {name: at for name, at in state.at_target_since.items() if name in held}
    return state.model_copy(update={"told": told, "at_target_since": since})


def _noting_target(state: ControllerState, command: Throttle, now: datetime) -> ControllerState:
    """Notes since when the power limit has been down at the target."""
    known = command.control_id in state.at_target_since
    down = state.limit_watts is not None and state.limit_watts <= command.target_power_watts
    if known == down:
        return state
    since = {name: at for name, at in state.at_target_since.items() if name != command.control_id}
    if down:
        since[command.control_id] = now
    return state.model_copy(update={"at_target_since": since})


def _telling(state: ControllerState, control_id: str, said: str) -> ControllerState:
    return state.model_copy(update={"told": {**state.told, control_id: said}})


def _status(command: Throttle, meter_watts: float, at_target: timedelta) -> str:
    if meter_watts <= command.target_power_watts * (1 + _TOLERANCE_RATIO):
        return "compliant"
    return "breach" if at_target > _GRACE else "ramping"
