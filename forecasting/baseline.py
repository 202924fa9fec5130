"""The statistical baseline: level and yesterday, with the spread that its own past errors show.

Level: exponentially weighted mean (Brown 1956; Hyndman & Athanasopoulos, Forecasting: Principles and Practice,
ch. 8.1). Season: the same time yesterday, moved by how today's level differs from yesterday's, which fades with the
horizon (damped; Gardner & McKenzie 1985). Quantiles: the empirical quantiles of the errors that the same rule made
at the same horizon over the history.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.forecast import QUANTILE_LEVELS

_HALF_LIFE_SECONDS = 900.0
_DAMPING_PER_HOUR = 0.7
_DAY_SECONDS = 86_400.0
_LEAST_ERRORS = 8
# Spread assumed while too few errors are known: half to one and a half times the level.
_COLD_SPREAD_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Baseline:
    """The rule, fitted to nothing but the history it is given."""

    step_seconds: float

    def quantiles(self, steps: NDArray[np.float64], horizon_steps: int) -> tuple[NDArray[np.float64], bool]:
        """Load in tokens/s, `horizon_steps` after the last of `steps`, at each of QUANTILE_LEVELS.

        Args:
            steps: mean tokens/s of each closed step, shape (n,), NaN where unknown, at least one known.

        Returns:
            quantiles, shape (len(QUANTILE_LEVELS),), never falling, never negative; and whether they rest on
            measured errors (False: too few are known, the spread is assumed).
        """
        filled = _forward_filled(steps)
        levels = self._levels(filled)
        predicted = self._points(filled, levels, horizon_steps)
        errors = steps[horizon_steps:] - predicted[: max(0, len(steps) - horizon_steps)]
        errors = errors[~np.isnan(errors)]
        measured = len(errors) >= _LEAST_ERRORS
        if measured:
            spread = np.quantile(errors, QUANTILE_LEVELS)
        else:
            spread = (np.array(QUANTILE_LEVELS) - 0.5) * 2 * _COLD_SPREAD_RATIO * predicted[-1]
        return np.maximum.accumulate(np.maximum(predicted[-1] + spread, 0.0)), measured

    def _levels(self, filled: NDArray[np.float64]) -> NDArray[np.float64]:
        keep = 0.5 ** (self.step_seconds / _HALF_LIFE_SECONDS)
        levels = np.empty_like(filled)
        level = filled[0]
        for index, value in enumerate(filled):
            level = keep * level + (1 - keep) * value
            levels[index] = level
        return levels

    def _points(
        self, filled: NDArray[np.float64], levels: NDArray[np.float64], horizon_steps: int
    ) -> NDArray[np.float64]:
        """What the rule says at each step about the step `horizon_steps` later; only earlier steps are used."""
        day = round(_DAY_SECONDS / self.step_seconds)
        points = levels.copy()
        if len(filled) > day and horizon_steps < day:
            damping = _DAMPING_PER_HOUR ** (horizon_steps * self.step_seconds / 3600)
            yesterday = filled[horizon_steps : len(filled) - day + horizon_steps]
            points[day:] = yesterday + damping * (levels[day:] - levels[:-day])
        return np.maximum(points, 0.0)


def _forward_filled(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each unknown step takes the last known one before it, the first ones the first known."""
    known = ~np.isnan(steps)
    last = np.maximum.accumulate(np.where(known, np.arange(len(steps)), -1))
    first = int(np.argmax(known))
    return steps[np.where(last < 0, first, last)]
