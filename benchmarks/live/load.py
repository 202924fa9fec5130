"""The paced load: so many frames a second, in small slices; events, request rates and answers beside them.

Every frame is stamped when it is made. A slice that comes late (the cores are shared with broker and stages) is
made late, as by a collector that was held up: how late the worst one was is measured too, and said.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS
from benchmarks.fleet import Fleet
from benchmarks.frames import BATCH_BYTES
from benchmarks.live.frames import LiveFrames
from benchmarks.live.schedule import Schedule, microseconds_of
from benchmarks.live.signals import Signals
from infra.bus import client_options, start_producer
from infra.clock import wall_now
from infra.settings import Settings
from schemas.catalog import GPU_TELEMETRY, MAX_MESSAGE_BYTES

# The client's lz4 is always at its highest level and takes 100 µs for a frame of 64 GPUs, as long as the stage does;
# snappy takes 6 µs, and the stage 2 to undo it, as with lz4. The generator has the same cores.
COMPRESSION = "snappy"
_SLICE_SECONDS = 0.02
_KEEPS_UP_RATIO = 0.97


@dataclass(frozen=True, slots=True)
class Paced:
    """What was asked of the generator, and what it reached."""

    asked_per_second: float
    frames: int
    seconds: float
    late_seconds_max: float

    @property
    def reached_per_second(self) -> float:
        """Frames sent and acknowledged, by wall time."""
        return self.frames / self.seconds

    @property
    def kept_up(self) -> bool:
        """Whether it was as fast as asked, within what slices and the last acknowledgements blur."""
        return self.reached_per_second >= self.asked_per_second * _KEEPS_UP_RATIO


class Load:
    """The generator: telemetry through a producer of its own, all else through another, so that neither waits."""

    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        self.powers = Schedule(WINDOW_SECONDS * 1_000_000, LATENESS_SECONDS * 1_000_000)
        self.loads = Schedule(WINDOW_SECONDS * 1_000_000, LATENESS_SECONDS * 1_000_000)
        self._settings, self._fleet = settings, fleet
        self._frames = LiveFrames(fleet, settings.run_id)
        self._topic = GPU_TELEMETRY.on_bus(settings.run_id)
        self._sent: list[asyncio.Future[object]] = []
        self._producer: AIOKafkaProducer
        self.signals: Signals

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator["Load"]:
        """With its producers."""
        self._producer = AIOKafkaProducer(
            **client_options(self._settings),
            acks="all",
            compression_type=COMPRESSION,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
        )
        async with contextlib.AsyncExitStack() as undo:
            await self._producer.start()
            undo.push_async_callback(self._producer.stop)
            others = await start_producer(self._settings)
            undo.push_async_callback(others.stop)
            self.signals = Signals(self._settings, self._fleet, others, self.loads)
            yield self

    async def run(self, frames_per_second: float, seconds: float) -> Paced:
        """Sends telemetry at that pace for so long. A slice that was held up is sent as soon as can be."""
        interval = round(self._frames.collectors / frames_per_second, 6)
        began, made, late_max = monotonic(), 0, 0.0
        for number in range(1, round(seconds / _SLICE_SECONDS) + 1):
            late = monotonic() - began - number * _SLICE_SECONDS
            if late < 0:
                await asyncio.sleep(-late)
            elif monotonic() - began > seconds:
                break
            late_max = max(late_max, late)
            due = int(number * _SLICE_SECONDS * frames_per_second)
            await self._slice(due - made, interval)
            made = due
        await self._acknowledged()
        return Paced(frames_per_second, made, monotonic() - began, late_max)

    async def _slice(self, count: int, interval_seconds: float) -> None:
        now = wall_now()
        now_ms, batches = int(now.timestamp() * 1000), dict[int, BatchBuilder]()
        sites: dict[int, set[bytes]] = {}
        for frame in self._frames.next(count, now, interval_seconds):
            sites.setdefault(frame.partition, set()).add(frame.key)
            batch = batches.get(frame.partition)
            if batch is None or batch.append(timestamp=now_ms, key=frame.key, value=frame.value) is None:
                if batch is not None:
                    await self._hand_over(batch, frame.partition)
                batch = batches[frame.partition] = self._producer.create_batch()
                batch.append(timestamp=now_ms, key=frame.key, value=frame.value)
        for partition, batch in batches.items():
            await self._hand_over(batch, partition)
        for partition, keys in sites.items():
            self.powers.note(partition, [key.decode() for key in keys], microseconds_of(now))

    async def _hand_over(self, batch: BatchBuilder, partition: int) -> None:
        self._sent = [sent for sent in self._sent if not (sent.done() and sent.result())]
        self._sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))

    async def _acknowledged(self) -> None:
        await asyncio.gather(*self._sent)
        self._sent.clear()
