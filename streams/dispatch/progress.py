"""How a site tells that it is on its way to a target, at it, or above it. Pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.command import CommandAck, Throttle
from streams.dispatch.controller import ControllerState, Surroundings, answer, strongest_throttle

_TOLERANCE_RATIO = 0.02  # meter noise
_GRACE = timedelta(seconds=60)  # actuators and meters lag


@dataclass(slots=True)
class Progress:
    """What was last told of each control, so that each change is told once."""

    told: dict[str, str] = field(default_factory=dict)

    def changes(self, state: ControllerState, around: Surroundings, now: datetime) -> list[CommandAck]:
        """An answer for the ruling throttle if its progress has changed since the last call."""
        control = strongest_throttle(state, now)
        self.told = {name: status for name, status in self.told.items() if state.control(name)}
        if control is None or around.meter_power_watts is None:
            return []
        command = control.command
        assert isinstance(command, Throttle)
        status = _status(command, state, around.meter_power_watts, now)
        if self.told.get(command.control_id) == status:
            return []
        self.told[command.control_id] = status
        return [answer(state, command, status, around, now)]


def _status(command: Throttle, state: ControllerState, meter_watts: float, now: datetime) -> str:
    if meter_watts <= command.target_power_watts * (1 + _TOLERANCE_RATIO):
        return "compliant"
    at_target_since = state.limit_watts is not None and state.limit_watts <= command.target_power_watts
    if at_target_since and now > command.starts_at + _GRACE:
        return "breach"
    return "ramping"
