"""What is learned from the history: for each horizon, the change of the load, by trees and by a line.

Targets are differences, divided by the series' own scale: a model of one site serves another of any size, and a
shifted level shifts the forecast with it. Targets beyond their 5th and 95th percentiles are drawn in (winsorised;
Tukey 1962), so that a mean is learned that bursts don't carry away. Trees: histogram gradient boosting (Friedman
2001; Ke et al. 2017). The line: ridge regression (Hoerl and Kennard 1970).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from threadpoolctl import ThreadpoolController

from forecasting.features import Levels, features
from forecasting.series import Floats

_LEAST_ROWS = 40
_MOST_ROWS = 40_000
_WINSORISED_RATIO = 0.05
_DRAWN_A_ROW = 2
_LINE_CLIP = 5.0
_RIDGE_A_ROW = 1.0
_LEAST_WEIGHT = 0.01  # of the series' mean
# Threads of one small fit or prediction wait for one another more than they work.
_THREADS = ThreadpoolController()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Features (r, F), scaled change to the target (r,), and weight (r,) of steps of one or more series."""

    features: Floats
    changes: Floats
    weights: Floats


@dataclass(frozen=True, slots=True, eq=False)
class HorizonModel:
    """Trees and a line for one horizon; `mean`, `deviation` and `slope` have shape (F,)."""

    trees: HistGradientBoostingRegressor
    mean: Floats
    deviation: Floats
    slope: Floats
    intercept: float

    def changes(self, rows: Floats) -> Floats:
        """The change that trees and line expect, in units of the scale: features (..., F) in, (..., 2) out."""
        flat = rows.reshape(-1, rows.shape[-1])
        with _THREADS.limit(limits=1):
            by_trees = self.trees.predict(flat)
        # Summed row by row, not by a matrix product: a forecast must not depend on the rows beside it.
        by_line = (_for_line(flat) - self.mean) / self.deviation * self.slope
        both = np.stack([by_trees, by_line.sum(axis=-1) + self.intercept], axis=-1)
        return both.reshape(*rows.shape[:-1], 2)


def rows_of(base: Levels, at: NDArray[np.int64], horizon_steps: int, weekdays: bool, known: Floats) -> Rows:
    """What there is to learn from the steps `at` of series (S, n) whose target `known` (S, n) was observed."""
    found = features(base, at, horizon_steps, weekdays)
    scale = base.scale[:, at]
    changes = (known[:, at + horizon_steps] - base.filled[:, at]) / scale
    weights = scale / base.scale.mean(axis=1, keepdims=True)
    # Seen from a lull's tiny scale, what follows it is beyond all measure: nothing is learned there.
    usable = np.isfinite(changes) & (weights >= _LEAST_WEIGHT)
    return Rows(found[usable], changes[usable], weights[usable])


def thinned(steps: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """The steps of several series to learn from; every so many-th where they are very many.

    Before rows are made of them: those of a hundred sites would take gigabytes.
    """
    stride = max(1, -(-sum(map(len, steps)) // _MOST_ROWS))
    return [each[::stride] for each in steps]


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several series."""
    return Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.changes for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def fit(rows: Rows, seed: int) -> HorizonModel | None:
    """Trees and line learned from these rows; None where they are too few."""
    if len(rows.changes) < _LEAST_ROWS:
        return None
    low, high = np.quantile(rows.changes, [_WINSORISED_RATIO, 1 - _WINSORISED_RATIO])
    changes = np.clip(rows.changes, low, high)
    trees = HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=70,
        max_depth=3,
        min_samples_leaf=30 * _DRAWN_A_ROW,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    with _THREADS.limit(limits=1):
        drawn = _drawn(rows.weights)
        trees.fit(_without_unknown(rows.features)[drawn], changes[drawn])
        line = _for_line(rows.features)
        mean, deviation = line.mean(axis=0), line.std(axis=0)
        deviation[deviation < 1e-6] = 1.0
        ridge = Ridge(alpha=_RIDGE_A_ROW * len(changes))
        ridge.fit((line - mean) / deviation, changes, sample_weight=rows.weights)
    return HorizonModel(trees, mean, deviation, np.asarray(ridge.coef_), float(ridge.intercept_))


def _drawn(weights: Floats) -> NDArray[np.int64]:
    """Rows drawn evenly in proportion to their weights, twice as many as there are (systematic sampling).

    scikit-learn's own weights make its binning a hundred times slower than the trees.
    """
    share = np.cumsum(weights) / weights.sum()
    return np.searchsorted(share, (np.arange(_DRAWN_A_ROW * len(weights)) + 0.5) / (_DRAWN_A_ROW * len(weights)))


def _for_line(rows: Floats) -> Floats:
    return np.clip(np.nan_to_num(rows), -_LINE_CLIP, _LINE_CLIP)


def _without_unknown(rows: Floats) -> Floats:
    """A feature that no row knows is a constant: the trees' binning wants a value of each."""
    return np.where(np.isnan(rows).all(axis=0), 0.0, rows)
