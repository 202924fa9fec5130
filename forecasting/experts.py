"""The simple rules that the forecast blends with what is learned: each a line of anybody's spreadsheet.

No rule looks at more than the steps up to its own. Where a rule has nothing to say yet, it says NaN.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forecasting.features import Levels, Steps, back, smooth_back
from forecasting.series import Floats

SIMPLE = (
    "last",
    "level_1_step",
    "level_3_steps",
    "level_10_steps",
    "level_1_day",
    "same_time_yesterday",
    "moved_like_yesterday",
    "scaled_like_yesterday",
    "moved_like_last_week",
)
LEARNED = ("trees", "linear")
EXPERTS = (*SIMPLE, *LEARNED)

# How much each counts before anything was scored, minutes ahead and many hours ahead; the others share the rest.
_PRIOR_NEAR = {"last": 0.25, "level_1_step": 0.2, "trees": 0.2, "linear": 0.15}
_PRIOR_FAR = {"last": 0.1, "same_time_yesterday": 0.6, "trees": 0.1, "linear": 0.1}
_NEAR_SECONDS, _FAR_SECONDS = 7200.0, 21_600.0

_LEVELS = (0, 1, 2, 4)  # of `Levels.levels`
_LEAST_FACTOR, _MOST_FACTOR = 0.2, 5.0


def simple_experts(base: Levels, at: NDArray[np.int64], horizon_steps: Steps) -> Floats:
    """What each of SIMPLE says at the steps `at` (m,) of the load `horizon_steps` later, shape (S, m, 9).

    `horizon_steps` is one for all, or one for each of `at`.
    """
    now, day = base.filled[:, at], base.day_steps
    week, yesterday = 7 * day, -(-horizon_steps // day) * day  # beyond a day ahead, as many days ago
    then, target = back(base.filled, at, yesterday), back(base.filled, at, yesterday - horizon_steps)
    unit = 0.05 * back(base.scale, at, yesterday) + 1e-9
    factor = np.clip(target / np.maximum(then, unit), _LEAST_FACTOR, _MOST_FACTOR)
    said = [
        now,
        *(base.levels[level][:, at] for level in _LEVELS),
        np.where(np.isnan(then), np.nan, target),
        now + smooth_back(base.filled, at, yesterday - horizon_steps) - smooth_back(base.filled, at, yesterday),
        now * factor,
        now + smooth_back(base.filled, at, week - horizon_steps) - smooth_back(base.filled, at, week),
    ]
    return np.asarray(np.maximum(np.stack(said, axis=-1), 0.0))


def prior_weights(horizon_seconds: Sequence[float]) -> Floats:
    """How much each of EXPERTS counts before anything was scored, shape (A, 11), each row summing to 1."""
    near, far = (_spread_out(prior) for prior in (_PRIOR_NEAR, _PRIOR_FAR))
    place = np.log(np.clip(horizon_seconds, _NEAR_SECONDS, _FAR_SECONDS) / _NEAR_SECONDS)
    share = (place / np.log(_FAR_SECONDS / _NEAR_SECONDS))[:, None]
    return np.asarray(near * (1 - share) + far * share)


def _spread_out(prior: dict[str, float]) -> Floats:
    rest = (1 - sum(prior.values())) / (len(EXPERTS) - len(prior))
    return np.array([prior.get(name, rest) for name in EXPERTS])
