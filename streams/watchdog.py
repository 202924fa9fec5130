"""Ends a worker whose consumer stands still while records wait for it, so that its supervisor starts it again.

Faust's consumer has been seen to stand still for good after a rebalance or a lost broker, with its process in good
health (faust-streaming issues 175, 523, 532, 629). What counts is what should move: positions, against what a client
of our own can still read after them. A stage with an agent at work, or waiting for a database, is no stall: the
agents share one fetcher, and its backpressure is meant to stop the reading.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from infra.bus import start_consumer
from infra.settings import ConfigurationError, Settings
from streams.stage import Stage

log = structlog.get_logger()

_LOOKS = 10
_READ_MS = 1000


class StalledError(RuntimeError):
    """Records wait and nothing is read; the message says where and for how long."""


@dataclass(slots=True)
class Patience:
    """What has not moved, and for how many looks. Looks, not seconds: a process that was stopped has not looked."""

    looks: int
    _since: dict[str, tuple[int, int]] = field(default_factory=dict)

    def stalled(self, due: Mapping[str, int]) -> list[str]:
        """Given how far each place that should move has come: those that have not moved for too many looks.

        A place left out has nothing to do, or is at work; its patience begins anew.
        """
        since = {}
        for place, position in due.items():
            before, looks = self._since.get(place, (position, 0))
            since[place] = (position, looks + 1 if before == position else 1)
        self._since = since
        return [place for place, (_, looks) in since.items() if looks > self.looks]


def patience_seconds(settings: Settings) -> float:
    """How long nothing may move: as set, but never less than a rebalance in good order may take."""
    return max(settings.stall_seconds, 3 * settings.session_timeout_seconds)


async def watch(stage: Stage) -> None:
    """Looks until it is cancelled.

    Raises:
        StalledError: what should have moved has stood still for `patience_seconds`.
    """
    patience, seconds = Patience(_LOOKS), patience_seconds(stage.settings)
    while True:
        await asyncio.sleep(seconds / _LOOKS)
        for fault in patience.stalled(await _due(stage)):
            raise StalledError(f"for {seconds:.0f} s: {fault}")


async def _due(stage: Stage) -> dict[str, int]:
    """What should move, with how far it has come: partitions with unread records, and a rebalance under way."""
    consumer = stage.app.consumer
    joining = stage.app.rebalancing or not consumer.assignment_number
    places = [] if joining else [TopicPartition(*place) for place in consumer.assignment()]
    if not joining and not (places and stage.is_idle()):
        return {}
    try:
        waiting = await _unread(stage, places)
    except (KafkaError, ConfigurationError, TimeoutError) as error:
        # Without a broker nothing can move. That is the broker's fault, and no restart of ours would mend it.
        log.warning("can't see how far the partitions go", error=str(error))
        return {}
    if joining:
        return {"the group was not joined": stage.app.rebalancing_count}
    return {
        f"records wait in {place.topic}[{place.partition}] and none was read": consumer.position_of(place)
        for place in waiting
    }


async def _unread(stage: Stage, places: list[TopicPartition]) -> list[TopicPartition]:
    """The places where there is something to read. Read, as ends of partitions count markers that nobody is given."""
    consumer = await start_consumer(stage.settings, fetch_max_wait_ms=_READ_MS // 2)
    try:
        if not places:
            return []
        consumer.assign(places)
        for place in places:
            consumer.seek(place, stage.app.consumer.position_of(place))
        found = await consumer.getmany(timeout_ms=_READ_MS)
        return [place for place, records in found.items() if records]
    finally:
        await consumer.stop()
