"""Forecasters as the tests of the stage need them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forecasting.forecaster import SeriesForecast, SeriesHistory, statistical
from schemas.forecast import QUANTILE_LEVELS

Advance = Callable[[Sequence[SeriesHistory], Sequence[float | None]], list[SeriesForecast]]


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same forecaster serves."""

    forecaster: Any
    flags: tuple[str, ...] = ()

    def current(self) -> Any:
        """That one."""
        return self.forecaster


@dataclass(frozen=True, slots=True)
class Plain:
    """A forecaster that costs next to nothing, and to which all of a history matters."""

    name: str = "plain"
    horizons_seconds: tuple[int, ...] = (60, 120)

    def advance(self, sites: Sequence[SeriesHistory], thresholds: Sequence[float | None]) -> list[SeriesForecast]:
        """The mean of all known steps, and above it."""
        made = []
        for series in sites:
            steps = np.asarray(series.steps, dtype=np.float64)
            level = float(np.nanmean(steps) + len(steps))
            quantiles = level * np.linspace(1, 2, len(self.horizons_seconds) * len(QUANTILE_LEVELS))
            made.append(
                SeriesForecast(quantiles.reshape(-1, len(QUANTILE_LEVELS)), level, np.array([0.25, 0.5]), ("plain",))
            )
        return made


@dataclass(slots=True)
class Counting:
    """The statistical forecaster of steps of 20 s, that notes how many series it is given at once."""

    calls: list[int]
    advance_all: Advance
    name: str = statistical(20.0).name
    horizons_seconds: tuple[int, ...] = statistical(20.0).horizons_seconds

    def advance(self, sites: Sequence[SeriesHistory], thresholds: Sequence[float | None]) -> list[SeriesForecast]:
        """What it says."""
        self.calls.append(len(sites))
        return self.advance_all(sites, thresholds)
