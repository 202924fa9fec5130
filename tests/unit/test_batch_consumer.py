"""Which of the fetched records are new, and which the broker had deleted before they were read."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from infra import metrics
from streams.engine import BatchConsumer, _ConsumerThread

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


async def test_rewind_leaves_alone_what_a_second_rebalance_took_meanwhile() -> None:
    stays, goes, fresh = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("t", 2)
    assigned, sought = {stays, goes, fresh}, dict[TopicPartition, int | str]()

    async def committed(place: TopicPartition) -> int | None:
        assigned.discard(goes)  # while the broker is asked
        return None if place == fresh else 7

    async def seek_to_beginning(*places: TopicPartition) -> None:
        sought.update(dict.fromkeys(places, "beginning"))

    thread = _ConsumerThread.__new__(_ConsumerThread)
    thread._consumer = SimpleNamespace(
        assignment=lambda: frozenset(assigned),
        committed=committed,
        seek=sought.__setitem__,
        seek_to_beginning=seek_to_beginning,
    )
    assert await thread._rewind() == {TP("t", 0): 7, TP("t", 2): None}
    assert sought == {stays: 7, fresh: "beginning"}


async def test_has_room_waits_while_every_buffer_is_full() -> None:
    made = BatchConsumer.__new__(BatchConsumer)
    full = {PLACE}

    async def wait_first(room: Any, suspended: Any, **_: Any) -> None:
        suspended.close()
        await room

    made.flow_active = True
    made._buffered_partitions = full
    made._room = asyncio.Event()
    made._get_active_partitions = lambda: {PLACE} - full
    made.suspend_flow = asyncio.Event()
    made.wait_first = wait_first
    waiting = asyncio.create_task(made._has_room(60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    full.clear()
    made._room.set()
    assert await waiting
