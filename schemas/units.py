"""Quantities as types: the unit stands in the field's name, the range in its type.

Conversions happen once, where data enters. Load is positive, export negative; a price may be negative.
Every number is finite, every time is aware UTC.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() != timedelta(0):
        raise ValueError("must be an aware UTC time, such as 2026-11-01T12:00:00Z")
    return value.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_utc)]

Watts = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra={"unit": "W"})]
Joules = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra={"unit": "J"})]
WattsPerSecond = Annotated[float, Field(gt=0, allow_inf_nan=False, json_schema_extra={"unit": "W/s"})]
Celsius = Annotated[float, Field(allow_inf_nan=False, json_schema_extra={"unit": "degC"})]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra={"unit": "s"})]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False, json_schema_extra={"unit": "s"})]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, json_schema_extra={"unit": "1"})]
TokensPerSecond = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra={"unit": "1/s"})]
PerSecond = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra={"unit": "1/s"})]
UsdPerMwh = Annotated[float, Field(allow_inf_nan=False, json_schema_extra={"unit": "USD/MWh"})]
UsdPerMillionTokens = Annotated[float, Field(ge=0, allow_inf_nan=False)]
GramsCo2PerKwh = Annotated[float, Field(ge=0, allow_inf_nan=False, json_schema_extra={"unit": "g/kWh"})]
Count = Annotated[int, Field(ge=0, le=2**62)]

# A raw GPU reading as the collector saw it: null where the exporter had none. What is not plausible is masked
# and counted when the frame is folded, so that one GPU's bad value never costs the frame.
Reading = float | None

# Names become parts of topics' keys, of metrics' labels and of table rows: short, plain, no surprises.
_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
SiteId = Annotated[str, StringConstraints(pattern=_NAME)]
FleetId = Annotated[str, StringConstraints(pattern=_NAME)]
PoolId = Annotated[str, StringConstraints(pattern=_NAME)]
ServiceClassId = Annotated[str, StringConstraints(pattern=_NAME)]
RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,38}$")]
SourceId = Annotated[str, StringConstraints(min_length=1, max_length=120)]
SignalId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
SettlementPoint = Annotated[str, StringConstraints(min_length=1, max_length=64)]
