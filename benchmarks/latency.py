"""How late states and commands are, at a tenth and at seven tenths of the capacity measured in the same run.

    python -m benchmarks.latency [--seconds N] [--gpus N] [--json FILE]

Apache Kafka, and aggregate, forecast and policy each a process of its own, nothing pinned; 8 fleets of 4 sites, 16
collectors a site. Frames are paced evenly, stamped as they are made; a grid event comes every half second, to one
fleet after the other, and withdraws the fleet's last one. All is timed from outside, by the broker's time stamps:

- state: from `observed_at` of the frame that lets a window close (the first of its partition that is stamped at or
  after the window's end and the allowed lateness) to the window's state on site.state.v1.
- age: from the window's end to its state. That is longer by design: nothing closes before the lateness is over.
- event: from the event on grid.signals.v1 to the first command on site.commands.v1 that names it as its cause.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS
from benchmarks.cores import Cores
from benchmarks.drain import ContenderError
from benchmarks.fleet import Fleet
from benchmarks.live.figures import quantile
from benchmarks.live.level import Level, run_level, sustained_capacity
from benchmarks.live.rig import Tell, end_on_sigterm, rigged, run_until_told
from benchmarks.report import about
from benchmarks.totals import WrongTotalsError
from infra.embedded.errors import EmbeddedError
from infra.kafka.local import LocalKafka
from infra.settings import ConfigurationError

STAGES = ("aggregate", "forecast", "policy")
SHARES = (0.1, 0.7)
BAR_SECONDS = 1.0  # event to command, p99, at the highest share


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each level is measured")
    parser.add_argument("--gpus", type=int, default=64, help="GPUs a frame")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints. 0: measured; 1: something failed; 2: something is not installed; 130: told to end."""
    options, console = options_of(arguments), Console(highlight=False)
    if reason := LocalKafka.missing():
        console.print(f"benchmarks.latency: {reason}", markup=False, soft_wrap=True)
        return 2
    if options.json and not options.json.parent.is_dir():
        console.print(f"benchmarks.latency: {options.json.parent}: no such folder", markup=False, soft_wrap=True)
        return 2
    end_on_sigterm()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every leader that is not elected yet
    said = about(Cores(None, frozenset()), None) | {
        "cores": "nothing is pinned: generator, broker and stages share all"
    }
    console.print("\n".join(f"{name}: {value}" for name, value in said.items()), markup=False, soft_wrap=True)
    found = Found(options)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("starting Kafka", total=None)
            told = run(found, lambda what: progress.update(task, description=what))
    except (ContenderError, WrongTotalsError, EmbeddedError, ConfigurationError) as error:
        console.print(f"benchmarks.latency: {error}", markup=False, soft_wrap=True)
        return 1
    if not told:
        return 130
    console.print(table(found.levels), cores_table(found.levels))
    console.print("\n".join(found.lines()), markup=False, soft_wrap=True)
    if options.json:
        options.json.write_text(json.dumps({"about": said, **found.as_json()}, indent=2) + "\n", encoding="utf-8")
    return 0


class Found:
    """What was measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.drained_per_second = self.capacity_per_second = 0.0
        self.what = ""
        self.levels: list[Level] = []

    def lines(self) -> list[str]:
        """The capacity, what speaks against the figures, and the bar."""
        capacity, gpus = self.capacity_per_second, self.options.gpus
        lines = [
            f"capacity: {capacity:.0f} frames/s ({capacity * gpus / 1e6:.2f} M GPU samples/s): {self.what}",
            f"a state waits for its window's end and {LATENESS_SECONDS} s of lateness by design: age holds that",
        ]
        for level in self.levels:
            lines += [f"{level.share:.0%} was NOT sustained: {doubt}" for doubt in level.doubts()]
            if level.unanswered:
                lines.append(f"{level.share:.0%}: {len(level.unanswered)} events were NOT answered")
        p99 = quantile(self.levels[-1].event_seconds, 0.99)
        fair = p99 is not None and not self.levels[-1].unanswered
        reached = f"{p99:.3f} s" if p99 is not None else "none"
        verdict = "met" if fair and p99 is not None and p99 <= BAR_SECONDS else "MISSED"
        return [
            *lines,
            f"{verdict:>12}  event to command, p99 at {SHARES[-1]:.0%}: {reached}, at most {BAR_SECONDS:g} s",
        ]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "gpus": self.options.gpus,
            "seconds": self.options.seconds,
            "window_seconds": WINDOW_SECONDS,
            "allowed_lateness_seconds": LATENESS_SECONDS,
            "drained_frames_per_second": self.drained_per_second,
            "capacity_frames_per_second": self.capacity_per_second,
            "capacity": self.what,
            "levels": [level_json(level) for level in self.levels],
            "verdicts": self.lines(),
        }


def run(found: Found, tell: Tell) -> bool:
    """Measures into `found`; False if told to end before."""
    options = found.options
    fleet = Fleet(options.gpus, sites=32, collectors=16, fleets=8)

    async def measure() -> None:
        async with rigged(kafka, fleet, STAGES, Path(folder), tell) as rig:
            found.drained_per_second = rig.drained_per_second
            found.capacity_per_second, found.what = await sustained_capacity(rig, tell)
            for share in SHARES:
                tell(f"{share:.0%}: {found.capacity_per_second * share:.0f} frames/s")
                found.levels.append(await run_level(rig, share, found.capacity_per_second * share, options.seconds))
                await rig.lags.until_at_rest()

    with tempfile.TemporaryDirectory(prefix="gridtide-bench-") as folder, LocalKafka() as kafka:
        return run_until_told(measure())


def table(levels: Sequence[Level]) -> Table:
    """A row for each level and kind of latency."""
    shown = Table(title="milliseconds")
    for heading in ("", "of capacity", "frames/s", "n", "p50", "p99", "max", "not answered", "lag"):
        shown.add_column(heading, justify="right" if heading else "left")
    for level in levels:
        rows = {
            "event to command": level.event_seconds,
            "reading to state": level.state_seconds,
            "window's end to state": level.age_seconds,
        }
        for what, seconds in rows.items():
            shown.add_row(
                what,
                f"{level.share:.0%}",
                f"{level.paced.reached_per_second:.0f}",
                str(len(seconds)),
                *(_milliseconds(quantile(seconds, ratio)) for ratio in (0.5, 0.99, 1.0)),
                str(len(level.unanswered) if seconds is level.event_seconds else level.states_missing),
                str(max(level.lag_records.values(), default=0)),
                end_section=seconds is level.age_seconds,
            )
    return shown


def cores_table(levels: Sequence[Level]) -> Table:
    """Cores that each process used."""
    shown = Table(title="cores used")
    shown.add_column("")
    for level in levels:
        shown.add_column(f"{level.share:.0%}", justify="right")
    for name in levels[0].cores if levels else ():
        shown.add_row(name, *(f"{level.cores.get(name, 0.0):.2f}" for level in levels))
    return shown


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f}"


def level_json(level: Level) -> dict[str, Any]:
    """One level."""

    def quantiles(seconds: Sequence[float]) -> dict[str, Any]:
        return {
            "n": len(seconds),
            "p50": quantile(seconds, 0.5),
            "p99": quantile(seconds, 0.99),
            "max": quantile(seconds, 1),
        }

    return {
        "share": level.share,
        "asked_frames_per_second": level.paced.asked_per_second,
        "reached_frames_per_second": level.paced.reached_per_second,
        "generator_late_seconds_max": level.paced.late_seconds_max,
        "event_to_command_seconds": quantiles(level.event_seconds),
        "reading_to_state_seconds": quantiles(level.state_seconds),
        "window_end_to_state_seconds": quantiles(level.age_seconds),
        "events_not_answered": len(level.unanswered),
        "states_missing": level.states_missing,
        "lag_records": level.lag_records,
        "cores": level.cores,
        "sustained": not level.doubts(),
        "doubts": level.doubts(),
    }


if __name__ == "__main__":
    sys.exit(main())
