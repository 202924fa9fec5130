"""fleet.plans.v1: what the policy decided, why, and all that its successor needs to go on."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.command import Reason
from schemas.envelope import Record, Value
from schemas.units import (
    ControlId,
    Count,
    FleetId,
    Many,
    PoolId,
    PositiveSeconds,
    Ratio,
    Seconds,
    ServiceClassId,
    SignalId,
    SiteId,
    Text,
    UsdPerMwh,
    UtcTime,
    Watts,
    WattsPerSecond,
)

Mode = Literal["normal", "hold", "price-blind", "rule-based"]
TrackingPhase = Literal["active", "escalated", "resolved"]
ShiftPhase = Literal["proposed", "reserved", "ramping", "active", "returning", "done", "aborted"]


class ThrottleControl(Value):
    """A power target in force or to come at one site."""

    control_id: ControlId
    site_id: SiteId
    reason: Reason
    priority: Count = 0
    target_power_watts: Watts
    ramp_down_watts_per_second: WattsPerSecond
    ramp_up_watts_per_second: WattsPerSecond
    fallback_power_watts: Watts
    starts_at: UtcTime
    ends_at: UtcTime
    caused_by: Many[SignalId] = Field(default_factory=list)
    explanation: Text = ""


class ShiftControl(Value):
    """A share of a service class's traffic moving between two sites, and how far the two-phase saga has come."""

    control_id: ControlId
    from_site_id: SiteId
    to_site_id: SiteId
    service_class: ServiceClassId
    share_ratio: Ratio
    reserved_power_watts: Watts
    reserved_share_ratio: Ratio | None = Field(
        None, description="a greater share that the acceptor keeps room for until the donor has come down from it"
    )
    reserved_until: UtcTime | None = Field(
        None, description="end of the lease that the acceptor has confirmed: what is drained is home by then"
    )
    ramp_seconds: Seconds = 0.0
    phase: ShiftPhase
    phase_since: UtcTime
    home_at: UtcTime | None = Field(None, description="when all of a returning share is back at the donor")
    starts_at: UtcTime
    ends_at: UtcTime
    caused_by: Many[SignalId] = Field(default_factory=list)
    explanation: Text = ""


class Baseline(Value):
    """A site's meter power before an event was heard of: what a reduction is measured from."""

    signal_id: SignalId
    site_id: SiteId
    power_watts: Watts


class Dwell(Value):
    """Since when a price has stood on its side of the strike price at a site: what keeps commands from chattering."""

    site_id: SiteId
    above: bool
    since: UtcTime


class Strike(Value):
    """The price above which a token made by a pool costs more energy than it earns, from what the site measured."""

    site_id: SiteId
    pool_id: PoolId
    tokens_per_kwh: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    price_usd_per_mwh: UsdPerMwh


class SiteSchedule(Value):
    """What the optimiser has planned for one site: its power at the meter, mean over each step."""

    site_id: SiteId
    power_watts: Many[Watts]


class Schedule(Value):
    """The optimiser's horizon. The plan's controls carry out its first step; the rest is intent."""

    starts_at: UtcTime
    step_seconds: PositiveSeconds
    iterations: Count
    sites: Many[SiteSchedule]


class Tracking(Value):
    """What an event's sites deliver against its target, and what the plan asks of them beyond it to make up for it.

    `active` while they deliver, `escalated` after a breach of more than a fifth of the reduction, `resolved` once they
    deliver again; over with the event.
    """

    signal_id: SignalId
    phase: TrackingPhase
    phase_since: UtcTime
    target_power_watts: Watts
    delivered_power_watts: Watts = Field(description="mean at the meters over the newest minute")
    correction_watts: float = Field(description="what the sites together are asked to stay below the target")


class Rejected(Value):
    """An alternative that was considered, and why it was not taken."""

    alternative: Text
    why: Text


class Inputs(Value):
    """What the plan rests on, as known then."""

    newest_power_window_end: UtcTime | None
    newest_forecast_issued_at: UtcTime | None
    signal_ids: Many[SignalId]
    stale_site_ids: Many[SiteId]


class FleetPlan(Record):
    """A decision about one fleet. `claim` records only say who plans from now on, at which epoch.

    The newest plan of a fleet is the policy's whole memory: a successor reads it, claims the next epoch, issues
    again what is in force, then plans.
    """

    fleet_id: FleetId
    kind: Literal["claim", "plan"]
    epoch: Count
    sequence: Count = Field(description="highest command sequence that this plan's commands use")
    revision: Count = Field(description="rises with each plan of the epoch")
    owner: Text = Field(description="the worker that plans")
    issued_at: UtcTime
    mode: Mode
    explanation: Text
    throttles: Many[ThrottleControl] = Field(default_factory=list)
    shifts: Many[ShiftControl] = Field(default_factory=list)
    baselines: Many[Baseline] = Field(default_factory=list)
    dwells: Many[Dwell] = Field(default_factory=list)
    planner: Literal["rules", "optimiser"] = Field("rules", description="who made the plan")
    schedule: Schedule | None = None
    strikes: Many[Strike] = Field(default_factory=list)
    tracking: Many[Tracking] = Field(default_factory=list)
    rejected: Many[Rejected] = Field(default_factory=list)
    inputs: Inputs | None = None
