"""What a site is held with: nothing, where it draws less by itself; the cap; or fewer requests let in. Pure.

Fewer requests save little while GPUs stay busy with small batches, and cost tokens at once: they are the last resort,
for a cap that can go no lower, that does not help, or that the equipment refuses. Flex 0 is always let in.
"""

from datetime import datetime

from schemas.command import Knob
from streams.dispatch.controller import asked_watts
from streams.dispatch.limit import MARGIN_RATIO, MOST_TRIM_RATIO, aim_watts, trim_ratio
from streams.dispatch.state import ControlInForce, ControllerState, KnobState, Surroundings

_SLACK_RATIO = 0.03  # a meter that far below its limit is not held by it
_DWELL_SECONDS = 300.0  # between `none` and `cap`: load that hovers about its limit is not worth an answer a minute
_GRACE_SECONDS = 30.0
_ABOVE_RATIO = 0.005
_GAIN_PER_SECOND = 0.2  # of admission, for each part of the target that the meter is away from it
_MOST_GAIN = 3.0  # at one tick, however long: power answers to admission with a third at most


def turned(
    state: ControllerState,
    control: ControlInForce | None,
    around: Surroundings,
    full_power_watts: float,
    seconds: float,
    now: datetime,
) -> ControllerState:
    """Chooses the knob for the throttle that rules, and moves the admission of requests for `seconds`."""
    if control is None and state.knob == KnobState():
        return state
    spent = control is not None and _cap_is_spent(state, control, around)
    above_since = _above_since(state, control, around, now) if control is not None and spent else None
    waited = above_since is not None and (now - above_since).total_seconds() >= _GRACE_SECONDS
    # Let in again no faster than the site may rise, were all of its power the flexible requests'.
    ratio = min(1.0, state.knob.admission_ratio + around.site.ramp_up_watts_per_second * seconds / full_power_watts)
    if control is not None and spent:
        ratio = _admission(state, asked_watts(control), around, ratio, seconds, waited=waited)
    knob = _knob(state, around, ratio, now) if control is not None else "none"
    since = now if knob != state.knob.knob else state.knob.since
    if control is None:
        since = None
    chosen = KnobState(knob=knob, since=since, above_since=above_since, admission_ratio=ratio)
    return state if chosen == state.knob else state.model_copy(update={"knob": chosen})


def _cap_is_spent(state: ControllerState, control: ControlInForce, around: Surroundings) -> bool:
    """Whether nothing more is to be had from the cap."""
    aim = aim_watts(control, state.trim, around)
    lowest = aim <= around.least_watts or trim_ratio(state.trim) >= MOST_TRIM_RATIO
    return around.cap_refused or (lowest and state.limit_watts is not None and state.limit_watts <= aim)


def _above_since(
    state: ControllerState, control: ControlInForce, around: Surroundings, now: datetime
) -> datetime | None:
    """Since when the meter stands above the target though the limit is down."""
    target, meter, before = asked_watts(control), around.meter_power_watts, state.knob.above_since
    if meter is None:
        return before
    down = state.limit_watts is not None and state.limit_watts <= target
    return (before or now) if down and meter > target * (1 + _ABOVE_RATIO) else None


def _admission(
    state: ControllerState, target: float, around: Surroundings, highest: float, seconds: float, *, waited: bool
) -> float:
    """The share of flexible requests to let in where the cap is spent: less while the meter is above its goal."""
    ratio, meter = state.knob.admission_ratio, around.meter_power_watts
    if meter is None or (ratio == 1 and not waited):
        return ratio
    error = meter / target - (1 - MARGIN_RATIO) if target > 0 else 1.0
    return max(0.0, min(highest, ratio - error * min(_MOST_GAIN, _GAIN_PER_SECOND * seconds)))


def _knob(state: ControllerState, around: Surroundings, admission_ratio: float, now: datetime) -> Knob:
    if admission_ratio < 1:
        return "admission"
    before, meter, limit = state.knob, around.meter_power_watts, state.limit_watts
    if meter is None or limit is None:
        return "cap" if before.knob == "admission" else before.knob
    knob: Knob = "none" if meter < limit * (1 + state.trim.excess_ratio) * (1 - _SLACK_RATIO) else "cap"
    if before.since is None or before.knob == "admission":
        return knob
    return knob if (now - before.since).total_seconds() >= _DWELL_SECONDS else before.knob
