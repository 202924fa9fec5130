"""Quantities take what is in their range, and times what is UTC."""

import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import pytest
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from schemas import units
from schemas.envelope import Record

STRICT: Final = ConfigDict(strict=True, allow_inf_nan=False)
NOON: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)


def read(quantity: Any, text: str) -> Any:
    return TypeAdapter(quantity, config=STRICT).validate_json(text)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-11-01T12:00:00Z", 0),
        ("2026-11-01T12:00:00+00:00", 0),
        ("2026-11-01T12:00:00.5Z", 500_000),
        ("2026-11-01T12:00:00.123456789Z", 123_456),
    ],
)
def test_utc_time_reads_rfc_3339_in_utc(text: str, microsecond: int) -> None:
    time = read(units.UtcTime, f'"{text}"')
    assert time == NOON.replace(microsecond=microsecond)
    assert time.utcoffset() == timedelta(0)
    assert pickle.loads(pickle.dumps(time)) == time


@pytest.mark.parametrize(
    "text",
    [
        '"2026-11-01T12:00:00"',
        '"2026-11-01T13:00:00+01:00"',
        '"2026-11-01 12:00:00Z"',
        '"2026-11-01"',
        '"2026-11-31T12:00:00Z"',
        '"2026-11-01T12:00:60Z"',
        '"2026-11-01T12:00:00Z\\n"',
        '"1793534400"',
        "1793534400",
        "null",
        "NaN",
    ],
)
def test_utc_time_refuses_everything_else_with_one_message(text: str) -> None:
    with pytest.raises(ValidationError, match=r"must be an aware UTC time, such as 2026-11-01T12:00:00Z"):
        read(units.UtcTime, text)


@pytest.mark.parametrize("time", [NOON, NOON.astimezone(ZoneInfo("UTC")), NOON.astimezone(timezone(timedelta(0)))])
def test_utc_time_takes_aware_datetimes_in_utc(time: datetime) -> None:
    adapter = TypeAdapter[datetime](units.UtcTime, config=STRICT)
    assert adapter.dump_json(adapter.validate_python(time)) == b'"2026-11-01T12:00:00Z"'


@pytest.mark.parametrize(
    "time",
    [NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=1))), "2026-11-01T12:00:00Z", 0],
    ids=["naive", "elsewhere", "text", "number"],
)
def test_utc_time_refuses_other_python_values(time: Any) -> None:
    with pytest.raises(ValidationError, match="aware UTC"):
        TypeAdapter(units.UtcTime, config=STRICT).validate_python(time)


@pytest.mark.parametrize(
    ("quantity", "taken", "refused"),
    [
        (units.Watts, ["0", "1e9", "7"], ["-1", "-1e-9"]),
        (units.Joules, ["0", "1e15"], ["-1"]),
        (units.WattsPerSecond, ["0.001"], ["0", "-1"]),
        (units.Celsius, ["-40", "0", "90.5"], []),
        (units.Seconds, ["0", "1"], ["-0.1"]),
        (units.PositiveSeconds, ["0.1"], ["0", "-1"]),
        (units.Ratio, ["0", "1", "0.5"], ["-0.01", "1.01"]),
        (units.TokensPerSecond, ["0", "1e6"], ["-1"]),
        (units.PerSecond, ["0"], ["-1"]),
        (units.UsdPerMwh, ["-250.5", "0", "9000"], []),
        (units.UsdPerMillionTokens, ["0", "0.4"], ["-1"]),
        (units.GramsCo2PerKwh, ["0", "820"], ["-1"]),
        (units.Count, ["0", str(2**62)], ["-1", "1.0", str(2**62 + 1), "9" * 400]),
    ],
)
def test_quantity_takes_its_range_and_only_numbers(quantity: Any, taken: list[str], refused: list[str]) -> None:
    for text in taken:
        assert read(quantity, text) == float(text)
    for text in [*refused, "NaN", "Infinity", "-Infinity", "1e400", '"1"', "true", "null", "[]"]:
        with pytest.raises(ValidationError):
            read(quantity, text)


@pytest.mark.parametrize("name", [units.SiteId, units.FleetId, units.PoolId, units.ServiceClassId, units.RunId])
def test_name_is_short_and_plain(name: Any) -> None:
    for text in ("a", "7", "houston-1", "a" * 39):
        assert read(name, f'"{text}"') == text
    for text in ("", "-a", "A", "a.b", "a_b", "a b", "ä", "a\\n", "a" * 64):
        with pytest.raises(ValidationError):
            read(name, f'"{text}"')


@pytest.mark.parametrize("text", [units.SourceId, units.SignalId, units.ControlId, units.SettlementPoint])
def test_identifier_is_printable(text: Any) -> None:
    assert read(text, '"HB_HOUSTON / é 電"') == "HB_HOUSTON / é 電"
    for broken in ("", "a\\u0000", "a\\n", "\\u007f", "x" * 201):
        with pytest.raises(ValidationError):
            read(text, f'"{broken}"')


def test_text_is_what_postgresql_can_hold() -> None:
    assert read(units.Text, '"two\\nlines"') == "two\nlines"
    with pytest.raises(ValidationError):
        read(units.Text, '"a\\u0000b"')


@pytest.mark.parametrize("text", ["null", "-5", "NaN", "-Infinity", "1e400", "7"])
def test_reading_takes_any_number_for_the_fold_to_judge(text: str) -> None:
    read(units.Reading, text)


@pytest.mark.parametrize("text", ['"NaN"', "true", "[]"])
def test_reading_refuses_what_is_no_number(text: str) -> None:
    with pytest.raises(ValidationError):
        read(units.Reading, text)


def test_many_stops_at_its_first_bad_element() -> None:
    with pytest.raises(ValidationError) as caught:
        read(units.Many[units.Watts], "[1, -1, -1, -1]")
    assert [error["loc"] for error in caught.value.errors()] == [(1,)]


def test_record_is_frozen_and_strict() -> None:
    class Sample(Record):
        power: Annotated[units.Watts, Field(le=10)]

    sample = Sample(power=1.0)
    assert sample.to_json() == b'{"schema_version":1,"run_id":"live","power":1.0}'
    assert sample.to_json() == Sample(power=1.0).to_json()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(sample, "power", 2.0)  # noqa: B010 - mypy knows that it is frozen
    with pytest.raises(ValidationError, match="valid number"):
        Sample.model_validate({"power": "1"})
