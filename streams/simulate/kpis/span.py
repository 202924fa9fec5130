"""Ticks and minutes of a trajectory: which of them lie in a span of time, and their means. Pure."""

import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.simulate.log import Outcome, Trajectory

Floats = NDArray[np.float64]
_MINUTE_SECONDS = 60.0
# What floating point leaves of a time that lies on a tick.
_ROUNDING_TICKS = 1e-6


def counted_from(outcome: Outcome) -> datetime:
    """When the run's warm-up is over: what came before is not judged."""
    return outcome.trajectory.starts_at + timedelta(seconds=outcome.scenario.warm_up_seconds)


def end_of(trajectory: Trajectory) -> datetime:
    """When its last tick ends."""
    return time_of(trajectory, trajectory.meter_power_watts.shape[1])


def time_of(trajectory: Trajectory, tick: int) -> datetime:
    """When a tick begins."""
    return trajectory.starts_at + timedelta(seconds=tick * trajectory.step_seconds)


def ticks_within(trajectory: Trajectory, starts_at: datetime, ends_at: datetime) -> slice:
    """The ticks that lie wholly within [starts_at, ends_at) and in the trajectory; maybe none."""
    ticks = trajectory.meter_power_watts.shape[1]
    begin, end = (
        (each - trajectory.starts_at).total_seconds() / trajectory.step_seconds for each in (starts_at, ends_at)
    )
    first = min(ticks, max(0, math.ceil(begin - _ROUNDING_TICKS)))
    return slice(first, max(first, min(ticks, math.floor(end + _ROUNDING_TICKS))))


def counted_ticks(outcome: Outcome) -> slice:
    """The ticks after the warm-up."""
    return ticks_within(outcome.trajectory, counted_from(outcome), end_of(outcome.trajectory))


def ticks_per_minute(trajectory: Trajectory) -> int:
    """Ticks in the whole number of them that is nearest to a minute; 1 where a tick is longer."""
    return max(1, round(_MINUTE_SECONDS / trajectory.step_seconds))


def minute_seconds(trajectory: Trajectory) -> float:
    """How long such a minute is."""
    return ticks_per_minute(trajectory) * trajectory.step_seconds


def minutes_of(trajectory: Trajectory, values: NDArray[Any]) -> NDArray[Any]:
    """Values (..., K) as whole minutes (..., M, n) from the first tick on; what is left at the end is left out."""
    length = ticks_per_minute(trajectory)
    minutes = values.shape[-1] // length
    return values[..., : minutes * length].reshape(*values.shape[:-1], minutes, length)


def number(value: float) -> float | None:
    """The value as JSON has it: null for what is not known."""
    return float(value) if math.isfinite(value) else None


def ratio(part: float, whole: float) -> float | None:
    """A share; null of nothing."""
    return float(part / whole) if whole > 0 and math.isfinite(part) else None
