"""`predict(history, ...) -> SiteForecast`: quantiles for each horizon and the probability of a spike. Pure."""

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from forecasting.baseline import Baseline
from forecasting.history import SiteHistory
from schemas.envelope import LIVE_RUN
from schemas.forecast import QUANTILE_LEVELS, HorizonForecast, SiteForecast, SpikeForecast

MODEL = "baseline-1"
HORIZON_SECONDS = (300, 600, 1800, 3600, 7200)
SPIKE_WITHIN_SECONDS = (600, 1800)
_SPIKE_MEDIAN_SECONDS = 1800.0
_SPIKE_FACTOR = 2.0


def predict(history: SiteHistory, fleet_id: str, site_id: str, run_id: str = LIVE_RUN) -> SiteForecast | None:
    """The forecast at the end of the last closed step; None while no step is known.

    A function of the history alone: the same history gives the same bytes.
    """
    steps = np.array(history.steps, dtype=np.float64)
    if history.end is None or np.isnan(steps).all():
        return None
    model = Baseline(history.step_seconds)
    horizons, measured = [], True
    for horizon_seconds in HORIZON_SECONDS:
        values, from_errors = model.quantiles(steps, max(1, round(horizon_seconds / history.step_seconds)))
        measured &= from_errors
        horizons.append(HorizonForecast(horizon_seconds=horizon_seconds, tokens_per_second=values.round(3).tolist()))
    flags = [*(["cold-start"] if not measured else []), *(["gaps"] if np.isnan(steps[-12:]).any() else [])]
    return SiteForecast(
        run_id=run_id,
        fleet_id=fleet_id,
        site_id=site_id,
        issued_at=history.end,
        model=MODEL,
        history_steps=len(steps),
        horizons=horizons,
        spikes=_spikes(steps, history.step_seconds, horizons),
        flags=flags,
    )


def _spikes(steps: NDArray[np.float64], step_seconds: float, horizons: list[HorizonForecast]) -> list[SpikeForecast]:
    """A spike: load above twice the median of the last half hour."""
    recent = steps[-max(1, round(_SPIKE_MEDIAN_SECONDS / step_seconds)) :]
    known = recent[~np.isnan(recent)]
    threshold = _SPIKE_FACTOR * float(np.median(known if known.size else steps[~np.isnan(steps)][-1:]))
    return [
        SpikeForecast(
            within_seconds=within,
            threshold_tokens_per_second=threshold,
            probability_ratio=max(
                _probability_above(threshold, each.tokens_per_second)
                for each in horizons
                if each.horizon_seconds <= within
            ),
        )
        for within in SPIKE_WITHIN_SECONDS
    ]


def _probability_above(threshold: float, quantiles: list[float]) -> float:
    """1 - F(threshold), F linear between the quantiles; beyond the outermost no more than they say."""
    return 1.0 - float(np.interp(threshold, quantiles, QUANTILE_LEVELS, left=0.0, right=1.0))


def history_for(step_seconds: float, keep: timedelta = timedelta(days=14)) -> SiteHistory:
    """An empty history that keeps so much of the past."""
    return SiteHistory(step_seconds, keep_steps=round(keep.total_seconds() / step_seconds))
