"""The one seam between Faust and us: whole fetched batches in, explicit positions out.

Faust stays the engine: group membership, rebalances, flow control, backpressure and the commit's timing are its
own. What is different here is so because of a measured fault or cost; tests/stream/test_engine.py has the tests:

- `getmany` yields one message a partition and fetch, with the fetched records as its value. Faust's cost is per
  message (two tasks, an event, a queue, a stream step), not per record.
- A position is committed because a stage said that all before it is out (`BatchConsumer.mark_out`), not because
  messages were acknowledged: Faust's list of acks loses a record when the first of a gap is the missing one, and
  acknowledges messages that it skips after a rebalance.
- A seek to the committed position goes to the beginning where nothing is committed. aiokafka's leaves the position
  where it is: what a rebalance interrupted before the first commit would be lost.
- A fetch that a rebalance overtook is read again, and a record is delivered once in an assignment.
- When every partition's buffer is full the fetcher waits for room. Faust's sleeps for a second.
- A consumer that its own backpressure keeps from fetching stays in its group. aiokafka takes one that has not
  fetched for five minutes for dead and never joins again, while Faust fetches nothing until it has joined.
- Faust's check for stalls, which only logs, crashes the worker when it meets a seek under way: it is left out, and
  `streams.watchdog` takes its place.
- Partitions are assigned by range, so that one worker holds the same partition number of every topic of a stage.
  Without tables Faust assigns them round robin, topic by topic.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiokafka
import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from infra import metrics
from infra.bus import client_options, compression
from infra.settings import Settings
from schemas.catalog import MAX_MESSAGE_BYTES, prefixed

# Enough that an agent never waits for the next fetch. What a stage holds unread is so many fetches a topic, one in the
# agent's hand, and what the client has fetched ahead of each partition.
BUFFERED_BATCHES = 8
_FOREVER_MS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """What one fetch brought of one partition, oldest record first; never empty.

    `assignment` numbers this worker's assignments: what was read under one is void under the next.
    """

    topic: str
    partition: int
    assignment: int
    records: list[ConsumerRecord]

    @property
    def next_offset(self) -> int:
        """The position after the batch."""
        last: int = self.records[-1].offset
        return last + 1

    def without_records(self) -> "Batch":
        """The batch for whoever needs to know where it ended, and not what was in it."""
        return replace(self, records=self.records[-1:])

    def parts(self, at_most_bytes: int) -> Iterator["Batch"]:
        """The batch in pieces whose values have so many bytes, or one record: for work that pays to stay in cache."""
        first, held_bytes = 0, 0
        for number, record in enumerate(self.records):
            record_bytes = len(record.value or b"")
            if number > first and held_bytes + record_bytes > at_most_bytes:
                yield replace(self, records=self.records[first:number])
                first, held_bytes = number, 0
            held_bytes += record_bytes
        yield replace(self, records=self.records[first:])


class BatchConsumer(driver.Consumer):
    """Faust's consumer, delivering batches and committing what stages say is out."""

    assignment_number: int = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delivered: dict[TP, int] = {}  # the position after what was delivered in this assignment
        self._out: dict[TP, int] = {}
        self._room = asyncio.Event()

    def position_of(self, place: TP) -> int:
        """The position after what was delivered of an assigned partition, or from which it is to be read."""
        return int(self.delivered.get(place) or self._committed_offset.get(place) or 0)

    def mark_out(self, batch: Batch, position: int) -> None:
        """All that records before `position` led to is durable elsewhere: the position may be committed.

        Said of an assignment that is no longer ours, it changes nothing.
        """
        if batch.assignment == self.assignment_number:
            self._out[TP(batch.topic, batch.partition)] = position

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        # Whoever is next has less to read again.
        await self.commit()
        self._begin_assignment()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._begin_assignment()
        await super().on_partitions_assigned(assigned, generation_id)

    def _begin_assignment(self) -> None:
        self.assignment_number += 1
        self.delivered.clear()
        self._out.clear()

    async def perform_seek(self) -> None:
        """Every assigned partition is read from its committed position, or from the beginning if it has none."""
        committed = await self._thread.rewind()
        self._read_offset.update(committed)
        self._committed_offset.update({place: offset for place, offset in committed.items() if offset is not None})

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._room.set()

    async def getmany(  # Faust calls it
        self,
        timeout: float,  # noqa: ASYNC109
    ) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        number = self.assignment_number
        if not await self._has_room(timeout):
            return
        fetched, active = await self._wait_next_records(timeout)
        if fetched is None or self.should_stop:
            return
        if not self.flow_active or self.assignment_number != number:
            await self.perform_seek()
            return
        for place, records in fetched.items():
            new = await self._new(place, records)
            # Looked at after the last await: what was read under one assignment is never said to be of the next.
            if not self.flow_active or self.assignment_number != number:
                return
            if new and (active is None or place in active or place in self._buffered_partitions):
                self.app.monitor.track_tp_end_offset(place, self.highwater(place))
                self.delivered[place] = new[-1].offset + 1
                yield place, self._message(place, new)

    async def _has_room(self, timeout_seconds: float) -> bool:
        """Waits for room in the buffers, if every partition's is full."""
        if not (self.flow_active and self._buffered_partitions and not self._get_active_partitions()):
            return True
        self._room.clear()
        await self.wait_first(self._room.wait(), self.suspend_flow.wait(), timeout=timeout_seconds)
        return bool(self._get_active_partitions())

    async def _new(self, place: TP, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """The records without those delivered before; what the broker had deleted unread is counted."""
        expected = self.delivered.get(place, self._committed_offset.get(place))
        if expected is None or not records or records[0].offset == expected:
            return records
        if records[0].offset > expected:
            # Compaction and transactions leave gaps as well; those lie behind the log's first offset.
            first = (await self.earliest_offsets(place)).get(place, 0)
            metrics.OFFSETS_SKIPPED.labels(self.app.gridtide_stage, place.topic).inc(max(0, first - expected))
            return records
        return [record for record in records if record.offset >= expected]

    def _message(self, place: TP, records: list[ConsumerRecord]) -> ConsumerMessage:
        first = records[0]
        return ConsumerMessage(
            first.topic,
            first.partition,
            first.offset,
            first.timestamp / 1000 if first.timestamp else None,
            first.timestamp_type,
            None,
            None,
            Batch(first.topic, first.partition, self.assignment_number, records),
            None,
            None,
            None,
            place,
            generation_id=self.app.consumer_generation_id,
        )

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: `streams.watchdog` sees what stands still. Faust's only logs, and breaks on a seek under way."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Between the first offsets of two batches lies the first batch, not a gap."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (place for place in list(self._out) if topics is None or place in topics or place.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._out.get(tp)

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    async def rewind(self) -> dict[TP, int | None]:
        """Seeks every assigned partition to its committed position (the beginning without one); returns those."""
        committed: dict[TP, int | None] = await self.call_thread(self._rewind)
        return committed

    async def _rewind(self) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        places = [*consumer.assignment()]
        found = dict(zip(places, await asyncio.gather(*map(consumer.committed, places)), strict=True))
        # Another rebalance may have taken some meanwhile. No await from here to the seeks.
        committed = {place: found[place] for place in consumer.assignment() if place in found}
        for place, offset in committed.items():
            if offset is not None:
                consumer.seek(place, offset)
        without = [place for place, offset in committed.items() if offset is None]
        if without:
            await consumer.seek_to_beginning(*without)
        return {TP(place.topic, place.partition): offset for place, offset in committed.items()}

    async def on_thread_stop(self) -> None:
        # A member with a name of its own stays in the group when it goes, as it may come back at once. This one has
        # been told to stop, so that others must not wait for it.
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        settings: Settings = self.app.gridtide_settings
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            **client_options(settings),
            group_id=conf.id,
            # The embedded broker sometimes gives a named member that was killed nothing when it comes back.
            group_instance_id=None if settings.single_record_batches else settings.member_name,
            client_id=conf.id,
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=settings.max_poll_records,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=_FOREVER_MS,
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            metadata_max_age_ms=60_000,
        )


class _Producer(driver.Producer):
    def _settings_auth(self) -> Mapping[str, Any]:
        return {
            name: value
            for name, value in client_options(self.app.gridtide_settings).items()
            if name != "bootstrap_servers"
        }


class _Transport(driver.Transport):
    Consumer = BatchConsumer
    Producer = _Producer


class _Untouched(faust.Schema):
    """The batch goes to the agent as it came: bytes become records in `streams.intake`, where a fault is a value."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class StageApp(faust.App):
    """A Faust app for one stage: its own consumer group, its own process."""

    def __init__(self, stage: str, settings: Settings, **options: Any) -> None:
        self.gridtide_settings = settings
        self.gridtide_stage = stage
        single = settings.single_record_batches
        super().__init__(
            prefixed(f"gridtide.{stage}", settings.run_id),
            broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=min(1.0, settings.session_timeout_seconds / 4),
            broker_rebalance_timeout=settings.session_timeout_seconds * 2,
            broker_request_timeout=max(40.0, settings.session_timeout_seconds * 2),
            broker_commit_interval=settings.commit_interval_seconds,
            producer_acks=-1,
            producer_linger=0.0 if single else settings.linger_ms / 1000,
            producer_max_batch_size=1 if single else 64 * 1024,
            producer_compression_type=compression(settings),
            producer_max_request_size=MAX_MESSAGE_BYTES,
            store="memory://",
            stream_buffer_maxsize=BUFFERED_BATCHES,
            stream_wait_empty=False,  # it waits for acknowledgements, which positions have taken the place of
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            **options,
        )

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> _Transport:
        return _Transport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Faust makes folders for tables wherever it is run; there are none."""

    def source(self, name: str) -> Any:
        """The Faust topic of that name on the bus, delivering batches untouched."""
        return self.topic(prefixed(name, self.gridtide_settings.run_id), schema=_Untouched())
