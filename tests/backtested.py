"""A backtest made by hand: what a person would have forecast, for tests of what is done with it."""

from datetime import UTC, datetime

import numpy as np

from forecasting.backtest import METHODS, Backtest, Options, SpikeScores
from forecasting.series import LoadSeries

START = datetime(2024, 5, 10, tzinfo=UTC)


def made_backtest(
    steps: int = 96, step_seconds: float = 600.0, horizons_seconds: tuple[float, ...] = (600.0, 1800.0)
) -> Backtest:
    """A wave over `steps` steps, two thirds of them to learn from; forecasts that are off by a tenth, and never higher
    than the load by more than a fifth; the same time last week is unknown; the last steps are not known yet.
    """
    values = 100 + 50 * np.sin(np.arange(steps) / 7)
    values[5] = np.nan
    train_steps = steps * 2 // 3
    origins = np.arange(train_steps - 1, steps - 1)
    ahead = [round(seconds / step_seconds) for seconds in horizons_seconds]
    later = np.concatenate([values, np.full(max(ahead), np.nan)])
    actual = np.stack([later[origins + each] for each in ahead], axis=1)
    spread = np.array([0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2])
    off = {method: 1.1 + 0.05 * place for place, method in enumerate(METHODS)}
    quantiles = {method: actual[:, :, None] * off[method] * spread for method in METHODS}
    quantiles["same_time_last_week"][:] = np.nan
    came = np.stack([actual[:, 0] > 140, actual[:, 0] > 130], axis=1).astype(np.float64)
    onset = np.diff(came[:, 0], prepend=0) > 0
    scored = {"model": came + 0.1, "persistence": np.roll(came, 1, axis=0)}
    within = (600.0, 1800.0)
    none = SpikeScores(within, np.zeros_like(came), np.zeros_like(onset), scored)
    return Backtest(
        series=LoadSeries("made.csv load", START, step_seconds, values),
        options=Options(horizons_seconds, train_steps),
        origins=origins,
        actual=actual,
        quantiles=quantiles,
        spikes={"above_train_p95": SpikeScores(within, came, onset, scored), "above_twice_median": none},
        train_seconds=1.5,
        predict_seconds=0.25,
        flags=("gaps",),
    )
