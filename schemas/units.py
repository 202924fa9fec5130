"""Quantities as types: the unit stands in the field's name, the range in its type.

Conversions happen once, where data enters. Load is positive, export negative; a price may be negative.
Every number is finite, every time is aware UTC.
"""

from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import FailFast, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class _Utc:
    """RFC 3339 in UTC on the wire, an aware datetime in Python.

    Pydantic alone would also read "1767225600" and guess whether that means seconds or milliseconds.
    """

    pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|\+00:00)$"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(pattern=self.pattern)
        aware = core_schema.datetime_schema(tz_constraint=0)  # checked without a call back into Python
        return core_schema.custom_error_schema(
            core_schema.json_or_python_schema(
                core_schema.chain_schema([text, core_schema.datetime_schema(tz_constraint=0, strict=False)]), aware
            ),
            custom_error_type="utc_time",
            custom_error_message="must be an aware UTC time, such as 2026-11-01T12:00:00Z",
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time", "pattern": self.pattern}


UtcTime = Annotated[datetime, _Utc()]

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
# and counted when the frame is folded, so that one GPU's bad value never costs the frame. NaN and Infinity are no
# JSON, but exporters write them: here, and nowhere else, they are taken, to be masked like any other bad value.
Reading = Annotated[float, Field(allow_inf_nan=True)] | None

# A list whose first bad element is the last one looked at: a megabyte of them would else be half a million errors.
_Element = TypeVar("_Element")
Many = Annotated[list[_Element], FailFast()]

# Names become parts of topics' keys, of metrics' labels and of table rows: short, plain, no surprises.
_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
SiteId = Annotated[str, StringConstraints(pattern=_NAME)]
FleetId = Annotated[str, StringConstraints(pattern=_NAME)]
PoolId = Annotated[str, StringConstraints(pattern=_NAME)]
ServiceClassId = Annotated[str, StringConstraints(pattern=_NAME)]
RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,38}$")]

# Free text: what PostgreSQL can hold (all but NUL); in identifiers no control characters either.
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
SourceId = Annotated[str, StringConstraints(max_length=120, pattern=_PRINTABLE)]
SignalId = Annotated[str, StringConstraints(max_length=200, pattern=_PRINTABLE)]
ControlId = Annotated[str, StringConstraints(max_length=200, pattern=_PRINTABLE)]
SettlementPoint = Annotated[str, StringConstraints(max_length=64, pattern=_PRINTABLE)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
