"""The policy in its scenarios, against their bars; and what each ingredient of it is worth.

    python -m benchmarks.policy [--only NAME,...] [--seeds N] [--data FOLDER] [--json FILE]

Every file of scenarios/ is simulated (`gridtide simulate`, policy planner) with as many seeds as asked, each run in a
process of its own, two at a time. The table holds each bar against its worst seed. Where a bar is about money the
first seed is run price-blind and with perfect foresight too, and further seeds for the first two days and by
themselves: their bars are those of safety. A scenario with a bar on the saving is run again for its first week: as it
is, without the forecast's models, without any forecast, without shifts and without the optimiser.
"""

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.cores import cpu_model
from benchmarks.drain import ROOT
from streams.simulate.kpis.economics import savings
from streams.simulate.page import percent, value_of
from streams.simulate.verdicts import COMPARED

_AT_ONCE = 2
_ECONOMIC = "attained_saving_ratio"
# What is left out, by what it is called: the policy, and the scenario's keys set otherwise.
ABLATIONS: Mapping[str, tuple[Literal["planner", "rules"], Mapping[str, Any]]] = {
    "nothing left out": ("planner", {}),
    "forecast: last value": ("planner", {"forecast": "persistence"}),
    "no forecast": ("planner", {"forecast": "none"}),
    "no shifts": ("planner", {"shift": False}),
    "no optimiser: rules": ("rules", {}),
}
FULL = "full"
NOTHING = next(iter(ABLATIONS))
# Months take an hour: what is compared five times, or twenty, is a part of them.
_ABLATION_SECONDS, _MORE_SEEDS_SECONDS = 7 * 86400.0, 2 * 86400.0


@dataclass(frozen=True, slots=True)
class Case:
    """One run: a scenario, a seed, how much of it (None: all), and what of the policy is left out (`full`: nothing)."""

    path: Path
    seed: int
    data: Path | None
    compare: bool
    variant: str = FULL
    first_seconds: float | None = None

    @property
    def name(self) -> str:
        """The scenario's file without its ending."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class Ran:
    """A run's KPIs, or why there are none."""

    case: Case
    result: Mapping[str, Any] | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One bar of a scenario, held against its worst seed; `seeds_met` of `seeds` met it."""

    scenario: str
    question: str
    bar: str
    measured: str
    seeds_met: int
    seeds: int

    @property
    def met(self) -> bool:
        """Whether every seed met it."""
        return self.seeds_met == self.seeds


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    data = os.environ.get("GRIDTIDE_DATA", ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=Path, default=ROOT / "scenarios", help="folder of scenario files")
    parser.add_argument("--only", default="", help="names of scenarios, by commas; default: all")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each scenario, with seeds from 1 on")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of traces and prices (or GRIDTIDE_DATA)")
    parser.add_argument("--no-ablation", action="store_true", help="leave out what each ingredient is worth")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds: must be at least 1")
    options.only = [name for name in options.only.split(",") if name]
    found = {path.stem for path in options.scenarios.glob("*.toml")}
    if unknown := set(options.only) - found:
        parser.error(f"--only: {', '.join(sorted(unknown))}; there are {', '.join(sorted(found)) or 'none'}")
    if not found:
        parser.error(f"--scenarios: {options.scenarios}: no scenario there")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: {options.json.parent}: no such folder")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints. 0: measured, whatever the bars say; 1: a run failed."""
    options, console = options_of(arguments), Console(highlight=False)
    cases = list(cases_of(options))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        # A process runs one case and is gone: what a run leaves in memory touches no other.
        ProcessPoolExecutor(_AT_ONCE, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        task = bar.add_task("scenarios", total=len(cases))
        ran = measure(cases, pool, lambda each: bar.update(task, advance=1, description=each.case.name))
    rows = bars_of(ran)
    console.print(bar_table(rows))
    ablated = ablation_of(ran)
    for name, variants in ablated.items():
        console.print(ablation_table(name, variants))
    failed = [each for each in ran if each.failure]
    for each in failed:
        said = f"{each.case.name}, seed {each.case.seed}, {each.case.variant}: {each.failure}"
        console.print(said, markup=False, soft_wrap=True)
    console.print(f"{sum(row.met for row in rows)} of {len(rows)} bars met")
    if options.json:
        runs = [{"seed": each.case.seed, "variant": each.case.variant, **each.result} for each in ran if each.result]
        bars = [{**asdict(row), "met": row.met} for row in rows]
        written = {"cpu": cpu_model(), "bars": bars, "ablation": ablated, "runs": runs}
        options.json.write_text(json.dumps(written, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return 1 if failed else 0


def cases_of(options: argparse.Namespace) -> Iterator[Case]:
    """All runs, scenario by scenario; the ablation with the first seed only."""
    for path in sorted(options.scenarios.glob("*.toml")):
        if options.only and path.stem not in options.only:
            continue
        scenario = tomllib.loads(path.read_text(encoding="utf-8"))
        bars, lasts = scenario.get("bars", {}), scenario["duration_seconds"]
        compare = bool(COMPARED & bars.keys())
        data = options.data if options.data.is_dir() else None
        yield Case(path, 1, data, compare)
        part = min(lasts, _MORE_SEEDS_SECONDS) if compare else None
        yield from (Case(path, seed, data, False, FULL, part) for seed in range(2, options.seeds + 1))
        if _ECONOMIC in bars and not options.no_ablation:
            part = min(lasts, _ABLATION_SECONDS)
            yield from (Case(path, 1, data, variant == NOTHING, variant, part) for variant in ABLATIONS)


def run(case: Case) -> dict[str, Any]:
    """One run's KPIs."""
    from streams.simulate.command import simulate_scenario  # noqa: PLC0415 - only the process that runs it needs all

    policy, left_out = ABLATIONS.get(case.variant, ("planner", {}))
    part = {} if case.first_seconds is None else {"duration_seconds": case.first_seconds}
    return simulate_scenario(case.path, policy, case.seed, case.data, case.compare, {**left_out, **part})


def measure(
    cases: Sequence[Case],
    pool: Executor,
    tell: Callable[[Ran], None],
    simulate: Callable[[Case], Mapping[str, Any]] = run,
) -> list[Ran]:
    """Runs all cases; in the order of the cases, whichever was done first. A run that fails stops no other."""
    futures = {pool.submit(simulate, case): place for place, case in enumerate(cases)}
    ran: dict[int, Ran] = {}
    for future in as_completed(futures):
        place = futures[future]
        try:
            ran[place] = Ran(cases[place], future.result())
        except BrokenProcessPool:
            ran[place] = Ran(cases[place], None, "its process died, or one beside it")
        except Exception as error:  # whatever is wrong with one scenario, the others are still worth their table
            ran[place] = Ran(cases[place], None, f"{type(error).__name__}: {error}")
        tell(ran[place])
    return [ran[place] for place in sorted(ran)]


def bars_of(ran: Sequence[Ran]) -> list[Row]:
    """Each bar of each scenario with the value of the seed that is furthest on the wrong side."""
    grouped: dict[str, list[Ran]] = {}
    for each in ran:
        if each.case.variant == FULL and each.result is not None:
            grouped.setdefault(each.case.name, []).append(each)
    rows = []
    for name, runs in grouped.items():
        results = [each.result for each in runs if each.result is not None]
        for place, first in enumerate(results[0]["verdicts"]):
            judged = [each.case.compare or first["name"] not in COMPARED for each in runs]
            found = [result["verdicts"][place] for result, counts in zip(results, judged, strict=True) if counts]
            if not found:
                continue  # only the run that was compared could say, and it failed
            worst = max(found, key=_wrongness)
            rows.append(
                Row(
                    scenario=name,
                    question=results[0]["question"],
                    bar=f"{first['name']} {first['direction']} {value_of(first['name'], first['bound'])}",
                    measured=value_of(first["name"], worst["value"]),
                    seeds_met=sum(each["met"] for each in found),
                    seeds=len(found),
                )
            )
    return rows


def _wrongness(verdict: Mapping[str, Any]) -> float:
    if verdict["value"] is None:
        return float("inf")
    return float(verdict["value"] if verdict["direction"] == "at most" else -verdict["value"])


def ablation_of(ran: Sequence[Ran]) -> dict[str, dict[str, dict[str, float | None]]]:
    """By economic scenario and variant: the cost of a token, the saving, and what users felt, over the same span."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    wholes = {each.case.name: each.result for each in ran if each.case.variant == NOTHING}
    for each in ran:
        name, result, whole = each.case.name, each.result, wholes.get(each.case.name)
        if each.case.variant == FULL or result is None or whole is None:
            continue
        fleet, compared = result["fleet"], whole["compared_with"]
        blind, oracle = (compared[policy] or {} for policy in ("price-blind", "oracle"))
        usd, missed, blind_missed = (
            fleet["usd_per_million_tokens"],
            fleet["slo_miss_ratio"],
            blind.get("slo_miss_ratio"),
        )
        found.setdefault(name, {})[each.case.variant] = {
            "usd_per_million_tokens": usd,
            **savings(usd, blind.get("usd_per_million_tokens"), oracle.get("usd_per_million_tokens")),
            "slo_miss_vs_price_blind_ratio": None if missed is None or blind_missed is None else missed - blind_missed,
            "tokens_lost_ratio": fleet["tokens_lost_ratio"],
        }
    return found


def bar_table(rows: Sequence[Row]) -> Table:
    """A line a bar; the question stands once."""
    shown = Table(title="the policy against its bars", title_justify="left")
    for heading in ("scenario", "question", "bar", "measured", "met"):
        shown.add_column(heading, justify="right" if heading == "measured" else "left")
    before = ""
    for row in rows:
        first, before = row.scenario != before, row.scenario
        if first:
            shown.add_section()
        seeds = f" ({row.seeds_met} of {row.seeds})" if row.seeds > 1 else ""
        met = f"{'yes' if row.met else '[bold]NO[/bold]'}{seeds}"
        name, question = (row.scenario, row.question) if first else ("", "")
        shown.add_row(escape(name), escape(question), row.bar, row.measured, met)
    return shown


def ablation_table(name: str, variants: Mapping[str, Mapping[str, float | None]]) -> Table:
    """A line a variant."""
    shown = Table(title=f"{name}: what each ingredient is worth", title_justify="left")
    for heading in ("", "USD/M tokens", "saved", "of the oracle's", "missed, over price-blind", "tokens lost"):
        shown.add_column(heading, justify="right" if heading else "left")
    for variant, of in variants.items():
        usd = of["usd_per_million_tokens"]
        ratios = ("saving_vs_price_blind_ratio", _ECONOMIC, "slo_miss_vs_price_blind_ratio", "tokens_lost_ratio")
        shown.add_row(variant, "-" if usd is None else f"{usd:.4f}", *(percent(of[ratio]) for ratio in ratios))
    return shown


if __name__ == "__main__":
    sys.exit(main())
