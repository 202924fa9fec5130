"""What the forecaster is held against: one line for each thing that must be so, yes or NO, with the value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.disturbed import Disturbed
from benchmarks.rolling import DAY_SECONDS
from forecasting.backtest import Backtest
from forecasting.scores import inside, mean_interval
from forecasting.summary import horizon_name
from schemas.forecast import QUANTILE_LEVELS

_INSIDE_RATIO = 0.9
_MOST_WORSE_RATIO = 1.02
_ROUNDING = 1e-6  # of the mean load
_LOWER, _MIDDLE, _UPPER = (QUANTILE_LEVELS.index(level) for level in (0.05, 0.5, 0.95))

LEAST_AHEAD: Mapping[str, Mapping[str, float]] = {"azure2024_code": {"10m": 0.10, "30m": 0.25, "60m": 0.40}}
NEVER_BEHIND = ("servegen_m_large",)


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that must be so."""

    trace: str
    what: str
    reached: str
    met: bool

    def __str__(self) -> str:
        return f"{'yes' if self.met else 'NO':>4}  {self.trace}, {self.what}: {self.reached}"


def trace_bars(trace: str, summary: Mapping[str, Any], result: Backtest, peers: Sequence[str]) -> Iterator[Bar]:
    """All bars of one real trace. `summary` is that of `result`, in which `peers` stand among the baselines."""
    yield from robust_bars(trace, result)
    for horizon, scored in summary["horizons"].items():
        model = scored["model"]
        if model is None or model["wmape"] is None:
            yield Bar(trace, f"{horizon}: the model has a score", "none: no forecast, or no load", False)
            continue
        simple = {name: each for name, each in scored["baselines"].items() if name not in peers}
        others = {name: each for name, each in scored["baselines"].items() if name in peers}
        persistence = simple["persistence"]
        if least := LEAST_AHEAD.get(trace, {}).get(horizon):
            ahead = 1 - model["wmape"] / persistence["wmape"]
            yield Bar(trace, f"{horizon}: wMAPE below persistence by {least:.0%}", f"{ahead:.1%}", ahead >= least)
        if trace in NEVER_BEHIND:
            yield _below(trace, f"{horizon}: wMAPE below persistence", model, {"persistence": persistence}, "wmape")
            yield _below(trace, f"{horizon}: wMAPE not above the best baseline", model, simple, "wmape", ties=True)
        for score in ("pinball", "winkler_90"):
            yield _below(trace, f"{horizon}: {score} ahead of every baseline", model, simple, score)
        if others:
            for score in ("wmape", "pinball", "winkler_90"):
                yield _below(trace, f"{horizon}: {score} ahead of every peer", model, others, score)
        yield _covered(trace, f"{horizon}: 90 % interval, all", model["coverage_90"], model["coverage_90_interval"])
        for number, third in enumerate(model["coverage_90_thirds"], 1):
            if third["coverage"] is None:
                continue  # a short trace has no load to compare with in its last part
            yield _covered(trace, f"{horizon}: 90 % interval, third {number}", third["coverage"], third["interval"])
    yield from _spike_bars(trace, summary["spikes"]["others"], peers)


def robust_bars(trace: str, result: Backtest) -> Iterator[Bar]:
    """What must be so on any series: finite, and at no horizon worse than persistence by more than 2 %."""
    finite = bool(np.isfinite(result.quantiles["model"]).all())
    yield Bar(trace, "forecasts are finite", "all" if finite else "not all", finite)
    for place, seconds in enumerate(result.options.horizons_seconds):
        actual = result.actual[:, place]
        model, persistence = (result.quantiles[name][:, place, _MIDDLE] for name in ("model", "persistence"))
        known = ~(np.isnan(actual) | np.isnan(persistence))
        if not known.any():
            continue
        ours, theirs = (float(np.abs(points[known] - actual[known]).mean()) for points in (model, persistence))
        met = ours <= _MOST_WORSE_RATIO * theirs + _ROUNDING * float(np.abs(actual[known]).mean())
        reached = f"{ours / theirs - 1:+.1%}" if theirs else f"{ours:.3g} against 0"
        yield Bar(trace, f"{horizon_name(seconds)}: error not above persistence's by 2 %", reached, met)


def disturbed_bars(case: Disturbed, result: Backtest) -> Iterator[Bar]:
    """What must be so on a disturbed series: as on any, and a day later the intervals hold, and a flag says it."""
    trace = case.series.name
    yield from robust_bars(trace, result)
    if case.begins is not None:
        since = result.origins >= case.begins + round(DAY_SECONDS / case.series.step_seconds)
        for place, seconds in enumerate(result.options.horizons_seconds):
            quantiles = result.quantiles["model"][since, place]
            hits = inside(result.actual[since, place], quantiles[:, _LOWER], quantiles[:, _UPPER])
            if np.isnan(hits).all():
                continue
            bounds = mean_interval(hits, round(seconds / case.series.step_seconds))
            what = f"{horizon_name(seconds)}: 90 % interval, from a day later"
            yield _covered(trace, what, float(np.nanmean(hits)), bounds)
    if case.flags:
        met = bool(set(case.flags) & set(result.flags))
        yield Bar(trace, f"flagged {' or '.join(case.flags)}", ", ".join(result.flags) or "no flag", met)


def speed_bars(train_seconds: float, predict_seconds: float, sites: int, horizons: int) -> Iterator[Bar]:
    """How long it may take."""
    what = f"{sites:,} sites x {horizons} horizons on one core in less than 1 s"
    yield Bar("speed", what, f"{predict_seconds:.2f} s", predict_seconds < 1.0)
    yield Bar(
        "speed",
        "train on the given weeks on two cores in less than 60 s",
        f"{train_seconds:.1f} s",
        train_seconds < 60.0,
    )


def _below(
    trace: str, what: str, model: Mapping[str, Any], others: Mapping[str, Any], score: str, ties: bool = False
) -> Bar:
    known = {name: each[score] for name, each in others.items() if each[score] is not None}
    if not known or model[score] is None:
        return Bar(trace, what, "nothing to compare", model[score] is None)
    best = min(known, key=known.__getitem__)
    met = model[score] <= known[best] if ties else model[score] < known[best]
    return Bar(trace, what, f"{model[score]:.4g} against {known[best]:.4g} of {best}", met)


def _covered(trace: str, what: str, share: float | None, bounds: Sequence[float] | None) -> Bar:
    if share is None or bounds is None:
        return Bar(trace, what, "nothing known", False)
    low, high = bounds
    return Bar(trace, what, f"{share:.1%} [{low:.1%}, {high:.1%}]", low <= _INSIDE_RATIO <= high)


def _spike_bars(trace: str, details: Mapping[str, Any], peers: Sequence[str]) -> Iterator[Bar]:
    for definition, by_within in details.items():
        for within, by_method in by_within.items():
            found = {
                name: each["average_precision"]
                for name, each in by_method.items()
                if isinstance(each, Mapping) and each["average_precision"] is not None
            }
            if "model" not in found:
                continue
            for whom, names in (("persistence", ["persistence"]), ("every peer", peers)):
                if known := {name: found[name] for name in names if name in found}:
                    best = max(known, key=known.__getitem__)
                    reached = f"{found['model']:.3f} against {known[best]:.3f} of {best}"
                    what = f"{definition} within {within}: average precision ahead of {whom}"
                    yield Bar(trace, what, reached, found["model"] > known[best])
