"""What was measured, as a table for people and as JSON; and whether the bars are met."""

import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.cores import Cores, cpu_model
from benchmarks.drain import Drained
from infra.kafka.local import kafka_version

_BUSY_CORE = 0.85  # who has a backlog takes all of its core that it is given


@dataclass(slots=True)
class Figure:
    """One contender at one size of frame, over all rounds."""

    gpus: int
    contender: str
    trials: list[Drained] = field(default_factory=list)

    @property
    def samples_per_second(self) -> float:
        """GPU samples a second on its core: the median round."""
        return statistics.median(trial.samples_per_second for trial in self.trials)

    @property
    def spread_ratio(self) -> float:
        """Best less worst round, by the median."""
        rates = [trial.samples_per_second for trial in self.trials]
        return (max(rates) - min(rates)) / self.samples_per_second

    @property
    def samples_per_cpu_second(self) -> float | None:
        """GPU samples a second of its own processor time: the median round."""
        rates = [trial.samples_per_cpu_second for trial in self.trials]
        known = [rate for rate in rates if rate is not None]
        return statistics.median(known) if known else None

    @property
    def core_ratio(self) -> float | None:
        """Share of its core that it had: the median round."""
        shares = [trial.cpu_seconds / trial.seconds for trial in self.trials if trial.cpu_seconds is not None]
        return statistics.median(shares) if shares else None

    @property
    def frame_microseconds(self) -> float:
        """Wall time of one frame on its core."""
        return self.gpus / self.samples_per_second * 1e6

    def as_json(self) -> dict[str, Any]:
        """The figure with all its rounds."""
        return {
            "gpus": self.gpus,
            "contender": self.contender,
            "samples_per_second": self.samples_per_second,
            "spread_ratio": self.spread_ratio,
            "samples_per_cpu_second": self.samples_per_cpu_second,
            "core_ratio": self.core_ratio,
            "frame_microseconds": self.frame_microseconds,
            "rounds": [
                {
                    "samples": trial.samples,
                    "seconds": trial.seconds,
                    "cpu_seconds": trial.cpu_seconds,
                    "windows": trial.windows,
                    "complete": trial.complete,
                }
                for trial in self.trials
            ],
        }


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that the stage is held against."""

    what: str
    reached: float | None
    least: float

    @property
    def verdict(self) -> str:
        """met, MISSED or not measured."""
        if self.reached is None:
            return "not measured"
        return "met" if self.reached >= self.least else "MISSED"


def table(figures: Sequence[Figure]) -> Table:
    """A row for each contender and size."""
    rates = {(figure.contender, figure.gpus): figure.samples_per_second for figure in figures}
    shown = Table(title="aggregate: million GPU samples a second on one core, by GPUs a frame")
    for heading in ("GPUs", "", "M/s", "spread", "M/CPU s", "core", "µs a frame", "of raw", "windows"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for figure in figures:
        raw, by_cpu = rates.get(("raw", figure.gpus)), figure.samples_per_cpu_second
        shown.add_row(
            str(figure.gpus),
            figure.contender,
            f"{figure.samples_per_second / 1e6:.3f}",
            f"{figure.spread_ratio:.0%}" if len(figure.trials) > 1 else "",
            f"{by_cpu / 1e6:.3f}" if by_cpu else "",
            f"{figure.core_ratio:.0%}" if figure.core_ratio is not None else "",
            f"{figure.frame_microseconds:.1f}",
            f"{figure.samples_per_second / raw:.0%}" if raw else "",
            "/".join(f"{trial.windows}{'' if trial.complete else '…'}" for trial in figure.trials),
            end_section=figure is figures[-1] or figures[figures.index(figure) + 1].gpus != figure.gpus,
        )
    return shown


def doubts(figures: Sequence[Figure]) -> list[str]:
    """What speaks against the figures, a line each."""
    idle = [figure for figure in figures if figure.core_ratio is not None and figure.core_ratio < _BUSY_CORE]
    who = ", ".join(f"{figure.contender} at {figure.gpus} ({figure.core_ratio:.0%})" for figure in idle)
    why = "the machine was busy with something else, or the broker too slow; M/s, and the bars, understate them"
    return [f"had less than {_BUSY_CORE:.0%} of a core: {who}: {why}"] if idle else []


def bars(figures: Sequence[Figure]) -> list[Bar]:
    """The bars of the design, on wall time."""
    rates = {(figure.contender, figure.gpus): figure.samples_per_second for figure in figures}

    def against(peer: str, gpus: int) -> float | None:
        ours, theirs = rates.get(("gridtide", gpus)), rates.get((peer, gpus))
        return ours / theirs if ours and theirs else None

    ratios = [ratio for gpus in sorted({figure.gpus for figure in figures}) if (ratio := against("quix", gpus))]
    return [
        Bar("256-GPU frames: samples/s on a core", rates.get(("gridtide", 256)), 1.5e6),
        Bar("256-GPU frames: of raw", against("raw", 256), 0.7),
        Bar("8-GPU frames: of Quix", against("quix", 8), 1.5),
        Bar("every size: of Quix, the least", min(ratios) if ratios else None, 1.0),
        Bar("8-GPU frames: of Faust", against("faust", 8), 10.0),
    ]


def bar_lines(found: Sequence[Bar]) -> list[str]:
    """The bars as lines."""
    return [
        f"{bar.verdict:>12}  {bar.what}: "
        + (f"{_short(bar.reached)}, " if bar.reached is not None else "")
        + f"at least {_short(bar.least)}"
        for bar in found
    ]


def _short(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value:.2f}"


def about(cores: Cores, quix_python: Path | None) -> dict[str, str]:
    """The machine, and the versions of what ran on it."""
    found = {
        "cpu": cpu_model(),
        "cores": cores.about(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "kafka": kafka_version(),
    }
    found |= {name: version(name) for name in ("faust-streaming", "aiokafka", "pydantic", "numpy")}
    if quix_python:
        ask = "from importlib.metadata import version as v; print(*map(v, ('quixstreams', 'pydantic', 'numpy')))"
        command = [str(quix_python), "-c", ask]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        found |= dict(zip(("quixstreams", "pydantic of quix", "numpy of quix"), answer, strict=True))
    return found
