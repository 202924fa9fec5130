"""The one clock. Nothing else in the project reads the wall clock."""

import asyncio
import contextlib
from bisect import bisect_right, insort
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.bus import partition_of, start_consumer
from infra.settings import ConfigurationError, Settings
from schemas.catalog import CLOCK
from schemas.clock import ClockAnchor
from schemas.envelope import LIVE_RUN

_LEAST_SLEEP_SECONDS = 1e-4  # the last instant before the time is one step of the loop, not a busy wait


def wall_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


class Clock:
    """A run's clock: the wall clock for the live run, anchored and accelerated for a replay.

    Each anchor holds from its own wall time on, so that what a past wall time meant never changes.
    """

    def __init__(self, anchor: ClockAnchor | None = None) -> None:
        self._anchors = [anchor] if anchor else []
        self._changed = asyncio.Event()

    @property
    def anchored(self) -> bool:
        """Whether any anchor is known; until one is, the clock is the wall's."""
        return bool(self._anchors)

    @property
    def rate(self) -> float:
        """Run seconds per wall second, now."""
        return self._anchors[self._in_force(wall_now())].rate if self._anchors else 1.0

    def now(self) -> datetime:
        """What the run's clock shows."""
        return self.at(wall_now())

    def at(self, wall: datetime) -> datetime:
        """What the run's clock shows at a wall time."""
        if not self._anchors:
            return wall
        return self._anchors[self._in_force(wall)].at(wall)

    def wall_at(self, run_time: datetime) -> datetime:
        """The first wall time at which the run's clock shows `run_time` or more, as far as is known now."""
        for number, anchor in enumerate(self._anchors):
            wall = anchor.wall_at(run_time)
            if number:
                wall = max(wall, anchor.wall_anchor)
            if number + 1 == len(self._anchors) or wall < self._anchors[number + 1].wall_anchor:
                return wall
        return run_time

    def _in_force(self, wall: datetime) -> int:
        return max(0, bisect_right(self._anchors, wall, key=lambda anchor: anchor.wall_anchor) - 1)

    def at_timestamp(self, milliseconds: int) -> datetime:
        """What the run's clock showed when Kafka stamped a record (ms since 1970, wall time)."""
        return self.at(datetime.fromtimestamp(milliseconds / 1000, UTC))

    async def sleep(self, run_seconds: float) -> None:
        """Waits for so much of the run's time."""
        await self.sleep_until(self.now() + timedelta(seconds=run_seconds))

    async def sleep_until(self, run_time: datetime) -> None:
        """Waits until the clock shows `run_time`, through changes of the anchor."""
        while self.now() < run_time:
            left = (self.wall_at(run_time) - wall_now()).total_seconds()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(left, _LEAST_SLEEP_SECONDS))

    def set(self, anchor: ClockAnchor) -> None:
        """Takes an anchor in; sleepers look again."""
        insort(self._anchors, anchor, key=lambda each: each.wall_anchor)
        # A new event for who sleeps from now on: were one cleared, a sleeper that has not begun to wait would miss it.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class FollowedClock:
    """A clock that follows its run's anchors on the control topic; the live run needs none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._following: asyncio.Task[None] | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self.clock = Clock()

    async def start(self, patience_seconds: float = 30.0) -> Clock:
        """Waits for the run's anchors so far, at least one, then follows.

        Raises:
            ConfigurationError: no broker answers, or the run has no clock.
        """
        if self._settings.run_id == LIVE_RUN:
            return self.clock
        self._consumer = await start_consumer(self._settings, fetch_max_wait_ms=250)
        topic = CLOCK.on_bus(self._settings.run_id)
        place = TopicPartition(topic, partition_of(self._settings.run_id.encode(), self._settings.partitions))
        self._consumer.assign([place])
        await self._consumer.seek_to_beginning(place)
        caught_up = asyncio.Event()
        self._following = asyncio.create_task(self._follow(place, caught_up))
        try:
            await asyncio.wait_for(caught_up.wait(), patience_seconds)
        except TimeoutError:
            await self.stop()
            raise ConfigurationError(
                f"run {self._settings.run_id!r} has no clock on {topic}: start `gridtide replay` first"
            ) from None
        return self.clock

    async def stop(self) -> None:
        """Stops following."""
        if self._following:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        if self._consumer:
            await self._consumer.stop()

    async def _follow(self, place: TopicPartition, caught_up: asyncio.Event) -> None:
        """`caught_up` once all anchors up to now are in: a past wall time must not mean one thing before a restart and
        another after it.
        """
        assert self._consumer is not None
        async for message in self._consumer:
            anchor = CLOCK.decode(message.key, message.value, self._settings.run_id)
            if isinstance(anchor, ClockAnchor):
                self.clock.set(anchor)
            if self.clock.anchored and message.offset + 1 >= (self._consumer.highwater(place) or 0):
                caught_up.set()
