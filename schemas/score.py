"""site.forecast-scores.v1: how good a forecast was, said when the step that it spoke of is over."""

from typing import Annotated

from pydantic import Field

from schemas.envelope import Record
from schemas.units import Count, FleetId, Ratio, SiteId, Text, TokensPerSecond, UtcTime

# May exceed 1: an error can be larger than the load.
_ErrorRatio = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra={"unit": "1"})]


class ForecastScore(Record):
    """One forecast of a site's generated tokens at one horizon, held against the load that came.

    The fields that end in `_ratio`, and `is_drifting`, speak of the newest scores of this site, horizon and model:
    weights halve every eight hours, so that they cover about a day.
    """

    fleet_id: FleetId
    site_id: SiteId
    horizon_seconds: Count
    scored_at: UtcTime = Field(description="end of the step that was forecast")
    issued_at: UtcTime = Field(description="when the forecast was issued")
    model: Text = Field(max_length=120, description="name and version of the model that made it")
    tokens_per_second: TokensPerSecond = Field(description="load that came, mean over the step")
    forecast_tokens_per_second: TokensPerSecond = Field(description="its median")
    lower_tokens_per_second: TokensPerSecond = Field(description="its 5 % quantile")
    upper_tokens_per_second: TokensPerSecond = Field(description="its 95 % quantile")
    persistence_tokens_per_second: TokensPerSecond = Field(description="load of the last step before the issue")
    pinball_loss_tokens_per_second: TokensPerSecond = Field(description="mean quantile loss over QUANTILE_LEVELS")
    wmape_ratio: _ErrorRatio | None = Field(
        description="absolute errors of the median, by the load; null where no load came"
    )
    persistence_wmape_ratio: _ErrorRatio | None = Field(description="the same for persistence")
    coverage_ratio: Ratio = Field(description="part of the loads within the 5 % and 95 % quantiles: 0.9 is right")
    is_drifting: bool = Field(description="worse than persistence, or coverage off, beyond what chance does")
