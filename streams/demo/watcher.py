"""Reads every topic of a run from its beginning and keeps the tally, beside and apart from the stages."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.bus import start_consumer
from infra.settings import Settings
from schemas.catalog import TOPICS, Topic, prefixed
from streams.demo.tally import Tally


class Watcher:
    """A consumer without a group over all topics and dead letters of a run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self.tally = Tally()

    async def run(self) -> None:
        """Reads until cancelled.

        Raises:
            ConfigurationError: no broker answers.
        """
        topics = {topic.on_bus(self._settings.run_id): topic.name for topic in TOPICS}
        dead = {prefixed(topic.dlq, self._settings.run_id): topic.name for topic in TOPICS}
        self._consumer = await start_consumer(self._settings, fetch_max_wait_ms=250)
        try:
            self._consumer.assign(
                [
                    TopicPartition(name, number)
                    for name in (*topics, *dead)
                    for number in range(self._settings.partitions)
                ]
            )
            await self._consumer.seek_to_beginning()
            while True:
                for place, messages in (await self._consumer.getmany(timeout_ms=200, max_records=2000)).items():
                    for message in messages:
                        if place.topic in topics:
                            self.tally.take(topics[place.topic], message.value, message.timestamp, message.headers)
                        else:
                            self.tally.take_dead_letter(dead[place.topic], message.headers)
                await asyncio.sleep(0)
        finally:
            await self._consumer.stop()

    async def has_read(self, topic: Topic) -> bool:
        """Whether the tally holds all that is on a topic now; False before `run` has begun."""
        if self._consumer is None:
            return False
        places = [each for each in self._consumer.assignment() if each.topic == topic.on_bus(self._settings.run_id)]
        ends = await self._consumer.end_offsets(places)
        return bool(ends) and all([await self._consumer.position(place) >= end for place, end in ends.items()])
