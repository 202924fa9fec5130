"""How good a forecaster is on steps held out: one number by which two of them are compared."""

from collections.abc import Sequence

import numpy as np

from forecasting.forecaster import Forecaster
from forecasting.series import Floats, LoadSeries
from forecasting.train import all_said, first_step_number, learned_points, replay, series_levels
from schemas.forecast import QUANTILE_LEVELS

_MOST_SERIES = 48
_WARM_UP_SECONDS = 86_400.0
_LEVELS = np.array(QUANTILE_LEVELS)


def holdout_pinball(forecaster: Forecaster, series: Sequence[LoadSeries], from_steps: Sequence[int]) -> float:
    """Mean pinball loss (Koenker and Bassett 1978) over horizons and series, each in units of persistence's error.

    Of forecasts of each series' steps from its own of `from_steps` on, for at most 48 of the series, evenly chosen; the
    blend and the intervals walk through the day before first, as they would live. A forecast belongs to its target: of
    a day held out the horizon of a day is judged by what was said the day before. Every horizon of every series counts
    alike: in the load's own unit the hours far ahead would drown the minutes. A series that never changes judges
    nobody. NaN where nothing came that can be judged, and where a forecast is none.
    """
    every = max(1, -(-len(series) // _MOST_SERIES))
    chosen = zip(series[::every], from_steps[::every], strict=True)
    losses = np.concatenate([np.empty(0), *(_losses(forecaster, each, from_step) for each, from_step in chosen)])
    return float(losses.mean()) if len(losses) else float("nan")


def _losses(forecaster: Forecaster, series: LoadSeries, from_step: int) -> Floats:
    """The scaled loss of each horizon of one series of which anything can be judged."""
    values, layout = series.values, forecaster.plan.layout
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.empty(0)
    start = max(int(known[0]), from_step - round(_WARM_UP_SECONDS / series.step_seconds))
    base, at = series_levels(series), np.arange(len(values))
    learned = [
        None if model is None else learned_points(model, base, at, steps, forecaster.weekdays)[0]
        for model, steps in zip(forecaster.models, layout.horizon_steps, strict=True)
    ]
    said = all_said(base, layout, learned)
    state = forecaster.plan.started(base.scale[:, start])
    walk = replay(forecaster.plan, state, first_step_number(series), values, said, base, range(start, len(values)))
    made = {step: quantiles for step, _, quantiles in walk}
    losses = []
    for place, ahead in enumerate(layout.horizon_steps):
        targets = range(max(from_step, start + ahead), len(values))
        judged = [target - ahead for target in targets if np.isfinite(values[target])]
        if not judged:
            continue
        came = values[np.array(judged) + ahead]
        unit = np.abs(came - base.filled[0, judged]).mean()
        error = came[:, None] - np.array([made[step][place] for step in judged])
        if unit > 0:
            losses.append(np.maximum(_LEVELS * error, (_LEVELS - 1) * error).mean() / unit)
    return np.array(losses)
