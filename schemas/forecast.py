"""site.forecasts.v1: what a site's load will be, as quantiles, and how likely a spike is."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.envelope import Record, Value
from schemas.units import Count, FleetId, Many, Ratio, SiteId, Text, TokensPerSecond, UtcTime

QUANTILE_LEVELS: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

QuantileValues = Annotated[
    Many[TokensPerSecond], Field(min_length=len(QUANTILE_LEVELS), max_length=len(QUANTILE_LEVELS))
]


class HorizonForecast(Value):
    """Tokens per second arriving in the step that ends `horizon_seconds` after the forecast was issued."""

    horizon_seconds: Count
    tokens_per_second: QuantileValues = Field(description="one value for each of QUANTILE_LEVELS, never falling")

    @model_validator(mode="after")
    def _quantiles_do_not_cross(self) -> Self:
        if self.tokens_per_second != sorted(self.tokens_per_second):
            raise ValueError("quantiles must not cross")
        return self


class SpikeForecast(Value):
    """Probability that load exceeds the spike threshold within the next `within_seconds`."""

    within_seconds: Count
    threshold_tokens_per_second: TokensPerSecond
    probability_ratio: Ratio


class SiteForecast(Record):
    """Forecast of a site's load, issued at the end of the last closed step of its history."""

    fleet_id: FleetId
    site_id: SiteId
    issued_at: UtcTime
    model: Text = Field(max_length=120, description="name and version of the model that made it")
    history_steps: Count = Field(description="closed steps that it rests on")
    horizons: Many[HorizonForecast] = Field(min_length=1)
    spikes: Many[SpikeForecast]
    flags: Many[Text] = Field(default_factory=list, description="what is out of the ordinary, e.g. `cold-start`")
