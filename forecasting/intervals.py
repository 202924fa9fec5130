"""How sure a forecast is: quantiles from its own late errors, widened where they were missed. Pure.

Split conformal prediction on errors divided by a running spread (Lei et al. 2018), with the spread itself following
the errors of late (a GARCH's idea) and the load, and the distance from the median widened or narrowed by how often the
90 % interval was missed (adaptive conformal inference; Gibbs and Candes 2021): coverage returns after a level shift.
"""

import numpy as np
from scipy.stats import norm

from forecasting.series import Floats
from forecasting.state import RING, State
from schemas.forecast import QUANTILE_LEVELS

LEVELS = np.array(QUANTILE_LEVELS)
OUTSIDE_RATIO = 1 - (QUANTILE_LEVELS[-1] - QUANTILE_LEVELS[0])
_MEDIAN = len(QUANTILE_LEVELS) // 2
_MOST_WIDENING = 1.5  # of the logarithm
_TINY = 1e-9


def default_ring() -> Floats:
    """Errors as if they were normal, shape (RING,): what is assumed before any is known."""
    return np.asarray(norm.ppf((np.arange(RING) + 0.5) / RING)) * 1.25


def spread(fast_error: Floats, slow_error: Floats, size: Floats, level: Floats) -> Floats:
    """The unit of the errors: those of late, moved in proportion to the load's `size` now or at the target.

    `level` is the load of the last day or so, to which the late errors belong. Above zero.
    """
    fast = np.maximum(fast_error + 0.1 * slow_error, 0.0) + _TINY
    return np.asarray(
        (fast * (slow_error + _TINY)) ** 0.25 * np.maximum(size, _TINY) / np.sqrt(np.maximum(level, _TINY))
    )


def quantiles(point: Floats, unit: Floats, ring: Floats | State, widening: Floats) -> Floats:
    """The load's quantiles (..., 7), never falling nor negative, of points and units (...,) and errors (..., RING).

    The median is the point itself: the blend already minimises the absolute error.
    """
    ordered = np.sort(ring, axis=-1)
    place = LEVELS * (ring.shape[-1] - 1)
    low = np.floor(place).astype(np.int64)
    share = place - low
    high = np.minimum(low + 1, ring.shape[-1] - 1)
    errors = ordered[..., low].astype(np.float64) * (1 - share) + ordered[..., high].astype(np.float64) * share
    middle = errors[..., _MEDIAN : _MEDIAN + 1]
    wide = middle + (errors - middle) * np.exp(widening)[..., None]
    wide[..., : _MEDIAN + 1] = np.minimum(wide[..., : _MEDIAN + 1], 0.0)
    wide[..., _MEDIAN:] = np.maximum(wide[..., _MEDIAN:], 0.0)
    wide[..., _MEDIAN] = 0.0
    return np.asarray(np.maximum(point[..., None] + unit[..., None] * wide, 0.0))


def widened(widening: Floats, missed: Floats, rate: Floats) -> Floats:
    """The widening (a logarithm) after the 90 % interval was missed (1) or held (0)."""
    return np.clip(widening + rate * (missed - OUTSIDE_RATIO), -_MOST_WIDENING, _MOST_WIDENING)
