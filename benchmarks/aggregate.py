"""GPU samples a second per core: the aggregate stage beside the bare client, plain Faust and Quix Streams.

    python -m benchmarks.aggregate [--gpus 1,8,64,256] [--seconds N] [--rounds N] [--json FILE] [--profile]

All read the same records of the same topic of one Apache Kafka, each a process of its own on one core, each from the
beginning; the broker and this harness have the other cores. A sample is one GPU at one instant with five varying
fields. What counts is what comes out: the samples in the windows closed between the first state and the last, by the
broker's time stamps, but for the first window of each site, so that start-up is no part of it. Every window of everyone
is compared with what was sent.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import hotspots
from benchmarks.contenders.field import NAMES, QUIX_PYTHON, contender
from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS
from benchmarks.cores import Cores
from benchmarks.drain import ContenderError, drain, prepare, started
from benchmarks.fleet import Fleet
from benchmarks.frames import Feed, check_frame, fill, long_ago
from benchmarks.report import Figure, about, bar_lines, bars, doubts, table
from benchmarks.run import RUN_ID, set_up, settings_for
from benchmarks.totals import WrongTotalsError
from infra.embedded.errors import EmbeddedError
from infra.kafka.local import LocalKafka
from infra.settings import ConfigurationError, Settings
from schemas.catalog import GPU_TELEMETRY

SIZES = (1, 8, 64, 256)
_LEAST_WINDOWS = 4
_CALIBRATION_SECONDS = 0.5
_WARM_SECONDS = 6.0  # what a stage takes to start and to join its group


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", default=",".join(map(str, SIZES)), help="GPUs a frame, by commas")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the fastest takes, and all may take")
    parser.add_argument("--rounds", type=int, default=2, help="how often each takes its turn")
    parser.add_argument("--contenders", help=f"of {', '.join(NAMES)}, by commas; default: all")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--profile", action="store_true", help="instead say where gridtide (or --contenders) spends its time"
    )
    options = parser.parse_args(arguments)
    options.gpus = [int(gpus) for gpus in options.gpus.split(",")]
    everyone = "gridtide" if options.profile else ",".join(NAMES)
    options.contenders = (options.contenders or everyone).split(",")
    if unknown := set(options.contenders) - set(NAMES):
        parser.error(f"--contenders: {', '.join(sorted(unknown))}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints. 0: measured; 1: a contender failed or did other work; 2: something is not installed."""
    options, console = options_of(arguments), Console(highlight=False)
    if reason := missing(options):
        console.print(reason, markup=False, soft_wrap=True)
        return 2
    cores = Cores.of_this_machine()
    cores.stay_off()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every leader that is not elected yet
    quix = QUIX_PYTHON if "quix" in options.contenders else None
    said = about(cores, quix)
    console.print("\n".join(f"{name}: {value}" for name, value in said.items()), markup=False, soft_wrap=True)
    bench = Bench(options, console, cores)
    try:
        with bench.progress:
            for gpus in options.gpus:
                bench.size(gpus)
    except (ContenderError, WrongTotalsError, EmbeddedError, ConfigurationError, hotspots.NoProfilerError) as error:
        console.print(table([figure for figure in bench.figures if figure.trials]))
        console.print(f"benchmarks.aggregate: {error}", markup=False, soft_wrap=True)
        return 1
    if options.profile:
        return 0
    found = bars(bench.figures)
    console.print(table(bench.figures))
    console.print("\n".join([*bar_lines(found), *doubts(bench.figures)]), markup=False, soft_wrap=True)
    if options.json:
        figures = [figure.as_json() for figure in bench.figures]
        verdicts = [{"bar": bar.what, "reached": bar.reached, "least": bar.least, "is": bar.verdict} for bar in found]
        written = {"about": said, "seconds": options.seconds, "figures": figures, "bars": verdicts}
        options.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0


def missing(options: argparse.Namespace) -> str | None:
    """What this machine lacks, in one line."""
    if reason := LocalKafka.missing():
        return f"benchmarks.aggregate: {reason}"
    if "quix" in options.contenders and not QUIX_PYTHON.exists():
        return "benchmarks.aggregate: no .venv-bench (make bench-aggregate sets it up); or leave quix out: --contenders"
    if options.json and not options.json.parent.is_dir():
        return f"benchmarks.aggregate: {options.json.parent}: no such folder"
    return None


class Bench:
    """One measurement: its options, its figures so far, its progress."""

    def __init__(self, options: argparse.Namespace, console: Console, cores: Cores) -> None:
        self.options, self.console, self.cores = options, console, cores
        self.figures: list[Figure] = []
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        trials = len(options.contenders) * (1 if options.profile else options.rounds)
        self._task = self.progress.add_task("", total=len(options.gpus) * (trials + 1))

    def size(self, gpus: int) -> None:
        """All rounds with frames of one size, on a broker of their own."""
        fleet = Fleet(gpus)
        with tempfile.TemporaryDirectory(prefix="gridtide-bench-") as name:
            folder = Path(name)
            self._tell(f"{gpus} GPUs a frame: filling the topic")
            with LocalKafka(folder / "kafka") as kafka:
                settings = settings_for(kafka.bootstrap_servers, fleet.write(folder), fleet.partitions)
                asyncio.run(self._rounds(settings, fleet, folder))

    async def _rounds(self, settings: Settings, fleet: Fleet, folder: Path) -> None:
        await set_up(settings, ["aggregate"])
        seconds = event_seconds(fleet, self.options.seconds + (_WARM_SECONDS if self.options.profile else 0.0))
        feed = Feed(fleet, RUN_ID, long_ago(seconds), WINDOW_SECONDS)
        await fill(settings, feed, seconds)
        self.progress.advance(self._task)
        if self.options.profile:
            await self._profile(settings, fleet.gpus, folder)
            return
        expected = feed.expected(LATENESS_SECONDS)
        figures = {name: Figure(fleet.gpus, name) for name in self.options.contenders}
        self.figures.extend(figures.values())
        for number in range(self.options.rounds):
            turn = number % len(figures)
            for name in [*self.options.contenders[turn:], *self.options.contenders[:turn]]:
                self._tell(f"{fleet.gpus} GPUs a frame, round {number + 1}: {name}")
                place = folder / f"{name}-{number}"
                place.mkdir()
                taking_part = contender(name, settings, f"r{number}", place)
                await prepare(settings, taking_part, GPU_TELEMETRY.on_bus(RUN_ID))
                limit = self.options.seconds
                figures[name].trials.append(await drain(settings, taking_part, expected, limit, place, self.cores))
                self.progress.advance(self._task)

    async def _profile(self, settings: Settings, gpus: int, folder: Path) -> None:
        py_spy = QUIX_PYTHON.with_name("py-spy")
        for name in self.options.contenders:
            self._tell(f"{gpus} GPUs a frame: looking into {name}")
            looked_into = contender(name, settings, "profile", folder)
            await prepare(settings, looked_into, GPU_TELEMETRY.on_bus(RUN_ID))
            stacks = folder / f"{name}.stacks"
            async with started(settings, looked_into, folder, self.cores) as process:
                found = await asyncio.to_thread(hotspots.sample, py_spy, process.pid, self.options.seconds, stacks)
            self.console.print(hotspots.table(f"{name} at {gpus} GPUs a frame", found))
            self.progress.advance(self._task)

    def _tell(self, what: str) -> None:
        self.progress.update(self._task, description=what)


def event_seconds(fleet: Fleet, seconds: float) -> int:
    """Event time that keeps the fastest reader busy for `seconds`: all must validate, so none is faster than that.

    In whole windows, and as much more as closes the last of them.
    """
    feed = Feed(fleet, RUN_ID, long_ago(0), WINDOW_SECONDS)
    frames = list(feed.second())
    check_frame(frames[0], RUN_ID)
    done, began = 0, perf_counter()
    while perf_counter() - began < _CALIBRATION_SECONDS:
        for frame in frames:
            GPU_TELEMETRY.adapter.validate_json(frame.value)
        done += len(frames)
    needed = done / (perf_counter() - began) * seconds / fleet.frames_per_second
    windows = max(_LEAST_WINDOWS, round(needed / WINDOW_SECONDS))
    return windows * WINDOW_SECONDS + LATENESS_SECONDS + 1


if __name__ == "__main__":
    sys.exit(main())
