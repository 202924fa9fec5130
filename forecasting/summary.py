"""`summary(backtest) -> dict`: what a backtest came to, as plain values that are valid JSON (null, never NaN)."""

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting import scores
from forecasting.backtest import Backtest, SpikeScores
from schemas.forecast import QUANTILE_LEVELS

MODEL = "model"
SPIKE_BASELINE = "persistence"
SPIKE_DEFINITION = "above_train_p95"

_LOWER, _MIDDLE, _UPPER = (QUANTILE_LEVELS.index(level) for level in (0.05, 0.5, 0.95))
_DIGITS = 6
# A baseline that speaks for fewer of the steps than this is not comparable with the others.
_LEAST_COMPARABLE_RATIO = 0.95
_PARTS = 3


def summary(backtest: Backtest) -> dict[str, Any]:
    """Scores by horizon and method, spikes, seconds, and what series they are of.

    Loads are in the unit of the series, wMAPE and coverage are ratios, times are seconds. A method that says nothing
    at a horizon is left out of it. Coverage comes with its 95 % confidence interval (`scores.mean_interval`), over the
    whole span and over each third of it.
    """
    series, options = backtest.series, backtest.options
    return {
        "series": {
            "name": series.name,
            "starts_at": series.starts_at.isoformat(),
            "step_seconds": series.step_seconds,
            "steps": len(series.values),
            "train_steps": options.train_steps,
            "origins": len(backtest.origins),
            "gaps": int(np.isnan(series.values).sum()),
            "flags": list(backtest.flags),
        },
        "horizons": {
            horizon_name(seconds): _horizon(backtest, place)
            for place, seconds in enumerate(options.horizons_seconds)
            if not np.isnan(backtest.actual[:, place]).all()
        },
        "spikes": _spikes(backtest),
        "seconds": {"train": round(backtest.train_seconds, 3), "predict": round(backtest.predict_seconds, 3)},
    }


def horizon_name(seconds: float) -> str:
    """How a horizon is called: whole minutes to two hours as 30m, whole hours above as 6h, any other as 30s."""
    if seconds % 60 == 0 and seconds <= 7200:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.0f}h" if seconds % 3600 == 0 else f"{seconds:g}s"


def _horizon(backtest: Backtest, place: int) -> dict[str, Any]:
    actual = backtest.actual[:, place]
    steps_ahead = round(backtest.options.horizons_seconds[place] / backtest.series.step_seconds)
    by_method = {
        method: _method(actual, quantiles[:, place], steps_ahead)
        for method, quantiles in backtest.quantiles.items()
        if (~np.isnan(quantiles[:, place, _MIDDLE]) & ~np.isnan(actual)).any()
    }
    baselines = {method: scored for method, scored in by_method.items() if method != MODEL}
    most = max((scored["scored"] for scored in by_method.values()), default=0)
    comparable = {
        method: scored["wmape"]
        for method, scored in baselines.items()
        if scored["wmape"] is not None and scored["scored"] >= _LEAST_COMPARABLE_RATIO * most
    }
    return {
        MODEL: by_method.get(MODEL),
        "baselines": baselines,
        "best_baseline": min(comparable, key=comparable.__getitem__) if comparable else None,
    }


def _method(actual: NDArray[np.float64], quantiles: NDArray[np.float64], steps_ahead: int) -> dict[str, Any]:
    """Scores of the forecasts of one method at one horizon, shapes (m,) and (m, 7)."""
    lower, middle, upper = quantiles[:, _LOWER], quantiles[:, _MIDDLE], quantiles[:, _UPPER]
    hits = scores.inside(actual, lower, upper)
    return {
        "wmape": _number(scores.wmape(actual, middle)),
        "pinball": _number(scores.pinball(actual, quantiles)),
        "coverage_90": _number(scores.coverage(actual, lower, upper)),
        "width_90": _number(scores.width(actual, lower, upper)),
        "winkler_90": _number(scores.winkler(actual, lower, upper)),
        "coverage_90_interval": _interval(hits, steps_ahead),
        "coverage_90_thirds": [
            {"coverage": _number(float(np.nanmean(part))), "interval": _interval(part, steps_ahead)}
            if not np.isnan(part).all()
            else {"coverage": None, "interval": None}
            for part in np.array_split(hits, _PARTS)
        ],
        "scored": int((~np.isnan(actual) & ~np.isnan(middle)).sum()),
    }


def _interval(hits: NDArray[np.float64], steps_ahead: int) -> list[float | None] | None:
    low, high = scores.mean_interval(hits, steps_ahead)
    return [_number(low), _number(high)] if isfinite(low) else None


def _spikes(backtest: Backtest) -> dict[str, Any]:
    """The longest look ahead that has spikes of the first definition, and below it every definition and look ahead."""
    details = {
        definition: {
            horizon_name(within): _spike_detail(of, place, backtest.series.step_seconds)
            for place, within in enumerate(of.within_seconds)
        }
        for definition, of in backtest.spikes.items()
    }
    first = backtest.spikes.get(SPIKE_DEFINITION)
    within = (
        [each for place, each in enumerate(first.within_seconds) if (first.came[:, place] > 0).any()] if first else []
    )
    shown = details[SPIKE_DEFINITION][horizon_name(max(within))] if within else {}
    return {
        **(shown.get(MODEL) or _NO_SPIKES),
        "baseline": shown.get(SPIKE_BASELINE) or dict(_NO_SPIKES),
        "baseline_method": SPIKE_BASELINE,
        "definition": SPIKE_DEFINITION,
        "within_seconds": max(within) if within else None,
        "others": details,
    }


_NO_SPIKES = {"average_precision": None, "recall_at_10pct_false_alarms": None, "lead_time_seconds": None}


def _spike_detail(of: SpikeScores, place: int, step_seconds: float) -> dict[str, Any]:
    """How well each method told the spikes within one look ahead."""
    came = of.came[:, place]
    return {
        "spikes_ratio": _number(float(np.nanmean(came))) if not np.isnan(came).all() else None,
        "onsets": int(of.onset.sum()),
        **{method: _alarm_scores(scored[:, place], came, of, step_seconds) for method, scored in of.scores.items()},
    }


def _alarm_scores(
    scored: NDArray[np.float64], came: NDArray[np.float64], of: SpikeScores, step_seconds: float
) -> dict[str, float | None]:
    if not (came > 0).any():
        return dict(_NO_SPIKES)
    alarms = scores.alarms(scored, came)
    lead_seconds = scores.lead_time_seconds(scored, of.onset, alarms.threshold, step_seconds, max(of.within_seconds))
    return {
        "average_precision": _number(scores.average_precision(scored, came)),
        "recall_at_10pct_false_alarms": _number(alarms.recall),
        "lead_time_seconds": _number(lead_seconds),
    }


def _number(value: float) -> float | None:
    """The value to six significant digits; None where there is none."""
    return float(f"{value:.{_DIGITS}g}") if isfinite(value) else None
