"""The one seam between Faust and us: whole fetched batches in, explicit positions out.

Faust stays the engine: group membership, rebalances, flow control, backpressure and the commit's timing are its
own. Three things are different here, each because of a measured fault or cost:

- `getmany` yields one message a partition and fetch, with the fetched records as its value. Faust's cost is per
  message (two tasks, an event, a queue, a stream step), not per record.
- A position is committed because a stage said that all before it is out (`BatchConsumer.mark_out`), not because
  messages were acknowledged: Faust's list of acks loses a record when the first of a gap is the missing one, and
  acknowledges messages that it skips after a rebalance.
- Partitions are assigned by range, so that one worker holds the same partition number of every topic of a stage.
  Without tables Faust assigns them round robin, topic by topic.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiokafka
import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from infra.bus import client_options
from infra.settings import Settings
from schemas.catalog import MAX_MESSAGE_BYTES, prefixed


@dataclass(frozen=True, slots=True)
class Batch:
    """What one fetch brought of one partition, oldest record first; never empty."""

    topic: str
    partition: int
    generation: int
    records: list[ConsumerRecord]

    @property
    def next_offset(self) -> int:
        """The position after the batch."""
        last: int = self.records[-1].offset
        return last + 1


class BatchConsumer(driver.Consumer):
    """Faust's consumer, delivering batches and committing what stages say is out."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._out: dict[TP, int] = {}

    def mark_out(self, batch: Batch, position: int) -> None:
        """All that records before `position` led to is durable elsewhere: the position may be committed.

        Said of an assignment that is no longer ours, it changes nothing.
        """
        if batch.generation == self.app.consumer_generation_id:
            self._out[TP(batch.topic, batch.partition)] = position

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        for place in revoked:
            self._out.pop(place, None)
        await super().on_partitions_revoked(revoked)

    async def getmany(  # Faust calls it
        self,
        timeout: float,  # noqa: ASYNC109
    ) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        fetched, active = await self._wait_next_records(timeout)
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            # What was fetched while a rebalance stopped the flow is read again from the committed position.
            await self.perform_seek()
            return
        generation = self.app.consumer_generation_id
        for place, records in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if records and (active is None or place in active or place in self._buffered_partitions):
                self.app.monitor.track_tp_end_offset(place, self.highwater(place))
                yield place, self._message(place, generation, records)

    def _message(self, place: TP, generation: int, records: list[ConsumerRecord]) -> ConsumerMessage:
        first = records[0]
        return ConsumerMessage(
            first.topic,
            first.partition,
            first.offset,
            first.timestamp / 1000 if first.timestamp else None,
            first.timestamp_type,
            None,
            None,
            Batch(first.topic, first.partition, generation, records),
            None,
            None,
            None,
            place,
            generation_id=generation,
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Between the first offsets of two batches lies the first batch, not a gap."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (place for place in list(self._out) if topics is None or place in topics or place.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._out.get(tp)

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        settings: Settings = self.app.gridtide_settings
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            **client_options(settings),
            group_id=conf.id,
            client_id=conf.id,
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=settings.max_poll_records,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
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
        single = settings.single_record_batches
        super().__init__(
            prefixed(f"gridtide.{stage}", settings.run_id),
            broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=settings.session_timeout_seconds / 4,
            broker_rebalance_timeout=settings.session_timeout_seconds * 2,
            broker_request_timeout=max(40.0, settings.session_timeout_seconds * 2),
            broker_commit_interval=settings.commit_interval_seconds,
            producer_acks=-1,
            producer_linger=0.0 if single else settings.linger_ms / 1000,
            producer_max_batch_size=1 if single else 64 * 1024,
            producer_max_request_size=MAX_MESSAGE_BYTES,
            store="memory://",
            stream_buffer_maxsize=16,
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
