"""What windows closed goes out behind the stream's back, in order: states, then the watermark, then the position.

The brokers' acknowledgements take longer than a batch does. So the agent folds on, and what has come together
during one round trip goes out in the next.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra import metrics
from schemas.catalog import SITE_STATE, Topic
from streams.aggregate.window import PartitionWindows, Place, State
from streams.engine import Batch
from streams.memory import Memory
from streams.stage import Stage

# Batches folded and not yet taken up by a round; the round before has as many at most. At the bound the stream waits.
_WAITING_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Closing:
    """A batch that was folded, and the windows that it closed."""

    batch: Batch
    memory: Memory
    windows: PartitionWindows
    due: Sequence[tuple[Place, State]]
    watermark: datetime


class Release:
    """Releases the batches of one source topic."""

    def __init__(self, stage: Stage, topic: Topic) -> None:
        self._stage = stage
        self._topic = topic
        self._waiting: asyncio.Queue[Closing] = asyncio.Queue(_WAITING_BATCHES)

    async def put(self, closing: Closing) -> None:
        """Hands a batch over; waits while too many are on their way."""
        await self._waiting.put(closing)

    async def run(self) -> None:
        """Releases, round after round, until cancelled."""
        while True:
            closings = [await self._waiting.get()]
            while not self._waiting.empty():
                closings.append(self._waiting.get_nowait())
            # What is no longer ours is its new owner's to send.
            await self._release([each for each in closings if self._stage.is_current(each.batch)])

    async def _release(self, closings: Sequence[Closing]) -> None:
        acknowledgements: list[Awaitable[Any]] = []
        for closing in closings:
            # What closed them goes with them, so that readers can see how long a state took.
            cause = [("closed-by-timestamp-ms", str(closing.batch.records[-1].timestamp).encode())]
            acknowledgements += await self._stage.hand_over(SITE_STATE, (state for _, state in closing.due), cause)
        await asyncio.gather(*acknowledgements)
        newest = {closing.batch.partition: closing for closing in closings if closing.due}
        await asyncio.gather(*(self._remember(closing) for closing in newest.values()))
        for closing in closings:
            metrics.DUPLICATES.labels(self._stage.name, self._topic.name).inc(
                sum(state.duplicates for _, state in closing.due)
            )
            position = closing.windows.settle(place for place, _ in closing.due)
            if position is not None:
                self._stage.mark_out(closing.batch, position)

    async def _remember(self, closing: Closing) -> None:
        watermark = closing.watermark.isoformat().encode()
        await closing.memory.remember([(self._topic.name, watermark)], closing.batch.next_offset)
