"""Forecasts scored when their time comes, beside persistence, and the rule that says that they drift. Pure."""

import math
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from schemas.forecast import QUANTILE_LEVELS

# One horizon each of what people ask for: minutes for ramps, hours for shifts, a day for the market.
SCORED_SECONDS = (600, 1800, 3600, 7200, 21_600, 86_400)
# Forecasts that wait for their time, at most, at one horizon: a day of minutes.
_MOST_WAITING = 1_440

_HALF_LIFE_SECONDS = 8 * 3600.0
_LEAST_SECONDS = 6 * 3600.0

# Coverage of a 90 % interval beyond which it no longer says what it should, and how much worse than persistence the
# model may be; and by how many standard errors either must show, of the few independent spans that a day holds.
_COVERAGE_RANGE = (0.8, 0.97)
_WORSE_THAN_PERSISTENCE_RATIO = 0.02
_STANDARD_ERRORS = 2.5
_RIGHT_COVERAGE_RATIO = 0.9

_LEVELS = np.array(QUANTILE_LEVELS)
_MEDIAN = len(QUANTILE_LEVELS) // 2


def _in_slots(value: Any) -> NDArray[np.float32]:
    if not isinstance(value, str):
        raise ValueError("must be base64")  # noqa: TRY004 - pydantic makes a validation error of this one alone
    return (
        np.frombuffer(b64decode(value, validate=True), dtype="<f4").reshape(-1, len(QUANTILE_LEVELS)).astype(np.float32)
    )


def _in_base64(slots: NDArray[np.float32]) -> str:
    return b64encode(slots.astype("<f4").tobytes()).decode()


_Slots = Annotated[NDArray[np.float32], PlainValidator(_in_slots), PlainSerializer(_in_base64, return_type=str)]


@dataclass(frozen=True, slots=True)
class StepScore:
    """One forecast held against what came (1/s), and what the newest ones come to: about a day of them."""

    horizon_seconds: int
    model: str
    came: float
    lower: float
    median: float
    upper: float
    persistence: float
    pinball_loss: float
    wmape_ratio: float | None
    persistence_wmape_ratio: float | None
    coverage_ratio: float
    is_drifting: bool


@dataclass(slots=True)
class Sums:
    """Sums over the scores of one model at one horizon; weights halve every eight hours."""

    model: str = ""
    weight: float = 0.0
    load: float = 0.0
    absolute_error: float = 0.0
    persistence_error: float = 0.0
    excess_squared: float = 0.0
    covered: float = 0.0

    def take(self, keep: float, came: float, error: float, persistence_error: float, covered: bool) -> None:
        """Adds a score; what was there counts `keep` (0-1) of what it did."""
        self.weight = keep * self.weight + 1.0
        self.load = keep * self.load + came
        self.absolute_error = keep * self.absolute_error + error
        self.persistence_error = keep * self.persistence_error + persistence_error
        self.excess_squared = keep * self.excess_squared + (error - persistence_error) ** 2
        self.covered = keep * self.covered + covered


def is_drifting(sums: Sums, step_seconds: float, horizon_seconds: float) -> bool:
    """Whether the model does worse than it may, by more than chance makes of scores that overlap.

    Scores a horizon apart share nothing; so `weight` scores of overlapping spans are worth weight x step / horizon
    independent ones. Drifting: the mean excess of the absolute error over persistence's lies above 2 % of the latter
    by 2.5 standard errors; or coverage lies outside [0.8, 0.97], and off 0.9 by 2.5 standard errors of a proportion.
    """
    if sums.weight * step_seconds < _LEAST_SECONDS:
        return False
    independent = max(1.0, sums.weight * min(1.0, step_seconds / horizon_seconds))
    excess = (sums.absolute_error - sums.persistence_error) / sums.weight
    spread = math.sqrt(max(0.0, sums.excess_squared / sums.weight - excess**2) / independent)
    allowed = _WORSE_THAN_PERSISTENCE_RATIO * sums.persistence_error / sums.weight
    coverage = sums.covered / sums.weight
    chance = _STANDARD_ERRORS * math.sqrt(_RIGHT_COVERAGE_RATIO * (1 - _RIGHT_COVERAGE_RATIO) / independent)
    low, high = _COVERAGE_RANGE
    is_covered = low <= coverage <= high or abs(coverage - _RIGHT_COVERAGE_RATIO) <= chance
    return excess > allowed + _STANDARD_ERRORS * spread or not is_covered


@dataclass(slots=True, eq=False)
class HorizonScores:
    """The forecasts at one horizon that wait for their time, and the sums of those whose time has come.

    `waiting` has shape (horizon in steps, 7): the forecast of step j stands in row j modulo the horizon, where the
    one that is issued at the end of step j replaces it. NaN: none.
    """

    waiting: _Slots
    sums: Sums = field(default_factory=Sums)


def _no_horizons() -> dict[int, HorizonScores]:
    return {}


@dataclass(slots=True, eq=False)
class Scorecard:
    """The scores of one series. `models` says from which step on which model issued, newest last."""

    horizons: dict[int, HorizonScores] = field(default_factory=_no_horizons)
    models: list[tuple[int, str]] = field(default_factory=list)

    def close(self, steps: NDArray[np.float32], first: int, closed: int, step_seconds: float) -> list[StepScore]:
        """The scores that are due when `closed` steps have closed, of which the first has the number `first`.

        Args:
            steps: load of the closed steps, shape (n,), NaN where not observed; all but the first of the new ones
                are gaps.
            first: number of the first new step, counted from any origin that stays.
            closed: how many are new, at least 1.
            step_seconds: length of a step.
        """
        came_at = steps.size - closed
        scores = []
        for horizon_seconds, horizon in self.horizons.items():
            ahead = len(horizon.waiting)
            if came_at >= ahead:
                came, before = float(steps[came_at]), float(steps[came_at - ahead])
                score = self._score(horizon_seconds, horizon, first, came, before, step_seconds)
                scores += [score] if score else []
            over = (first + np.arange(min(closed, ahead))) % ahead
            horizon.waiting[over] = np.nan
        return scores

    def _score(
        self,
        horizon_seconds: int,
        horizon: HorizonScores,
        step: int,
        came: float,
        before: float,
        step_seconds: float,
    ) -> StepScore | None:
        ahead = len(horizon.waiting)
        quantiles = horizon.waiting[step % ahead].astype(np.float64)
        if math.isnan(came) or math.isnan(before) or np.isnan(quantiles).any():
            return None
        model = next((name for since, name in reversed(self.models) if since <= step - ahead), "")
        if model != horizon.sums.model:
            horizon.sums = Sums(model)
        sums, lower, median, upper = horizon.sums, *(float(quantiles[level]) for level in (0, _MEDIAN, -1))
        keep = 0.5 ** (step_seconds / _HALF_LIFE_SECONDS)
        sums.take(keep, came, abs(median - came), abs(before - came), lower <= came <= upper)
        return StepScore(
            horizon_seconds=horizon_seconds,
            model=model,
            came=came,
            lower=lower,
            median=median,
            upper=upper,
            persistence=before,
            pinball_loss=pinball_loss(quantiles, came),
            wmape_ratio=sums.absolute_error / sums.load if sums.load > 0 else None,
            persistence_wmape_ratio=sums.persistence_error / sums.load if sums.load > 0 else None,
            coverage_ratio=min(1.0, sums.covered / sums.weight),
            is_drifting=is_drifting(sums, step_seconds, horizon_seconds),
        )

    def issue(self, step: int, quantiles: Mapping[int, NDArray[np.float64]], model: str, step_seconds: float) -> None:
        """Keeps the forecast issued at the end of step number `step`, until its time comes.

        Args:
            step: number of the last closed step.
            quantiles: by horizon in seconds, shape (7,) at QUANTILE_LEVELS.
            model: which made it.
            step_seconds: length of a step.
        """
        for horizon_seconds in scored_horizons(quantiles, step_seconds):
            ahead = round(horizon_seconds / step_seconds)
            if horizon_seconds not in self.horizons:
                self.horizons[horizon_seconds] = HorizonScores(np.full((ahead, len(_LEVELS)), np.nan, np.float32))
            self.horizons[horizon_seconds].waiting[step % ahead] = quantiles[horizon_seconds]
        if not self.models or self.models[-1][1] != model:
            self.models.append((step, model))
        oldest = step - max((len(each.waiting) for each in self.horizons.values()), default=0)
        while len(self.models) > 1 and self.models[1][0] <= oldest:
            del self.models[0]


def scored_horizons(horizons_seconds: Iterable[int], step_seconds: float) -> list[int]:
    """Those of SCORED_SECONDS that are forecast, are whole steps, and not too many of them."""
    return [
        each
        for each in SCORED_SECONDS
        if each in horizons_seconds and each % step_seconds == 0 and each / step_seconds <= _MOST_WAITING
    ]


def pinball_loss(quantiles: NDArray[np.float64], came: float) -> float:
    """Mean quantile loss (Koenker and Bassett 1978) over QUANTILE_LEVELS, in the unit of the load."""
    below = came - quantiles
    return float(np.mean(np.maximum(_LEVELS * below, (_LEVELS - 1) * below)))
