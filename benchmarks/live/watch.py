"""The bus, watched from outside: when the broker took each event, the first command for it, and each state."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from benchmarks.live.schedule import Window, microseconds_of
from benchmarks.live.signals import Signals
from infra.bus import start_consumer
from infra.settings import Settings
from schemas.catalog import GRID_SIGNALS, SITE_COMMANDS, SITE_STATE, Topic
from schemas.command import Release, Shift, Throttle
from schemas.signals import EventSignal
from schemas.site import LoadState, PowerState

_LOOK_MS = 100
# The broker's clock stamps what is on these, whenever a client handed it over.
WATCHED = (GRID_SIGNALS, SITE_STATE, SITE_COMMANDS)


class Seen(NamedTuple):
    """When a state of a window came first, and how often it came."""

    appended_ms: int
    times: int


class Watch:
    """What has been seen so far; sites' commands are answered as they are seen."""

    def __init__(self, settings: Settings, signals: Signals, window_us: int) -> None:
        self._settings, self._signals, self._window_us = settings, signals, window_us
        self.events: dict[str, int] = {}  # by signal: when it was on the bus, ms since 1970
        self.answers: dict[str, int] = {}  # by signal: when the first command for it was
        self.powers: dict[Window, Seen] = {}
        self.loads: dict[Window, Seen] = {}
        self._topics: dict[str, Topic] = {topic.on_bus(settings.run_id): topic for topic in WATCHED}

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator["Watch"]:
        """Looks on from now on until the block ends; what fails meanwhile is raised then."""
        places = [TopicPartition(name, part) for name in self._topics for part in range(self._settings.partitions)]
        consumer = await start_consumer(self._settings, fetch_max_wait_ms=_LOOK_MS)
        try:
            consumer.assign(places)
            await consumer.seek_to_end(*places)
            looking = asyncio.create_task(self._look(consumer))
            try:
                yield self
            finally:
                looking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await looking
        finally:
            await consumer.stop()

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            commands: list[Throttle | Shift | Release] = []
            for messages in (await consumer.getmany(timeout_ms=_LOOK_MS)).values():
                for message in messages:
                    self._take(message, commands)
            await self._signals.answer(commands)

    def _take(self, message: ConsumerRecord, commands: list[Throttle | Shift | Release]) -> None:
        match self._topics[message.topic].decode(message.key, message.value, self._settings.run_id):
            case EventSignal() as event if not event.cancelled:
                self.events.setdefault(event.signal_id, message.timestamp)
            case Throttle() | Shift() | Release() as command:
                commands.append(command)
                for signal_id in command.caused_by:
                    self.answers.setdefault(signal_id, message.timestamp)
            case PowerState() | LoadState() as state:
                seen = self.powers if isinstance(state, PowerState) else self.loads
                window = (state.site_id, microseconds_of(state.window_start) // self._window_us)
                before = seen.get(window, Seen(message.timestamp, 0))
                seen[window] = Seen(before.appended_ms, before.times + 1)
            case _:
                pass

    def event_seconds(self) -> dict[str, float]:
        """By signal: from the event on the bus to the first command for it."""
        return {
            signal_id: (self.answers[signal_id] - appended_ms) / 1000
            for signal_id, appended_ms in self.events.items()
            if signal_id in self.answers
        }
