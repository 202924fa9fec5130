"""Broker, topics, stages, load and watch, together for as long as a block lasts; however it ends, all of it ends."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.contenders.task import WINDOW_SECONDS
from benchmarks.fleet import Fleet
from benchmarks.live.backlog import drained_per_second, fill_backlog
from benchmarks.live.lag import Lags
from benchmarks.live.load import Load
from benchmarks.live.processes import Stages, running
from benchmarks.live.watch import WATCHED, Watch
from benchmarks.run import RUN_ID, set_up, settings_for
from infra.bus import client_options, start_consumer
from infra.kafka.local import LocalKafka
from infra.settings import Settings
from schemas.catalog import GPU_TELEMETRY, MAX_MESSAGE_BYTES

Tell = Callable[[str], None]

_MEBIBYTE = 1024 * 1024
# A soak sends tens of gigabytes. A stage that fell this far behind would lose some, and say so in its metrics.
_TELEMETRY = {
    "retention.bytes": str(384 * _MEBIBYTE),  # a partition; 4 of them, and what comes between two looks: below 3 GB
    "segment.bytes": str(64 * _MEBIBYTE),
    "file.delete.delay.ms": "1000",
}


@dataclass(frozen=True, slots=True)
class Rig:
    """All that a measurement needs."""

    settings: Settings
    stages: Stages
    load: Load
    watch: Watch
    lags: Lags
    broker_pid: int
    drained_per_second: float

    def pids(self) -> dict[str, int]:
        """Every process of the run."""
        return {**self.stages.pids(), "Kafka": self.broker_pid, "generator": os.getpid()}

    @contextlib.asynccontextmanager
    async def speaking(self, event_seconds: float) -> AsyncIterator[None]:
        """Events and request rates, until the block ends."""
        tasks = [
            asyncio.create_task(self.load.signals.events(event_seconds)),
            asyncio.create_task(self.load.signals.rates()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for each in ended:
            if isinstance(each, Exception):
                raise each


@contextlib.asynccontextmanager
async def rigged(
    kafka: LocalKafka, fleet: Fleet, names: Sequence[str], folder: Path, tell: Tell, dsn: str | None = None
) -> AsyncIterator[Rig]:
    """Sets all up, and measures what aggregate takes from a backlog with the other stages beside it."""
    settings = settings_for(kafka.bootstrap_servers, fleet.write(folder), fleet.partitions, dsn)
    async with contextlib.AsyncExitStack() as undo:
        await _make_topics(settings)
        await set_up(settings, names)
        tell("filling a backlog")
        feed = await fill_backlog(settings, fleet)
        load = await undo.enter_async_context(Load(settings, fleet).connected())
        tell("draining the backlog")
        stages = await undo.enter_async_context(running(settings, names, folder))
        drained = await drained_per_second(settings, feed)
        await stages.until_started()
        consumer = await start_consumer(settings)
        undo.push_async_callback(consumer.stop)
        watch = Watch(settings, load.signals, WINDOW_SECONDS * 1_000_000)
        await undo.enter_async_context(watch.watching())
        lags = Lags(settings, stages, consumer)
        await lags.until_at_rest()
        yield Rig(settings, stages, load, watch, lags, kafka.pid, drained)


async def _make_topics(settings: Settings) -> None:
    """Those whose settings are not the usual ones; `set_up` makes the others."""
    stamped = {"message.timestamp.type": "LogAppendTime"}
    wanted: dict[str, Mapping[str, str]] = {topic.on_bus(RUN_ID): stamped for topic in WATCHED}
    wanted[GPU_TELEMETRY.on_bus(RUN_ID)] = _TELEMETRY
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        size = {"max.message.bytes": str(MAX_MESSAGE_BYTES + 4096)}
        topics = [
            NewTopic(name, settings.partitions, 1, topic_configs={**size, **more}) for name, more in wanted.items()
        ]
        answer = await admin.create_topics(topics)
        assert not any(code for _, code, *_ in answer.topic_errors), answer.topic_errors
    finally:
        await admin.close()


def run_until_told(main: Coroutine[Any, Any, None]) -> bool:
    """Runs `main`; False if Ctrl-C or SIGTERM ended it, after all that it had begun was undone."""

    async def told() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await main

    try:
        asyncio.run(told())
    except asyncio.CancelledError:
        return False
    return True


def end_on_sigterm() -> None:
    """SIGTERM unwinds like Ctrl-C, also where no event loop runs: the broker goes with its block."""

    def end(*_: object) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
