"""A real trace as it would look with what goes wrong: each is a series that a forecaster must live through."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.rolling import DAY_SECONDS, Floats
from forecasting.series import LoadSeries

_HOUR_SECONDS = 3600.0
_SHIFT_RATIO = 3.0
_DEAD_HOURS = 6
_GAPS = 5
_JUMP_HOURS = 3
_NOISE_RATIO = 0.1
_WALK_RATIO = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Disturbed:
    """A series, and what is to be said of it."""

    series: LoadSeries
    begins: int | None = None  # step at which the disturbance begins, where it has a beginning
    flags: Sequence[str] = ()  # of which the backtest must raise one


def disturbed(series: LoadSeries, seed: int = 1) -> list[Disturbed]:
    """All disturbances of a series of several days."""
    values, steps = series.values, len(series.values)
    middle, hour = steps // 2, round(_HOUR_SECONDS / series.step_seconds)
    day = round(DAY_SECONDS / series.step_seconds)
    level = float(np.nanmean(values))
    noise = np.random.default_rng(seed).standard_normal(steps)

    def as_series(name: str, changed: Floats) -> LoadSeries:
        return replace(series, name=name, values=changed, clients=None, dispersion=None)

    shifted = np.where(np.arange(steps) < middle, values, _SHIFT_RATIO * values)
    dead = values.copy()
    dead[middle : middle + _DEAD_HOURS * hour] = 0.0
    gaps = values.copy()
    for start in np.linspace(middle, steps - 2 * hour, _GAPS).astype(int):
        gaps[start : start + hour] = np.nan
    jumped = np.delete(values, slice(middle, middle + _JUMP_HOURS * hour))
    walk = np.abs(level * (1 + _WALK_RATIO * np.cumsum(noise)))
    return [
        Disturbed(as_series("level shift", shifted), middle, ("level-shift",)),
        Disturbed(as_series("dead sensor", dead), middle, ("dead-sensor", "zeros")),
        Disturbed(as_series("gaps of an hour", gaps), middle, ("gaps",)),
        Disturbed(as_series("clock jump", jumped), middle),
        Disturbed(as_series("new site", values[: day + 6 * hour])),
        Disturbed(as_series("zeros", np.zeros(steps)), None, ("dead-sensor", "zeros")),
        Disturbed(as_series("constant", np.full(steps, level))),
        Disturbed(as_series("constant with noise", level * np.maximum(1 + _NOISE_RATIO * noise, 0))),
        Disturbed(as_series("random walk", walk)),
    ]
