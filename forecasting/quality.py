"""What is out of the ordinary about a series, said with its forecast. Pure."""

import numpy as np
from numpy.typing import NDArray

from forecasting.features import DAY_SECONDS
from forecasting.series import Floats
from forecasting.state import Layout, State

Marks = NDArray[np.bool_]

COLD_START = "cold-start"
GAPS = "gaps"
DEAD_SENSOR = "dead-sensor"
ZEROS = "zeros"
LEVEL_SHIFT = "level-shift"
CLOCK_JUMP = "clock-jump"  # said by the history, which alone sees it

_GAP_STEPS = 12
_HALF_HOUR_SECONDS = 1800.0
_LEAST_SCORED = 24
# The level is said to have shifted where it is so many times another day's, and the difference so many times the usual.
_SHIFT_RATIO = 2.0
_UNUSUAL_RATIO = 2.0


def flags_of(
    known: Floats, filled: Floats, layout: Layout, states: State, step_seconds: float
) -> list[tuple[str, ...]]:
    """The flags of series (S, n) at their last step, `filled` where unknown, with what they have learnt."""
    late = np.minimum(_GAP_STEPS, known.shape[1])
    dead = is_dead(known, step_seconds)
    marks = np.stack(
        [
            layout.fields(states)["scored"][:, 0] < _LEAST_SCORED,
            np.isnan(known[:, -late:]).any(axis=1),
            dead,
            ~(known > 0).any(axis=1),
            has_shifted(filled, step_seconds) & ~dead,
        ],
        axis=1,
    )
    names = (COLD_START, GAPS, DEAD_SENSOR, ZEROS, LEVEL_SHIFT)
    return [tuple(name for name, marked in zip(names, row, strict=True) if marked) for row in marks]


def is_dead(known: Floats, step_seconds: float) -> Marks:
    """Whether each series (S, n) said nothing but zero for the last half hour, after it had said something."""
    steps = max(1, round(_HALF_HOUR_SECONDS / step_seconds))
    tail = known[:, -steps:]
    silent = (np.nan_to_num(tail) == 0).all(axis=1) & (tail == 0).any(axis=1)
    return np.asarray(silent & (known > 0).any(axis=1))


def has_shifted(filled: Floats, step_seconds: float) -> Marks:
    """Whether the last half hour of each series (S, n) is far from yesterday's at that time, and from last week's.

    Last week's counts where it is known: a weekend is no shift to one who has seen one. A day after it, a shifted
    level is yesterday's.
    """
    day = round(DAY_SECONDS / step_seconds)
    now, yesterday, last_week = (_half_hours(filled, days * day, step_seconds) for days in (0, 1, 7))
    if not yesterday.shape[1]:
        return np.zeros(len(filled), dtype=np.bool_)
    changes = np.abs(now[:, -yesterday.shape[1] :] - yesterday)
    count = np.maximum(np.isfinite(changes).sum(axis=1), 1)
    unusual = changes[:, -1] > _UNUSUAL_RATIO * np.nansum(changes, axis=1) / count
    far = unusual & _are_far(now[:, -1], yesterday[:, -1])
    if last_week.shape[1]:
        far &= _are_far(now[:, -1], last_week[:, -1]) | np.isnan(last_week[:, -1])
    return np.asarray(far)


def _half_hours(filled: Floats, before_steps: int, step_seconds: float) -> Floats:
    """Means of the half hours that end with the step so many before the last, NaN where not all of one is known."""
    steps = max(1, round(_HALF_HOUR_SECONDS / step_seconds))
    end = max(0, filled.shape[1] - before_steps)
    return np.asarray(filled[:, end % steps : end].reshape(len(filled), end // steps, steps).mean(axis=-1))


def _are_far(load: Floats, other: Floats) -> Marks:
    """Whether one is some times the other; none is far from zero, of which another flag tells."""
    return np.asarray((other > 0) & (np.maximum(load, other) >= _SHIFT_RATIO * np.minimum(load, other)))
