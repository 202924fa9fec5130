"""site.forecasts.v1: what a site's load and power will be, as quantiles, and how likely a spike is."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.envelope import Record, Value
from schemas.units import (
    Count,
    FleetId,
    Many,
    PerSecond,
    Ratio,
    ServiceClassId,
    SiteId,
    Text,
    TokensPerSecond,
    UtcTime,
    Watts,
)

QUANTILE_LEVELS: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

_EACH_LEVEL = Field(min_length=len(QUANTILE_LEVELS), max_length=len(QUANTILE_LEVELS))
QuantileValues = Annotated[list[TokensPerSecond], _EACH_LEVEL]
RateQuantiles = Annotated[list[PerSecond], _EACH_LEVEL]
PowerQuantiles = Annotated[list[Watts], _EACH_LEVEL]


class HorizonForecast(Value):
    """Means over the step that ends `horizon_seconds` after the forecast was issued.

    Each list has one value for each of QUANTILE_LEVELS, never falling; null where it is not forecast.
    """

    horizon_seconds: Count
    tokens_per_second: QuantileValues = Field(
        description="tokens to generate that arriving requests want: one value for each of QUANTILE_LEVELS, "
        "never falling"
    )
    requests_per_second: RateQuantiles | None = Field(None, description="requests that arrive")
    prefill_tokens_per_second: QuantileValues | None = Field(None, description="prompt tokens that arrive")
    power_watts: PowerQuantiles | None = Field(
        None, description="power at the meter that the load draws when nothing limits it; of a whole site only"
    )

    @model_validator(mode="after")
    def _quantiles_do_not_cross(self) -> Self:
        for values in (
            self.tokens_per_second,
            self.requests_per_second,
            self.prefill_tokens_per_second,
            self.power_watts,
        ):
            if values is not None and values != sorted(values):
                raise ValueError("quantiles must not cross")
        return self


class SpikeForecast(Value):
    """Probability that load exceeds the spike threshold within the next `within_seconds`."""

    within_seconds: Count
    threshold_tokens_per_second: TokensPerSecond
    probability_ratio: Ratio


class ClassForecast(Value):
    """One service class of the site."""

    service_class: ServiceClassId
    horizons: Many[HorizonForecast] = Field(min_length=1)
    spikes: Many[SpikeForecast]


class SiteForecast(Record):
    """Forecast of a site's load, issued at the end of the last closed step of its history."""

    fleet_id: FleetId
    site_id: SiteId
    issued_at: UtcTime
    model: Text = Field(max_length=120, description="name and version of the model that made it")
    history_steps: Count = Field(description="closed steps that it rests on")
    horizons: Many[HorizonForecast] = Field(min_length=1)
    spikes: Many[SpikeForecast]
    flags: Many[Text] = Field(
        default_factory=list, description="what is out of the ordinary, e.g. `cold-start`, `fallback:artefact-refused`"
    )
    classes: Many[ClassForecast] = Field(
        default_factory=list, description="the same by service class; their quantiles do not add up to the site's"
    )
