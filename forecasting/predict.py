"""Histories in, forecasts out: every series of many sites in one call of the forecaster. Pure, but for the tracks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting.forecaster import SPIKE_WITHIN_SECONDS, Forecaster, SeriesForecast, SeriesHistory
from forecasting.history import DECODE, PREFILL, QUANTITIES, SITE, Closing, LoadPart, SiteHistory
from forecasting.power import SitePower
from schemas.envelope import LIVE_RUN
from schemas.forecast import SiteForecast
from schemas.score import ForecastScore

_DIGITS = 4
# The mix of prompts and answers moves slowly: it is taken over so long.
_MIX_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """A site whose step has closed, and so many gaps after it at once.

    Without `power` (a site that the fleet file lacks) none is forecast.
    """

    fleet_id: str
    site_id: str
    history: SiteHistory
    power: SitePower | None
    gaps: int = 0


def predict(
    forecaster: Forecaster, due: Sequence[Due], run_id: str = LIVE_RUN, fallback_flags: Sequence[str] = ()
) -> list[SiteForecast]:
    """The forecast of each site at the end of its last closed step; none of a site of which no step is known.

    A forecast is a function of the site's own history and of the forecaster, whichever sites are forecast with it.
    What the forecaster has learnt goes back into the histories, and the forecasts wait there to be scored.
    """
    due = [each for each in due if each.history.end is not None and each.history.site.is_known()]
    parts = [[(SITE, each.history.site), *each.history.classes()] for each in due]
    series: list[SeriesHistory] = []
    thresholds: list[float | None] = []
    for each, named in zip(due, parts, strict=True):
        for name, part in named:
            series += _series(each, part)
            limit = _threshold(each.history, each.power) if name == SITE else None
            thresholds += [limit if row == DECODE else None for row in range(len(QUANTITIES))]
    made = iter(forecaster.advance(series, thresholds)) if series else iter(())
    forecasts = []
    for each, named in zip(due, parts, strict=True):
        found = {name: [next(made) for _ in QUANTITIES] for name, _ in named}
        forecasts.append(_site_forecast(forecaster, each, found, run_id, fallback_flags))
    for (_, part), rows in zip((one for named in parts for one in named), _in_threes(series), strict=True):
        part.tracks = [row.track for row in rows]
    return forecasts


def _series(due: Due, part: LoadPart) -> list[SeriesHistory]:
    history = due.history
    assert history.end is not None
    rows = part.steps.astype(np.float64)
    return [
        SeriesHistory(steps=row, end=history.end, step_seconds=history.step_seconds, track=track, gaps=due.gaps)
        for row, track in zip(rows, part.tracks, strict=True)
    ]


def _in_threes(series: Sequence[SeriesHistory]) -> list[Sequence[SeriesHistory]]:
    return [series[at : at + len(QUANTITIES)] for at in range(0, len(series), len(QUANTITIES))]


def _threshold(history: SiteHistory, power: SitePower | None) -> float | None:
    """The load that the site keeps up with, at the mix of prompts and answers of late; None where that is unknown."""
    if power is None:
        return None
    recent = history.site.steps[:, -max(1, round(_MIX_SECONDS / history.step_seconds)) :].astype(np.float64)
    prefill, decode = np.nansum(recent[PREFILL]), np.nansum(recent[DECODE])
    return power.serveable_tokens_per_second(float(prefill / decode) if decode > 0 else 0.0)


def _site_forecast(
    forecaster: Forecaster,
    due: Due,
    found: dict[str, list[SeriesForecast]],
    run_id: str,
    fallback_flags: Sequence[str],
) -> SiteForecast:
    history, site = due.history, found[SITE]
    assert history.end is not None
    quantiles = {name: significant(np.stack([each.quantiles for each in rows])) for name, rows in found.items()}
    of_site = quantiles[SITE]
    watts = None if due.power is None else significant(due.power.watts(of_site[DECODE], of_site[PREFILL]))
    by_horizon = dict(zip(forecaster.horizons_seconds, of_site[DECODE], strict=True))
    history.scores.issue(history.last_step(), by_horizon, forecaster.name, history.step_seconds)
    # The flags of the tokens to generate stand for the site: all its series come from the same windows.
    flags = dict.fromkeys((*site[DECODE].flags, *history.flags(), *fallback_flags))
    # In one call: made one by one, the hundreds of horizons would take several times as long.
    return SiteForecast.model_validate(
        {
            "run_id": run_id,
            "fleet_id": due.fleet_id,
            "site_id": due.site_id,
            "issued_at": history.end,
            "model": forecaster.name,
            "history_steps": history.site.steps.shape[1],
            "horizons": _horizons(forecaster, of_site, watts),
            "spikes": _spikes(site[DECODE]),
            "flags": list(flags),
            "classes": [
                {
                    "service_class": name,
                    "horizons": _horizons(forecaster, quantiles[name], None),
                    "spikes": _spikes(rows[DECODE]),
                }
                for name, rows in found.items()
                if name != SITE
            ],
        }
    )


def _horizons(
    forecaster: Forecaster, quantiles: NDArray[np.float64], watts: NDArray[np.float64] | None
) -> list[dict[str, Any]]:
    requests, prefill, decode = quantiles.tolist()
    power = [None] * len(decode) if watts is None else watts.tolist()
    return [
        {
            "horizon_seconds": horizon_seconds,
            "tokens_per_second": decode[place],
            "requests_per_second": requests[place],
            "prefill_tokens_per_second": prefill[place],
            "power_watts": power[place],
        }
        for place, horizon_seconds in enumerate(forecaster.horizons_seconds)
    ]


def _spikes(forecast: SeriesForecast) -> list[dict[str, Any]]:
    threshold, *probabilities = significant(np.array([forecast.spike_threshold, *forecast.spike_probability])).tolist()
    return [
        {
            "within_seconds": within,
            "threshold_tokens_per_second": threshold,
            "probability_ratio": min(1.0, probability),
        }
        for within, probability in zip(SPIKE_WITHIN_SECONDS, probabilities, strict=True)
    ]


def significant(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values, none of them negative, to four significant digits, of the same shape; order is kept."""
    tiny = values < 1e-9
    places = _DIGITS - 1 - np.floor(np.log10(np.where(tiny, 1.0, values)))
    # By a positive power of ten only, which floats hold exactly: so the result is the nearest to the short decimal.
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    return np.where(tiny, 0.0, np.round(values * up / down) * down / up)


def score_records(due: Due, closing: Closing, run_id: str = LIVE_RUN) -> list[ForecastScore]:
    """How good the forecasts of a step that closed were, as it is said on the bus."""
    return [
        ForecastScore(
            run_id=run_id,
            fleet_id=due.fleet_id,
            site_id=due.site_id,
            horizon_seconds=score.horizon_seconds,
            scored_at=closing.ended_at,
            issued_at=closing.ended_at - timedelta(seconds=score.horizon_seconds),
            model=score.model,
            tokens_per_second=_short(score.came),
            forecast_tokens_per_second=_short(score.median),
            lower_tokens_per_second=_short(score.lower),
            upper_tokens_per_second=_short(score.upper),
            persistence_tokens_per_second=_short(score.persistence),
            pinball_loss_tokens_per_second=_short(score.pinball_loss),
            wmape_ratio=None if score.wmape_ratio is None else _short(score.wmape_ratio),
            persistence_wmape_ratio=(
                None if score.persistence_wmape_ratio is None else _short(score.persistence_wmape_ratio)
            ),
            coverage_ratio=_short(score.coverage_ratio),
            is_drifting=score.is_drifting,
        )
        for score in closing.scores
    ]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
