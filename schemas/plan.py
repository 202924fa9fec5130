"""fleet.plans.v1: what the policy decided, why, and all that its successor needs to go on."""

from typing import Literal

from pydantic import Field

from schemas.command import Reason
from schemas.envelope import Record, Value
from schemas.units import (
    ControlId,
    Count,
    FleetId,
    Many,
    Ratio,
    ServiceClassId,
    SignalId,
    SiteId,
    Text,
    UtcTime,
    Watts,
    WattsPerSecond,
)

Mode = Literal["normal", "hold", "price-blind", "rule-based"]
ShiftPhase = Literal["proposed", "reserved", "active", "returning", "done", "aborted"]


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
    phase: ShiftPhase
    phase_since: UtcTime
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
    rejected: Many[Rejected] = Field(default_factory=list)
    inputs: Inputs | None = None
