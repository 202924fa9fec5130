"""How long the planner takes, beside bare programs of the same shape; and what pooling is worth.

    python -m benchmarks.planner --json build/bench/planner.json

A plan is `problem_of` and `optimise`, with nothing kept from the plan before: 100 sites with and without an event, and
1,000 sites in fleets of 50, one fleet after the other; 24 steps and three service classes. The bare programs move work
where it is cheap and know of nothing else, no throttle, event or ramp: one pooled, as the planner's, one with the full
transport matrix. Seconds are of the processor's time, on one thread: others on the machine take none of it, though they
do take its caches.
"""

import json
import platform
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack, kron, vstack
from threadpoolctl import threadpool_limits

from benchmarks.cores import cpu_model
from benchmarks.planner_fleets import NOW, first_plan, fleet_file, view_of
from benchmarks.report import Bar, bar_lines
from streams.policy.levels import levels_of
from streams.policy.optimise import Solution, optimise
from streams.policy.problem import Problem, problem_of

_FLEETS, _FLEET_SITES, _SITES = 20, 50, 100
_JOULES_PER_MWH = 3.6e9
# The transport matrix of 100 sites: longer than this it does not get.
_MOST_SECONDS = 300.0

Work = Callable[[], object | None]  # gives None where there is no solution


@dataclass(slots=True)
class Taken:
    """The processor's and the wall's seconds of one kind of work, over all rounds; how often it was solved."""

    what: str
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    solved: int = 0
    variables: int | None = None

    def time(self, work: Work) -> None:
        """Does it once."""
        wall, cpu = perf_counter(), process_time()
        self.solved += work() is not None
        self.cpu.append(process_time() - cpu)
        self.wall.append(perf_counter() - wall)

    def at(self, level: float) -> float:
        """A quantile of the processor's seconds."""
        return float(np.quantile(self.cpu, level))

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "what": self.what,
            "cpu_seconds_p50": self.at(0.5),
            "cpu_seconds_p95": self.at(0.95),
            "wall_seconds_p50": float(np.quantile(self.wall, 0.5)),
            "solved": self.solved,
            "rounds": len(self.cpu),
            "variables": self.variables,
        }


def plan_of(sites: int, seed: int, with_event: bool) -> Work:
    """A planning step of one fleet, to be timed."""
    file = fleet_file(sites, seed)
    view = view_of(file, seed, with_event)

    def work() -> Solution | None:
        problem = problem_of(view, first_plan(), file, NOW)
        return None if problem is None else optimise(problem)

    return work


def bare(problem: Problem, transport: bool) -> tuple[Callable[[], float | None], int]:
    """The bare program, its building left out: gives the least cost, USD. And how many variables it has.

    Pooled: an inflow and an outflow per site, class and step, their sums equal. Transport: a flow for every pair.
    """
    levels, (sites, _, steps) = levels_of(problem), problem.work.shape
    unit = float(problem.capacity.mean())
    flexible = np.nonzero(problem.flex > 0)[0]
    by_class = len(flexible)
    if transport:
        donors, acceptors = (each.ravel() for each in np.nonzero(~np.eye(sites, dtype=bool)))
    else:
        donors = acceptors = np.arange(sites)
    pairs = np.arange(len(donors))
    leaves = csr_array((np.ones(len(pairs)), (donors, pairs)), shape=(sites, len(pairs)))
    enters = csr_array((np.ones(len(pairs)), (acceptors, pairs)), shape=(sites, len(pairs)))
    repeated = eye_array(by_class * steps)
    # Rows and columns by class, step, then site or pair.
    out, into = (kron(repeated, each, format="csr") for each in (leaves, enters))
    if not transport:
        nothing = csr_array(out.shape)
        out, into = hstack([out, nothing], format="csr"), hstack([nothing, into], format="csr")
    over_classes = kron(np.ones((1, by_class)), eye_array(steps * sites), format="csr")
    watt_hours = (levels.slope * problem.price_usd_per_mwh * problem.span_seconds / _JOULES_PER_MWH).T.ravel() * unit
    moving = problem.move_usd_per_mwh * (levels.slope * problem.span_seconds / _JOULES_PER_MWH).T.ravel() * unit
    net = over_classes @ (into - out)
    cost = net.T @ watt_hours + (over_classes @ out).T @ moving
    upper = vstack([out, net], format="csr")
    most = problem.work[:, flexible].transpose(1, 2, 0).ravel() / unit
    limit = np.concatenate([most, levels.room.T.ravel() / unit])
    equal = None if transport else kron(repeated, np.ones((1, sites)), format="csr") @ (into - out)

    def work() -> float | None:
        found = linprog(
            cost,
            A_ub=upper,
            b_ub=limit,
            A_eq=equal,
            b_eq=None if equal is None else np.zeros(equal.shape[0]),
            method="highs-ds",
            options={"time_limit": _MOST_SECONDS},
        )
        return float(found.fun) if found.status == 0 else None

    return work, len(cost)


def measured(rounds: int) -> list[Taken]:
    """Every kind of work, in turns, so that what else happens on the machine happens to all of them."""
    small = {with_event: Taken(f"{_SITES} sites, {'an event' if with_event else 'prices'}") for with_event in (0, 1)}
    many, pooled, transport = (
        Taken(f"{_FLEETS * _FLEET_SITES} sites, fleets of {_FLEET_SITES}"),
        Taken(f"{_SITES} sites, bare, pooled"),
        Taken(f"{_SITES} sites, bare, transport matrix"),
    )
    plan_of(3, 0, True)()  # what the first solve of a process takes longer is not the planner's
    for number in range(rounds):
        for with_event, taken in small.items():
            taken.time(plan_of(_SITES, number, bool(with_event)))
        problem = problem_of(view_of(file := fleet_file(_SITES, number), number, False), first_plan(), file, NOW)
        assert problem is not None
        work, pooled.variables = bare(problem, transport=False)
        pooled.time(work)
        if number == 0:
            work, transport.variables = bare(problem, transport=True)
            transport.time(work)
        if number % 4 == 0:
            many.time(_all_of([plan_of(_FLEET_SITES, fleet, fleet % 2 == 1) for fleet in range(_FLEETS)]))
    return [*small.values(), many, pooled, transport]


def _all_of(fleets: Sequence[Work]) -> Work:
    return lambda: None if any([work() is None for work in fleets]) else True  # noqa: C419  none is left out


def bars(taken: list[Taken]) -> list[Bar]:
    """The planner's bars: as plans a second, p95."""
    slowest = max(each.at(0.95) for each in taken[:2])
    return [
        Bar(f"{_SITES} sites: plans a second, p95", 1 / slowest, 1.0),
        Bar(f"{taken[2].what}: plans of all a second, p95", 1 / taken[2].at(0.95), 0.2),
        Bar(
            "a bare pooled program, of one with the transport matrix: times as fast",
            taken[4].at(0.5) / taken[3].at(0.5),
            1.0,
        ),
    ]


def main() -> int:
    """Measures and prints."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    with threadpool_limits(1):
        taken = measured(given.rounds)
    shown = Table(title="planner: seconds of one core, 24 steps, 3 classes")
    for heading in ("", "p50", "p95", "wall p50", "rounds", "solved", "variables"):
        shown.add_column(heading, justify="right" if heading else "left")
    for each in taken:
        figures = (each.at(0.5), each.at(0.95), float(np.quantile(each.wall, 0.5)))
        told = f"{each.variables:,}" if each.variables else ""
        shown.add_row(each.what, *(f"{it:.3f}" for it in figures), str(len(each.cpu)), str(each.solved), told)
    Console().print(shown)
    found = bars(taken)
    print("\n".join(bar_lines(found)))
    if given.json:
        about = {"cpu": cpu_model(), "python": platform.python_version(), "scipy": version("scipy")}
        given.json.write_text(
            json.dumps(
                {
                    "about": about,
                    "figures": [each.as_json() for each in taken],
                    "bars": [{"what": bar.what, "reached": bar.reached, "least": bar.least} for bar in found],
                },
                indent=2,
            )
        )
    return 1 if any(bar.verdict == "MISSED" for bar in found) else 0


if __name__ == "__main__":
    sys.exit(main())
