"""Forecasts from a rolling origin, for whatever can be fitted: what is asked, the roll, the choice among variants.

It needs numpy only, for it runs in the peers' environment too. Nothing here sees a step before its time: a forecaster
is fitted on the steps up to the first origin of a period, and is given those up to the origin when it is asked.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]

DAY_SECONDS = 86_400.0
_FITTED_RATIO = 2 / 3  # of the training span, to choose among variants; the rest says which is better


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A series, and which of its steps are to be forecast from where."""

    values: Floats  # (n,) NaN where not observed
    step_seconds: float
    start_seconds: float  # of the first step, since midnight
    origins: Steps  # (m,) index of the last step known, rising
    ahead: Steps  # (H,) steps after the origin, rising
    refit_steps: int

    @property
    def day_steps(self) -> int:
        """Steps of one day."""
        return round(DAY_SECONDS / self.step_seconds)

    def save(self, path: Path) -> None:
        """Writes it for another process."""
        np.savez(
            path,
            values=self.values,
            scalars=np.array([self.step_seconds, self.start_seconds, self.refit_steps]),
            origins=self.origins,
            ahead=self.ahead,
        )

    @staticmethod
    def load(path: Path) -> "Task":
        """What `save` wrote."""
        with np.load(path) as file:
            step_seconds, start_seconds, refit_steps = file["scalars"]
            return Task(
                values=file["values"],
                step_seconds=float(step_seconds),
                start_seconds=float(start_seconds),
                origins=file["origins"],
                ahead=file["ahead"],
                refit_steps=int(refit_steps),
            )


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of one method beside its points."""

    variants: Sequence[str]  # which was taken, by horizon
    choose_seconds: float
    train_seconds: float
    predict_seconds: float
    faults: Sequence[str] = ()  # what it raised, each once; its points are NaN there


@dataclass(frozen=True, slots=True, eq=False)
class Rolled:
    """Points of one method from each step of the series, shape (n, H), and what it cost.

    NaN where it was not asked. The last third of the training span has the points of the fit on the first two, so that
    intervals can be made of errors that are none of a fit on itself.
    """

    points: Floats
    told: Told


def save_rolled(path: Path, methods: Mapping[str, Rolled]) -> None:
    """Writes the points of all methods for another process."""
    told = json.dumps({name: asdict(rolled.told) for name, rolled in methods.items()})
    points = {f"points.{name}": rolled.points for name, rolled in methods.items()}
    np.savez(path, allow_pickle=False, told=np.array(told), **points)


def load_rolled(path: Path) -> dict[str, Rolled]:
    """What `save_rolled` wrote."""
    with np.load(path) as file:
        return {
            name: Rolled(file[f"points.{name}"], Told(**told)) for name, told in json.loads(str(file["told"])).items()
        }


class Forecaster(Protocol):
    """Anything that can be fitted to a series without gaps and asked from later origins."""

    def fit(self, past: Floats) -> None:
        """Learns from all steps of `past`."""

    def points(self, known: Floats, origins: Steps, ahead: Steps) -> Floats:
        """The forecasts, shape (origins, ahead). Of `known` only the steps up to each origin may be looked at."""


Variants = Mapping[str, Callable[[], Forecaster]]
"""By name, each a way to do the same: what makes a fresh, unfitted one."""


def filled(values: Floats) -> Floats:
    """Each unknown step takes the last known one before it, the first ones 0."""
    places = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
    return np.where(places < 0, 0.0, values[places])


def wmape(points: Floats, actual: Floats) -> float:
    """Sum of absolute errors over sum of actual values, where both are known; infinite if none is or a point is not."""
    known = ~np.isnan(actual)
    if not known.any() or not np.isfinite(points[known]).all():
        return float("inf")
    total = float(np.abs(actual[known]).sum())
    return float(np.abs(points[known] - actual[known]).sum()) / total if total else float("inf")


def actual_at(values: Floats, origins: Steps, ahead: Steps) -> Floats:
    """What came `ahead` steps after each origin, shape (origins, ahead); NaN after the end."""
    places = origins[:, None] + ahead[None, :]
    found = values[np.minimum(places, len(values) - 1)]
    return np.where(places < len(values), found, np.nan)


def roll(task: Task, variants: Variants, tell: Callable[[int, int], None] = lambda done, of: None) -> Rolled:
    """Chooses a variant for each horizon on the training span alone, then rolls the origin with those.

    Args:
        task: the span up to its first origin is what is trained on before the first refit.
        variants: at least one.
        tell: called with the origins done and all origins, after each period.
    """
    began = perf_counter()
    points, chosen, faults = choose(task, variants)
    choose_seconds = perf_counter() - began
    train_seconds = predict_seconds = 0.0
    known = filled(task.values)
    for number, period in enumerate(periods(task.origins, task.refit_steps)):
        origins = task.origins[period]
        for name in sorted(set(chosen)):
            columns = np.flatnonzero([other == name for other in chosen])
            try:
                trained, asked, answer = _period(variants[name](), known, origins, task.ahead)
            except Exception as error:  # a peer may raise anything, and the others go on
                faults.append(f"{name}, period {number}: {_line(error)}")
                continue
            points[np.ix_(origins, columns)] = answer[:, columns]
            train_seconds += trained
            predict_seconds += asked
        tell(int(period.stop), len(task.origins))
    told = Told(chosen, choose_seconds, train_seconds, predict_seconds, tuple(dict.fromkeys(faults)))
    return Rolled(points, told)


def choose(task: Task, variants: Variants) -> tuple[Floats, tuple[str, ...], list[str]]:
    """The variant for each horizon with the least wMAPE on the last third of the training span.

    Each is fitted once on the first two thirds. With nothing to judge by, the first is taken.

    Returns:
        points of those taken, shape (n, H), NaN but in that third; their names, by horizon; and faults met.
    """
    names, faults = list(variants), list[str]()
    points = np.full((len(task.values), len(task.ahead)), np.nan)
    train = int(task.origins[0]) + 1
    origins = np.arange(max(1, int(train * _FITTED_RATIO) - 1), train - 1, dtype=np.int64)
    if not len(origins):
        return points, (names[0],) * len(task.ahead), faults
    known = filled(task.values[:train])
    actual = actual_at(task.values[:train], origins, task.ahead)
    found = np.full((len(names), *actual.shape), np.nan)
    for row, name in enumerate(names):
        try:
            found[row] = _period(variants[name](), known, origins, task.ahead)[2]
        except Exception as error:  # a peer may raise anything, and the others go on
            faults.append(f"{name}, choosing: {_line(error)}")
    errors = np.array([[wmape(each[:, place], actual[:, place]) for place in range(len(task.ahead))] for each in found])
    # A horizon that the third is too short for takes what the one before it took.
    best, taken = 0, list[int]()
    for place in range(len(task.ahead)):
        if np.isfinite(errors[:, place]).any():
            best = int(errors[:, place].argmin())
        taken.append(best)
    for place, row in enumerate(taken):
        points[origins, place] = found[row, :, place]
    return points, tuple(names[row] for row in taken), faults


def periods(origins: Steps, refit_steps: int) -> Sequence[slice]:
    """The origins, cut where a new fit is due: each slice spans `refit_steps` steps."""
    numbers = (origins - origins[0]) // refit_steps
    starts = [0, *(int(place) + 1 for place in np.flatnonzero(np.diff(numbers))), len(origins)]
    return [slice(start, stop) for start, stop in pairwise(starts)]


def _period(forecaster: Forecaster, known: Floats, origins: Steps, ahead: Steps) -> tuple[float, float, Floats]:
    """Seconds to fit, seconds to ask, and the points; load is never negative, and what is not finite is no forecast."""
    began = perf_counter()
    forecaster.fit(known[: origins[0] + 1])
    trained = perf_counter()
    points = forecaster.points(known[: origins[-1] + 1], origins, ahead)
    asked = perf_counter() - trained
    return trained - began, asked, np.where(np.isfinite(points), np.maximum(points, 0.0), np.nan)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
