"""How aggregate grows: with a second worker, and from ten sites to a thousand.

    python -m benchmarks.scale [--json FILE] [--seconds N] [--sites 10,100,1000] [--workers 1,2]

Each row is a backlog of the same kind, drained by real stages on Apache Kafka. Nothing is pinned: on a machine with
few cores the broker competes with the workers, and the table says how many there are. Rates are counted from the
moment the group is whole, so that neither starts nor the rebalance between them are in them.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, time
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.aggregate import event_seconds
from benchmarks.contenders.field import contender
from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS
from benchmarks.cores import Cores, cpu_model, cpu_seconds, resident_bytes
from benchmarks.drain import PATIENCE_SECONDS, Contender, ContenderError, launched, prepare, used_until
from benchmarks.fleet import Fleet
from benchmarks.frames import Feed, fill, long_ago
from benchmarks.run import RUN_ID, set_up, settings_for
from benchmarks.totals import WrongTotalsError, check
from infra.bus import client_options, start_consumer
from infra.embedded.process import GuardedProcess
from infra.kafka.local import LocalKafka
from infra.settings import Settings
from schemas.catalog import GPU_TELEMETRY

_GPUS = 64
_ANYWHERE = Cores(None, frozenset())


@dataclass(frozen=True, slots=True)
class Scaled:
    """One backlog drained."""

    workers: int
    sites: int
    windows: int
    repeated: int
    samples_per_second: float
    samples_per_cpu_second: float
    microseconds_per_window: float
    resident_megabytes: float


@dataclass(slots=True)
class _Watched:
    """What was seen from outside: states as they came, processor time and memory of all workers together."""

    states: dict[tuple[str, str], tuple[float, dict[str, Any]]]  # (site, window start) -> (appended at, state)
    repeated: int
    cpu: list[tuple[float, float]]
    resident_bytes: int


async def _until_whole(settings: Settings, group: str, workers: int) -> float:
    """Waits until the group has all its workers; returns when (seconds since 1970)."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for response in await admin.describe_consumer_groups([group]):
                    for _, _, state, _, _, members, *_ in response.groups:
                        if state == "Stable" and len(members) == workers:
                            return time()
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def _watch(
    settings: Settings, output: str, processes: Sequence[GuardedProcess], wanted: int, seconds: float
) -> _Watched:
    """Reads states until all are there, or for `seconds` after the first."""
    consumer = await start_consumer(settings, fetch_max_wait_ms=50)
    watched, first = _Watched({}, 0, [], 0), None
    began = monotonic()
    try:
        consumer.assign([TopicPartition(output, number) for number in range(settings.partitions)])
        await consumer.seek_to_beginning()
        while len(watched.states) < wanted and (first is None or monotonic() - first < seconds):
            for messages in (await consumer.getmany(timeout_ms=50)).values():
                for message in messages:
                    state = json.loads(message.value)
                    place = (state["site_id"], state["window_start"])
                    watched.repeated += place in watched.states
                    watched.states.setdefault(place, (message.timestamp / 1000, state))
            first = first or (monotonic() if watched.states else None)
            watched.cpu.append((time(), sum(cpu_seconds(process.pid) or 0.0 for process in processes)))
            resident = sum(resident_bytes(process.pid) or 0 for process in processes)
            watched.resident_bytes = max(watched.resident_bytes, resident)
            for process in processes:
                if process.exit_status() is not None:
                    raise ContenderError(f"a worker ended: {process.log_tail()}")
            if first is None and monotonic() - began > PATIENCE_SECONDS:
                raise ContenderError(f"no state in {PATIENCE_SECONDS:g} s")
    finally:
        await consumer.stop()
    return watched


async def _drained(settings: Settings, fleet: Fleet, workers: int, feed: Feed, seconds: float, folder: Path) -> Scaled:
    one = contender("gridtide", settings, "scale", folder)
    await prepare(settings, one, GPU_TELEMETRY.on_bus(RUN_ID))
    expected = feed.expected(LATENESS_SECONDS)
    with ExitStack() as ending:
        members: list[Contender] = [replace(one, name=f"gridtide-{number}") for number in range(workers)]
        processes = [ending.enter_context(launched(member, folder, _ANYWHERE)) for member in members]
        assert one.rewind is not None
        whole, watched = await asyncio.gather(
            _until_whole(settings, one.rewind, workers),
            _watch(settings, one.output, processes, len(expected), seconds),
        )
    check("aggregate", (state for _, state in watched.states.values()), expected)
    after = sorted((at, state["gpu_samples"]) for at, state in watched.states.values() if at > whole)
    if len(after) < 2 or after[-1][0] <= after[0][0]:
        raise ContenderError("all was drained before the group was whole: give it more --seconds")
    first, last = after[0][0], after[-1][0]
    samples = sum(count for _, count in after[1:])
    return Scaled(
        workers=workers,
        sites=fleet.sites,
        windows=len(watched.states),
        repeated=watched.repeated,
        samples_per_second=samples / (last - first),
        samples_per_cpu_second=samples / (used_until(watched.cpu, last) - used_until(watched.cpu, first)),
        microseconds_per_window=(last - first) / (len(after) - 1) * 1e6,
        resident_megabytes=watched.resident_bytes / 1e6,
    )


async def _backlog(fleet: Fleet, workers: Sequence[int], event_time_seconds: int, seconds: float) -> list[Scaled]:
    """Drains one backlog on a broker of its own, once for each number of workers."""
    with tempfile.TemporaryDirectory(prefix="gridtide-bench-") as name:
        folder = Path(name)
        with LocalKafka(folder / "kafka") as kafka:
            settings = settings_for(kafka.bootstrap_servers, fleet.write(folder), fleet.partitions)
            await set_up(settings, ["aggregate"])
            feed = Feed(fleet, RUN_ID, long_ago(event_time_seconds), WINDOW_SECONDS)
            await fill(settings, feed, event_time_seconds)
            return [await _drained(settings, fleet, number, feed, seconds, folder) for number in workers]


def _windows_table(rows: Sequence[Scaled], title: str) -> Table:
    table = Table("workers", "sites", "windows", "repeated", "M samples/s", "M/CPU s", "µs a window", "MB", title=title)
    for row in rows:
        table.add_row(
            str(row.workers),
            f"{row.sites:,}",
            f"{row.windows:,}",
            f"{row.repeated:,}",
            f"{row.samples_per_second / 1e6:.2f}",
            f"{row.samples_per_cpu_second / 1e6:.2f}",
            f"{row.microseconds_per_window:.0f}",
            f"{row.resident_megabytes:.0f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints. 0: measured; 1: a worker failed or did other work; 2: something is not installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long one worker takes for its backlog")
    parser.add_argument("--sites", default="10,100,1000")
    parser.add_argument("--workers", default="1,2")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every leader that is not elected yet
    if reason := LocalKafka.missing():
        console.print(f"benchmarks.scale: {reason}", markup=False, soft_wrap=True)
        return 2
    # The generator draws its pace from how fast frames can be validated: a worker takes a good deal longer.
    by_workers, by_sites = Fleet(_GPUS), [Fleet(_GPUS, sites=int(n), collectors=1) for n in options.sites.split(",")]
    about = f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores shared with the broker; {_GPUS} GPUs a frame"
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("workers", total=1 + len(by_sites))
            numbers = [int(number) for number in options.workers.split(",")]
            workers = asyncio.run(
                _backlog(by_workers, numbers, event_seconds(by_workers, options.seconds), 3 * options.seconds)
            )
            sites = []
            for fleet in by_sites:
                progress.update(task, description=f"{fleet.sites} sites", advance=1)
                span = event_seconds(fleet, options.seconds / 2)
                sites += asyncio.run(_backlog(fleet, [1], span, 3 * options.seconds))
    except (ContenderError, WrongTotalsError) as error:
        console.print(f"benchmarks.scale: {error}", markup=False, soft_wrap=True)
        return 1
    console.print(about)
    console.print(_windows_table(workers, "workers of one group"))
    console.print(_windows_table(sites, "sites, one worker"))
    least, most = sites[0], sites[-1]
    if most.sites > least.sites:
        kilobytes = (most.resident_megabytes - least.resident_megabytes) * 1000 / (most.sites - least.sites)
        console.print(f"memory: {kilobytes:.0f} kB a site more")
    if options.json:
        written = {
            "about": about,
            "workers": [asdict(row) for row in workers],
            "sites": [asdict(row) for row in sites],
        }
        options.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
