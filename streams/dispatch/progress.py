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
    at_target_since: dict[str, datetime] = field(default_factory=dict)

    def changes(self, state: ControllerState, around: Surroundings, now: datetime) -> list[CommandAck]:
        """An answer for the ruling throttle if its progress has changed since the last call."""
        control = strongest_throttle(state, now)
        self.told = {name: status for name, status in self.told.items() if state.control(name)}
        self.at_target_since = {name: since for name, since in self.at_target_since.items() if state.control(name)}
        if control is None:
            return []
        command = control.command
        assert isinstance(command, Throttle)
        held_seconds = self._at_target(command, state, now)
        if around.meter_power_watts is None:
            return []
        status = _status(command, around.meter_power_watts, held_seconds)
        if self.told.get(command.control_id) == status:
            return []
        self.told[command.control_id] = status
        return [answer(state, command, status, around, now)]

    def _at_target(self, command: Throttle, state: ControllerState, now: datetime) -> timedelta:
        """How long the power limit has been down at the target."""
        if state.limit_watts is None or state.limit_watts > command.target_power_watts:
            self.at_target_since.pop(command.control_id, None)
            return timedelta(0)
        return now - self.at_target_since.setdefault(command.control_id, now)


def _status(command: Throttle, meter_watts: float, at_target: timedelta) -> str:
    if meter_watts <= command.target_power_watts * (1 + _TOLERANCE_RATIO):
        return "compliant"
    return "breach" if at_target > _GRACE else "ramping"
