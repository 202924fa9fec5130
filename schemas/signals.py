"""grid.signals.v1: what the market and the utility say, fanned out to each fleet that it concerns."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.envelope import Record
from schemas.units import (
    FleetId,
    GramsCo2PerKwh,
    Many,
    Ratio,
    Seconds,
    SettlementPoint,
    SignalId,
    SiteId,
    SourceId,
    UsdPerMwh,
    UtcTime,
    Watts,
)


class _Signal(Record):
    """The interval a signal speaks of, and when it was said: the latest `published_at` of a `signal_id` holds."""

    fleet_id: FleetId
    signal_id: SignalId
    source: SourceId
    published_at: UtcTime
    starts_at: UtcTime
    ends_at: UtcTime

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        return self


class PriceSignal(_Signal):
    """The energy price at a settlement point over an interval. May be negative."""

    kind: Literal["price"] = "price"
    market: Literal["real-time", "day-ahead"]
    settlement_point: SettlementPoint
    price_usd_per_mwh: UsdPerMwh


class CarbonSignal(_Signal):
    """The grid's carbon intensity at a settlement point over an interval."""

    kind: Literal["carbon"] = "carbon"
    settlement_point: SettlementPoint
    intensity_grams_co2_per_kwh: GramsCo2PerKwh


class EventSignal(_Signal):
    """A demand-response event: hold the meter at or below a target from `starts_at` to `ends_at`.

    Either `target_power_watts` for the fleet's sites together, or `reduction_ratio` of the baseline, the mean meter
    power before the event was heard of. `site_ids` empty means every site of the fleet. A later record with the
    same `signal_id` revises it; `cancelled` withdraws it.
    """

    kind: Literal["event", "emergency"]
    site_ids: Many[SiteId] = Field(default_factory=list, max_length=1000)
    reduction_ratio: Ratio | None = None
    target_power_watts: Watts | None = None
    ramp_seconds: Seconds = Field(0.0, description="time allowed from starts_at to reach the target")
    cancelled: bool = False

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.reduction_ratio is None) == (self.target_power_watts is None):
            raise ValueError("exactly one of reduction_ratio and target_power_watts must be given")
        return self


GridSignal = Annotated[PriceSignal | CarbonSignal | EventSignal, Field(discriminator="kind")]
