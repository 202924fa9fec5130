"""How much each expert counts: weights that follow who was right lately. Pure.

Bernstein online aggregation (Wintenberger 2017), on the linearised absolute error in units of the series' level, with
a prior that favours the last value and a memory that fades: the blend keeps up with the best mixture of experts,
persistence being one of them. Experts that have nothing to say neither gain nor lose.
"""

import numpy as np
from numpy.typing import NDArray

from forecasting.series import Floats

_MOST_LOSS = 3.0
_MOST_RATE = 2.0
_LEAST_RATE = 0.4
_FIRST_SQUARE = 1e-6


def weights(regret: Floats, square: Floats, prior: Floats, said: Floats, overlap: Floats) -> Floats:
    """Weights of the experts, all of shape (..., E): zero for those that say NaN, else they sum to 1.

    `overlap` (...,) is how many forecasts are under way at once: as many neighbours err together, while the theory's
    rate is for losses that are independent.
    """
    free = np.maximum(_LEAST_RATE, 1 / np.sqrt(overlap))[..., None]
    rate = np.minimum(_MOST_RATE, free * np.sqrt(np.log(max(2, said.shape[-1])) / (square + _FIRST_SQUARE)))
    exponent = np.where(np.isnan(said), -np.inf, rate * regret - rate**2 * square)
    best = exponent.max(axis=-1, keepdims=True)
    raw = prior * rate * np.exp(exponent - np.where(np.isfinite(best), best, 0.0))
    total = raw.sum(axis=-1, keepdims=True)
    return np.asarray(raw / np.where(total > 0, total, 1.0))


def mixed(weight: Floats, said: Floats) -> Floats:
    """The blend (...,) of what the experts (..., E) said; NaN where none did."""
    point = np.where(np.isnan(said), 0.0, weight * said).sum(axis=-1)
    return np.where(weight.sum(axis=-1) > 0, point, np.nan)


def learnt(
    regret: Floats, square: Floats, said: Floats, point: Floats, came: Floats, level: Floats, keep: Floats
) -> tuple[Floats, Floats]:
    """Regret and its square (..., E) after the load `came` (...,) where `said` and `point` had been forecast."""
    slope = np.sign(point - came)[..., None]
    loss = slope * (said - point[..., None]) / level[..., None]
    loss = np.clip(np.nan_to_num(loss), -_MOST_LOSS, _MOST_LOSS)
    return keep[..., None] * regret - loss, keep[..., None] * square + loss**2


def keep_ratio(half_life_updates: Floats | NDArray[np.int64]) -> Floats:
    """How much of the past counts after one more update."""
    return np.asarray(0.5 ** (1.0 / half_life_updates))
