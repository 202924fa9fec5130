"""How far each stage is behind: what its topics hold, less what it says that it has read.

Not the committed position: aggregate's stands still by design until the windows that it fed are out, 15 s behind.
What a stage has fetched but not begun on (8 fetches a partition at most) counts as read; whether that takes long,
the latency of its states shows.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.live.processes import Stages
from infra.settings import Settings
from schemas.catalog import Topic, prefixed
from streams.topology import STAGES

_STILL_SECONDS = 1.5
_STALLED_SECONDS = 10.0
_PATIENCE_SECONDS = 300.0


class Lags:
    """The lags of some stages, through a consumer that only asks where the topics end."""

    def __init__(self, settings: Settings, stages: Stages, consumer: AIOKafkaConsumer) -> None:
        self._settings, self._stages, self._consumer = settings, stages, consumer
        self._topics = {name: {topic.on_bus(settings.run_id) for topic in STAGES[name].reads} for name in stages.names}
        self._reread: dict[str, int] = {}

    async def records(self) -> dict[str, int]:
        """By stage: records on its topics that it has not read; stages that don't answer are left out."""
        return {name: max(0, behind + self._reread.get(name, 0)) for name, behind in (await self._raw()).items()}

    async def until_at_rest(self) -> dict[str, int]:
        """Waits until all have read all, or have made no progress for a while; returns what is left then.

        What a stage has read twice since its start, after a rebalance, is noted and no longer counted.
        """
        deadline, before, still_since = monotonic() + _PATIENCE_SECONDS, dict[str, int](), monotonic()
        while monotonic() < deadline:
            now = await self._raw()
            if now != before:
                before, still_since = now, monotonic()
            still_seconds = monotonic() - still_since
            if still_seconds > (_STILL_SECONDS if all(behind <= 0 for behind in now.values()) else _STALLED_SECONDS):
                break
            await asyncio.sleep(0.25)
        self._reread = {name: max(0, -behind) for name, behind in before.items()}
        return await self.records()

    async def dead_letters(self) -> dict[str, int]:
        """By topic: messages on the dead-letter topics of all that is read."""
        read: dict[str, Topic] = {topic.name: topic for name in self._stages.names for topic in STAGES[name].reads}
        names = {topic.name: prefixed(topic.dlq, self._settings.run_id) for topic in read.values()}
        ends = await self._ends(list(names.values()))
        return {name: ends[on_bus] for name, on_bus in names.items() if ends[on_bus]}

    async def _raw(self) -> dict[str, int]:
        pages = await self._stages.scrape()  # before the ends, so that nothing counts as read before it was there
        ends = await self._ends(sorted(set().union(*self._topics.values())))
        return {
            name: sum(ends[topic] - page.consumed[topic] for topic in self._topics[name])
            for name, page in pages.items()
        }

    async def _ends(self, topics: Sequence[str]) -> dict[str, int]:
        places = [TopicPartition(topic, part) for topic in topics for part in range(self._settings.partitions)]
        ends = await self._consumer.end_offsets(places)
        return {topic: sum(end for place, end in ends.items() if place.topic == topic) for topic in topics}
