"""Fleets to plan for: sites of the demo's GPUs with forecasts, prices and, where asked for, an event; all by seed."""

from datetime import UTC, datetime, timedelta

import numpy as np

from forecasting.forecaster import HORIZONS_SECONDS
from forecasting.power import SitePower
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.fleet import Fleet, FleetFile, Pool, Site
from schemas.forecast import QUANTILE_LEVELS, ClassForecast, HorizonForecast, SiteForecast
from schemas.plan import FleetPlan
from schemas.signals import EventSignal, PriceSignal
from schemas.site import PowerState
from streams.policy.view import FleetView

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
_FLEET_ID = "bench"
_POINTS = 8
_MINUTES_OF_PRICES = 60
_STEP = timedelta(minutes=5)


def fleet_file(sites: int, seed: int) -> FleetFile:
    """One fleet of so many sites, of one or two kinds of GPU; the demo's GPU models and service classes, three."""
    demo, rng = load_fleet_file(DEMO_FLEET_FILE), np.random.default_rng(seed)
    made = []
    for number in range(sites):
        gpus, pue = int(rng.integers(64, 600)), float(rng.uniform(1.1, 1.4))
        models = [demo.gpu_models[(number + other) % 2] for other in range(2 if number % 3 == 0 else 1)]
        full = sum(gpus * model.max_power_watts for model in models) * pue
        made.append(
            Site(
                id=f"site-{number}",
                settlement_point=f"P{number % _POINTS}",
                pue=pue,
                import_limit_watts=1.04 * full,
                minimum_on_watts=0.35 * full,
                failsafe_watts=0.65 * full,
                ramp_down_watts_per_second=0.015 * full,
                ramp_up_watts_per_second=0.003 * full,
                pools=tuple(Pool(id=model.id, gpu_model=model.id, gpus=gpus) for model in models),
            )
        )
    return demo.model_copy(update={"fleets": (Fleet(id=_FLEET_ID, sites=tuple(made)),)})


def view_of(file: FleetFile, seed: int, with_event: bool) -> FleetView:
    """All that a planner may know: power, forecasts of every class, an hour of real-time and a day of other prices."""
    fleet, rng = file.fleets[0], np.random.default_rng(seed)
    view = FleetView(fleet)
    for site in fleet.sites:
        curves = SitePower.of(site, file.gpu_models)
        tokens = float(rng.uniform(0.3, 0.85)) * curves.serveable_tokens_per_second(1.0)
        watts = float(curves.watts(np.array([tokens]), np.array([tokens]))[0])
        view.observe(_power(site, watts))
        phase = float(rng.uniform(0, 2 * np.pi))
        view.observe(
            SiteForecast(
                fleet_id=_FLEET_ID,
                site_id=site.id,
                issued_at=NOW - timedelta(minutes=1),
                model="bench",
                history_steps=288,
                horizons=_horizons(tokens, phase),
                spikes=[],
                classes=[
                    ClassForecast(
                        service_class=each.id, horizons=_horizons(tokens * each.traffic_ratio, phase), spikes=[]
                    )
                    for each in file.service_classes
                ],
            )
        )
    for point in range(_POINTS):
        for hour in range(24):
            view.observe(_price("day-ahead", point, NOW + timedelta(hours=hour), 60, float(rng.normal(40, 10))))
        for back in range(0, _MINUTES_OF_PRICES, 5):
            view.observe(_price("real-time", point, NOW - timedelta(minutes=back), 5, float(rng.normal(40, 30))))
    if with_event:
        view.observe(
            EventSignal(
                fleet_id=_FLEET_ID,
                signal_id="event",
                source="bench",
                kind="event",
                published_at=NOW,
                starts_at=NOW + 2 * _STEP,
                ends_at=NOW + 14 * _STEP,
                reduction_ratio=0.2,
                ramp_seconds=300,
            )
        )
    return view


def first_plan() -> FleetPlan:
    """The plan of an owner that has only just begun."""
    return FleetPlan(
        fleet_id=_FLEET_ID,
        kind="claim",
        epoch=1,
        sequence=0,
        revision=0,
        owner="bench",
        issued_at=NOW,
        mode="hold",
        explanation="",
    )


def _power(site: Site, watts: float) -> PowerState:
    return PowerState(
        fleet_id=_FLEET_ID,
        site_id=site.id,
        window_start=NOW - timedelta(seconds=10),
        window_end=NOW,
        records=1,
        duplicates=0,
        it_power_watts=watts / site.pue,
        it_energy_joules=10 * watts / site.pue,
        meter_power_watts=watts,
        utilization_ratio=None,
        temperature_celsius_max=None,
        gpu_samples=site.gpus,
        masked_values=0,
        gpus_reporting=site.gpus,
        reporting_ratio=1.0,
    )


def _horizons(tokens: float, phase: float) -> list[HorizonForecast]:
    made = []
    for seconds in HORIZONS_SECONDS:
        median = tokens * (1 + 0.2 * float(np.sin(phase + seconds / 86_400 * 2 * np.pi)))
        wide = 0.4 * min(1.0, (seconds / 7200) ** 0.5)
        quantiles = [median * (1 + wide * (level - 0.5)) for level in QUANTILE_LEVELS]
        made.append(
            HorizonForecast(horizon_seconds=seconds, tokens_per_second=quantiles, prefill_tokens_per_second=quantiles)
        )
    return made


def _price(market: str, point: int, starts_at: datetime, minutes: int, usd: float) -> PriceSignal:
    return PriceSignal(
        fleet_id=_FLEET_ID,
        signal_id=f"{market}/{point}/{starts_at:%d%H%M}",
        source="bench",
        published_at=min(starts_at, NOW),
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=minutes),
        market=market,  # type: ignore[arg-type]
        settlement_point=f"P{point}",
        price_usd_per_mwh=usd,
    )
