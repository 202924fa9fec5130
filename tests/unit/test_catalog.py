"""How bytes become records or rejects, and what the catalog promises."""

import json
import math
from typing import Any, Final

import pytest
from pydantic import ValidationError

from schemas.catalog import (
    BY_NAME,
    GPU_TELEMETRY,
    GRID_SIGNALS,
    MAX_RECORD_BYTES,
    SITE_COMMANDS,
    TOPICS,
    Rejected,
    Topic,
    prefixed,
)
from schemas.command import CommandAck
from schemas.envelope import LIVE_RUN
from schemas.telemetry import TelemetryFrame

FRAME: Final[dict[str, Any]] = {
    "schema_version": 1,
    "run_id": "live",
    "site_id": "houston-1",
    "pool_id": "h100-a",
    "source": "dcgm-1",
    "sequence": 7,
    "observed_at": "2026-11-01T17:00:00Z",
    "interval_seconds": 1.0,
    "first_gpu": 0,
    "power_watts": [612.4, None],
    "energy_joules": [9182.5, None],
    "utilization_ratio": [0.97, None],
    "memory_used_ratio": [0.8, None],
    "temperature_celsius": [61.0, None],
    "meter_power_watts": None,
}


def decoded(token: str | None = None, key: bytes | None = b"houston-1", **changes: Any) -> Any:
    """What becomes of FRAME with changes; `"@"` among them stands for a raw token."""
    text = json.dumps({**FRAME, **changes})
    return GPU_TELEMETRY.decode(key, (text if token is None else text.replace('"@"', token)).encode(), LIVE_RUN)


def reason(answer: Any) -> str:
    assert isinstance(answer, Rejected), answer
    return answer.reason


def test_decode_of_valid_bytes_returns_record() -> None:
    record = decoded()
    assert isinstance(record, TelemetryFrame)
    assert record.power_watts == [612.4, None]
    assert GPU_TELEMETRY.key_of(record) == b"houston-1"
    assert GPU_TELEMETRY.natural_key_of(record) == (record.observed_at, "houston-1", "dcgm-1", 7, "live")


def test_decode_of_unknown_field_ignores_it() -> None:
    assert decoded(from_a_newer_writer={"deep": [1]}) == decoded()


def test_decode_without_fields_that_have_defaults_takes_them() -> None:
    document = {name: value for name, value in FRAME.items() if name not in ("schema_version", "run_id", "first_gpu")}
    assert GPU_TELEMETRY.decode(b"houston-1", json.dumps(document).encode(), LIVE_RUN) == decoded()


def test_decode_without_value_rejects_as_empty() -> None:
    assert reason(GPU_TELEMETRY.decode(b"houston-1", None, LIVE_RUN)) == "empty"


def test_decode_above_limit_rejects_as_oversized() -> None:
    frame = json.dumps(FRAME).encode()
    just_fits = frame + b" " * (MAX_RECORD_BYTES - len(frame))
    assert isinstance(GPU_TELEMETRY.decode(b"houston-1", just_fits, LIVE_RUN), TelemetryFrame)
    assert reason(GPU_TELEMETRY.decode(b"houston-1", just_fits + b" ", LIVE_RUN)) == "oversized"


@pytest.mark.parametrize(
    "value", [b"", b"x", b"{", b'{"a":1}{}', b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 100_000, b"9" * 9999]
)
def test_decode_of_no_json_rejects_as_not_json(value: bytes) -> None:
    assert reason(GPU_TELEMETRY.decode(b"houston-1", value, LIVE_RUN)) == "not_json"


@pytest.mark.parametrize("version", [0, 2, 2**70, "1", None, [], 1.5])
def test_decode_of_other_version_rejects_as_wrong_version(version: Any) -> None:
    assert reason(decoded(schema_version=version)) == "wrong_version"


def test_decode_of_other_version_that_fits_nowhere_rejects_as_wrong_version() -> None:
    assert reason(decoded(schema_version=2, power_watts="new", site_id=3, source=[], sequence={})) == "wrong_version"


def test_decode_of_other_version_of_a_union_rejects_as_wrong_version() -> None:
    value = b'{"kind":"throttle","schema_version":2}'
    assert reason(SITE_COMMANDS.decode(b"houston-1", value, LIVE_RUN)) == "wrong_version"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"site_id": "Houston"}, "site_id"),
        ({"site_id": "houston-1\n"}, "site_id"),
        ({"source": ""}, "source"),
        ({"source": "nul\x00"}, "source"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": 2**62 + 1}, "sequence"),
        ({"sequence": 7.0}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"interval_seconds": 0}, "interval_seconds"),
        ({"meter_power_watts": -0.1}, "meter_power_watts"),
        ({"meter_power_watts": "12"}, "meter_power_watts"),
        ({"observed_at": "2026-11-01T17:00:00"}, "observed_at"),
        ({"observed_at": "2026-11-01T18:00:00+01:00"}, "observed_at"),
        ({"observed_at": 1793552400}, "observed_at"),
        ({"observed_at": "1793552400"}, "observed_at"),
        ({"power_watts": []}, "power_watts"),
        ({"power_watts": [1.0] * 4097}, "power_watts"),
        ({"power_watts": [612.4]}, "every column"),
        ({"temperature_celsius": [61.0, "hot"]}, "temperature_celsius.1"),
    ],
)
def test_decode_of_value_out_of_its_model_rejects_as_invalid(changes: dict[str, Any], named: str) -> None:
    answer = decoded(**changes)
    assert reason(answer) == "invalid"
    assert named in answer.detail


def test_decode_of_record_without_a_field_rejects_as_invalid() -> None:
    document = json.dumps({name: value for name, value in FRAME.items() if name != "sequence"}).encode()
    assert GPU_TELEMETRY.decode(b"houston-1", document, LIVE_RUN) == Rejected("invalid", "sequence: Field required")


@pytest.mark.parametrize("kind", ['"\\u0000\\n"', '"' + "x" * 5000 + '"', "null", "7"])
def test_decode_of_unknown_kind_rejects_with_short_printable_detail(kind: str) -> None:
    answer = GRID_SIGNALS.decode(b"ercot", b'{"kind":%s}' % kind.encode(), LIVE_RUN)
    assert reason(answer) == "invalid"
    assert isinstance(answer, Rejected)
    assert answer.detail.isprintable()
    assert len(answer.detail) <= 500


@pytest.mark.parametrize("key", [None, b"", b"abilene-1", b"houston-1 ", b'"houston-1"', b"\xff"])
def test_decode_under_other_key_rejects_as_wrong_key(key: bytes | None) -> None:
    assert reason(decoded(key=key)) == "wrong_key"


def test_decode_of_other_run_rejects_as_wrong_run() -> None:
    assert reason(decoded(run_id="replay-1")) == "wrong_run"
    value = json.dumps({**FRAME, "run_id": "replay-1"}).encode()
    assert isinstance(GPU_TELEMETRY.decode(b"houston-1", value, "replay-1"), TelemetryFrame)


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400])
def test_decode_of_reading_that_is_no_number_keeps_the_frame(token: str) -> None:
    record = decoded(token, power_watts=[612.4, "@"])
    assert isinstance(record, TelemetryFrame)
    assert record.power_watts[0] == 612.4
    assert record.power_watts[1] is not None
    assert not math.isfinite(record.power_watts[1])
    assert b'"power_watts":[612.4,null]' in record.to_json(), "what we write is JSON"


@pytest.mark.parametrize("field", ["interval_seconds", "meter_power_watts", "sequence"])
@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_decode_of_single_value_that_is_no_number_rejects_as_invalid(field: str, token: str) -> None:
    answer = decoded(token, b"houston-1", **{field: "@"})
    assert reason(answer) == "invalid"
    assert field in answer.detail


@pytest.mark.parametrize("field", ["detail", "control_id"])
def test_text_of_half_a_surrogate_is_refused_where_the_record_is_made(field: str) -> None:
    fields = {"fleet_id": "f", "site_id": "s", "control_id": "c", "epoch": 1, "sequence": 1, "status": "received"}
    frame = decoded()
    rest = {"observed_at": frame.observed_at, "highest_epoch": 1, "highest_sequence": 1, field: "\ud800"}
    with pytest.raises(ValidationError, match=field):
        CommandAck(**{**fields, **rest})


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_topic_name_can_stand_on_a_broker(topic: Topic) -> None:
    assert topic.name.endswith(".v1")
    assert set(topic.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert topic.dlq == f"{topic.name}.dlq"
    assert BY_NAME[topic.name] is topic


def test_on_bus_prefixes_every_run_but_the_live_one() -> None:
    assert GPU_TELEMETRY.on_bus("live") == "gpu.telemetry.v1"
    assert GPU_TELEMETRY.on_bus("demo") == prefixed("gpu.telemetry.v1", "demo") == "demo.gpu.telemetry.v1"
