"""The peers' points for one series, in an environment of their own: statsforecast's AutoETS, AutoARIMA, MSTL; LightGBM.

    .venv-bench/bin/python -m benchmarks.forecast_peers TASK.npz POINTS.npz [--methods auto_ets,lightgbm]

Fitted again each `refit_steps`; in between the fitted parameters are kept and the new steps are fed in (`forward` of
statsforecast; LightGBM through mlforecast sees them as lags). Each does what suits it best on the training span:
see `benchmarks.rolling.choose`. A line `method done of` goes to stdout after each period.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from mlforecast import MLForecast
from mlforecast.lag_transforms import RollingMean, RollingStd
from mlforecast.target_transforms import Differences, GlobalSklearnTransformer
from sklearn.preprocessing import FunctionTransformer
from statsforecast.models import MSTL, AutoARIMA, AutoETS

from benchmarks.rolling import Floats, Steps, Task, Variants, roll, save_rolled

_FOURIER_PAIRS = (2, 4, 8)
_SHORT_LAGS = range(1, 7)
_ROLLING_STEPS = (3, 6, 12)
_LEAST_ROWS = 20  # to learn a horizon from
_DAY_LAGS_AT_MOST = 12
_DECOMPOSED_DAYS = 3
_DECOMPOSED_ANEW_STEPS = 144  # of a day, at most


class Forwarded:
    """A statsforecast model: fitted, then carried forward with its parameters as they are."""

    def __init__(
        self, model: Any, terms: Callable[[int, int], Floats] | None = None, last_steps: int | None = None
    ) -> None:
        self._model, self._terms, self._last_steps = model, terms, last_steps

    def fit(self, past: Floats) -> None:
        """Finds its order and its parameters."""
        self._model.fit(past, X=self._terms(0, len(past)) if self._terms else None)

    def points(self, known: Floats, origins: Steps, ahead: Steps) -> Floats:
        """The mean forecast from each origin."""
        farthest = int(ahead[-1])
        rows = np.empty((len(origins), len(ahead)))
        for row, origin in enumerate(origins):
            end = int(origin) + 1
            begin = max(0, end - self._last_steps) if self._last_steps else 0
            exogenous = (
                {"X": self._terms(begin, end), "X_future": self._terms(end, end + farthest)} if self._terms else {}
            )
            rows[row] = self._model.forward(known[begin:end], h=farthest, **exogenous)["mean"][ahead - 1]
        return rows


class KeptSeason:
    """MSTL whose season stays that of the last fit: the rest is carried forward, which costs no decomposition."""

    def __init__(self, day_steps: int, trend: Any) -> None:
        self._day, self._model = day_steps, MSTL(season_length=day_steps, trend_forecaster=trend)
        self._season: Floats = np.zeros(day_steps)

    def fit(self, past: Floats) -> None:
        """Takes the last day of the seasonal component as the season, by step of the day."""
        self._model.fit(past)
        seasonal = self._model.model_.filter(regex="seasonal").sum(axis=1).to_numpy()
        self._season[np.arange(len(past) - self._day, len(past)) % self._day] = seasonal[-self._day :]

    def points(self, known: Floats, origins: Steps, ahead: Steps) -> Floats:
        """The rest from each origin, and the season."""
        rest = known - self._season[np.arange(len(known)) % self._day]
        found = Forwarded(self._model.trend_forecaster).points(rest, origins, ahead)
        return found + self._season[(origins[:, None] + ahead[None, :]) % self._day]


class Trees:
    """LightGBM on lags, through mlforecast; every origin is a series of its own when it is asked."""

    def __init__(self, task: Task, target: str, objective: str, direct: bool, parameters: dict[str, Any]) -> None:
        self._task, self._direct, self._farthest = task, direct, int(task.ahead[-1])
        self._lags = _lags(task)
        self._forecast = MLForecast(
            models={"trees": lightgbm.LGBMRegressor(objective=objective, verbosity=-1, n_jobs=1, **parameters)},
            freq=1,
            lags=self._lags,
            lag_transforms={1: [*map(RollingMean, _ROLLING_STEPS), RollingStd(6)]},
            date_features=[self._hour_of_day],
            target_transforms=_target_transforms(target),
        )

    def _hour_of_day(self, steps: Any) -> Any:
        """Hours since midnight, with their fraction."""
        task = self._task
        return (task.start_seconds / 3600 + np.asarray(steps) * (task.step_seconds / 3600)) % 24

    def fit(self, past: Floats) -> None:
        """One model, applied again and again, or one for each horizon that has enough to learn from."""
        frame = pd.DataFrame({"unique_id": "0", "ds": np.arange(len(past)), "y": past})
        if not self._direct:
            self._forecast.fit(frame, static_features=[])
            return
        farthest = len(past) - max(*self._lags, *_ROLLING_STEPS) - _LEAST_ROWS
        self._farthest = max((int(steps) for steps in self._task.ahead if steps <= farthest), default=1)
        horizons = [int(steps) for steps in self._task.ahead if steps <= self._farthest]
        self._forecast.fit(frame, static_features=[], horizons=horizons)

    def points(self, known: Floats, origins: Steps, ahead: Steps) -> Floats:
        """The forecasts from each origin, all origins in one batch."""
        window = max(*self._lags, *_ROLLING_STEPS) + 2
        places = [np.arange(max(0, int(origin) + 1 - window), int(origin) + 1) for origin in origins]
        names = [np.full(len(place), f"{row:07d}") for row, place in enumerate(places)]
        steps = np.concatenate(places)
        frame = pd.DataFrame({"unique_id": np.concatenate(names), "ds": steps, "y": known[steps]})
        found = self._forecast.predict(h=min(int(ahead[-1]), self._farthest), new_df=frame)
        found["ahead"] = found["ds"] - origins[found["unique_id"].to_numpy(dtype=np.int64)]
        wide = found.pivot(index="unique_id", columns="ahead", values="trees")
        return wide.reindex(columns=list(ahead)).to_numpy(dtype=np.float64)


def _lags(task: Task) -> list[int]:
    """Just before, and a day before each step asked for, if the training span has that."""
    lags = set(_SHORT_LAGS)
    if task.origins[0] + 1 >= 2 * task.day_steps:
        kept = task.ahead[:: 1 + (len(task.ahead) - 1) // _DAY_LAGS_AT_MOST]
        lags |= {int(task.day_steps - steps + 1) for steps in kept if steps <= task.day_steps}
    return sorted(lags)


def _target_transforms(target: str) -> list[Any]:
    logarithm = GlobalSklearnTransformer(FunctionTransformer(func=np.log1p, inverse_func=np.expm1))
    return {"raw": [], "differenced": [Differences([1])], "log": [logarithm, Differences([1])]}[target]


def _fourier(pairs: int, day_steps: int, first: int, end: int) -> Floats:
    """Sines and cosines of the day, shape (end - first, 2 pairs)."""
    angles = 2 * np.pi * np.outer(np.arange(first, end) / day_steps, np.arange(1, pairs + 1))
    return np.hstack([np.sin(angles), np.cos(angles)])


def ets(task: Task) -> Variants:
    """Without a season: AutoETS knows none longer than 24 steps."""
    return {"AutoETS": lambda: Forwarded(AutoETS(season_length=1))}


def auto_arima(task: Task) -> Variants:
    """Without a season, or with the day as Fourier terms: a seasonal one takes minutes a fit and seconds an origin."""

    def arima(terms: Callable[[int, int], Floats] | None = None) -> Forwarded:
        return Forwarded(AutoARIMA(season_length=1), terms)

    variants: dict[str, Callable[[], Forwarded]] = {"AutoARIMA": arima}
    if task.origins[0] + 1 >= 2 * task.day_steps:
        for pairs in _FOURIER_PAIRS:
            terms = partial(_fourier, pairs, task.day_steps)
            variants[f"{pairs} Fourier pairs"] = partial(arima, terms)
    return variants


def mstl(task: Task) -> Variants:
    """The day as the season, decomposed anew at each origin or at each fit; none without two days to choose by.

    Anew, it sees the last days only: a decomposition's time grows with what it sees, to minutes a day of origins. With
    many steps a day it is left out.
    """
    day = task.day_steps
    if task.origins[0] + 1 < 3 * day:
        return {}

    variants: dict[str, Callable[[], Forwarded | KeptSeason]] = {
        "kept, AutoETS": lambda: KeptSeason(day, AutoETS(model="ZZN")),
        "kept, AutoARIMA": lambda: KeptSeason(day, AutoARIMA(season_length=1)),
    }
    if day <= _DECOMPOSED_ANEW_STEPS:
        variants["anew, AutoETS"] = lambda: Forwarded(MSTL(season_length=day), last_steps=_DECOMPOSED_DAYS * day)
    return variants


def trees(task: Task) -> Variants:
    """All ways to give LightGBM a fair chance on a short series."""
    sizes = {
        "default": {},
        "small": {"n_estimators": 200, "learning_rate": 0.05, "num_leaves": 8, "min_child_samples": 10},
    }
    return {
        f"{target}, {objective}, {'direct' if direct else 'recursive'}, {size}": partial(
            Trees, task, target, objective, direct, parameters
        )
        for target in ("raw", "differenced", "log")
        for objective in ("l2", "l1")
        for direct in (True, False)
        for size, parameters in sizes.items()
    }


METHODS: dict[str, Callable[[Task], Variants]] = {
    "auto_ets": ets,
    "auto_arima": auto_arima,
    "mstl": mstl,
    "lightgbm": trees,
}


def _tell(name: str, done: int, of: int) -> None:
    print(name, done, of, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the task, writes the points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path)
    parser.add_argument("points", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS), help="by commas; default: all")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    task = Task.load(options.task)
    found = {}
    for name in options.methods.split(","):
        if variants := METHODS[name](task):
            found[name] = roll(task, variants, partial(_tell, name))
    save_rolled(options.points, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
