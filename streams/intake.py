"""From bytes to records: what a batch holds, and what of it can't be taken. Pure; a data fault is a value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.catalog import MAX_RECORD_BYTES, Rejected, Topic
from schemas.envelope import Record
from schemas.fleet import FleetFile

Headers = Sequence[tuple[str, bytes | None]]
# Why a record does not count for its signature, from its value and headers; None if it does.
Refusal = Callable[[Record, bytes, Headers], Rejected | None]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A record, where it stood on the bus, when it was appended (ms since 1970, wall time), and what came with it."""

    offset: int
    timestamp_ms: int
    record: Any
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """A message that can't be taken, and why."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    rejected: Rejected


@dataclass(frozen=True, slots=True)
class Intake:
    """How one topic is read in one run; `refusal` judges the signatures of one whose records are signed."""

    topic: Topic
    run_id: str
    partition_of: Callable[[bytes], int]
    fleet_file: FleetFile
    refusal: Refusal | None = None

    def read(self, messages: Sequence[Any], partition: int) -> tuple[list[Arrived], list[Reject]]:
        """The records of Kafka messages (`.offset .timestamp .key .value .headers`), and the rejects, both in order."""
        arrived, rejects = [], []
        for message in messages:
            record = self._one(message.key, message.value, message.headers, partition)
            if isinstance(record, Rejected):
                rejects.append(Reject(message.offset, message.timestamp, message.key, message.value, record))
            else:
                arrived.append(Arrived(message.offset, message.timestamp, record, message.headers))
        return arrived, rejects

    def _one(self, key: bytes | None, value: bytes | None, headers: Headers, partition: int) -> Record | Rejected:
        record = self.topic.decode(key, value, self.run_id)
        if isinstance(record, Rejected):
            return record
        assert key is not None  # decode compared it with the record's own
        assert value is not None
        if self.partition_of(key) != partition:
            return Rejected("wrong_partition", f"key {key.decode()!r} does not belong to partition {partition}")
        refused = _unknown(record, self.fleet_file)
        if refused is None and self.refusal is not None:
            refused = self.refusal(record, value, headers)
        return refused or record


def _unknown(record: Record, fleet_file: FleetFile) -> Rejected | None:
    """Why a record speaks of something that the fleet file does not know; None if it knows it all."""
    fields = vars(record)  # asking a model for a field that it lacks costs more than reading a small record
    fleet_id, site_id = fields.get("fleet_id"), fields.get("site_id")
    if site_id is not None:
        fleet_of_site = fleet_file.fleet_of(site_id)
        if fleet_of_site is None:
            return Rejected("unknown_site", f"site {site_id!r} is not in the fleet file")
        if fleet_id is not None and fleet_id != fleet_of_site:
            return Rejected("unknown_site", f"site {site_id!r} is not in fleet {fleet_id!r}")
    elif fleet_id is not None and fleet_file.fleet(fleet_id) is None:
        return Rejected("unknown_fleet", f"fleet {fleet_id!r} is not in the fleet file")
    return None


def from_the_future(observed_at: datetime, appended_at: datetime, tolerance_seconds: float) -> Rejected | None:
    """Why a record stamped ahead of its append time can't be taken: one bad clock would close every window."""
    ahead_seconds = (observed_at - appended_at).total_seconds()
    if ahead_seconds <= tolerance_seconds:
        return None
    return Rejected(
        "future", f"observed_at is {ahead_seconds:.0f} s ahead of its arrival, at most {tolerance_seconds:g}"
    )


def dead_letter_headers(reject: Reject, topic: str, partition: int) -> list[tuple[str, bytes]]:
    """Headers of a dead letter: why, and where the message stood."""
    cut = reject.value is not None and len(reject.value) > MAX_RECORD_BYTES
    return [
        ("reason", reject.rejected.reason.encode()),
        ("detail", reject.rejected.detail.encode()),
        ("topic", topic.encode()),
        ("partition", str(partition).encode()),
        ("offset", str(reject.offset).encode()),
        ("timestamp-ms", str(reject.timestamp_ms).encode()),
        *([("cut-from-bytes", str(len(reject.value or b"")).encode())] if cut else []),
    ]
