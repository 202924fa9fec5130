"""Which of the fetched records are new, and which the broker had deleted before they were read."""

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from infra import metrics
from streams.engine import BatchConsumer

PLACE = TP("gpu.telemetry.v1", 0)


def consumer(earliest: int, delivered: int | None = None, committed: int | None = None) -> BatchConsumer:
    """A consumer that has come so far in the place, on a broker whose log begins at `earliest`."""
    made = BatchConsumer.__new__(BatchConsumer)

    async def earliest_offsets(*places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, earliest)

    made.app = SimpleNamespace(gridtide_stage="unit")
    made.delivered = {} if delivered is None else {PLACE: delivered}
    made._committed_offset = {PLACE: committed}
    made.earliest_offsets = earliest_offsets
    return made


def records(*offsets: int) -> list[Any]:
    """Fetched records at these offsets."""
    return [SimpleNamespace(offset=offset) for offset in offsets]


def skipped() -> float:
    """How many offsets have been counted as expired."""
    return float(metrics.OFFSETS_SKIPPED.labels("unit", PLACE.topic)._value.get())


async def _new(made: BatchConsumer, fetched: list[Any]) -> tuple[list[int], float]:
    before = skipped()
    return [record.offset for record in await made._new(PLACE, fetched)], skipped() - before


async def test_new_leaves_out_what_was_delivered_before() -> None:
    assert await _new(consumer(0, delivered=5), records(3, 4, 5, 6)) == ([5, 6], 0)


async def test_new_takes_all_where_nothing_is_known() -> None:
    assert await _new(consumer(7), records(7, 8)) == ([7, 8], 0)


@pytest.mark.parametrize("known", [{"delivered": 5}, {"committed": 5}])
async def test_new_counts_what_the_broker_had_deleted_unread(known: dict[str, int]) -> None:
    assert await _new(consumer(9, **known), records(9, 10)) == ([9, 10], 4)


async def test_new_counts_no_gap_that_compaction_or_a_transaction_left() -> None:
    assert await _new(consumer(0, delivered=5), records(9, 10)) == ([9, 10], 0)
