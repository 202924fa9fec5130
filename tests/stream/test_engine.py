"""What the engine changes in Faust and aiokafka, each against the fault that it is there for. In this process."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faust.types import TP

from infra.clock import Clock
from schemas.catalog import GPU_TELEMETRY, INFERENCE_REQUESTS, prefixed
from streams import memory, watchdog
from streams.engine import BUFFERED_BATCHES, Batch, BatchConsumer, StageApp
from streams.stage import Stage
from streams.watchdog import StalledError
from tests.stream.rig import PARTITIONS, PATIENCE_SECONDS, Rig, on_kafka_when_drilled, rig_on

Broker = tuple[str, str]
TOPIC = GPU_TELEMETRY.name


@dataclass
class Probe:
    """A stage that writes down what it is given, and can be made to wait."""

    stage: Stage
    seen: list[Batch] = field(default_factory=list)
    held_back: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def consume(self, stream: AsyncIterable[Batch]) -> None:
        """The agent."""
        async for batch in stream:
            self.held_back.set()
            await self.go_on.wait()
            self.held_back.clear()
            self.seen.append(batch)

    @property
    def consumer(self) -> BatchConsumer:
        """The stage's consumer."""
        consumer: BatchConsumer = self.stage.app.consumer
        return consumer

    def values(self, assignment: int | None = None) -> list[bytes]:
        """What was delivered, in order; of one assignment, if it is named."""
        batches = [batch for batch in self.seen if assignment in (None, batch.assignment)]
        return sorted(record.value for batch in batches for record in batch.records)


async def drop(stream: AsyncIterable[Batch]) -> None:
    """An agent that never has much to do."""
    async for _ in stream:
        pass


@asynccontextmanager
async def probing(
    rig: Rig, held_back: bool = False, stage: str = "probe", beside: str = "", **settings: object
) -> AsyncIterator[Probe]:
    """A probe that reads the run's telemetry topic in the group of `stage`."""
    changed = rig.settings.model_copy(update={"stall_seconds": 1.0, **settings})
    probe = Probe(Stage(stage, StageApp(stage, changed), changed, Clock(), rig.fleet_file))
    if not held_back:
        probe.go_on.set()
    probe.stage.agent(TOPIC, probe.consume)
    if beside:
        probe.stage.agent(beside, drop)
    await probe.stage.app.start()
    try:
        yield probe
    finally:
        probe.go_on.set()
        await probe.stage.app.stop()


async def put(rig: Rig, first: int, last: int, size_bytes: int = 1) -> list[bytes]:
    """Puts numbered messages on every partition; returns them."""
    sent = [f"{partition}-{number}-".encode() for number in range(first, last) for partition in range(PARTITIONS)]
    for value in sent:
        await rig.put(TOPIC, b"key", value + b"x" * size_bytes, int(value.split(b"-")[0]))
    return sorted(value + b"x" * size_bytes for value in sent)


async def until(rig: Rig, probe: Probe, wanted: list[bytes]) -> None:
    """Waits until the probe was given all of `wanted`."""
    await rig.until(f"{len(wanted)} messages", lambda: len(probe.values()) >= len(wanted))


async def full(rig: Rig, probe: Probe) -> None:
    """Waits until a probe that is held back is given no more."""
    looks: list[int] = []

    def steady() -> bool:
        looks.append(sum(probe.consumer.delivered.values()))
        return len(looks) > 2 and looks[-1] == looks[-2] == looks[-3]

    await rig.until("full buffers", steady)


@on_kafka_when_drilled
async def test_perform_seek_begins_anew_where_nothing_is_committed(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig) as probe:
        sent = await put(rig, 0, 5)
        await until(rig, probe, sent)
        probe.seen.clear()
        probe.consumer._begin_assignment()
        await probe.consumer.perform_seek()
        await until(rig, probe, sent)
        assert probe.values(probe.consumer.assignment_number) == sent


async def test_perform_seek_goes_back_to_what_is_marked_out_and_committed(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig) as probe:
        sent = await put(rig, 0, 5)
        await until(rig, probe, sent)
        for batch in probe.seen:
            probe.stage.mark_out(batch, min(3, batch.next_offset))
        probe.seen.clear()
        assert await probe.consumer.commit()
        probe.consumer._begin_assignment()
        await probe.consumer.perform_seek()
        after = [value for value in sent if int(value.split(b"-")[1]) >= 3]
        await until(rig, probe, after)
        assert probe.values() == after


@on_kafka_when_drilled
async def test_a_fetch_that_a_rebalance_overtook_is_read_again(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig) as probe:
        sent = await put(rig, 0, 3)
        await until(rig, probe, sent)
        probe.seen.clear()
        consumer, fetch = probe.consumer, probe.consumer._wait_next_records
        entered = asyncio.Event()
        overtaken: list[object] = []

        async def overtake(timeout: float) -> object:  # noqa: ASYNC109 - as Faust calls it
            entered.set()
            fetched, active = await fetch(timeout)
            if fetched and not overtaken:
                overtaken.append(fetched)
                consumer._begin_assignment()
            return fetched, active

        consumer._wait_next_records = overtake
        await asyncio.wait_for(entered.wait(), PATIENCE_SECONDS)
        sent += await put(rig, 3, 6)
        await until(rig, probe, sent)
        assert overtaken
        assert probe.values(consumer.assignment_number) == sorted(sent)


@on_kafka_when_drilled
async def test_a_record_is_delivered_once_in_an_assignment(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig) as probe:
        sent = await put(rig, 0, 3)
        await until(rig, probe, sent)
        await probe.consumer.perform_seek()  # to the beginning, within the assignment
        sent += await put(rig, 3, 6)
        await until(rig, probe, sent)
        assert probe.values() == sorted(sent)


@on_kafka_when_drilled
async def test_an_agent_that_waits_holds_back_the_fetcher_and_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    beside = INFERENCE_REQUESTS.name
    async with (
        rig_on(broker, tmp_path) as rig,
        probing(rig, held_back=True, max_poll_records=2, beside=beside) as probe,
    ):
        sent = await put(rig, 0, 60)
        await asyncio.wait_for(probe.held_back.wait(), PATIENCE_SECONDS)
        await full(rig, probe)
        # Its neighbour's records wait as well, behind the one fetcher of the stage, and its neighbour is idle.
        await rig.put(beside, b"key", b"x", 0)
        assert not await watchdog._due(probe.stage), "an agent at work is no stall"
        delivered = [end for place, end in probe.consumer.delivered.items() if place.topic.endswith(TOPIC)]
        assert sum(delivered) <= 2 * (BUFFERED_BATCHES + PARTITIONS + 1)
        probe.go_on.set()
        await until(rig, probe, sent)
        assert probe.values() == sent


async def test_a_consumer_held_back_for_long_still_joins_a_rebalance(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig, held_back=True, max_poll_records=2) as probe:
        await put(rig, 0, 60)
        await asyncio.wait_for(probe.held_back.wait(), PATIENCE_SECONDS)
        await full(rig, probe)
        # As after hours without a fetch.
        probe.consumer._thread._consumer._subscription._last_fetch_ended -= 86_400
        async with probing(rig) as second:
            await rig.until("partitions for both", lambda: 0 < len(second.consumer.assignment()) < PARTITIONS)
            probe.go_on.set()


@on_kafka_when_drilled
async def test_watchdog_ends_a_stage_whose_consumer_stands_still(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig) as probe:
        sent = await put(rig, 0, 3)
        await until(rig, probe, sent)
        # What Faust does when a rebalance goes wrong: the flow stops, and nobody starts it again.
        probe.consumer.stop_flow()
        await put(rig, 3, 6)
        watching = asyncio.create_task(watchdog.watch(probe.stage))
        with pytest.raises(StalledError, match=r"records wait in .*gpu.telemetry.v1\[\d\] and none was read"):
            await asyncio.wait_for(watching, PATIENCE_SECONDS)


async def test_a_member_with_a_name_comes_back_without_a_rebalance(broker: Broker, tmp_path: Path) -> None:
    if broker[0] == "embedded":
        pytest.skip("the embedded broker: named members that were killed don't always get their partitions back")
    # Longer than a killed process takes to start again.
    async with rig_on(broker, tmp_path, session_timeout_seconds=30.0) as rig:
        (goes,) = rig.start("aggregate", member_name="comes-back")
        async with probing(rig, stage="aggregate", member_name="stays") as stays:
            await rig.until("partitions for both", lambda: 0 < len(stays.consumer.assignment()) < PARTITIONS)
            before = stays.consumer.assignment_number
            goes.kill()
            rig.start("aggregate", member_name="comes-back")
            sent = await put(rig, 0, 3)  # no frames: the real stage puts them on the dead-letter topic
            refused = rig.seen[GPU_TELEMETRY.dlq]
            await rig.until(
                "all messages", lambda: sorted(stays.values() + [letter.value for letter in refused]) == sent
            )
            assert refused
            assert stays.consumer.assignment_number == before


async def test_a_member_with_a_name_that_is_told_to_stop_leaves_its_group(broker: Broker, tmp_path: Path) -> None:
    if broker[0] == "embedded":
        pytest.skip("the embedded broker: no named members there")
    # Longer than anybody waits here: who only fell silent would keep its partitions.
    session_seconds = 2 * PATIENCE_SECONDS
    async with (
        rig_on(broker, tmp_path, session_timeout_seconds=session_seconds) as rig,
        probing(rig, member_name="stays") as stays,
    ):
        async with probing(rig, member_name="goes"):
            await rig.until("partitions for both", lambda: 0 < len(stays.consumer.assignment()) < PARTITIONS)
        await rig.until("all partitions", lambda: len(stays.consumer.assignment()) == PARTITIONS)


async def test_one_worker_holds_the_same_partitions_of_every_topic(broker: Broker, tmp_path: Path) -> None:
    beside = INFERENCE_REQUESTS.name

    def share(probe: Probe, name: str) -> set[int]:
        on_bus = prefixed(name, probe.stage.settings.run_id)
        return {place.partition for place in probe.consumer.assignment() if place.topic == on_bus}

    async with rig_on(broker, tmp_path) as rig, probing(rig, beside=beside) as one, probing(rig, beside=beside) as two:
        await rig.until(
            "partitions for both", lambda: all(0 < len(share(probe, TOPIC)) < PARTITIONS for probe in (one, two))
        )
        assert share(one, TOPIC) == share(one, beside)
        assert share(two, TOPIC) == share(two, beside)


async def test_memory_is_the_word_of_whoever_had_read_furthest(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig) as probe:
        name = "aggregate.memory.v1"
        first = await memory.opened(probe.stage, name, 0)
        await first.remember([("a", b"1"), ("b", b"1")], 10)
        second = await memory.opened(probe.stage, name, 0)
        assert second.found == {"a": b"1", "b": b"1"}
        await second.remember([("a", b"2")], 20)
        await first.remember([("a", b"late word"), ("b", b"3")], 15)
        await probe.stage.write(name, 0, [(b"c", b"not a word of a stage", [])])
        assert (await memory.opened(probe.stage, name, 0)).found == {"a": b"2", "b": b"3"}


@on_kafka_when_drilled
async def test_mark_out_of_an_earlier_assignment_commits_nothing(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig, probing(rig) as probe:
        await until(rig, probe, await put(rig, 0, 3))
        batch = probe.seen[0]
        probe.consumer._begin_assignment()
        probe.stage.mark_out(batch)
        assert probe.consumer._new_offset(TP(prefixed(TOPIC, rig.run_id), batch.partition)) is None
