"""Apache Kafka from the Maven repository: what it acknowledged outlives kill -9."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.embedded.errors import EmbeddedError
from infra.kafka.local import LocalKafka

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    if reason := LocalKafka.missing():
        pytest.skip(reason)
    with LocalKafka() as broker:
        yield broker


async def create(kafka: LocalKafka, topic: str, configs: dict[str, str] | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs or {})])
    finally:
        await admin.close()


async def produce(kafka: LocalKafka, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(kafka: LocalKafka, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(20):
        return [(await consumer.getone()).value for _ in range(count)]


async def test_what_is_produced_is_consumed(kafka: LocalKafka) -> None:
    await create(kafka, "gridtide.plain.v1")
    await produce(kafka, "gridtide.plain.v1", [b"one", b"two"])
    assert await consume(kafka, "gridtide.plain.v1", 2) == [b"one", b"two"]


async def test_takes_the_settings_of_a_compacted_topic(kafka: LocalKafka) -> None:
    topic = "gridtide.compacted.v1"
    await create(kafka, topic, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"})
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        await admin.close()
    settings = {name: value for name, value, *_ in answers[0].resources[0][4]}
    assert settings["cleanup.policy"] == "compact"
    assert settings["min.cleanable.dirty.ratio"] == "0.01"


async def test_kill_and_restart_keep_acknowledged_records(kafka: LocalKafka) -> None:
    await create(kafka, "gridtide.kept.v1")
    await produce(kafka, "gridtide.kept.v1", [b"before"])
    before = kafka.bootstrap_servers
    kafka.kill()
    assert not kafka.running
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", kafka.port), timeout=1).close()
    await asyncio.to_thread(kafka.start)
    assert kafka.bootstrap_servers == before
    await produce(kafka, "gridtide.kept.v1", [b"after"])
    assert await consume(kafka, "gridtide.kept.v1", 2) == [b"before", b"after"]


async def test_a_transaction_is_seen_only_when_committed(kafka: LocalKafka) -> None:
    """What the embedded broker can't do, and the reason to have this one."""
    await create(kafka, "gridtide.atomic.v1")
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id="gridtide-test"
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait("gridtide.atomic.v1", b"aborted")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait("gridtide.atomic.v1", b"committed")
    consumer = AIOKafkaConsumer(
        "gridtide.atomic.v1",
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with consumer, asyncio.timeout(20):
        assert (await consumer.getone()).value == b"committed"


def test_a_taken_port_is_one_clear_error(kafka: LocalKafka) -> None:
    """The broker that has it would answer for the one that can't start."""
    second = LocalKafka(port=kafka.port)
    with pytest.raises(EmbeddedError, match=f"port {kafka.port} is taken"):
        second.start()
    assert not second.running


def test_a_broker_that_ends_while_starting_shows_its_log(kafka: LocalKafka, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text("version=1\ncluster.id=other\nnode.id=7\n")
    broken = LocalKafka(tmp_path)
    with pytest.raises(EmbeddedError, match=r"(?s)ended while starting.*node.id"):
        broken.start()
    assert not broken.running
