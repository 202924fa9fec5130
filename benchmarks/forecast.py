"""Forecasts from a rolling origin on real traces: the model beside simple methods, statsforecast and LightGBM.

    python -m benchmarks.forecast [--data FOLDER] [--traces azure2024_code,...] [--no-peers] [--json FILE]

All are asked at the same origins for the same horizons, are trained again as often, and get their intervals in the same
way from their own past errors. Simple methods come with the backtest; AutoETS, AutoARIMA, MSTL and LightGBM (through
mlforecast) run in an environment of their own and choose their variant on the training span (benchmarks.rolling).
Then the model alone goes through traces on which something goes wrong, and the clock is on: train on the given weeks,
predict a thousand sites. What must be so is listed at the end, yes or NO.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.contenders.field import QUIX_PYTHON as PEERS_PYTHON
from benchmarks.cores import cpu_model
from benchmarks.disturbed import disturbed
from benchmarks.drain import ROOT
from benchmarks.forecast_bars import Bar, disturbed_bars, speed_bars, trace_bars
from benchmarks.forecast_tables import tables
from benchmarks.rolling import Floats, Rolled, Task, load_rolled
from forecasting.backtest import Backtest, SpikeScores, backtest, conformal_quantiles, default_options
from forecasting.series import LoadSeries
from forecasting.spikes import trailing_median
from forecasting.summary import summary
from streams.collect.cells import TraceError
from streams.collect.series import read_series

PEERS = ("auto_ets", "auto_arima", "mstl", "lightgbm")
_SPEED_SITES = 1000
_TINY = 1e-9
_SPIKE_STEPS = 12  # at which a peer is asked whether there will be a spike, at most: each may cost it a model


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a series comes from."""

    file: str
    column: str | None = None
    step_seconds: float | None = None


TRACES = {
    "azure2024_code": Trace("azure2024_code_10min.csv.gz", "code_req_per_min"),
    "servegen_m_large": Trace("servegen_m_large_10min.csv.gz", "rate_rps"),
    "servegen_deepseek_r1": Trace("servegen_deepseek_r1_10min.csv.gz", "rate_rps"),
    **{
        f"azure2023_{kind}_{step}s": Trace(f"azure2023_{kind}.csv.gz", None, float(step))
        for kind in ("conv", "code")
        for step in (10, 30, 60)
    },
}
_DISTURBED = "azure2024_code"


class PeersError(Exception):
    """The peers' process failed."""


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    data = os.environ.get("GRIDTIDE_DATA", ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(data), help="folder that holds requests/ (or GRIDTIDE_DATA)")
    parser.add_argument("--traces", default=",".join(TRACES), help=f"of {', '.join(TRACES)}, by commas; default: all")
    parser.add_argument("--no-peers", action="store_true", help="simple methods only")
    parser.add_argument("--no-disturbed", action="store_true", help="leave out the traces on which things go wrong")
    parser.add_argument("--no-speed", action="store_true", help="leave out the clock")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(arguments)
    options.traces = [name for name in options.traces.split(",") if name]
    if unknown := set(options.traces) - set(TRACES):
        parser.error(f"--traces: {', '.join(sorted(unknown))}; there are {', '.join(TRACES)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints. 0: measured, whatever the bars say; 1: something failed; 2: something is not there."""
    options, console = options_of(arguments), Console(highlight=False)
    if reason := missing(options):
        console.print(reason, markup=False, soft_wrap=True)
        return 2
    bench = Bench(options, console)
    try:
        with bench.progress:
            bench.run()
    except (TraceError, ValueError, PeersError) as error:
        console.print(f"benchmarks.forecast: {error}", markup=False, soft_wrap=True)
        return 1
    console.print("\n".join(map(str, bench.bars)), markup=False, soft_wrap=True)
    missed = sum(not bar.met for bar in bench.bars)
    console.print(f"{len(bench.bars) - missed} of {len(bench.bars)} bars met")
    if options.json:
        written = {"cpu": cpu_model(), "traces": bench.written, "bars": [asdict(bar) for bar in bench.bars]}
        options.json.write_text(json.dumps(written, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return 0


def missing(options: argparse.Namespace) -> str | None:
    """What this machine lacks, in one line."""
    files = [options.data / "requests" / TRACES[name].file for name in options.traces]
    for file in files:
        if not file.is_file():
            return f"benchmarks.forecast: {file}: no such file; say where with --data, or GRIDTIDE_DATA"
    if not options.no_peers and not PEERS_PYTHON.exists():
        return (
            "benchmarks.forecast: no .venv-bench (make bench-forecast sets it up); or leave the peers out: --no-peers"
        )
    if options.json and not options.json.parent.is_dir():
        return f"benchmarks.forecast: {options.json.parent}: no such folder"
    return None


class Bench:
    """One measurement: its options, what it found so far, its progress."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        self.bars: list[Bar] = []
        self.written: dict[str, Any] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID = self.progress.add_task("")

    def run(self) -> None:
        """All traces, those on which things go wrong, and the clock."""
        read = {name: self._read(name) for name in self.options.traces}
        for name, series in read.items():
            self._trace(name, series)
        if not self.options.no_disturbed and _DISTURBED in read:
            for case in disturbed(read[_DISTURBED]):
                result = backtest(case.series, default_options(case.series), self._tell(case.series.name))
                self.bars.extend(disturbed_bars(case, result))
        if not self.options.no_speed:
            self._speed()

    def _read(self, name: str) -> LoadSeries:
        trace = TRACES[name]
        series = read_series(self.options.data / "requests" / trace.file, trace.column, trace.step_seconds, "zeros")
        return replace(series, name=name)

    def _trace(self, name: str, series: LoadSeries) -> None:
        result = backtest(series, default_options(series), self._tell(f"{name}: model and simple methods"))
        rolled: dict[str, Rolled] = {}
        if not self.options.no_peers:
            rolled = ask_peers(task_of(result), lambda peer: self._tell(f"{name}: {peer}"))
            result = with_peers(result, rolled)
        told = {peer: each.told for peer, each in rolled.items()}
        found = summary(result)
        self.bars.extend(trace_bars(name, found, result, PEERS))
        for table in tables(name, found, told):
            self.console.print(table)
        for peer, each in told.items():
            if each.faults:
                said = f"{name}: {peer}: {len(each.faults)} faults, the first: {each.faults[0]}"
                self.console.print(said, markup=False, soft_wrap=True)
        self.written[name] = {**found, "peers": {peer: asdict(each) for peer, each in told.items()}}

    def _speed(self) -> None:
        self._tell("speed")(0, 1)
        command = [sys.executable, "-m", "benchmarks.forecast_speed", str(self.options.data), str(_SPEED_SITES)]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise PeersError(f"forecast_speed: {_last_line(answer.stderr)}")
        self.written["speed"] = found = json.loads(answer.stdout)
        self.bars.extend(speed_bars(found["train_seconds"], found["predict_seconds"], _SPEED_SITES, found["horizons"]))

    def _tell(self, what: str) -> Callable[[int, int], None]:
        return lambda done, of: self.progress.update(self._task, description=what, completed=done, total=of)


def task_of(result: Backtest) -> Task:
    """What the peers are asked: the backtest's own origins and horizons, and steps at which a spike may come."""
    series, options = result.series, result.options
    farthest = _steps(max(options.spike_within_seconds), series)
    spikes = np.linspace(1, farthest, min(farthest, _SPIKE_STEPS)).round().astype(int)
    midnight = series.starts_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return Task(
        values=series.values,
        step_seconds=series.step_seconds,
        start_seconds=(series.starts_at - midnight).total_seconds(),
        origins=result.origins,
        ahead=np.array(sorted({*spikes.tolist(), *(_steps(each, series) for each in options.horizons_seconds)})),
        refit_steps=_steps(options.refit_seconds, series),
    )


def ask_peers(task: Task, tell: Callable[[str], Callable[[int, int], None]]) -> dict[str, Rolled]:
    """Runs the peers in their environment.

    Raises:
        PeersError: their process failed.
    """
    with tempfile.TemporaryDirectory(prefix="gridtide-bench-") as name:
        asked, answered, errors = (Path(name) / file for file in ("task.npz", "points.npz", "errors"))
        task.save(asked)
        command = [str(PEERS_PYTHON), "-m", "benchmarks.forecast_peers", str(asked), str(answered)]
        with (
            errors.open("w") as error_file,
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=error_file, text=True) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                peer, done, of = line.split()
                tell(peer)(int(done), int(of))
        if process.returncode:
            raise PeersError(f"forecast_peers: {_last_line(errors.read_text())}")
        return load_rolled(answered)


def with_peers(result: Backtest, rolled: dict[str, Rolled]) -> Backtest:
    """The backtest with the peers among its methods: intervals from their own past errors, alarms from their points."""
    task = task_of(result)
    places = np.searchsorted(task.ahead, [_steps(each, result.series) for each in result.options.horizons_seconds])
    quantiles = {
        peer: conformal_quantiles(each.points[:, places], result.series, result.options)[result.origins]
        for peer, each in rolled.items()
    }
    spikes = {
        definition: replace(
            of,
            scores={
                **of.scores,
                **{peer: _alarms(definition, of, result, task, each.points) for peer, each in rolled.items()},
            },
        )
        for definition, of in result.spikes.items()
    }
    return replace(result, quantiles={**result.quantiles, **quantiles}, spikes=spikes)


def _alarms(definition: str, of: SpikeScores, result: Backtest, task: Task, points: Floats) -> Floats:
    """The highest point forecast within, over the threshold where that moves; shape (m, W)."""
    highest = np.stack(
        [
            points[result.origins][:, task.ahead <= _steps(within, result.series)].max(axis=1)
            for within in of.within_seconds
        ],
        axis=1,
    )
    if definition != "above_twice_median":
        return highest
    medians = np.nan_to_num(trailing_median(result.series.values, result.origins, result.series.step_seconds))
    return highest / np.maximum(medians, _TINY)[:, None]


def _steps(seconds: float, series: LoadSeries) -> int:
    return max(1, round(seconds / series.step_seconds))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["failed without a word"])[-1]


if __name__ == "__main__":
    sys.exit(main())
