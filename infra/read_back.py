"""A partition read back from its beginning to its present end."""

import asyncio
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from infra.bus import start_consumer
from infra.settings import Settings

# How long the broker may keep silent while a partition is read back before that is a fault.
_SILENCE_SECONDS = 30.0


async def read_back(settings: Settings, topic: str, partition: int) -> AsyncIterator[list[ConsumerRecord]]:
    """Every record that one partition of a topic holds now, oldest first, as they are fetched.

    The end is what the broker says with each fetch (the high-water mark), the one figure on which every broker agrees.

    Raises:
        ConfigurationError: no broker answers.
        TimeoutError: the broker fell silent half-way.
    """
    consumer = await start_consumer(settings, fetch_max_wait_ms=100)
    try:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        while records := await _next(consumer, place):
            yield records
    finally:
        await consumer.stop()


async def _next(consumer: AIOKafkaConsumer, place: TopicPartition) -> list[ConsumerRecord]:
    """The next records; none at the end."""
    async with asyncio.timeout(_SILENCE_SECONDS):
        while not await _at_end(consumer, place):
            fetched: dict[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(place, timeout_ms=200)
            if fetched.get(place):
                return fetched[place]
    return []


async def _at_end(consumer: AIOKafkaConsumer, place: TopicPartition) -> bool:
    highwater = consumer.highwater(place)
    return highwater is not None and await consumer.position(place) >= highwater
