"""One contender on one full topic, watched from outside: what it put out, when, and what that cost."""

import asyncio
import json
import os
import signal
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from benchmarks.cores import Cores, cpu_seconds
from benchmarks.totals import Place, Totals, check
from infra.bus import client_options, start_consumer
from infra.embedded.process import Command, GuardedProcess
from infra.settings import Settings
from schemas.catalog import MAX_MESSAGE_BYTES

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 60.0
_LOOK_MS = 50
_LEAST_STATES_A_SITE = 4  # the slowest gets longer than its limit, so that there is something between first and last
_STOPS = ((signal.SIGTERM, 8.0),)


class ContenderError(RuntimeError):
    """A contender ended, or put nothing out; the message is one line with its last words."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that reads the telemetry topic and puts states on `output`.

    `fresh` are the topics that it wants empty (`output` is always made anew), `rewind` the group that it can't change
    the name of, and so must be put back to the beginning of `source`.
    """

    name: str
    argv: tuple[str, ...]
    output: str
    environment: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    rewind: str | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """What was measured between the first and the last state that came out."""

    samples: int
    seconds: float
    cpu_seconds: float | None
    windows: int
    complete: bool

    @property
    def samples_per_second(self) -> float:
        """GPU samples in windows closed, by wall time."""
        return self.samples / self.seconds

    @property
    def samples_per_cpu_second(self) -> float | None:
        """GPU samples in windows closed, by the contender's processor time."""
        return self.samples / self.cpu_seconds if self.cpu_seconds else None


async def prepare(settings: Settings, contender: Contender, source: str) -> None:
    """Empty topics for a contender, and its group at the beginning of `source`."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        for name in (contender.output, *contender.fresh):
            await _make_anew(admin, name, settings.partitions)
    finally:
        await admin.close()
    if contender.rewind:
        await _rewind(settings, contender.rewind, source)


async def _make_anew(admin: AIOKafkaAdminClient, name: str, partitions: int) -> None:
    await admin.delete_topics([name])  # if it is not there, the answer says so, and that is well
    # The broker's clock stamps the states: some clients stamp them with event time, or when they put them in a buffer.
    configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
            if not answer.topic_errors[0][1]:
                break
            await asyncio.sleep(0.1)  # its deletion is under way
        while True:
            (described,) = await admin.describe_topics([name])
            if (
                not described["error_code"]
                and sum(part["leader"] >= 0 for part in described["partitions"]) == partitions
            ):
                return
            await asyncio.sleep(0.05)


async def _rewind(settings: Settings, group: str, source: str) -> None:
    places = [TopicPartition(source, number) for number in range(settings.partitions)]
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(places)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    await consumer.commit(dict.fromkeys(places, 0))
                except KafkaError:
                    await asyncio.sleep(0.2)  # a member that was killed is still counted in
                else:
                    return
    finally:
        await consumer.stop()


async def drain(
    settings: Settings,
    contender: Contender,
    expected: Mapping[Place, Totals],
    limit_seconds: float,
    folder: Path,
    cores: Cores,
) -> Drained:
    """Runs a contender until it has put out all that is `expected`, or for `limit_seconds` after its first state.

    Whoever is too slow to close some windows of each site in that time gets as long as it needs, up to a minute.

    Raises:
        ContenderError: it ended, or put out too little to measure.
        WrongTotalsError: it put out what it should not.
    """
    consumer = await start_consumer(settings, fetch_max_wait_ms=_LOOK_MS)
    try:
        consumer.assign([TopicPartition(contender.output, number) for number in range(settings.partitions)])
        await consumer.seek_to_beginning()
        with launched(contender, folder, cores) as process:
            least = min(len(expected), _LEAST_STATES_A_SITE * len({site for site, _ in expected}))
            records, cpu = await _watch(consumer, contender, process, (least, len(expected)), limit_seconds)
    finally:
        await consumer.stop()
    states = [json.loads(record.value) for record in records]
    check(contender.name, states, expected)
    return _measured(contender, records, states, cpu, len(expected))


@asynccontextmanager
async def started(
    settings: Settings, contender: Contender, folder: Path, cores: Cores
) -> AsyncIterator[GuardedProcess]:
    """A contender that has put its first state out, for whoever wants to look into it; it ends with the block."""
    consumer = await start_consumer(settings, fetch_max_wait_ms=_LOOK_MS)
    try:
        consumer.assign([TopicPartition(contender.output, number) for number in range(settings.partitions)])
        await consumer.seek_to_beginning()
        with launched(contender, folder, cores) as process:
            await _watch(consumer, contender, process, (1, 1), 0.0)
            yield process
    finally:
        await consumer.stop()


def launched(contender: Contender, folder: Path, cores: Cores) -> GuardedProcess:
    """The contender as a process, on its core; it ends with the block that it is used in."""
    process = GuardedProcess(_command(contender, folder))
    cores.pin(process.pid)
    return process


def _command(contender: Contender, folder: Path) -> Command:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return Command(
        name=contender.name,
        argv=contender.argv,
        log=folder / f"{contender.name}.log",
        account=None,
        stops=_STOPS,
        death_signal=signal.SIGKILL,
        environment=tuple({**environment, **contender.environment}.items()),
    )


async def _watch(
    consumer: AIOKafkaConsumer,
    contender: Contender,
    process: GuardedProcess,
    states: tuple[int, int],
    limit_seconds: float,
) -> tuple[list[ConsumerRecord], list[tuple[float, float]]]:
    records: list[ConsumerRecord] = []
    cpu: list[tuple[float, float]] = []
    began, first = time.monotonic(), None
    least, most = states
    while len(records) < most:
        for messages in (await consumer.getmany(timeout_ms=_LOOK_MS)).values():
            records.extend(messages)
        used, now = cpu_seconds(process.pid), time.monotonic()
        if used is not None:
            cpu.append((time.time(), used))
        if process.exit_status() is not None:
            raise ContenderError(f"{contender.name} ended: {process.log_tail()}")
        first = first or (now if records else None)
        waited = now - (first or began)
        if first and waited > (limit_seconds if len(records) >= least else PATIENCE_SECONDS):
            break
        if not first and waited > PATIENCE_SECONDS:
            raise ContenderError(f"{contender.name} put nothing out in {PATIENCE_SECONDS:g} s: {process.log_tail()}")
    return records, cpu


def _measured(
    contender: Contender,
    records: list[ConsumerRecord],
    states: list[dict[str, Any]],
    cpu: list[tuple[float, float]],
    expected: int,
) -> Drained:
    first, last = (pick(record.timestamp for record in records) / 1000 for pick in (min, max))
    if last - first < 0.1:
        raise ContenderError(f"{contender.name} put all it did out at once: there is nothing to measure")
    # Each site's first window is left out: most of the work on it was done before anything came out.
    firsts: dict[str, str] = {}
    for state in states:
        site, start = state["site_id"], state["window_start"]
        firsts[site] = min(start, firsts.get(site, start))
    after = [state for state in states if state["window_start"] != firsts[state["site_id"]]]
    return Drained(
        samples=sum(state["gpu_samples"] for state in after),
        seconds=last - first,
        cpu_seconds=used_until(cpu, last) - used_until(cpu, first) if cpu else None,
        windows=len(states),
        complete=len(states) >= expected,
    )


def used_until(cpu: list[tuple[float, float]], when: float) -> float:
    """Processor time used until `when`, on the line between the two looks around it."""
    place = min(max(bisect_left(cpu, (when, 0.0)), 1), len(cpu) - 1)
    (before, low), (after, high) = cpu[place - 1], cpu[place]
    if after <= before:
        return high
    return low + (high - low) * min(max((when - before) / (after - before), 0.0), 1.0)
