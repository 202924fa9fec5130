"""The power limit that a site's equipment is given: ramped to the target, less what the meter shows too much. Pure.

A cap set at the target need not put the meter there: cooling takes more than the fleet file says, a measured curve has
its error. While a throttle rules and its limit has settled, the ratio of meter to limit is averaged (a long average in
the end, so that a reading's noise is not passed on; a short one at first and after a surprise) and the limit aims at
the target divided by it, less a margin for the noise of a minute's readings. It never aims above the target: from the
meter alone a cap that is too tight can't be told from a site that needs no more.
"""

import math
from datetime import datetime, timedelta

from schemas.command import Throttle
from streams.dispatch.controller import asked_watts
from streams.dispatch.state import ControlInForce, ControllerState, Surroundings, Trim

MARGIN_RATIO = 0.005  # of the target; the mean of six readings of 0.3 % noise stays below it
MOST_TRIM_RATIO = 0.10
MOST_EXCESS_RATIO = (1 - MARGIN_RATIO) / (1 - MOST_TRIM_RATIO) - 1
_TRIM_STEP_RATIO = 0.0005  # the equipment is not told anew for less

_SETTLE_SECONDS = 8.0  # actuators lag behind a ramp
_SURPRISE_RATIO = 0.012  # four times a reading's noise: what stands out by more is news
_SLACK_RATIO = 0.03
_FIRST_SECONDS = 6.0
_LONGEST_SECONDS = 300.0
_FORGET_SECONDS = 3600.0
_STANDING_RATIO = 0.01


def trim_ratio(trim: Trim) -> float:
    """The part of the target that the limit stays below it, 0.005 to 0.1."""
    least = 1 - (1 - MARGIN_RATIO) / (1 + trim.excess_ratio)
    return min(MOST_TRIM_RATIO, math.ceil(least / _TRIM_STEP_RATIO - 1e-6) * _TRIM_STEP_RATIO)


def aim_watts(control: ControlInForce, trim: Trim, around: Surroundings) -> float:
    """Where the limit goes for a throttle: the target less the trim, but not below what the site can hold."""
    target = asked_watts(control)
    return min(target, max(around.least_watts, target * (1 - trim_ratio(trim))))


def trimmed(
    state: ControllerState, control: ControlInForce | None, around: Surroundings, seconds: float, now: datetime
) -> ControllerState:
    """Takes the meter's reading into the trim; without one, or while the limit moves, the trim is held.

    `control` is the throttle that rules; `seconds` have passed since the last reading. Free, the trim is slowly
    forgotten: the next event finds what is left.
    """
    trim = state.trim
    if control is None:
        excess = trim.excess_ratio * math.exp(-seconds / _FORGET_SECONDS)
        faded = Trim(excess_ratio=excess if excess > 1e-6 else 0.0)
        return state if trim == faded else state.model_copy(update={"trim": faded})
    aim, limit = aim_watts(control, trim, around), state.limit_watts
    if limit is None or abs(limit - aim) > _STANDING_RATIO * aim:
        return state.model_copy(update={"trim": trim.model_copy(update={"settled_at": None})})
    if trim.settled_at is None:  # it has stood since the last tick
        trim = trim.model_copy(update={"settled_at": now - timedelta(seconds=seconds)})
        state = state.model_copy(update={"trim": trim})
    assert trim.settled_at is not None
    meter = around.meter_power_watts
    settled = (now - trim.settled_at).total_seconds() >= _SETTLE_SECONDS
    held_otherwise = around.cap_refused or state.knob.admission_ratio < 1
    if meter is None or not settled or held_otherwise or limit <= 0:
        return state
    return state.model_copy(update={"trim": _seen(trim, meter / limit - 1, seconds)})


def _seen(trim: Trim, excess_ratio: float, seconds: float) -> Trim:
    """The trim with one more reading, which stood above the limit by `excess_ratio`."""
    surprise = (1 + excess_ratio) / (1 + trim.excess_ratio) - 1
    over_seconds = max(_FIRST_SECONDS, trim.seen_seconds)
    if surprise > _SURPRISE_RATIO:
        over_seconds = _FIRST_SECONDS
    binds = surprise >= -_SURPRISE_RATIO
    if not binds and trim.seen_seconds >= _LONGEST_SECONDS:
        if surprise < -_SLACK_RATIO:
            return trim  # the site needs less for now; when it needs more the error will be there again
        over_seconds = _FORGET_SECONDS
    weight = seconds / (over_seconds + seconds)
    excess = trim.excess_ratio + weight * (max(0.0, excess_ratio) - trim.excess_ratio)
    seen = min(_LONGEST_SECONDS, over_seconds + seconds) if binds else trim.seen_seconds
    return trim.model_copy(update={"excess_ratio": min(MOST_EXCESS_RATIO, excess), "seen_seconds": seen})


def ramp(
    state: ControllerState,
    control: ControlInForce | None,
    around: Surroundings,
    full_power_watts: float,
    seconds: float,
) -> ControllerState:
    """Moves the power limit for `seconds` at the ramps that hold; free again, it rises until it binds no more."""
    if control is None and state.limit_watts is None:
        return state
    if control is not None:
        command = control.command
        assert isinstance(command, Throttle)
        aim = aim_watts(control, state.trim, around)
        down, up = command.ramp_down_watts_per_second, command.ramp_up_watts_per_second
    else:
        aim, down = full_power_watts, around.site.ramp_down_watts_per_second
        up = state.ramp_up_watts_per_second or around.site.ramp_up_watts_per_second
    scale = 1 + state.trim.excess_ratio  # what a watt of limit moves at the meter, where the ramps hold
    start = state.limit_watts
    if start is None:
        # From what the site draws now: a limit above that would let the ramp begin with nothing happening. But not
        # from below the target: a site that draws little is not held to that little.
        drawn = around.meter_power_watts if around.meter_power_watts is not None else full_power_watts
        start, seconds = max(min(drawn, around.site.import_limit_watts), aim), 0.0
    limit = max(aim, start - down / scale * seconds) if aim < start else min(aim, start + up / scale * seconds)
    if control is None and limit >= full_power_watts:
        return state.model_copy(update={"limit_watts": None, "ramp_up_watts_per_second": None})
    if (limit, up) == (state.limit_watts, state.ramp_up_watts_per_second):
        return state
    return state.model_copy(update={"limit_watts": limit, "ramp_up_watts_per_second": up})
