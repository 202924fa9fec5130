"""A dead letter as it stands on the bus, read for the history. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.catalog import BY_NAME, DLQ_SUFFIX, prefixed
from streams.record.rows import DeadLetter


def dead_letter_of(
    headers: Sequence[tuple[str, bytes]], key: bytes | None, value: bytes | None, run_id: str
) -> DeadLetter | None:
    """The dead letter that a message of a `.dlq` topic is; None if its headers are not those of one."""
    said = {name: content.decode(errors="replace") for name, content in headers}
    try:
        timestamp_seconds = int(said["timestamp-ms"]) / 1000
        return DeadLetter(
            arrived_at=datetime.fromtimestamp(timestamp_seconds, UTC),
            topic=next(name for name in BY_NAME if prefixed(name, run_id) == said["topic"]),
            partition_id=_within(int(said["partition"]), 2**31),
            message_offset=_within(int(said["offset"]), 2**63),
            run_id=run_id,
            reason=said["reason"],
            detail=said["detail"],
            message_key=key,
            message=value,
        )
    except (KeyError, ValueError, OverflowError, StopIteration):
        return None


def _within(number: int, limit: int) -> int:
    if not 0 <= number < limit:
        raise ValueError(f"{number} is no place in a topic")
    return number


def dead_letter_topic(name: str) -> str:
    """The dead-letter topic of a topic."""
    return name + DLQ_SUFFIX
