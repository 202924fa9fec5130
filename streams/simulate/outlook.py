"""The forecast stage in virtual time: load states in, forecasts out, by the same histories and the same forecaster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forecasting.forecaster import (
    HORIZONS_SECONDS,
    SPIKE_WITHIN_SECONDS,
    Forecaster,
    SeriesForecast,
    SeriesHistory,
    live_plan,
    statistical,
)
from forecasting.history import SiteHistory
from schemas.fleet import FleetFile
from schemas.forecast import QUANTILE_LEVELS, SiteForecast
from schemas.latency import EMPTY_COUNTS
from schemas.site import ClassLoad, LoadState
from streams.forecast.partition import PartitionHistories
from streams.intake import Arrived
from streams.simulate.scenario import Scenario
from streams.simulate.traffic import PROMPT_TOKENS, REQUESTS, TOKENS, Traffic
from streams.simulate.windows import class_load, load_of, place_of

Kind = Literal["live", "persistence"]


class Persistence(Forecaster):
    """What every forecaster must beat: the load stays as it was in the last step, for certain."""

    def advance(self, sites: Sequence[SeriesHistory], thresholds: Sequence[float | None]) -> list[SeriesForecast]:
        """The last known load of each series, at every horizon and level."""
        made = []
        for site, threshold in zip(sites, thresholds, strict=True):
            steps = np.asarray(site.steps, dtype=np.float64)
            last = float(steps[~np.isnan(steps)][-1])
            limit = 2 * last if threshold is None else threshold
            spikes = np.full(len(SPIKE_WITHIN_SECONDS), float(last > limit))
            flat = np.full((len(HORIZONS_SECONDS), len(QUANTILE_LEVELS)), last)
            made.append(SeriesForecast(flat, limit, spikes, ()))
        return made


@dataclass(frozen=True, slots=True)
class Serves:
    """One forecaster, for the whole run; `streams.forecast.partition.Serves`."""

    forecaster: Forecaster
    flags: tuple[str, ...] = ()

    def current(self) -> Forecaster:
        """The forecaster."""
        return self.forecaster


def serving(kind: Kind, step_seconds: float) -> Serves:
    """What serves live where no model was trained, or persistence."""
    if kind == "live":
        return Serves(statistical(step_seconds))
    plan = live_plan(step_seconds)
    return Serves(Persistence("persistence", step_seconds, (None,) * plan.layout.horizons, plan))


class Outlook:
    """Takes load states as they come; when told, folds them and forecasts all sites whose step has closed at once."""

    def __init__(self, kind: Kind, scenario: Scenario, fleet_file: FleetFile, past: dict[str, bytes]) -> None:
        step = scenario.forecast_step_seconds
        self._histories = PartitionHistories(step, scenario.name, fleet_file, serving(kind, step))
        self._histories.histories.update({site: SiteHistory.from_json(value) for site, value in past.items()})
        self._arrived: list[Arrived] = []

    def hear(self, state: LoadState) -> None:
        """Keeps a state for the next fold."""
        self._arrived.append(Arrived(0, 0, state))

    def forecasts(self) -> list[SiteForecast]:
        """The forecasts that follow from what was heard since the last call."""
        if not self._arrived:
            return []
        arrived, self._arrived = self._arrived, []
        made = self._histories.fold(arrived, 0).forecasts
        self._histories.held.release({state.record.site_id for state in arrived})
        return made


def remembered(
    kind: Kind, scenario: Scenario, fleet_file: FleetFile, traffic: Traffic, tell: Callable[[float], None]
) -> dict[str, bytes]:
    """The histories, by site, of a forecaster that has lived through the traffic before the start.

    Its states cover whole forecast steps, and nothing of them was queued or shifted. `tell` hears the part done.
    """
    ticks = round(scenario.forecast_step_seconds / scenario.step_seconds)
    past = traffic.before(ticks) if traffic.history_ticks >= ticks else None
    if past is None:
        return {}
    step = scenario.forecast_step_seconds
    histories = PartitionHistories(step, scenario.name, fleet_file, serving(kind, step))
    steps = past.shape[2]
    for number in range(steps):
        ends_at = scenario.starts_at - timedelta(seconds=(steps - 1 - number) * step)
        states = [
            _state(scenario, fleet_file, site_id, traffic.class_ids, past[place, :, number], ends_at)
            for place, site_id in enumerate(traffic.site_ids)
        ]
        histories.fold([Arrived(0, 0, state) for state in states], 0)
        histories.held.release(set(traffic.site_ids))
        tell((number + 1) / steps)
    return dict(histories.written(traffic.site_ids))


def _state(
    scenario: Scenario,
    fleet_file: FleetFile,
    site_id: str,
    class_ids: Sequence[str],
    counts: NDArray[np.int64],
    ends_at: datetime,
) -> LoadState:
    """The load of one site over the forecast step that ends then; `counts` (C, 3), all of it served."""
    seconds = scenario.forecast_step_seconds
    loads: list[ClassLoad] = [
        class_load(
            service_class=name,
            requests_per_second=float(counts[place, REQUESTS] / seconds),
            prompt_tokens_per_second=float(counts[place, PROMPT_TOKENS] / seconds),
            tokens_arrived_per_second=float(counts[place, TOKENS] / seconds),
            tokens_served_per_second=float(counts[place, TOKENS] / seconds),
            tokens_queued=0,
            ttft_seconds_counts=list(EMPTY_COUNTS),
            ttft_seconds_p50=None,
            ttft_seconds_p99=None,
        )
        for place, name in enumerate(class_ids)
    ]
    place_and_time = {
        **place_of(scenario.name, fleet_file.fleets[0].id, site_id),
        "window_start": ends_at - timedelta(seconds=seconds),
        "window_end": ends_at,
    }
    return load_of(place_and_time, 1, loads)
