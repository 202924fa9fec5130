"""The simple methods that a forecast is held against: what anybody would try first. Pure, without a look ahead."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forecasting.features import LEVEL_HALF_LIFE_STEPS, Levels, back
from forecasting.series import Floats

RIVALS = ("persistence", "same_time_yesterday", "same_time_last_week", "ewma", "seasonal_mean")


def rival_points(name: str, base: Levels, horizon_steps: Sequence[int], train_steps: int) -> Floats:
    """What one of RIVALS says at every step of one series, (n, A); NaN where it has nothing to say.

    Persistence: the last value. EWMA: the exponentially weighted mean whose half-life was best one step ahead in the
    first `train_steps`. Seasonal mean: of the target's time of day over all days so far.
    """
    steps = base.filled.shape[1]
    at, day = np.arange(steps), base.day_steps
    if name in ("persistence", "ewma"):
        same = base.filled[0] if name == "persistence" else _best_ewma(base, train_steps)
        return np.repeat(same[:, None], len(horizon_steps), axis=1)
    if name == "same_time_yesterday":
        columns = [back(base.filled, at, -(-ahead // day) * day - ahead)[0] for ahead in horizon_steps]
    elif name == "same_time_last_week":
        columns = [back(base.filled, at, 7 * day - ahead)[0] for ahead in horizon_steps]
    else:
        columns = [_seasonal_mean(base, at, ahead) for ahead in horizon_steps]
    return np.stack(columns, axis=1)


def _best_ewma(base: Levels, train_steps: int) -> Floats:
    known = base.filled[0, :train_steps]
    levels = base.levels[: len(LEVEL_HALF_LIFE_STEPS), 0]
    errors = [np.nanmean(np.abs(known[1:] - level[: len(known) - 1])) for level in levels]
    return np.asarray(levels[int(np.argmin(errors))])


def _seasonal_mean(base: Levels, at: NDArray[np.int64], horizon_steps: int) -> Floats:
    day = base.day_steps
    days = len(at) // day + 1
    known = np.stack([back(base.filled, at, n * day - horizon_steps)[0] for n in range(1, days + 1)])
    count = np.isfinite(known).sum(axis=0)
    return np.where(count > 0, np.nansum(known, axis=0) / np.maximum(count, 1), np.nan)
