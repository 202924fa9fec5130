"""site.flexibility-offers.v1: how much power a site can give up now, how fast, for how long, and what it costs."""

from typing import Annotated

from pydantic import Field

from schemas.envelope import Record, Value
from schemas.units import FleetId, Many, PositiveSeconds, Seconds, SiteId, UtcTime, Watts


class OfferedReduction(Value):
    """A reduction at the meter that the site can reach within `response_seconds` and hold for `duration_seconds`.

    Measured down from the power that the site would draw by itself. P90 is what it gives in nine cases of ten, so
    it is never more than P50.
    """

    response_seconds: Seconds
    duration_seconds: PositiveSeconds
    firm_power_watts_p50: Watts
    firm_power_watts_p90: Watts
    tokens_lost_per_mwh: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="generated tokens that are not served, for each MWh given up"
    )


class FlexibilityOffer(Record):
    """What one site offers from `issued_at` until `valid_until`."""

    fleet_id: FleetId
    site_id: SiteId
    issued_at: UtcTime
    valid_until: UtcTime
    expected_power_watts: Watts = Field(description="what the site is expected to draw by itself, at the meter")
    offers: Many[OfferedReduction]
