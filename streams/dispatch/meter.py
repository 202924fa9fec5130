"""Which of the meter's readings a controller believes. Pure.

Not believed: what is negative or no number, what is above twice the import limit, and what has stayed the same to the
last digit for two minutes in which the limit moved through it. Real meters flicker; one that hangs shows, through an
event, what was drawn before it.
"""

from datetime import datetime, timedelta

from streams.dispatch.state import ControllerState, LastReading, Surroundings

_STUCK = timedelta(seconds=120)
_MOVED_RATIO = 0.02  # of the import limit: a move of the power limit that the meter must show


def believed(state: ControllerState, around: Surroundings, now: datetime) -> tuple[ControllerState, Surroundings]:
    """The surroundings with the reading if it is believed and else with none; the state that remembers it."""
    around = around.plausible()
    watts, limit = around.meter_power_watts, state.limit_watts
    if watts is None:
        return state, around
    last = state.reading
    if last is None or watts != last.watts:
        return _with_reading(state, watts, limit, now), around
    if not _moved_through(watts, last.limit_watts, limit, around):
        return _with_reading(state, watts, last.limit_watts, now), around
    return state, around.with_meter(None) if now - last.same_since >= _STUCK else around


def _with_reading(state: ControllerState, watts: float, limit: float | None, now: datetime) -> ControllerState:
    return state.model_copy(update={"reading": LastReading(watts=watts, same_since=now, limit_watts=limit)})


def _moved_through(watts: float, then: float | None, now: float | None, around: Surroundings) -> bool:
    """Whether the limit's way since then should have moved the meter: far, and on one end at most at what it reads."""
    free = around.site.import_limit_watts
    ends = (free if then is None else then, free if now is None else now)
    return abs(ends[0] - ends[1]) > _MOVED_RATIO * free and min(ends) <= watts * (1 + _MOVED_RATIO)
