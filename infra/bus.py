"""The bus: how to reach Kafka, the topics, producers, and which partition a key lies in."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2

from infra.settings import ConfigurationError, Settings
from schemas.catalog import MAX_MESSAGE_BYTES, Topic, prefixed

# A busy cluster needs some seconds to elect the leaders of a hundred new partitions.
_LEADERS_SECONDS = 60.0

# The newest segment is never compacted: with Kafka's default of a week, a memory topic would be read back whole.
_COMPACTED_SEGMENT_SECONDS = 600


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a raw key: murmur2, as Kafka's own clients have it (librdkafka's default differs)."""
    number: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return number


def client_options(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client needs to reach the brokers, SASL and TLS included.

    Raises:
        ConfigurationError: a certificate file can't be read, or SASL lacks a name or a password.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
    }
    if "SSL" in settings.security_protocol:
        options["ssl_context"] = ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        if not settings.sasl_username or not settings.sasl_password:
            raise ConfigurationError(
                f"GRIDTIDE_SASL_USERNAME and GRIDTIDE_SASL_PASSWORD: {settings.security_protocol} needs both"
            )
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return options


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """The TLS context of the settings' certificate files.

    Raises:
        ConfigurationError: one of them can't be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_certificate_file:
            context.load_cert_chain(settings.ssl_certificate_file, settings.ssl_key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"TLS files of the broker: {error}") from error
    return context


async def start_producer(settings: Settings) -> AIOKafkaProducer:
    """A started producer that is told of every record's fate by all replicas.

    Raises:
        ConfigurationError: no broker answers.
    """
    batch_bytes = 1 if settings.single_record_batches else 64 * 1024
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        linger_ms=0 if settings.single_record_batches else settings.linger_ms,
        compression_type=compression(settings),
        max_batch_size=batch_bytes,
        max_request_size=MAX_MESSAGE_BYTES,
    )
    try:
        with _mute.during_a_start():
            await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise unreachable(settings) from error
    return producer


def compression(settings: Settings) -> str | None:
    """How record batches are compressed: frames shrink to a half for a few microseconds.

    Not lz4: aiokafka asks for its slowest level, a hundred microseconds for a frame of 64 GPUs. Batches of one record,
    for the embedded broker, gain nothing.
    """
    return None if settings.single_record_batches else "snappy"


async def start_consumer(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    """A started consumer without a group; the caller assigns its partitions.

    Raises:
        ConfigurationError: no broker answers.
    """
    consumer = AIOKafkaConsumer(
        **client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest", **options
    )
    try:
        with _mute.during_a_start():
            await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        raise unreachable(settings) from error
    return consumer


class _Mute:
    """The client logs every refused connection as an error; at a start our one line says it.

    Starts overlap: whoever comes first mutes, and the last one to end brings back what was before.
    """

    def __init__(self) -> None:
        self._starting = 0
        self._level = logging.NOTSET

    @contextmanager
    def during_a_start(self) -> Iterator[None]:
        logger = logging.getLogger("aiokafka")
        if not self._starting:
            self._level = logger.level
            logger.setLevel(logging.CRITICAL)
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1
            if not self._starting:
                logger.setLevel(self._level)


_mute = _Mute()


def unreachable(settings: Settings) -> ConfigurationError:
    """The one line that says that no broker answers."""
    return ConfigurationError(f"no Kafka broker answers at {settings.bootstrap_servers}")


async def create_topics(settings: Settings, topics: Iterable[Topic], private: Iterable[str]) -> list[str]:
    """Creates what is missing of the topics, their dead-letter topics and the stages' private topics.

    Returns:
        the names created; every one can be used when this returns.

    Raises:
        ConfigurationError: no broker answers, or it refuses.
    """
    wanted = [*_public(settings, topics), *(_private(settings, name) for name in private)]
    async with _admin(settings) as admin:
        there = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in there]
        if missing:
            response = await admin.create_topics(missing)
            for name, code, *_ in response.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise ConfigurationError(f"can't create topic {name}: {for_code(code).__name__}")
            await _until_led(admin, [topic.name for topic in missing], settings.partitions)
    return [topic.name for topic in missing]


async def _until_led(admin: AIOKafkaAdminClient, names: list[str], partitions: int) -> None:
    """Brokers answer before the leaders of new partitions are elected."""
    try:
        async with asyncio.timeout(_LEADERS_SECONDS):
            while any(count < partitions for count in (await _partitions_led(admin, names)).values()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # no event tells of it
    except TimeoutError:
        raise ConfigurationError(f"the new topics have no leaders after {_LEADERS_SECONDS:g} s") from None


def _public(settings: Settings, topics: Iterable[Topic]) -> Iterable[NewTopic]:
    for topic in topics:
        policy = "compact,delete" if topic.compacted else "delete"
        yield _new(settings, topic.on_bus(settings.run_id), policy, topic.retention_seconds)
        yield _new(settings, prefixed(topic.dlq, settings.run_id), "delete", 14 * 24 * 3600)


def _private(settings: Settings, name: str) -> NewTopic:
    return _new(settings, prefixed(name, settings.run_id), "compact", None)


def _new(settings: Settings, name: str, cleanup_policy: str, retention_seconds: int | None) -> NewTopic:
    configs = {"cleanup.policy": cleanup_policy, "max.message.bytes": str(MAX_MESSAGE_BYTES + 4096)}
    if cleanup_policy == "compact":
        configs["segment.ms"] = str(_COMPACTED_SEGMENT_SECONDS * 1000)
    if retention_seconds:
        configs["retention.ms"] = str(retention_seconds * 1000)
    return NewTopic(name, settings.partitions, settings.replication_factor, topic_configs=configs)


async def check_topics(settings: Settings, names: Iterable[str]) -> None:
    """Makes sure, before a stage starts, that the broker answers and that the topics are there as they should be.

    Raises:
        ConfigurationError: no broker answers, or a topic is missing or has another number of partitions.
    """
    async with _admin(settings) as admin:
        partitions = await _partitions_led(admin, names)
    for name, count in partitions.items():
        if count == 0:
            raise ConfigurationError(f"topic {name} is missing: run `gridtide topics`")
        if count != settings.partitions:
            raise ConfigurationError(
                f"topic {name} has {count} partitions, GRIDTIDE_PARTITIONS says {settings.partitions}: "
                "topics that are read together need one number"
            )


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; what the brokers refuse or leave unanswered becomes one line."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        with _mute.during_a_start():
            await admin.start()
    except KafkaError as error:
        await admin.close()
        raise unreachable(settings) from error
    try:
        yield admin
    except KafkaError as error:
        raise ConfigurationError(f"the broker at {settings.bootstrap_servers} refuses: {error}") from error
    finally:
        await admin.close()


async def _partitions_led(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """How many partitions of each topic have a leader, and so can be used; 0 for a topic that is not there."""
    described = await admin.describe_topics(list(names))
    return {
        topic["topic"]: sum(part["leader"] >= 0 for part in topic["partitions"]) if not topic["error_code"] else 0
        for topic in described
    }
