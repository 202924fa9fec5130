"""From histories to a forecaster: what is learned of each horizon, and series walked through step by step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting import adapt
from forecasting.experts import EXPERTS, LEARNED, SIMPLE, simple_experts
from forecasting.features import DAY_SECONDS, WEEKDAY_AFTER_DAYS, Levels, features, levels_of
from forecasting.forecaster import Forecaster, live_plan
from forecasting.model import HorizonModel, Rows, fit, joined, rows_of, thinned
from forecasting.series import Floats, LoadSeries
from forecasting.state import Layout

_FOLDS = 4
# Before so many steps a level means little.
_WARM_UP_STEPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Studied:
    """Series of one step length, as training sees them: known loads (1, n) and levels of each."""

    known: list[Floats]
    levels: list[Levels]

    @property
    def weekdays(self) -> bool:
        """Whether they are long enough to learn from the weekday."""
        longest = max(each.shape[1] for each in self.known)
        return bool(longest * self.levels[0].step_seconds >= WEEKDAY_AFTER_DAYS * DAY_SECONDS)


def studied(series: Sequence[LoadSeries]) -> Studied:
    """The series of which any step is known.

    Raises:
        ValueError: there is none, or their steps differ.
    """
    if len({each.step_seconds for each in series}) > 1:
        raise ValueError("series to learn from must have steps of one length")
    used = [each for each in series if np.isfinite(each.values).any()]
    if not used:
        raise ValueError("no series to learn from has a step that was observed")
    return Studied([each.values[None, :] for each in used], [series_levels(each) for each in used])


def series_levels(series: LoadSeries) -> Levels:
    """The levels of one series, S = 1."""
    return levels_of(
        series.values[None, :],
        np.array([series.starts_at.timestamp()]),
        series.step_seconds,
        None if series.clients is None else series.clients[None, :],
        None if series.dispersion is None else series.dispersion[None, :],
    )


def training_steps(steps: int, horizon_steps: int) -> NDArray[np.int64]:
    """The origins among the first `steps` steps whose target lies among them too."""
    return np.arange(min(_WARM_UP_STEPS, steps // 4), max(0, steps - horizon_steps))


def fit_horizon(data: Studied, horizon_steps: int, weekdays: bool, seed: int) -> HorizonModel | None:
    """What all of the series teach of one horizon."""
    steps = [training_steps(known.shape[1], horizon_steps) for known in data.known]
    return fit(_rows(data, steps, horizon_steps, weekdays), seed)


def _rows(data: Studied, steps: Sequence[NDArray[np.int64]], horizon_steps: int, weekdays: bool) -> Rows:
    """What there is to learn from these steps of each series, thinned where it is very much."""
    came = [
        at[np.isfinite(known[0, at + horizon_steps] - base.filled[0, at])]
        for known, base, at in zip(data.known, data.levels, steps, strict=True)
    ]
    return joined(
        [
            rows_of(base, at, horizon_steps, weekdays, known)
            for known, base, at in zip(data.known, data.levels, thinned(came), strict=True)
        ]
    )


def cross_fitted(data: Studied, horizon_steps: int, weekdays: bool, seed: int) -> list[Floats]:
    """What trees and line say of each series' steps, (n, 2), learned from the others' blocks in time alone.

    Blocked cross-validation (Bergmeir and Benitez 2012), a horizon's distance kept: errors that a fit makes on what
    it has not seen, from which the blend and the intervals can learn before the first forecast. NaN where none.
    """
    said = [np.full((known.shape[1], len(LEARNED)), np.nan) for known in data.known]
    for fold in range(_FOLDS):
        learned_from, blocks = [], []
        for known in data.known:
            steps = training_steps(known.shape[1], 0)
            block = np.array_split(steps, _FOLDS)[fold]
            blocks.append(block)
            usable = training_steps(known.shape[1], horizon_steps)
            if len(block):
                usable = usable[(usable < block[0] - horizon_steps) | (usable > block[-1] + horizon_steps)]
            learned_from.append(usable)
        model = fit(_rows(data, learned_from, horizon_steps, weekdays), seed)
        if model is None:
            continue
        for filled, base, block in zip(said, data.levels, blocks, strict=True):
            if len(block):
                filled[block] = learned_points(model, base, block, horizon_steps, weekdays)[0]
    return said


def learned_points(
    model: HorizonModel, base: Levels, at: NDArray[np.int64], horizon_steps: int, weekdays: bool
) -> Floats:
    """Loads that trees and line expect of series (S, n) from the steps `at` (m,), shape (S, m, 2)."""
    changes = model.changes(features(base, at, horizon_steps, weekdays))
    return np.maximum(base.filled[:, at, None] + base.scale[:, at, None] * changes, 0.0)


def replay(
    plan: adapt.Plan,
    state: NDArray[np.float32],
    first_number: int,
    known: Floats,
    said: Floats,
    base: Levels,
    steps: range,
) -> Iterator[tuple[int, Floats, Floats]]:
    """Walks one series (n,) through `steps`: the step, points (A,) and quantiles (A, 7) at each; `state` learns.

    `said` (n, A, E) is what each expert says at each step; `base` holds the levels of this series alone.
    """
    for at in steps:
        point, made = adapt.step(
            plan,
            state,
            np.array([first_number + at]),
            known[at : at + 1],
            said[at : at + 1],
            base.scale[:, at],
            adapt.level_of(base, at),
        )
        yield at, point[0], made[0]


def first_step_number(series: LoadSeries) -> int:
    """The number of a series' first step, counted since 1970."""
    return round(series.starts_at.timestamp() / series.step_seconds)


def all_said(base: Levels, layout: Layout, learned: Sequence[Floats | None]) -> Floats:
    """What every expert says at every step of one series, (n, A, E); `learned` (n, 2) for each horizon, or None."""
    at = np.arange(base.filled.shape[1])
    said = np.full((len(at), layout.horizons, len(EXPERTS)), np.nan)
    for place, steps in enumerate(layout.horizon_steps):
        said[:, place, : len(SIMPLE)] = simple_experts(base, at, steps)[0]
        found = learned[place]
        if found is not None:
            said[:, place, len(SIMPLE) :] = found
    return said


def train(
    series: Sequence[LoadSeries],
    step_seconds: float,
    name: str,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Forecaster:
    """A forecaster that has learned from these series.

    Raises:
        ValueError: they have other steps, or nothing was observed.
    """
    if any(each.step_seconds != step_seconds for each in series):
        raise ValueError(f"every series must have steps of {step_seconds:g} s")
    data, plan = studied(series), live_plan(step_seconds)
    models = []
    for steps in plan.layout.horizon_steps:
        models.append(fit_horizon(data, steps, data.weekdays, seed))
        if progress:
            progress(len(models), plan.layout.horizons)
    return Forecaster(name, step_seconds, tuple(models), plan, data.weekdays)
