"""What the learned model sees of a series: the same code for training and for serving, never a look ahead.

Every feature at step t is a function of the steps up to t, and of the calendar at t and at its target. Levels and
differences are in units of the series' own scale at t, so that one model serves sites of any size; nothing is divided
by a load, which may be zero.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from forecasting.series import Floats

DAY_SECONDS = 86_400.0
# Half-lives of the levels, in steps; and in parts of a day where that is longer.
LEVEL_HALF_LIFE_STEPS = (1.0, 3.0, 10.0, 30.0)
LEVEL_HALF_LIFE_DAYS = (1.0,)
_SCALE_LEVEL = 1  # index of the level that sets the scale
_CHANGE_HALF_LIFE_STEPS = (6.0, 30.0)
_LEAST_SCALE_RATIO = 0.05  # of the day's level: a lull does not make the scale vanish
_TINY = 1e-9
_LAG_STEPS = (1, 2, 3, 4, 6, 9, 12)
_DAYS_BACK = (1, 2, 3, 7)
_CLIP = 20.0
# Which weekday it is says something to a model that has seen each of them twice.
WEEKDAY_AFTER_DAYS = 14.0


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Series of the same length, with what is known of their level at each step.

    `filled` (S, n): the load, where unknown the last known, NaN before the first; `levels` (L, S, n): exponentially
    weighted means; `changes` (C, S, n): such means of the absolute change from step to step; `scale` (S, n): the unit
    of the features, above zero; `starts_at` (S,): Unix time at which the first step begins, seconds; `clients` and
    `dispersion` (S, n): NaN where unknown.
    """

    filled: Floats
    levels: Floats
    changes: Floats
    scale: Floats
    starts_at: Floats
    step_seconds: float
    clients: Floats
    dispersion: Floats

    @property
    def day_steps(self) -> int:
        """Steps of a day."""
        return max(1, round(DAY_SECONDS / self.step_seconds))


def levels_of(
    known: Floats,
    starts_at: Floats,
    step_seconds: float,
    clients: Floats | None = None,
    dispersion: Floats | None = None,
) -> Levels:
    """The levels of series (S, n), NaN where not observed, each with at least one known step."""
    filled = forward_filled(known)
    first = np.take_along_axis(filled, np.argmax(~np.isnan(filled), axis=1)[:, None], axis=1)
    whole = np.where(np.isnan(filled), first, filled)
    half_lives = (*LEVEL_HALF_LIFE_STEPS, *(days * DAY_SECONDS / step_seconds for days in LEVEL_HALF_LIFE_DAYS))
    levels = np.stack([smoothed(whole, half_life) for half_life in half_lives])
    scale = np.maximum(levels[_SCALE_LEVEL], _LEAST_SCALE_RATIO * levels[-1]) + _TINY
    steps = np.abs(np.diff(whole, axis=1, prepend=whole[:, :1]))
    changes = np.stack([smoothed(steps, half_life) for half_life in _CHANGE_HALF_LIFE_STEPS])
    unknown = np.full_like(known, np.nan)
    return Levels(
        filled,
        levels,
        changes,
        scale,
        starts_at,
        step_seconds,
        unknown if clients is None else clients,
        unknown if dispersion is None else dispersion,
    )


Steps = int | NDArray[np.int64]


def features(base: Levels, at: NDArray[np.int64], horizon_steps: Steps, weekdays: bool) -> Floats:
    """What is known at the steps `at` that may tell of the load `horizon_steps` later.

    Args:
        at: index of the last step known, shape (m,).
        horizon_steps: one for all, or one for each of `at`, shape (m,).
        weekdays: whether the weekday is told.

    Returns:
        shape (S, m, len(feature_names())); NaN where a feature is unknown.
    """
    now, scale = base.filled[:, at], base.scale[:, at]
    columns = [(now - back(base.filled, at, lag)) / scale for lag in _LAG_STEPS]
    columns += [(level[:, at] - now) / scale for level in base.levels]
    columns += [now / np.maximum(base.levels[-1][:, at], _TINY)]
    for days in _DAYS_BACK:
        columns += _same_time(base, at, horizon_steps, days * base.day_steps)
    columns += _spread(base, at)
    columns += _calendar(base, at, horizon_steps, weekdays)
    columns += _clients(base, at)
    return np.clip(np.stack(columns, axis=-1), -_CLIP, _CLIP)


def feature_names() -> list[str]:
    """The names of the features, in their order."""
    return [
        *(f"change_{lag}_steps" for lag in _LAG_STEPS),
        *(f"level_{half_life:g}_steps" for half_life in LEVEL_HALF_LIFE_STEPS),
        *(f"level_{days:g}_days" for days in LEVEL_HALF_LIFE_DAYS),
        "load_over_day_level",
        *(f"{name}_{days}_days_ago" for days in _DAYS_BACK for name in _SAME_TIME),
        *_SPREAD,
        *_CALENDAR,
        *_CLIENTS,
    ]


_SAME_TIME = ("growth", "growth_ratio", "difference", "smooth_growth")


def _same_time(base: Levels, at: NDArray[np.int64], horizon_steps: Steps, days_steps: int) -> list[Floats]:
    """How the load moved from this time to the target's some days ago."""
    now, scale = base.filled[:, at], base.scale[:, at]
    then = back(base.filled, at, days_steps)
    target = back(base.filled, at, days_steps - horizon_steps)
    target[np.isnan(then)] = np.nan
    scale_then = back(base.scale, at, days_steps)
    ratio = target / np.maximum(then, 0.05 * scale_then + _TINY)
    smooth_then = smooth_back(base.filled, at, days_steps)
    smooth_target = smooth_back(base.filled, at, days_steps - horizon_steps)
    smooth_target[np.isnan(smooth_then)] = np.nan
    return [
        (target - then) / scale,
        np.clip(ratio - 1, -3, 3) * now / scale,
        (target - now) / scale,
        (smooth_target - smooth_then) / scale,
    ]


_SPREAD = (*(f"change_deviation_{half_life:g}_steps" for half_life in _CHANGE_HALF_LIFE_STEPS), "dispersion")


def _spread(base: Levels, at: NDArray[np.int64]) -> list[Floats]:
    """How unsteady the load is: mean absolute change from step to step, and within a step where it is known."""
    with np.errstate(invalid="ignore"):
        bursts = np.log1p(np.maximum(base.dispersion[:, at], 0.0))
    return [*(change[:, at] / base.scale[:, at] for change in base.changes), bursts]


_CALENDAR = ("day_sine", "day_cosine", "half_day_sine", "half_day_cosine", "target_is_weekend")


def _calendar(base: Levels, at: NDArray[np.int64], horizon_steps: Steps, weekdays: bool) -> list[Floats]:
    target = base.starts_at[:, None] + (at + 0.5 + horizon_steps) * base.step_seconds
    phase = 2 * np.pi * (target % DAY_SECONDS) / DAY_SECONDS
    # 1 January 1970 was a Thursday.
    weekday = (target // DAY_SECONDS + 3) % 7
    weekend = np.where(weekday >= 5, 1.0, 0.0) if weekdays else np.full_like(target, np.nan)
    return [np.sin(phase), np.cos(phase), np.sin(2 * phase), np.cos(2 * phase), weekend]


_CLIENTS = ("clients_change_1_step", "clients_change_6_steps", "load_a_client_change_6_steps")


def _clients(base: Levels, at: NDArray[np.int64]) -> list[Floats]:
    """Clients that came or went: a level shift of the load often begins with one."""
    now = base.clients[:, at]
    unit = np.maximum(now, 1.0)
    before = back(base.clients, at, 6)
    each_now = base.filled[:, at] / unit
    each_before = back(base.filled, at, 6) / np.maximum(before, 1.0)
    return [
        (now - back(base.clients, at, 1)) / unit,
        (now - before) / unit,
        (each_now - each_before) / np.maximum(each_now, _TINY),
    ]


def forward_filled(known: Floats) -> Floats:
    """Each unknown step of series (S, n) takes the last known one before it; those before the first stay NaN."""
    last = np.maximum.accumulate(np.where(np.isnan(known), 0, np.arange(known.shape[1])), axis=1)
    return np.take_along_axis(known, last, axis=1)


def smoothed(values: Floats, half_life_steps: float) -> Floats:
    """Exponentially weighted mean of series (S, n) along time, from the first value on (Brown 1956)."""
    keep = 0.5 ** (1 / half_life_steps)
    result, _ = lfilter([1 - keep], [1, -keep], values, axis=1, zi=keep * values[:, :1])
    return np.asarray(result)


def back(values: Floats, at: NDArray[np.int64], steps: Steps) -> Floats:
    """The values `steps` before each of `at`; NaN before the beginning, and for what lies ahead."""
    index = at - steps
    return np.where((index >= 0) & (index <= at), values[:, np.clip(index, 0, at)], np.nan)


def smooth_back(values: Floats, at: NDArray[np.int64], steps: Steps) -> Floats:
    """The mean of three values about the one `steps` before each of `at`; that one twice where the next lies ahead."""
    middle, before = back(values, at, steps), back(values, at, steps + 1)
    after = np.where(np.greater_equal(steps, 1), back(values, at, steps - 1), middle)
    return np.asarray((before + middle + after) / 3)
