"""One valid record of every kind, by topic: made by hand, plausible, no two values alike where it matters."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import catalog
from schemas.clock import ClockAnchor
from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.envelope import Record
from schemas.forecast import ClassForecast, HorizonForecast, SiteForecast, SpikeForecast
from schemas.latency import BUCKETS
from schemas.offer import FlexibilityOffer, OfferedReduction
from schemas.plan import (
    Baseline,
    Dwell,
    FleetPlan,
    Inputs,
    Rejected,
    Schedule,
    ShiftControl,
    SiteSchedule,
    Strike,
    ThrottleControl,
    Tracking,
)
from schemas.requests import ClassRequests, RequestRates
from schemas.score import ForecastScore
from schemas.signals import CarbonSignal, EventSignal, PriceSignal
from schemas.site import ClassLoad, ControllerHeartbeat, LoadState, PowerState
from schemas.telemetry import TelemetryFrame

NOON = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
FLEET, SITE, OTHER_SITE = "texas", "austin-1", "dallas-1"
COUNTS = [0, 1, 2, *([0] * (BUCKETS - 4)), 3]


def after(seconds: float) -> datetime:
    """Return the time `seconds` after noon of the examples' day."""
    return NOON + timedelta(seconds=seconds)


# What several of them share.
SPAN: dict[str, Any] = {"starts_at": after(600), "ends_at": after(11_400)}
ORDER: dict[str, Any] = {"fleet_id": FLEET, "epoch": 3, "issued_at": after(61), "lease_expires_at": after(121)}
PLACE: dict[str, Any] = {"fleet_id": FLEET, "site_id": SITE}
WINDOW: dict[str, Any] = {**PLACE, "window_start": NOON, "window_end": after(10), "records": 10}

FRAME = TelemetryFrame(
    site_id=SITE,
    pool_id="h100",
    source="exporter-1",
    sequence=41,
    observed_at=after(0.25),
    interval_seconds=1.0,
    first_gpu=8,
    power_watts=[412.625, None, 700.1],
    energy_joules=[1_234_567_890.123, None, 0.0],
    utilization_ratio=[0.91, 0.0, 1.0],
    memory_used_ratio=[0.5, None, 0.33],
    temperature_celsius=[61.5, -1.0, None],
    meter_power_watts=1502.5,
)

REQUESTS = RequestRates(
    site_id=SITE,
    source="gateway-1",
    sequence=7,
    observed_at=after(1),
    interval_seconds=1.0,
    classes=[
        ClassRequests(
            service_class="chat",
            requests_arrived=12,
            requests_served=6,
            prompt_tokens_arrived=4800,
            tokens_arrived=3600,
            tokens_served=3100,
            tokens_queued=500,
            ttft_seconds_counts=COUNTS,
        )
    ],
)

PRICE = PriceSignal(
    fleet_id=FLEET,
    signal_id="ercot-rt-hb-north-2026-11-01T12:00",
    source="ercot",
    published_at=after(-30),
    starts_at=NOON,
    ends_at=after(900),
    market="real-time",
    settlement_point="HB_NORTH",
    price_usd_per_mwh=-12.75,
)
CARBON = CarbonSignal(
    fleet_id=FLEET,
    signal_id="carbon-hb-north-2026-11-01T12:00",
    source="eia",
    published_at=after(-20),
    starts_at=NOON,
    ends_at=after(3600),
    settlement_point="HB_NORTH",
    intensity_grams_co2_per_kwh=385.5,
)
EVENT = EventSignal(
    fleet_id=FLEET,
    signal_id="event-17",
    source="utility",
    published_at=after(-10),
    **SPAN,
    kind="event",
    site_ids=[SITE, OTHER_SITE],
    reduction_ratio=0.25,
    ramp_seconds=300.0,
)
EMERGENCY = EventSignal(
    fleet_id=FLEET,
    signal_id="emergency-1",
    source="ercot",
    published_at=after(-5),
    starts_at=NOON,
    ends_at=after(1800),
    kind="emergency",
    target_power_watts=2_000_000.0,
    cancelled=True,
)

POWER = PowerState(
    **WINDOW,
    duplicates=1,
    it_power_watts=1112.5,
    it_energy_joules=11_125.0,
    meter_power_watts=None,
    utilization_ratio=0.875,
    temperature_celsius_max=61.5,
    gpu_samples=30,
    masked_values=4,
    gpus_reporting=3,
    reporting_ratio=0.75,
)
LOAD = LoadState(
    **WINDOW,
    duplicates=0,
    requests_per_second=12.0,
    tokens_arrived_per_second=3600.5,
    tokens_served_per_second=3100.25,
    tokens_queued=500,
    covered_ratio=1.0,
    classes=[
        ClassLoad(
            service_class="chat",
            requests_per_second=12.0,
            prompt_tokens_per_second=4800.0,
            tokens_arrived_per_second=3600.5,
            tokens_served_per_second=3100.25,
            tokens_queued=500,
            ttft_seconds_counts=COUNTS,
            ttft_seconds_p50=0.021,
            ttft_seconds_p99=None,
        )
    ],
)

FORECAST = SiteForecast(
    **PLACE,
    issued_at=after(60),
    model="seasonal-naive 1",
    history_steps=2016,
    horizons=[
        HorizonForecast(horizon_seconds=300, tokens_per_second=[1.0, 2.0, 3.0, 4.5, 5.0, 6.0, 7.25]),
        HorizonForecast(
            horizon_seconds=600,
            tokens_per_second=[0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0],
            requests_per_second=[0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.25],
            prefill_tokens_per_second=[0.0, 20.0, 30.0, 40.0, 50.0, 60.0, 90.0],
            power_watts=[900.0, 950.0, 975.0, 1000.0, 1025.0, 1050.0, 1100.5],
        ),
    ],
    spikes=[SpikeForecast(within_seconds=1800, threshold_tokens_per_second=8000.0, probability_ratio=0.05)],
    flags=["cold-start"],
    classes=[
        ClassForecast(
            service_class="chat",
            horizons=[HorizonForecast(horizon_seconds=300, tokens_per_second=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
            spikes=[],
        )
    ],
)
SCORE = ForecastScore(
    **PLACE,
    horizon_seconds=600,
    scored_at=after(660),
    issued_at=after(60),
    model="seasonal-naive 1",
    tokens_per_second=4.5,
    forecast_tokens_per_second=4.0,
    lower_tokens_per_second=0.0,
    upper_tokens_per_second=9.0,
    persistence_tokens_per_second=3.25,
    pinball_loss_tokens_per_second=0.375,
    wmape_ratio=0.125,
    persistence_wmape_ratio=None,
    coverage_ratio=0.9375,
    is_drifting=False,
)

PLAN = FleetPlan(
    fleet_id=FLEET,
    kind="plan",
    epoch=3,
    sequence=120,
    revision=9,
    owner="worker-a",
    issued_at=after(61),
    mode="rule-based",
    explanation="event-17: a quarter less in Austin",
    throttles=[
        ThrottleControl(
            control_id="throttle-5",
            site_id=SITE,
            reason="event",
            target_power_watts=1126.9,
            ramp_down_watts_per_second=5.0,
            ramp_up_watts_per_second=2.5,
            fallback_power_watts=1100.0,
            **SPAN,
            caused_by=["event-17"],
        )
    ],
    shifts=[
        ShiftControl(
            control_id="shift-2",
            from_site_id=SITE,
            to_site_id=OTHER_SITE,
            service_class="chat",
            share_ratio=0.2,
            reserved_power_watts=250.0,
            ramp_seconds=60.0,
            phase="ramping",
            phase_since=after(61),
            **SPAN,
        )
    ],
    baselines=[Baseline(signal_id="event-17", site_id=SITE, power_watts=1502.5)],
    dwells=[Dwell(site_id=SITE, above=False, since=after(-900))],
    planner="optimiser",
    schedule=Schedule(
        starts_at=after(60),
        step_seconds=300.0,
        iterations=412,
        sites=[
            SiteSchedule(site_id=SITE, power_watts=[1126.9, 1120.0]),
            SiteSchedule(site_id=OTHER_SITE, power_watts=[]),
        ],
    ),
    strikes=[Strike(site_id=SITE, pool_id="h100", tokens_per_kwh=41_028_000.5, price_usd_per_mwh=1446.2)],
    tracking=[
        Tracking(
            signal_id="event-17",
            phase="escalated",
            phase_since=after(30),
            target_power_watts=1126.9,
            delivered_power_watts=1210.0,
            correction_watts=-83.1,
        )
    ],
    rejected=[Rejected(alternative="shed in Dallas", why="85 % loaded")],
    inputs=Inputs(
        newest_power_window_end=after(10),
        newest_forecast_issued_at=None,
        signal_ids=["event-17"],
        stale_site_ids=[OTHER_SITE],
    ),
)
CLAIM = FleetPlan(
    fleet_id=FLEET,
    kind="claim",
    epoch=4,
    sequence=120,
    revision=0,
    owner="worker-b",
    issued_at=after(70),
    mode="hold",
    explanation="",
)

OFFER = FlexibilityOffer(
    **PLACE,
    issued_at=after(60.5),
    valid_until=after(180.5),
    expected_power_watts=1502.5,
    offers=[
        OfferedReduction(
            response_seconds=30.0,
            duration_seconds=900.0,
            firm_power_watts_p50=75.0,
            firm_power_watts_p90=75.0,
            tokens_lost_per_mwh=0.0,
        ),
        OfferedReduction(
            response_seconds=300.0,
            duration_seconds=10_800.0,
            firm_power_watts_p50=700.0,
            firm_power_watts_p90=640.5,
            tokens_lost_per_mwh=12_500_000_000.0,
        ),
    ],
)

THROTTLE = Throttle(
    **ORDER,
    **SPAN,
    site_id=SITE,
    control_id="throttle-5",
    sequence=118,
    reason="event",
    priority=1,
    caused_by=["event-17"],
    explanation="event-17: a quarter less",
    target_power_watts=1126.9,
    ramp_down_watts_per_second=5.0,
    ramp_up_watts_per_second=2.5,
    fallback_power_watts=1100.0,
)
SHIFT = Shift(
    **ORDER,
    **SPAN,
    site_id=OTHER_SITE,
    control_id="shift-2",
    sequence=119,
    reason="event",
    renewal=True,
    role="reserve",
    from_site_id=SITE,
    to_site_id=OTHER_SITE,
    service_class="chat",
    share_ratio=0.2,
    reserved_power_watts=250.0,
    ramp_seconds=60.0,
)
RELEASE = Release(
    **ORDER,
    **SPAN,
    site_id=SITE,
    control_id="release-1",
    sequence=120,
    reason="economics",
    releases_control_id="throttle-4",
)

ACK = CommandAck(
    **PLACE,
    control_id="throttle-5",
    epoch=3,
    sequence=118,
    status="partial",
    observed_at=after(61.125),
    detail="service objective of chat: 90 %",
    meter_power_watts=1490.0,
    share_ratio=None,
    knob="cap",
    highest_epoch=3,
    highest_sequence=118,
)
HEARTBEAT = ControllerHeartbeat(
    **PLACE,
    observed_at=after(65),
    epoch=3,
    sequence=118,
    target_power_watts=None,
    meter_power_watts=1490.0,
    locked_out=False,
)
ANCHOR = ClockAnchor(run_id="replay-1", wall_anchor=NOON, replay_anchor=after(-86_400), rate=60.0)

EXAMPLES: dict[str, list[Record]] = {
    catalog.GPU_TELEMETRY.name: [FRAME],
    catalog.INFERENCE_REQUESTS.name: [REQUESTS],
    catalog.GRID_SIGNALS.name: [PRICE, CARBON, EVENT, EMERGENCY],
    catalog.SITE_STATE.name: [POWER, LOAD],
    catalog.SITE_FORECASTS.name: [FORECAST],
    catalog.FORECAST_SCORES.name: [SCORE],
    catalog.FLEET_PLANS.name: [PLAN, CLAIM],
    catalog.FLEXIBILITY_OFFERS.name: [OFFER],
    catalog.SITE_COMMANDS.name: [THROTTLE, SHIFT, RELEASE],
    catalog.COMMAND_ACKS.name: [ACK],
    catalog.SITE_HEARTBEATS.name: [HEARTBEAT],
    catalog.CLOCK.name: [ANCHOR],
}
