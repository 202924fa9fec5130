"""Ends a worker whose consumer stands still while records wait for it, so that its supervisor starts it again.

Faust's consumer has been seen to stand still for good after a rebalance or a lost broker, with its process in good
health (faust-streaming issues 175, 523, 532, 629). What counts is what should move: positions, against the ends of
the partitions as a client of our own sees them. An agent that is at work, or waits for a database, is no stall: its
backpressure is meant to stop the reading.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from infra.bus import start_consumer
from infra.settings import ConfigurationError
from streams.stage import Stage

log = structlog.get_logger()

_LOOKS = 10  # in the patience: a stall is seen a tenth of it late at most


class StalledError(RuntimeError):
    """Records wait and nothing is read; the message says where and since when."""


@dataclass(slots=True)
class Patience:
    """What has not moved, and since when. Pure: `now_seconds` is any clock that only goes forward."""

    seconds: float
    _since: dict[str, tuple[int, float]] = field(default_factory=dict)

    def stalled(self, due: Mapping[str, int], now_seconds: float) -> dict[str, float]:
        """Given how far each place that should move has come: those that have not moved for too long, in seconds.

        A place left out has nothing to do, or is at work; its patience begins anew.
        """
        since = {}
        for place, position in due.items():
            before = self._since.get(place)
            since[place] = before if before is not None and before[0] == position else (position, now_seconds)
        self._since = since
        return {place: now_seconds - at for place, (_, at) in since.items() if now_seconds - at > self.seconds}


def attach(stage: Stage) -> None:
    """Adds the watch to a stage."""
    stage.background(lambda: watch(stage))


async def watch(stage: Stage) -> None:
    """Looks until the stage ends.

    Raises:
        StalledError: what should have moved has stood still for the setting `stall_seconds`.
    """
    patience = Patience(stage.settings.stall_seconds)
    loop = asyncio.get_running_loop()
    while not stage.app.should_stop:
        await asyncio.sleep(stage.settings.stall_seconds / _LOOKS)
        for place, seconds in patience.stalled(await _due(stage), loop.time()).items():
            raise StalledError(f"{place}: nothing was read for {seconds:.0f} s, and records wait")


async def _due(stage: Stage) -> dict[str, int]:
    """What should move, with how far it has come: partitions with unread records, and a rebalance under way."""
    if stage.app.rebalancing:
        return {"the consumer group": stage.app.rebalancing_count}
    idle = [TopicPartition(*place) for place in stage.app.consumer.assignment() if stage.is_idle(place.topic)]
    if not idle:
        return {}
    try:
        waiting = await _unread(stage, idle)
    except (KafkaError, ConfigurationError, TimeoutError) as error:
        # Without a broker nothing can move. That is the broker's fault, and no restart of ours would mend it.
        log.warning("can't see how far the partitions go", error=str(error))
        return {}
    return {f"{place.topic}[{place.partition}]": stage.position(place) for place in waiting}


async def _unread(stage: Stage, places: list[TopicPartition]) -> list[TopicPartition]:
    consumer = await start_consumer(stage.settings)
    try:
        first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        return [place for place in places if end[place] > max(first[place], stage.position(place))]
    finally:
        await consumer.stop()
