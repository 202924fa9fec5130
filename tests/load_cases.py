"""Loads with a day's shape, as series and as what a site's history keeps; and a forecaster that is quickly trained."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np

from forecasting.forecaster import Forecaster, SeriesForecast, SeriesHistory
from forecasting.series import Floats, LoadSeries
from forecasting.state import Track
from forecasting.train import train

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
HALF_HOUR_SECONDS = 1800.0
TWO_HOURS_SECONDS = 7200.0


def wave(steps: int, step_seconds: float, seed: int = 1, noise_ratio: float = 0.1) -> Floats:
    """Load about 100 that doubles by day, with noise in proportion."""
    phase = 2 * np.pi * np.arange(steps) * step_seconds / 86_400.0
    noise = np.random.default_rng(seed).normal(1.0, noise_ratio, steps)
    return np.maximum((100 - 35 * np.cos(phase)) * noise, 0.0)


def series_of(values: Floats, step_seconds: float, name: str = "austin-1/tokens") -> LoadSeries:
    """A series that begins on a Monday."""
    return LoadSeries(name, MONDAY, step_seconds, values)


def history_of(
    values: Sequence[float | None] | Floats, step_seconds: float, track: Track | None = None
) -> SeriesHistory:
    """A history that began on a Monday, and ends after these steps."""
    end = MONDAY + timedelta(seconds=step_seconds * len(values))
    return SeriesHistory(values, end, step_seconds, track or Track())


def walked(forecaster: Forecaster, values: Floats, first: int = 0) -> list[list[SeriesForecast]]:
    """What is forecast of series (S, n) at each step from `first` on, one list of S forecasts a step."""
    sites = [history_of(row[:first], forecaster.step_seconds) for row in values]
    found = []
    for step in range(first, values.shape[1]):
        for site, row in zip(sites, values, strict=True):
            site.steps = row[: step + 1]
            site.end += timedelta(seconds=forecaster.step_seconds)
        found.append(forecaster.advance(sites, [None] * len(sites)))
    return found


@lru_cache(maxsize=1)
def trained() -> Forecaster:
    """A forecaster of steps of two hours, trained on twelve days of one site; once for all tests."""
    return train([series_of(wave(144, TWO_HOURS_SECONDS), TWO_HOURS_SECONDS)], TWO_HOURS_SECONDS, "quick")
