"""What serves: every series of many sites in one call, from their histories and what they have learnt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from forecasting import adapt
from forecasting.drawn import Ahead, steps_within
from forecasting.experts import EXPERTS, LEARNED, prior_weights, simple_experts
from forecasting.features import DAY_SECONDS, Levels, features, levels_of
from forecasting.model import HorizonModel
from forecasting.quality import flags_of
from forecasting.series import Floats
from forecasting.spikes import FACTOR, probability_within, trailing_median
from forecasting.state import Layout, Track

HORIZONS_SECONDS = (*range(300, 7201, 300), *range(10_800, 86_401, 3600))
SPIKE_WITHIN_SECONDS = (600, 1800)

# Between these a forecast is drawn as a straight line; those of more than two hours are scored once an hour,
# nearer ones every five minutes at most: of short steps, the forecasts that wait would not fit in a site's memory.
_ANCHORS_SECONDS = (300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200)
_FAR_ANCHORS_SECONDS = (10_800, 14_400, 21_600, 28_800, 43_200, 57_600, 72_000, 86_400)
_NEAR_CADENCE_SECONDS, _FAR_CADENCE_SECONDS = 300, 3600
# Last week's shape, and a day for the horizon; of short steps no more than a site's history keeps, and one before it.
_WINDOW_SECONDS = 8 * DAY_SECONDS
_MOST_WINDOW_STEPS = 8_065


@dataclass(slots=True, eq=False)
class SeriesHistory:
    """One series of one site: its last closed steps (n,), NaN where not observed, the last of which ends at `end`.

    `gaps`: how many steps, all of them gaps, closed at once after the last one that the track has not seen.
    """

    steps: Sequence[float | None] | Floats
    end: datetime
    step_seconds: float
    track: Track = field(default_factory=Track)
    gaps: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SeriesForecast:
    """Quantiles (46, 7) of the load of the steps that end HORIZONS_SECONDS later, spikes, and what is unusual.

    `spike_probability` (2,): that the load exceeds `spike_threshold` within SPIKE_WITHIN_SECONDS.
    """

    quantiles: Floats
    spike_threshold: float
    spike_probability: Floats
    flags: tuple[str, ...]


def live_layout(step_seconds: float) -> Layout:
    """The horizons that are forecast in steps of this length; those between are drawn."""
    near_cadence = math.ceil(_NEAR_CADENCE_SECONDS / step_seconds)
    cadence = max(1, round(_FAR_CADENCE_SECONDS / step_seconds))
    near, far = (
        sorted({max(1, round(seconds / step_seconds / beat)) * beat for seconds in anchors})
        for anchors, beat in ((_ANCHORS_SECONDS, near_cadence), (_FAR_ANCHORS_SECONDS, cadence))
    )
    far = [steps for steps in far if steps > near[-1]]
    return Layout((*near, *far), (*[near_cadence] * len(near), *[cadence] * len(far)), len(EXPERTS))


@dataclass(frozen=True, slots=True, eq=False)
class Forecaster:
    """Experts, learned or not, blended and made sure of. `models` has one entry a horizon of the plan's layout."""

    name: str
    step_seconds: float
    models: tuple[HorizonModel | None, ...]
    plan: adapt.Plan
    weekdays: bool = False

    @property
    def horizons_seconds(self) -> tuple[int, ...]:
        """The horizons of each forecast, seconds."""
        return HORIZONS_SECONDS

    def advance(self, sites: Sequence[SeriesHistory], thresholds: Sequence[float | None]) -> list[SeriesForecast]:
        """Scores and learns from what waited for the last closed step of each series, and forecasts.

        What a series is told depends on itself alone, not on those beside it. Its track is replaced.

        Args:
            sites: histories with at least one known step each.
            thresholds: the load above which each one's spike begins; None: twice its last half hour's median.

        Raises:
            ValueError: a history has steps of another length.
        """
        if not sites:
            return []
        if any(each.step_seconds != self.step_seconds for each in sites):
            raise ValueError(f"every history must have steps of {self.step_seconds:g} s")
        self._learn_before_gaps(sites)
        known, starts = self._windows(sites)
        base = levels_of(known, starts, self.step_seconds)
        numbers = np.array([round(each.end.timestamp() / self.step_seconds) - 1 for each in sites])
        states = self._states(sites, base)
        said = self.said(base)
        _, made = adapt.step(
            self.plan, states, numbers, known[:, -1], said, base.scale[:, -1], adapt.level_of(base, -1)
        )
        for each, state in zip(sites, states, strict=True):
            each.track = Track(state.copy())
        limits = self._limits(known, base, thresholds)
        spikes = self._spikes(limits, made, base.filled[:, -1])
        drawn = self._drawn(made)
        flags = flags_of(known, base.filled, self.plan.layout, states, self.step_seconds)
        return [
            SeriesForecast(quantiles, float(limit), spike, flag)
            for quantiles, limit, spike, flag in zip(drawn, limits, spikes, flags, strict=True)
        ]

    def _learn_before_gaps(self, sites: Sequence[SeriesHistory]) -> None:
        """Takes the observed step before the gaps that closed with it, as a walk step by step would have."""
        late = [each for each in sites if 0 < each.gaps < len(each.steps)]
        late = [each for each in late if np.isfinite(np.float64(each.steps[-1 - each.gaps]))]
        before = [
            SeriesHistory(
                each.steps[: -each.gaps],
                each.end - timedelta(seconds=each.gaps * each.step_seconds),
                each.step_seconds,
                each.track,
            )
            for each in late
        ]
        self.advance(before, [None] * len(before))
        for each, then in zip(late, before, strict=True):
            each.track, each.gaps = then.track, 0

    def said(self, base: Levels) -> Floats:
        """What every expert says from the last step of series (S, n), shape (S, A, E)."""
        ahead = np.array(self.plan.layout.horizon_steps)
        at = np.full(len(ahead), base.filled.shape[1] - 1)
        simple = simple_experts(base, at, ahead)
        changes = np.full((*simple.shape[:2], len(LEARNED)), np.nan)
        if any(model is not None for model in self.models):
            found = features(base, at, ahead, self.weekdays)
            for place, model in enumerate(self.models):
                if model is not None:
                    changes[:, place] = model.changes(found[:, place])
        learned = np.maximum(base.filled[:, at, None] + base.scale[:, at, None] * changes, 0.0)
        return np.concatenate([simple, learned], axis=-1)

    def _windows(self, sites: Sequence[SeriesHistory]) -> tuple[Floats, Floats]:
        """The last days of each series in a row of its own, NaN before its beginning; and when they begin."""
        length = min(round(_WINDOW_SECONDS / self.step_seconds) + 1, _MOST_WINDOW_STEPS)
        known = np.full((len(sites), length), np.nan)
        for row, each in zip(known, sites, strict=True):
            steps = np.asarray(each.steps, dtype=np.float64)
            late = steps[-length:]
            row[length - len(late) :] = late
            if np.isnan(late).all():
                # Silent for longer than the window: the last load that is known stands where the window begins.
                row[0] = steps[~np.isnan(steps)][-1]
        span = length * self.step_seconds
        return known, np.array([each.end.timestamp() - span for each in sites])

    def _states(self, sites: Sequence[SeriesHistory], base: Levels) -> NDArray[np.float32]:
        states = self.plan.started(base.scale[:, -1])
        for row, each in zip(states, sites, strict=True):
            if len(each.track.state) == len(row):
                row[:] = each.track.state
        return states

    def _limits(self, known: Floats, base: Levels, thresholds: Sequence[float | None]) -> Floats:
        medians = trailing_median(known, np.array([known.shape[1] - 1]), self.step_seconds)[:, 0]
        usual = np.where(np.isnan(medians), base.filled[:, -1], medians)
        return np.array(
            [FACTOR * own if given is None else given for given, own in zip(thresholds, usual, strict=True)]
        )

    def _spikes(self, limits: Floats, made: Floats, now: Floats) -> Floats:
        ahead = [steps_within(each, self.step_seconds, self.plan.layout.horizon_steps) for each in SPIKE_WITHIN_SECONDS]
        return np.stack([probability_within(limits, made, now, each) for each in ahead], axis=-1)

    def _drawn(self, made: Floats) -> Floats:
        """Quantiles (S, A, 7) of the layout's horizons drawn at HORIZONS_SECONDS, (S, 46, 7)."""
        given = tuple(steps * self.step_seconds for steps in self.plan.layout.horizon_steps)
        return Ahead(tuple(float(seconds) for seconds in HORIZONS_SECONDS), given).drawn(made)


def live_plan(step_seconds: float) -> adapt.Plan:
    """What every live series begins with, trained model or none."""
    layout = live_layout(step_seconds)
    return adapt.default_plan(layout, step_seconds, prior_weights([n * step_seconds for n in layout.horizon_steps]))


def statistical(step_seconds: float) -> Forecaster:
    """The forecaster that needs no training: what serves where no model does."""
    plan = live_plan(step_seconds)
    return Forecaster("baseline-2", step_seconds, (None,) * plan.layout.horizons, plan)
