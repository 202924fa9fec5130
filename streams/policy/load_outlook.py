"""What work will arrive at each site over the optimiser's steps, as if nothing were moved. Pure.

Work is generated tokens/s, prompt tokens at their cost. What sites report and what is forecast for them is what arrived
after the shifts in force; it is put back to where it came from, so that a plan is not misled by what it moved itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from forecasting.power import SitePower
from schemas.fleet import FleetFile
from schemas.forecast import QUANTILE_LEVELS, HorizonForecast, SiteForecast
from schemas.plan import ShiftControl
from streams.capacity import tokens_per_second, work_per_second
from streams.policy.view import FleetView, SiteView

Floats = NDArray[np.float64]

_MEDIAN = QUANTILE_LEVELS.index(0.5)
# A forecast older than so many of its steps says less than what arrives now.
_FORECAST_SERVES_STEPS = 3
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class LoadOutlook:
    """S sites, C classes, T steps.

    `work` (S, C, T): the median of what arrives before any shift; `spread` (S, T, Q): the quantiles of a site's whole
    work at QUANTILE_LEVELS by their median, 1 where nothing is forecast; `known` (S,): whether the load is known;
    `seen` (S,): a site's whole work before any shift as its newest window has it, NaN where there is none.
    """

    work: Floats
    spread: Floats
    known: NDArray[np.bool_]
    seen: Floats


def load_ahead(
    view: FleetView,
    shifts: Sequence[ShiftControl],
    fleet_file: FleetFile,
    now: datetime,
    step_seconds: float,
    steps: int,
) -> LoadOutlook:
    """By the forecasts, and where there is none, or shifts have lately stepped it, by persistence of the newest load.

    A forecaster that saw traffic come and go takes the steps for the site's own, and what it says, put back, is far
    off; the newest windows put back are near to exact.
    """
    stepped = {site_id for shift in shifts for site_id in (shift.from_site_id, shift.to_site_id)}
    sites, classes = view.fleet.sites, [service.id for service in fleet_file.service_classes]
    work = np.zeros((len(sites), len(classes), steps))
    spread = np.ones((len(sites), steps, len(QUANTILE_LEVELS)))
    known = np.zeros(len(sites), dtype=bool)
    said_at = []
    for place, site in enumerate(sites):
        seen, cost = view.sites[site.id], SitePower.of(site, fleet_file.gpu_models).prompt_token_cost_ratio
        forecast = seen.forecast
        if forecast is not None and (not _serves(forecast, now) or (site.id in stepped and seen.load is not None)):
            forecast = None
        known[place] = forecast is not None or seen.load is not None
        said_at.append(_middle(seen, now) if forecast is None else forecast.issued_at)
        if forecast is None:
            work[place] = _persisting(seen, classes, cost, fleet_file)[:, None]
            continue
        weights = _weights(forecast, now, step_seconds, steps)
        whole = weights @ _work(forecast.horizons, cost)
        spread[place] = np.divide(
            whole, whole[:, _MEDIAN, None], out=np.ones_like(whole), where=whole[:, _MEDIAN, None] > 0
        )
        by_class = {each.service_class: each.horizons for each in forecast.classes}
        for number, service in enumerate(fleet_file.service_classes):
            if by_class:
                horizons = by_class.get(service.id)
                if horizons is not None:
                    work[place, number] = weights @ _work(horizons, cost)[:, _MEDIAN]
            else:
                work[place, number] = service.traffic_ratio * whole[:, _MEDIAN]
    work = _put_back(work, shifts, view, fleet_file, said_at)
    return LoadOutlook(work, spread, known, _seen(work[:, :, 0], shifts, view, fleet_file, now))


def _middle(seen: SiteView, now: datetime) -> datetime:
    """The middle of the newest window: when a share that ramps was as large as its mean over the window."""
    load = seen.load
    return now if load is None else load.window_start + (load.window_end - load.window_start) / 2


def _serves(forecast: SiteForecast, now: datetime) -> bool:
    age_seconds = (now - forecast.issued_at).total_seconds()
    return age_seconds < _FORECAST_SERVES_STEPS * forecast.horizons[0].horizon_seconds


def _persisting(seen: SiteView, classes: Sequence[str], cost: float, fleet_file: FleetFile) -> Floats:
    """The newest load by class, tokens/s; what no class is told of is split as the fleet file says."""
    if seen.load is None:
        return np.zeros(len(classes))
    by_class = {
        each.service_class: each.tokens_arrived_per_second + cost * each.prompt_tokens_per_second
        for each in seen.load.classes
    }
    if by_class:
        return np.array([by_class.get(name, 0.0) for name in classes])
    return seen.load.tokens_arrived_per_second * np.array(
        [service.traffic_ratio for service in fleet_file.service_classes]
    )


def _weights(forecast: SiteForecast, now: datetime, step_seconds: float, steps: int) -> Floats:
    """(steps, H): linear between the middles of the forecast's steps, which are as long as its first horizon."""
    ends = np.array([each.horizon_seconds for each in forecast.horizons], dtype=float)
    middles = ends - ends[0] / 2
    age_seconds = (now - forecast.issued_at).total_seconds()
    place = np.interp(age_seconds + (np.arange(steps) + 0.5) * step_seconds, middles, np.arange(len(middles)))
    left = np.minimum(place.astype(int), max(0, len(middles) - 2))
    weights = np.zeros((steps, len(middles)))
    rows = np.arange(steps)
    weights[rows, left] = 1 - (place - left)
    weights[rows, np.minimum(left + 1, len(middles) - 1)] += place - left
    return weights


def _work(horizons: Sequence[HorizonForecast], cost: float) -> Floats:
    """(H, Q) quantiles of work: sums of those of its two parts, which rise and fall together."""
    tokens = np.array([each.tokens_per_second for each in horizons])
    prefill = [each.prefill_tokens_per_second for each in horizons]
    if any(each is None for each in prefill):
        return tokens
    return np.asarray(tokens + cost * np.array(prefill))


def _put_back(
    work: Floats, shifts: Sequence[ShiftControl], view: FleetView, fleet_file: FleetFile, said_at: Sequence[datetime]
) -> Floats:
    """What arrives before any shift, of what is said to arrive after those that were in force when it was said.

    arrived = own - shares out x own + shares in x the donors' own: solved by least squares, drawn a little (ridge,
    Hoerl and Kennard 1970) to the class's traffic spread by capacity, for a site that has given away all of a class is
    not seen any more.
    """
    sites = {site.id: place for place, site in enumerate(view.fleet.sites)}
    capacity = np.array([tokens_per_second(site, fleet_file) for site in view.fleet.sites])
    own = work.copy()
    for number, service in enumerate(fleet_file.service_classes):
        mixed = np.eye(len(sites))
        for shift in shifts:
            if shift.service_class == service.id and {shift.from_site_id, shift.to_site_id} <= sites.keys():
                donor, acceptor = sites[shift.from_site_id], sites[shift.to_site_id]
                mixed[donor, donor] -= moving_share(shift, said_at[donor])
                mixed[acceptor, donor] += moving_share(shift, said_at[acceptor])
        if not np.array_equal(mixed, np.eye(len(sites))):
            arrived = work[:, number]
            usual = np.outer(capacity / capacity.sum(), arrived.sum(axis=0))
            drawn = mixed.T @ mixed + _RIDGE * np.eye(len(sites))
            own[:, number] = np.maximum(0.0, np.linalg.solve(drawn, mixed.T @ arrived + _RIDGE * usual))
    return own


def _seen(
    work: Floats, shifts: Sequence[ShiftControl], view: FleetView, fleet_file: FleetFile, now: datetime
) -> Floats:
    """The load of each newest window, without what comes from others, with what went there: by the work expected."""
    places = {site.id: place for place, site in enumerate(view.fleet.sites)}
    loads = [(view.sites[site.id].load, site) for site in view.fleet.sites]
    seen = np.array([np.nan if load is None else work_per_second(load, site, fleet_file) for load, site in loads])
    classes = {service.id: number for number, service in enumerate(fleet_file.service_classes)}
    for shift in shifts:
        if {shift.from_site_id, shift.to_site_id} <= places.keys() and shift.service_class in classes:
            donor, acceptor = places[shift.from_site_id], places[shift.to_site_id]
            own = work[donor, classes[shift.service_class]]
            seen[donor] += own * moving_share(shift, _middle(view.sites[shift.from_site_id], now))
            seen[acceptor] -= own * moving_share(shift, _middle(view.sites[shift.to_site_id], now))
    return seen


def moving_share(shift: ShiftControl, at: datetime) -> float:
    """The share of the donor's traffic that the shift moves at a time, by what the plan knows of it."""
    ramp = max(shift.ramp_seconds, 1e-9)
    stood = (at - shift.phase_since).total_seconds()
    match shift.phase:
        case "ramping":
            part = stood / ramp
        case "active":
            part = 1 + stood / ramp
        case "returning" if shift.home_at is not None:
            part = (shift.home_at - at).total_seconds() / ramp
        case "returning":
            part = 1.0
        case _:
            part = 0.0
    return shift.share_ratio * min(1.0, max(0.0, part))
