"""Rolling-origin backtest: at each step the forecast that would have been made then, of the past alone, and what came.

The model is trained on the first steps, walks on from origin to origin, and is trained anew as time passes, each time
on what was known by then (Tashman 2000). Every baseline's points get the same conformal treatment as the model's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from forecasting import adapt
from forecasting.drawn import steps_within
from forecasting.experts import EXPERTS, prior_weights
from forecasting.features import DAY_SECONDS, Levels
from forecasting.quality import DEAD_SENSOR, GAPS, LEVEL_SHIFT, ZEROS, has_shifted, is_dead
from forecasting.rivals import RIVALS, rival_points
from forecasting.series import Floats, LoadSeries
from forecasting.spikes import FACTOR, probability_within, trailing_median
from forecasting.state import Layout
from forecasting.train import (
    Studied,
    all_said,
    cross_fitted,
    first_step_number,
    fit_horizon,
    learned_points,
    replay,
    series_levels,
)
from schemas.forecast import QUANTILE_LEVELS

METHODS = ("model", *RIVALS)
ABOVE_TRAIN_P95, ABOVE_TWICE_MEDIAN = "above_train_p95", "above_twice_median"
SPIKE_DEFINITIONS = (ABOVE_TRAIN_P95, ABOVE_TWICE_MEDIAN)

_DEFAULT_HORIZONS_SECONDS = (600.0, 1800.0, 3600.0, 7200.0)
_SHORT_HORIZONS_STEPS = (1, 3, 6)
_SPIKE_WITHIN_SECONDS = (600.0, 1800.0)
_DEFAULT_TRAIN_DAYS = 3.0
_LEAST_STEPS = 24
_LEAST_REFIT_STEPS = 30
_SEED = 1
_QUARTER_HOUR_SECONDS = 900.0
_LOOKED_BACK_DAYS = 8  # as what serves does


@dataclass(frozen=True, slots=True)
class Options:
    """How a series is tested: horizons, steps before the first origin, how often the model is trained anew."""

    horizons_seconds: tuple[float, ...]
    train_steps: int
    refit_seconds: float = DAY_SECONDS
    spike_within_seconds: tuple[float, ...] = _SPIKE_WITHIN_SECONDS


@dataclass(frozen=True, slots=True, eq=False)
class SpikeScores:
    """Spikes of one definition: what came (m, W), NaN where unknown, and each method's score (m, W), rising with risk.

    `onset` (m,): whether a spike begins at the step after the origin.
    """

    within_seconds: tuple[float, ...]
    came: Floats
    onset: NDArray[np.bool_]
    scores: dict[str, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Backtest:
    """What was forecast at each of m origins, and what came (m, H), NaN where unknown.

    `origins` (m,): index of the last step known; `quantiles`: of each method (m, H, 7) at QUANTILE_LEVELS, the median
    being its point forecast, NaN where it has nothing to say.
    """

    series: LoadSeries
    options: Options
    origins: NDArray[np.int64]
    actual: Floats
    quantiles: dict[str, Floats]
    spikes: dict[str, SpikeScores]
    train_seconds: float
    predict_seconds: float
    flags: tuple[str, ...]


def default_options(series: LoadSeries, horizons_seconds: tuple[float, ...] | None = None) -> Options:
    """Three days to train on, or three sevenths of a shorter series; horizons and retraining that fit its length.

    Raises:
        ValueError: the series is too short, or a horizon is no whole number of steps or too long for it.
    """
    steps, step = len(series.values), series.step_seconds
    if steps < _LEAST_STEPS:
        raise ValueError(f"{steps} steps of {step:g} s are too few to train and to test on; at least {_LEAST_STEPS}")
    days = round(_DEFAULT_TRAIN_DAYS * DAY_SECONDS / step)
    train_steps = days if steps >= days * 5 / _DEFAULT_TRAIN_DAYS else round(steps * 3 / 7)
    tested = steps - train_steps
    if horizons_seconds is None:
        fitting = [s for s in _DEFAULT_HORIZONS_SECONDS if s % step == 0 and s / step <= min(train_steps, tested) / 4]
        horizons_seconds = tuple(fitting) if len(fitting) > 1 else tuple(step * n for n in _SHORT_HORIZONS_STEPS)
    _check_horizons(horizons_seconds, step, tested)
    within = tuple(s for s in _SPIKE_WITHIN_SECONDS if s >= step and s / step <= tested / 4)
    refit = min(DAY_SECONDS, max(_LEAST_REFIT_STEPS, steps // 10) * step)
    return Options(horizons_seconds, train_steps, refit, within or (step,))


def _check_horizons(horizons_seconds: tuple[float, ...], step: float, tested: int) -> None:
    for seconds in horizons_seconds:
        if seconds < step or abs(seconds / step - round(seconds / step)) > 1e-6:
            raise ValueError(f"a horizon of {seconds:g} s is no whole number of steps of {step:g} s")
        if seconds / step > tested - 1:
            raise ValueError(f"a horizon of {seconds:g} s is longer than the {tested * step:g} s that are left to test")


def backtest(series: LoadSeries, options: Options, progress: Callable[[int, int], None] | None = None) -> Backtest:
    """Trains, forecasts and trains anew through the series; `progress` is told what is done, of how much.

    Raises:
        ValueError: nothing was observed in the steps to train on.
    """
    steps, layout = len(series.values), _layout(series, options)
    if not np.isfinite(series.values[: options.train_steps]).any():
        raise ValueError("nothing was observed in the steps to train on")
    base, origins = series_levels(series), np.arange(options.train_steps - 1, steps - 1)
    clock = _Clock(progress, layout.horizons * (1 + len(_refits(series, options))) + len(METHODS))
    learned = [_learned(series, base, options, n, clock) for n in layout.horizon_steps]
    started = perf_counter()
    made = {"model": _walk(series, base, layout, all_said(base, layout, learned))}
    clock.predict_seconds += perf_counter() - started
    clock.tell()
    for name in RIVALS:
        points = rival_points(name, base, layout.horizon_steps, options.train_steps)
        made[name] = conformal_quantiles(points, series, options, layout)
        clock.tell()
    asked = [layout.horizon_steps.index(round(s / series.step_seconds)) for s in options.horizons_seconds]
    return Backtest(
        series,
        options,
        origins,
        np.stack([_ahead(series.values, origins, layout.horizon_steps[place]) for place in asked], axis=1),
        {name: values[origins][:, asked] for name, values in made.items()},
        {name: _spikes(name, series, options, layout, origins, made["model"]) for name in SPIKE_DEFINITIONS},
        clock.train_seconds,
        clock.predict_seconds,
        _flags(series, base, options.train_steps),
    )


def conformal_quantiles(points: Floats, series: LoadSeries, options: Options, layout: Layout | None = None) -> Floats:
    """Quantiles (n, A, 7) about any method's points (n, A), by the treatment that the model's get.

    Without a `layout`, A is the number of `options.horizons_seconds`. NaN where the points are.
    """
    base, found = series_levels(series), layout
    if found is None:
        ahead = tuple(round(seconds / series.step_seconds) for seconds in options.horizons_seconds)
        found = Layout(ahead, (1,) * len(ahead), 1)
    alone = Layout(found.horizon_steps, found.cadence_steps, 1)
    return _walk(series, base, alone, points[:, :, None])


@dataclass(slots=True)
class _Clock:
    progress: Callable[[int, int], None] | None
    total: int
    done: int = 0
    train_seconds: float = 0.0
    predict_seconds: float = 0.0

    def tell(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(min(self.done, self.total), self.total)


def _layout(series: LoadSeries, options: Options) -> Layout:
    """The horizons asked for, and the next ones, which tell of spikes."""
    asked = {round(seconds / series.step_seconds) for seconds in options.horizons_seconds}
    spikes = {max(1, round(seconds / series.step_seconds)) for seconds in options.spike_within_seconds}
    ahead = tuple(sorted(asked | spikes | {1}))
    return Layout(ahead, (1,) * len(ahead), len(EXPERTS))


def _refits(series: LoadSeries, options: Options) -> range:
    """How many steps are known at each training."""
    every = max(1, round(options.refit_seconds / series.step_seconds))
    return range(options.train_steps, len(series.values), every)


def _learned(series: LoadSeries, base: Levels, options: Options, horizon_steps: int, clock: _Clock) -> Floats:
    """What trees and line say at every step (n, 2), each trained on what was known when it was last due."""
    said = np.full((len(series.values), 2), np.nan)
    refits = _refits(series, options)
    for known_steps in refits:
        started = perf_counter()
        data = _first(series, base, known_steps)
        weekdays = data.weekdays
        if known_steps == refits.start:
            said[:known_steps] = cross_fitted(data, horizon_steps, weekdays, _SEED)[0]
            clock.tell()
        model = fit_horizon(data, horizon_steps, weekdays, _SEED)
        clock.train_seconds += perf_counter() - started
        at = np.arange(known_steps - 1, min(known_steps - 1 + refits.step, len(said)))
        started = perf_counter()
        if model is not None and len(at):
            said[at] = learned_points(model, base, at, horizon_steps, weekdays)[0]
        clock.predict_seconds += perf_counter() - started
        clock.tell()
    return said


def _first(series: LoadSeries, base: Levels, steps: int) -> Studied:
    """The first steps of a series, with their levels, which depend on nothing after them."""
    return Studied(
        [series.values[None, :steps]],
        [
            Levels(
                base.filled[:, :steps],
                base.levels[:, :, :steps],
                base.changes[:, :, :steps],
                base.scale[:, :steps],
                base.starts_at,
                base.step_seconds,
                base.clients[:, :steps],
                base.dispersion[:, :steps],
            )
        ],
    )


def _walk(series: LoadSeries, base: Levels, layout: Layout, said: Floats) -> Floats:
    """Quantiles (n, A, 7) of the blend of what experts (n, A, E) say, from the first known step on."""
    ahead = [steps * series.step_seconds for steps in layout.horizon_steps]
    prior = prior_weights(ahead) if layout.experts == len(EXPERTS) else np.ones((layout.horizons, 1))
    plan = adapt.default_plan(layout, series.step_seconds, prior)
    first = int(np.argmax(np.isfinite(series.values)))
    state, made = (
        plan.started(base.scale[:, first]),
        np.full((len(said), layout.horizons, len(QUANTILE_LEVELS)), np.nan),
    )
    walk = replay(plan, state, first_step_number(series), series.values, said, base, range(first, len(series.values)))
    for at, _, quantiles in walk:
        made[at] = quantiles
    return made


def _ahead(values: Floats, origins: NDArray[np.int64], steps: int) -> Floats:
    index = origins + steps
    return np.where(index < len(values), values[np.minimum(index, len(values) - 1)], np.nan)


def _spikes(
    name: str, series: LoadSeries, options: Options, layout: Layout, origins: NDArray[np.int64], made: Floats
) -> SpikeScores:
    values, step = series.values, series.step_seconds
    now = series_levels(series).filled[0][origins]
    if name == ABOVE_TRAIN_P95:
        limits = np.full(len(origins), np.nanquantile(values[: options.train_steps], 0.95))
        risk = now
    else:
        medians = trailing_median(values, origins, step)
        limits = FACTOR * np.where(np.isnan(medians), now, medians)
        risk = now / np.maximum(limits, 1e-9)
    within = [max(1, round(seconds / step)) for seconds in options.spike_within_seconds]
    came, scores = [], []
    for steps in within:
        loads = np.stack([_ahead(values, origins, n) for n in range(1, steps + 1)])
        seen = (np.nan_to_num(loads) > limits).any(axis=0)
        came.append(np.where(np.isnan(loads).any(axis=0) & ~seen, np.nan, seen))
        ahead = steps_within(steps * step, step, layout.horizon_steps)
        scores.append(probability_within(limits, made[origins], now, ahead))
    next_step = np.nan_to_num(_ahead(values, origins, 1))
    return SpikeScores(
        tuple(options.spike_within_seconds),
        np.stack(came, axis=1),
        (next_step > limits) & ~(now > limits),
        {"model": np.stack(scores, axis=1), "persistence": np.repeat(risk[:, None], len(within), axis=1)},
    )


def _flags(series: LoadSeries, base: Levels, train_steps: int) -> tuple[str, ...]:
    """What was out of the ordinary about the tested part of a series."""
    values, step, looked_back = series.values, series.step_seconds, _LOOKED_BACK_DAYS * base.day_steps + 1
    # Both look at half an hour: a quarter of one apart, none is missed.
    ends = np.arange(max(train_steps, 1), len(values) + 1, max(1, round(_QUARTER_HOUR_SECONDS / step)))
    marks = {
        GAPS: np.isnan(values).any(),
        DEAD_SENSOR: any(is_dead(values[None, :end], step)[0] for end in ends),
        ZEROS: not (np.nan_to_num(values) > 0).any(),
        LEVEL_SHIFT: any(has_shifted(base.filled[:, max(0, end - looked_back) : end], step)[0] for end in ends),
    }
    return tuple(name for name, marked in marks.items() if marked)
