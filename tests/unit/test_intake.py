"""From bytes to records: what is taken, what is rejected and why, in order."""

from dataclasses import dataclass, replace

import pytest

from infra.bus import partition_of
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas import catalog
from schemas.catalog import MAX_RECORD_BYTES, Rejected, Topic
from schemas.envelope import Record
from streams.intake import Arrived, Intake, Reject, dead_letter_headers, from_the_future
from tests.examples import FRAME, NOON, PLAN, POWER, after

FLEETS = load_fleet_file(DEMO_FLEET_FILE)
SITE, PARTITIONS = "nyiso-nyc", 6


@dataclass(frozen=True)
class Message:
    """What of a Kafka message the intake looks at."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def intake(topic: Topic) -> Intake:
    """The intake of the live run."""
    return Intake(topic, "live", lambda key: partition_of(key, PARTITIONS), FLEETS)


def message(record: Record, key: str, offset: int = 0) -> Message:
    """The message that holds a record."""
    return Message(offset, 1000 + offset, key.encode(), record.to_json())


def why(topic: Topic, sent: Message, partition: int | None = None) -> Rejected:
    """Why the one message is rejected."""
    if partition is None:
        partition = partition_of(sent.key or b"", PARTITIONS)
    arrived, (reject,) = intake(topic).read([sent], partition)
    assert arrived == []
    return reject.rejected


def test_read_gives_records_and_rejects_each_in_order() -> None:
    good = FRAME.model_copy(update={"site_id": SITE})
    bad = Message(2, 1002, SITE.encode(), b"{")
    messages = [message(good, SITE, 1), bad, message(good, SITE, 3), replace(bad, offset=4, value=None)]
    arrived, rejects = intake(catalog.GPU_TELEMETRY).read(messages, partition_of(SITE.encode(), PARTITIONS))
    assert arrived == [Arrived(1, 1001, good), Arrived(3, 1003, good)]
    assert [(reject.offset, reject.rejected.reason) for reject in rejects] == [(2, "not_json"), (4, "empty")]
    assert rejects[0] == Reject(2, 1002, SITE.encode(), b"{", rejects[0].rejected)


def test_read_rejects_a_record_in_a_partition_that_is_not_its_own() -> None:
    sent = message(FRAME.model_copy(update={"site_id": SITE}), SITE)
    wrong = (partition_of(SITE.encode(), PARTITIONS) + 1) % PARTITIONS
    assert why(catalog.GPU_TELEMETRY, sent, wrong).reason == "wrong_partition"


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"nyiso-west"])
def test_read_rejects_a_key_that_is_not_the_records(key: bytes | None) -> None:
    sent = message(FRAME.model_copy(update={"site_id": SITE}), SITE)
    assert why(catalog.GPU_TELEMETRY, replace(sent, key=key)).reason == "wrong_key"


def test_read_rejects_what_the_fleet_file_does_not_know() -> None:
    assert why(catalog.GPU_TELEMETRY, message(FRAME, FRAME.site_id)).reason == "unknown_site"
    assert why(catalog.FLEET_PLANS, message(PLAN, PLAN.fleet_id)).reason == "unknown_fleet"
    stray = POWER.model_copy(update={"site_id": SITE, "fleet_id": "ercot"})
    rejected = why(catalog.SITE_STATE, message(stray, "ercot"))
    assert rejected == Rejected("unknown_site", "site 'nyiso-nyc' is not in fleet 'ercot'")


def test_read_rejects_another_run() -> None:
    other = FRAME.model_copy(update={"site_id": SITE, "run_id": "replay-1"})
    assert why(catalog.GPU_TELEMETRY, message(other, SITE)).reason == "wrong_run"


@pytest.mark.parametrize("seconds", [-86_400.0, 0.0, 30.0])
def test_from_the_future_takes_what_is_at_most_the_tolerance_ahead(seconds: float) -> None:
    assert from_the_future(after(seconds), NOON, 30.0) is None


def test_from_the_future_says_how_far_ahead() -> None:
    rejected = from_the_future(after(31.4), NOON, 30.0)
    assert rejected == Rejected("future", "observed_at is 31 s ahead of its arrival, at most 30")


def test_dead_letter_headers_say_why_and_where() -> None:
    reject = Reject(17, 1234, b"k", b"{", Rejected("not_json", "EOF ü"))
    assert dead_letter_headers(reject, "replay-1.gpu.telemetry.v1", 3) == [
        ("reason", b"not_json"),
        ("detail", "EOF ü".encode()),
        ("topic", b"replay-1.gpu.telemetry.v1"),
        ("partition", b"3"),
        ("offset", b"17"),
        ("timestamp-ms", b"1234"),
    ]


def test_dead_letter_headers_say_that_a_value_is_cut() -> None:
    reject = Reject(0, 0, None, b"x" * (MAX_RECORD_BYTES + 1), Rejected("oversized"))
    assert dict(dead_letter_headers(reject, "t", 0))["cut-from-bytes"] == str(MAX_RECORD_BYTES + 1).encode()
    exact = Reject(0, 0, None, b"x" * MAX_RECORD_BYTES, Rejected("oversized"))
    assert "cut-from-bytes" not in dict(dead_letter_headers(exact, "t", 0))
