"""How likely a spike is: the load above a limit within the next minutes, by the forecast's own quantiles. Pure."""

import numpy as np
from numpy.typing import NDArray

from forecasting.drawn import Ahead
from forecasting.series import Floats
from schemas.forecast import QUANTILE_LEVELS

MEDIAN_SECONDS = 1800.0
FACTOR = 2.0

_LEVELS = np.array(QUANTILE_LEVELS)
_TINY = 1e-9


def probability_above(limit: Floats, quantiles: Floats) -> Floats:
    """P(load > limit) for limits (...,) and quantiles (..., 7): linear between the quantiles, exponential tails beyond.

    The tails fall as they do between the last two quantiles, so that of two limits never reached one is still nearer.
    """
    limit = np.asarray(limit, dtype=np.float64)[..., None]
    low, high = quantiles[..., :-1], quantiles[..., 1:]
    # Where two quantiles are one, a limit that they don't exceed is above them.
    share = np.where(limit >= high, 1.0, np.clip((limit - low) / np.maximum(high - low, _TINY), 0.0, 1.0))
    inside = _LEVELS[0] + (share * np.diff(_LEVELS)).sum(axis=-1)
    upper = np.maximum(quantiles[..., -1] - quantiles[..., -3], _TINY) / np.log((1 - _LEVELS[-3]) / (1 - _LEVELS[-1]))
    lower = np.maximum(quantiles[..., 2] - quantiles[..., 0], _TINY) / np.log(_LEVELS[2] / _LEVELS[0])
    beyond = np.maximum(limit[..., 0] - quantiles[..., -1], 0.0) / upper
    below = np.maximum(quantiles[..., 0] - limit[..., 0], 0.0) / lower
    above = np.where(beyond > 0, (1 - _LEVELS[-1]) * np.exp(-beyond), 1 - inside)
    # A load that is certain has no tails.
    certain = (quantiles[..., -1] - quantiles[..., 0] <= _TINY) & (limit[..., 0] >= quantiles[..., -1])
    above = np.where(certain, 0.0, above)
    return np.asarray(np.where(below > 0, 1 - _LEVELS[0] * np.exp(-below), above))


def probability_within(limit: Floats, quantiles: Floats, now: Floats, ahead: Ahead) -> Floats:
    """P(the load exceeds `limit` (m,) in any step of `ahead`), of quantiles (m, A, 7) issued at loads `now` (m,).

    The greater of what the forecast says and of what it would say about the last load: a forecast that sees a peak
    pass is not to silence the alarm before the load has fallen.
    """
    points = quantiles[..., len(_LEVELS) // 2, None]
    about_now = np.maximum(quantiles - points + now[:, None, None], 0.0)
    return np.maximum(_in_any(limit, ahead.drawn(quantiles)), _in_any(limit, ahead.drawn(about_now)))


def _in_any(limit: Floats, quantiles: Floats) -> Floats:
    """P(above in any of n steps): between all erring as one and each by itself, n counting as its root."""
    below = 1 - probability_above(limit[:, None], quantiles)
    return np.asarray(1 - below.prod(axis=-1) ** (1 / np.sqrt(below.shape[-1])))


def trailing_median(values: Floats, at: NDArray[np.int64], step_seconds: float) -> Floats:
    """Median of the last half hour of series (..., n) at the steps `at` (m,), (..., m); NaN where none is known."""
    count = max(1, round(MEDIAN_SECONDS / step_seconds))
    index = at[:, None] - np.arange(count)
    # Sorted, the unknown come last.
    windows = np.sort(np.where(index >= 0, values[..., np.maximum(index, 0)], np.nan), axis=-1)
    known = np.isfinite(windows).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(windows, np.maximum(known - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(windows, np.minimum(known // 2, count - 1), axis=-1)
    return np.asarray((low + high)[..., 0] / 2)
