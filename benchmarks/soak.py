"""A long time in small: the stages at seven tenths of their capacity, watched for memory, lag and losses.

    python -m benchmarks.soak [--minutes N] [--share R] [--gpus N] [--with-recorder] [--json FILE]

The load is that of `benchmarks.latency`, with a grid event every half minute. Every ten seconds each process's memory,
each stage's lag, the dead letters and the restarts are taken. At the end every window of every site must have come
out exactly once, and every event been answered.

The recorder is left out unless asked for, with an embedded PostgreSQL. It reads each frame as aggregate does and
writes it besides. On two cores all kept up with 40 % of what aggregate drained from a backlog (2,300 of 5,700 frames/s
of 64 GPUs, and not with 2,900); without it with 60 to 70 % (4,300 of 7,200, 5,500 of 7,900). At 70 % of capacity its
lag would grow for ever, and half an hour puts some 20 GB or more into the database, at about 4 KB a frame. With the
recorder, the capacity is what the recorder keeps up with as well.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.cores import Cores
from benchmarks.drain import ContenderError
from benchmarks.fleet import Fleet
from benchmarks.live import verdicts
from benchmarks.live.level import sustained_capacity
from benchmarks.live.load import Paced
from benchmarks.live.rig import Rig, end_on_sigterm, rigged, run_until_told
from benchmarks.live.samples import Sample, Samples, lag_trends, memory_trends
from benchmarks.report import about
from benchmarks.totals import WrongTotalsError
from infra.embedded.errors import EmbeddedError
from infra.embedded.postgres import EmbeddedPostgres
from infra.kafka.local import LocalKafka
from infra.migrate import migrate
from infra.settings import ConfigurationError
from streams.topology import STAGES

_LOOK_SECONDS = 10.0
_EVENT_SECONDS = 30.0
_LINE_SECONDS = 60.0


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load is on")
    parser.add_argument("--share", type=float, default=0.7, help="of the capacity measured first")
    parser.add_argument("--gpus", type=int, default=64, help="GPUs a frame")
    parser.add_argument("--with-recorder", action=argparse.BooleanOptionalAction, default=False, help="and PostgreSQL")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soaks and prints. 0: all held; 1: something did not, or failed; 2: not installed; 130: told to end."""
    options, console = options_of(arguments), Console(highlight=False)
    if reason := LocalKafka.missing():
        console.print(f"benchmarks.soak: {reason}", markup=False, soft_wrap=True)
        return 2
    if options.json and not options.json.parent.is_dir():
        console.print(f"benchmarks.soak: {options.json.parent}: no such folder", markup=False, soft_wrap=True)
        return 2
    end_on_sigterm()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every leader that is not elected yet
    said = about(Cores(None, frozenset()), None) | {
        "cores": "nothing is pinned: generator, broker and stages share all"
    }
    console.print("\n".join(f"{name}: {value}" for name, value in said.items()), markup=False, soft_wrap=True)
    soak = Soak(options, console)
    try:
        to_the_end = soak.run()
    except (ContenderError, WrongTotalsError, EmbeddedError, ConfigurationError) as error:
        console.print(f"benchmarks.soak: {error}", markup=False, soft_wrap=True)
        return 1
    if soak.taken:
        console.print(soak.table())
    console.print("\n".join(soak.lines()), markup=False, soft_wrap=True)
    if options.json and soak.taken:
        options.json.write_text(json.dumps({"about": said, **soak.as_json()}, indent=2) + "\n", encoding="utf-8")
    if not to_the_end:
        return 130
    return 0 if all(verdict.holds for verdict in soak.verdicts) else 1


class Soak:
    """One soak: its options, what was seen."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        self.names = [name for name in STAGES if options.with_recorder or name != "record"]
        self.taken: list[Sample] = []
        self.verdicts: list[verdicts.Verdict] = []
        self.capacity_per_second = 0.0
        self.what = "not measured"
        self.paced: Paced | None = None
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def run(self) -> bool:
        """Runs it; False if told to end before."""
        fleet = Fleet(self.options.gpus, sites=32, collectors=16, fleets=8)
        with contextlib.ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="gridtide-bench-")))
            undo.enter_context(self.progress)
            self._task = self.progress.add_task("starting the servers", total=self.options.minutes * 60)
            dsn = None
            if self.options.with_recorder:
                dsn = undo.enter_context(EmbeddedPostgres()).dsn
                migrate(dsn)
            kafka = undo.enter_context(LocalKafka())
            return run_until_told(self._soak(kafka, fleet, folder, dsn))

    async def _soak(self, kafka: LocalKafka, fleet: Fleet, folder: Path, dsn: str | None) -> None:
        tell: Callable[[str], None] = self._tell
        async with rigged(kafka, fleet, self.names, folder, tell, dsn) as rig:
            self.capacity_per_second, self.what = await sustained_capacity(rig, tell)
            rate = self.capacity_per_second * self.options.share
            self._tell(f"{rate:.0f} frames/s")
            samples = Samples(rig)
            self.taken = samples.taken
            looking = asyncio.create_task(self._look(samples))
            try:
                async with rig.speaking(_EVENT_SECONDS):
                    self.paced = await rig.load.run(rate, self.options.minutes * 60)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
            await samples.take()
            await self._judge(rig)

    async def _judge(self, rig: Rig) -> None:
        self._tell("waiting for what is under way")
        await rig.lags.until_at_rest()
        await asyncio.sleep(1.0)  # so that the last states are seen here too
        assert self.paced is not None
        self.verdicts = verdicts.verdicts(rig, self.taken, self.paced, self.names)

    async def _look(self, samples: Samples) -> None:
        due = told = monotonic()
        while True:
            sample = await samples.take()
            self.progress.update(self._task, completed=sample.seconds)
            if monotonic() - told >= _LINE_SECONDS:
                told += _LINE_SECONDS
                self._line(sample)
            due += _LOOK_SECONDS
            await asyncio.sleep(max(0.0, due - monotonic()))

    def _tell(self, what: str) -> None:
        self.progress.update(self._task, description=what)
        if not self.console.is_terminal:
            self.console.print(what, markup=False, soft_wrap=True)

    def _line(self, sample: Sample) -> None:
        if self.console.is_terminal:
            return
        memory = ", ".join(f"{name} {size:.0f} MB" for name, size in sample.rss_megabytes.items())
        lags = ", ".join(f"{name} {lag}" for name, lag in sample.lag_records.items())
        line = f"{sample.seconds / 60:.0f} min: {memory}; lag {lags}; {sum(sample.dead_letters.values())} dead letters"
        self.console.print(line, markup=False, soft_wrap=True)

    def lines(self) -> list[str]:
        """The capacity and the verdicts."""
        capacity = f"capacity: {self.capacity_per_second:.0f} frames/s: {self.what}"
        return [capacity, *map(str, self.verdicts)] if self.verdicts else [capacity, "told to end: no verdicts"]

    def table(self) -> Table:
        """A row for each process."""
        shown = Table(title=f"{self.taken[-1].seconds / 60:.1f} minutes")
        for heading in ("", "MB first quarter", "MB last", "MB/h", "lag most", "lag last quarter", "lag/h"):
            shown.add_column(heading, justify="right" if heading else "left")
        lags = lag_trends(self.taken)
        for name, memory in memory_trends(self.taken).items():
            row = [f"{memory.first:.1f}", f"{memory.last:.1f}", f"{memory.by_hour:+.1f}"]
            if lag := lags.get(name):
                row += [f"{lag.most:.0f}", f"{lag.last:.0f}", f"{lag.by_hour:+.0f}"]
            shown.add_row(name, *row)
        return shown

    def as_json(self) -> dict[str, Any]:
        """All of it, the samples included."""
        return {
            "gpus": self.options.gpus,
            "minutes": self.taken[-1].seconds / 60,
            "share": self.options.share,
            "stages": self.names,
            "capacity_frames_per_second": self.capacity_per_second,
            "capacity": self.what,
            "reached_frames_per_second": self.paced.reached_per_second if self.paced else None,
            "generator_late_seconds_max": self.paced.late_seconds_max if self.paced else None,
            "memory": {name: trend.as_json("megabytes") for name, trend in memory_trends(self.taken).items()},
            "lag": {name: trend.as_json("records") for name, trend in lag_trends(self.taken).items()},
            "verdicts": verdicts.as_json(self.verdicts),
            "samples": [
                {
                    "seconds": sample.seconds,
                    "rss_megabytes": sample.rss_megabytes,
                    "lag_records": sample.lag_records,
                    "dead_letters": sample.dead_letters,
                    "restarts": sample.restarts,
                }
                for sample in self.taken
            ],
        }


if __name__ == "__main__":
    sys.exit(main())
