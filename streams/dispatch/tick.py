"""What a site does from one moment to the next: the one step that the live service and the simulator call. Pure."""

from dataclasses import dataclass
from datetime import datetime

from schemas.command import CommandAck
from streams.dispatch.controller import asked_watts, elapse, strongest_throttle
from streams.dispatch.knob import turned
from streams.dispatch.limit import ramp, trimmed
from streams.dispatch.meter import believed
from streams.dispatch.progress import progress
from streams.dispatch.shares import moved, shares_in_force
from streams.dispatch.state import ControllerState, Surroundings


@dataclass(frozen=True, slots=True)
class Ticked:
    """The state after a tick, what to say, and what to tell the equipment.

    `limit_watts` is None where nothing need be held; `admission_ratio` is the share of requests of Flex 1 and above to
    let in; `shares` is of a (service class, site) what goes there; `meter_power_watts` is None where the meter is
    silent or not believed.
    """

    state: ControllerState
    acks: list[CommandAck]
    limit_watts: float | None
    admission_ratio: float
    shares: dict[tuple[str, str], float]
    meter_power_watts: float | None


def tick(state: ControllerState, around: Surroundings, full_power_watts: float, now: datetime) -> Ticked:
    """Lets the time since the last tick pass.

    Leases lapse and controls end; limit, admission and shares move for that time, at their ramps. Locked out, leases
    and controls still end, but all that moves stands still, and goes on from there with no jump.
    """
    state, around = believed(state, around, now)
    state, acks = elapse(state, around, now)
    if around.locked_out:
        state = state.model_copy(update={"moved_at": None})
    else:
        seconds = max(0.0, (now - state.moved_at).total_seconds()) if state.moved_at else 0.0
        ruling = strongest_throttle(state, now)
        state = trimmed(state, ruling, around, seconds, now)
        asked = None if ruling is None else asked_watts(ruling)
        # What held it lower ended at some time since the last tick, perhaps just now: a rise begins with this tick.
        rises = state.asked_watts is not None and (asked is None or asked > state.asked_watts)
        state = ramp(state, ruling, around, full_power_watts, 0.0 if rises else seconds)
        state = turned(state, ruling, around, full_power_watts, seconds, now)
        state = moved(state, seconds, now)
        state = state.model_copy(update={"moved_at": now, "asked_watts": asked})
    state, changes = progress(state, around, now)
    return Ticked(
        state,
        acks + changes,
        _ceiling(state, around, full_power_watts),
        state.knob.admission_ratio,
        shares_in_force(state),
        around.meter_power_watts,
    )


def _ceiling(state: ControllerState, around: Surroundings, full_power_watts: float) -> float | None:
    """The limit in force; free, the import limit where the site's GPUs could pass it."""
    could_pass = full_power_watts >= around.site.import_limit_watts
    return around.site.import_limit_watts if state.limit_watts is None and could_pass else state.limit_watts
