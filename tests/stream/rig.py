"""What a stream test needs: a run of its own on a broker, stages as real processes, records in and out."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord
from pydantic import SecretStr

from infra.bus import client_options, create_topics, partition_of, start_consumer, start_producer
from infra.clock import wall_now
from infra.keys import Keys
from infra.settings import DEMO_FLEET_FILE, Settings, load_fleet_file
from infra.signing import Headers, author_of
from schemas.catalog import CLOCK, TOPICS, Topic, prefixed
from schemas.clock import ClockAnchor
from schemas.envelope import Record
from schemas.fleet import FleetFile
from streams.supervise import Child, stop_all
from streams.topology import MEMORY_TOPICS

PARTITIONS = 3
PATIENCE_SECONDS = 90.0

# For what a broker has no part in: the embedded one is there wherever the tests are run.
on_one_broker = pytest.mark.parametrize("broker", ["embedded"], indirect=True, scope="session")
# For what it has little part in: `make faults` shows that it is the same on Apache Kafka.
on_kafka_when_drilled = pytest.mark.parametrize(
    "broker",
    ["embedded", pytest.param("apache-kafka", marks=pytest.mark.drill)],
    indirect=True,
    scope="session",
)


@dataclass
class Rig:
    """One run on one broker: its topics, its clock (real time), its stages."""

    settings: Settings
    fleet_file: FleetFile
    producer: AIOKafkaProducer
    folder: Path
    keys: Keys = field(init=False)
    children: list[Child] = field(default_factory=list)
    seen: defaultdict[str, list[ConsumerRecord]] = field(default_factory=lambda: defaultdict(list))
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.keys = Keys(self.settings)

    @property
    def run_id(self) -> str:
        """The run's name, which prefixes its topics and groups."""
        return self.settings.run_id

    def start(self, *stages: str, supervised: bool = False, member_name: str = "") -> list[Child]:
        """Starts stages, each a process of its own; `supervised` as `gridtide worker` does."""
        named = {"GRIDTIDE_MEMBER_NAME": member_name} if member_name else {}
        return [self._started(stage, ["worker" if supervised else "stage", stage], named) for stage in stages]

    def start_controller(self, site_id: str, state_dir: Path, plant_port: int | None = None) -> Child:
        """Starts a site's controller, which keeps its memory in a folder; without a plant it touches nothing."""
        arguments = ["controller", "--site", site_id, "--state-dir", str(state_dir)]
        if plant_port is not None:
            arguments += ["--actuator", "simulated", "--plant", f"http://127.0.0.1:{plant_port}"]
        return self._started("controller", arguments)

    def start_replay(self, *options: str) -> Child:
        """Starts `gridtide replay`, which gives the run its clock."""
        return self._started("replay", ["replay", *options])

    def _started(self, name: str, arguments: list[str], changed: Mapping[str, str] | None = None) -> Child:
        child = Child(
            name, arguments, self.environment() | dict(changed or {}), self.folder / f"{name}-{len(self.children)}.log"
        )
        child.start()
        self.children.append(child)
        return child

    def environment(self) -> dict[str, str]:
        """The settings as the environment that a process of the run gets."""
        changed = self.settings.model_copy(update={"log_level": "warning"})
        return {**changed.as_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    async def send(self, topic: Topic, records: Iterable[Record]) -> None:
        """Puts records on the bus where they belong, signed by whoever alone may say them."""
        name = topic.on_bus(self.run_id)
        sent = []
        for record in records:
            key = topic.key_of(record)
            place = partition_of(key, PARTITIONS)
            value = record.to_json()
            headers = self.signed(topic, record, value)
            sent.append(await self.producer.send(name, value, key=key, partition=place, headers=headers))
        await asyncio.gather(*sent)

    def signed(self, topic: Topic, record: Record, value: bytes) -> Headers:
        """The headers that sign a record; none where its topic is not a signed one."""
        author = author_of(topic, record)
        self.keys.make_ready(signs=[author] if author else ())
        return self.keys.sign(topic, record, value)

    async def put(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers | None = None
    ) -> ConsumerRecord:
        """Puts any bytes anywhere."""
        name = prefixed(topic, self.run_id)
        return await self.producer.send_and_wait(name, value, key=key, partition=partition, headers=headers)

    def records(self, topic: Topic) -> list[dict[str, Any]]:
        """All records of a topic seen so far, as plain JSON."""
        return [json.loads(message.value) for message in self.seen[topic.name]]

    def ends(self, topic: Topic) -> dict[int, int]:
        """The position after the newest message seen of each partition."""
        ends = dict.fromkeys(range(PARTITIONS), 0)
        for message in self.seen[topic.name]:
            ends[message.partition] = max(ends[message.partition], message.offset + 1)
        return ends

    def by_key(self, topic: Topic) -> dict[tuple[Any, ...], bytes]:
        """The bytes seen so far under each natural key, the run's name taken out, so that two runs can be compared.

        Fails if a key stands for two different records.
        """
        found: dict[tuple[Any, ...], bytes] = {}
        for message in self.seen[topic.name]:
            record = json.loads(message.value)
            key = tuple(record[name] for name in topic.natural_key if name != "run_id")
            value = message.value.replace(self.run_id.encode(), b"RUN")
            assert found.setdefault(key, value) == value, f"two records under {key}"
        return found

    async def watch(self) -> None:
        """Reads every topic of the run from its beginning into `seen`, until cancelled."""
        names = [topic.name for topic in TOPICS] + [topic.dlq for topic in TOPICS]
        on_bus = {prefixed(name, self.run_id): name for name in names}
        consumer = await start_consumer(self.settings, fetch_max_wait_ms=100)
        try:
            consumer.assign([TopicPartition(name, number) for name in on_bus for number in range(PARTITIONS)])
            await consumer.seek_to_beginning()
            while True:
                for place, messages in (await consumer.getmany(timeout_ms=500)).items():
                    self.seen[on_bus[place.topic]].extend(messages)
                async with self.news:
                    self.news.notify_all()
        finally:
            await consumer.stop()

    async def until(self, what: str, holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until `holds()`, looking whenever something was read; fails with `what` and the stages' last words."""
        try:
            # Something is read at least twice a second: conditions outside the bus are looked at then as well.
            async with asyncio.timeout(seconds), self.news:
                await self.news.wait_for(holds)
        except TimeoutError:
            said = {child.name: child.last_words() for child in self.children}
            counts = {name: len(messages) for name, messages in self.seen.items()}
            raise AssertionError(f"not within {seconds:g} s: {what}; seen {counts}; said {said}") from None

    def said(self, stage: str) -> str:
        """All that the processes of a stage have logged."""
        files = [child.log_file for child in self.children if child.name == stage]
        return "".join(file.read_text() for file in files if file and file.exists())

    async def committed(self, stage: str, topic: str) -> dict[int, int]:
        """The committed position of a stage in each partition of a topic; 0 where there is none."""
        admin = AIOKafkaAdminClient(**client_options(self.settings))
        await admin.start()
        try:
            places = [TopicPartition(prefixed(topic, self.run_id), number) for number in range(PARTITIONS)]
            group = prefixed(f"gridtide.{stage}", self.run_id)
            found = await admin.list_consumer_group_offsets(group, partitions=places)
            return {place.partition: max(0, found[place].offset) for place in places}
        finally:
            await admin.close()


@asynccontextmanager
async def rig_on(
    broker: tuple[str, str],
    folder: Path,
    dsn: str = "",
    commit_interval_seconds: float = 0.3,
    session_timeout_seconds: float = 3.0,
    clocked: bool = True,
) -> AsyncIterator[Rig]:
    """A fresh run on a broker; its processes end with it. Not `clocked`, a replay gives it its clock."""
    name, servers = broker
    settings = Settings(
        bootstrap_servers=servers,
        database_dsn=SecretStr(dsn or "postgresql://nobody@127.0.0.1:1/none"),
        fleet_file=DEMO_FLEET_FILE,
        run_id=f"t{uuid4().hex[:10]}",
        partitions=PARTITIONS,
        session_timeout_seconds=session_timeout_seconds,
        commit_interval_seconds=commit_interval_seconds,
        single_record_batches=name == "embedded",
        keys_dir=folder / "keys",
    )
    await create_topics(settings, TOPICS, MEMORY_TOPICS)
    producer = await start_producer(settings)
    rig = Rig(settings, load_fleet_file(settings.fleet_file), producer, folder)
    now = wall_now()
    watching = asyncio.create_task(rig.watch())
    try:
        if clocked:
            await rig.send(CLOCK, [ClockAnchor(run_id=settings.run_id, wall_anchor=now, replay_anchor=now, rate=1.0)])
        yield rig
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(stop_all, rig.children)
        await producer.stop()
