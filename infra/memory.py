"""A partition read back from its beginning to its present end: how a stage remembers."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from infra.bus import start_consumer
from infra.settings import Settings

# How long the broker may keep silent while a partition is read back before that is a fault.
_SILENCE_SECONDS = 30.0


async def read_back(settings: Settings, topic: str, partition: int) -> list[ConsumerRecord]:
    """Every record that one partition of a topic holds now, oldest first.

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
        async with asyncio.timeout(_SILENCE_SECONDS) as patience:
            records: list[ConsumerRecord] = []
            while not await _at_end(consumer, place):
                fetched = await consumer.getmany(place, timeout_ms=200)
                records.extend(fetched.get(place, ()))
                if fetched:
                    patience.reschedule(asyncio.get_running_loop().time() + _SILENCE_SECONDS)
            return records
    finally:
        await consumer.stop()


async def _at_end(consumer: AIOKafkaConsumer, place: TopicPartition) -> bool:
    highwater = consumer.highwater(place)
    return highwater is not None and await consumer.position(place) >= highwater
