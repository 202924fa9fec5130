"""The optimiser's linear program, built from a problem by index arithmetic. Pure.

Work of a class is pooled: each site may let some go and take some in, and over the sites what goes is what comes. A
transport matrix would say from where to where and be S times as large; where links forbid a pair, `pairing` sees to it.

Power is no variable but follows, in each span, from net inflow n (tokens/s) and throttle r (W held down):

    p = U(own work) + slope x n - r

r is filled rung by rung of the strike ladder, from what the site draws by itself down. Where a target holds, work
served is at most what the power leaves (`SiteCurves.cut_*`), and work not served costs its loss; elsewhere the ladder's
prices have paid for it. Targets, the fleet's limit and ramps have slack at penalties far above all else, in the order
of the design's precedence: emergencies and the limit, ramps, events. So there is always a solution, and the least
violation is the cheapest.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array, kron, vstack

from streams.policy.columns import (
    Columns,
    Places,
    Slacks,
    add_flows,
    add_slacks,
    add_throttle,
    add_unserved,
    hours_of,
    loss_prices,
)
from streams.policy.levels import Levels, between_seconds, fleet_ramping_of, ramping_of
from streams.policy.problem import Problem
from streams.policy.site_curves import Floats

Rows = tuple[Any, Floats]  # a sparse matrix, and what it times x may be at most

# Prices are divided by this, so that most of the program's numbers are near 1.
_USUAL_USD_PER_MWH = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """minimise cost @ x; upper @ x <= limit, balance @ x = 0, 0 <= x <= most; and how to read x.

    Work is in units of `work_unit` tokens/s, power in units of `power_unit` W.
    """

    cost: Floats
    upper: Any
    limit: Floats
    balance: Any
    most: Floats
    inflow: Any  # (S C T, columns)
    outflow: Any  # (S C T, columns)
    throttle: Any  # (S T, columns)
    work_unit: float
    power_unit: float


def program_of(problem: Problem, levels: Levels) -> Program:
    """The program of a problem about its levels."""
    work_unit, power_unit = float(problem.capacity.mean()), float(problem.import_limit_watts.mean())
    shape, spans = problem.work.shape, problem.price_usd_per_mwh.size
    columns = Columns()
    loss = loss_prices(problem, levels, work_unit / power_unit)
    slope = levels.slope * (work_unit / power_unit)
    outflow, inflow = add_flows(problem, levels, columns, slope)
    throttle = add_throttle(problem, levels, columns, power_unit)
    unserved = add_unserved(problem, levels, columns, loss, work_unit)
    steepest = float(problem.curves.cut_slope.max()) * power_unit / work_unit
    top = max(
        1.0,
        float(np.abs(problem.price_usd_per_mwh).max()),
        float(np.abs(problem.rung_price_usd_per_mwh).max()),
        float(loss.max()) * steepest,
    )
    slacks = add_slacks(problem, columns, top)
    width = columns.width
    leave, enter, lost = (each.matrix((problem.work.size, width)) for each in (outflow, inflow, unserved))
    down = throttle.matrix((spans, width))

    def of_site(places: Places) -> Places:
        return places // (shape[1] * shape[2]) * shape[2] + places % shape[2]

    def of_class(places: Places) -> Places:
        return places % (shape[1] * shape[2])

    leaves, enters, dropped = (each.matrix((spans, width), of_site) for each in (outflow, inflow, unserved))
    pooled = (shape[1] * shape[2], width)
    net = enters - leaves
    power = diags_array(slope.ravel()) @ net - down
    units = (work_unit, power_unit)
    blocks = [
        _room_rows(levels, net, work_unit),
        _own_rows(problem, leave + lost, work_unit),
        _depth_rows(levels, net, down, units),
        _overload_rows(problem, levels, net, dropped, work_unit),
        _served_rows(problem, levels, net, dropped, down, units),
        *_limit_rows(problem, levels, power, slacks, power_unit),
        *_ramp_rows(problem, levels, power, slacks, power_unit),
    ]
    hours = np.tile(hours_of(problem), shape[0])
    price = problem.price_usd_per_mwh.ravel() * hours / _USUAL_USD_PER_MWH
    return Program(
        cost=np.concatenate(columns.cost) / _USUAL_USD_PER_MWH + power.T @ price,
        upper=vstack([matrix for matrix, _ in blocks], format="csr"),
        limit=np.concatenate([limit for _, limit in blocks]),
        balance=(inflow.matrix(pooled, of_class) - outflow.matrix(pooled, of_class))[_movable_rows(problem)],
        most=np.concatenate(columns.most),
        inflow=enter,
        outflow=leave,
        throttle=down,
        work_unit=work_unit,
        power_unit=power_unit,
    )


def _movable_rows(problem: Problem) -> Places:
    return np.nonzero(np.repeat(problem.pairs.any(axis=(1, 2)), len(problem.spans)))[0]


def _room_rows(levels: Levels, net: Any, work_unit: float) -> Rows:
    return net, levels.room.ravel() / work_unit


def _own_rows(problem: Problem, gone: Any, work_unit: float) -> Rows:
    """What is gone and what is lost is no more than what comes; a single column's bound says so by itself."""
    rows = np.nonzero(np.diff(gone.indptr) > 1)[0]
    return gone[rows], problem.work.ravel()[rows] / work_unit


def _depth_rows(levels: Levels, net: Any, down: Any, units: tuple[float, float]) -> Rows:
    """A site that sends work away has less to give up; exact where it keeps all and where it keeps the least."""
    rows = np.nonzero(np.diff(down.indptr) > 0)[0]
    slope = diags_array(levels.depth_slope.ravel()[rows] * units[0] / units[1])
    return down[rows] - slope @ net[rows], levels.depth_watts.ravel()[rows] / units[1]


def _overload_rows(problem: Problem, levels: Levels, net: Any, dropped: Any, work_unit: float) -> Rows:
    """No site serves more than it can at full power; where a target holds the cuts say so."""
    rows = np.nonzero((~levels.held & (levels.work > problem.capacity[:, None])).ravel())[0]
    free = (problem.capacity[:, None] - levels.work).ravel()[rows]
    return (net - dropped)[rows], free / work_unit


def _served_rows(
    problem: Problem, levels: Levels, net: Any, dropped: Any, down: Any, units: tuple[float, float]
) -> Rows:
    """Under a target: own work + net inflow - dropped <= cut slope x p + cut offset, for each line of the envelope."""
    work_unit, power_unit = units
    slopes, offsets = problem.curves.cut_slope, problem.curves.cut_offset
    is_new = np.diff(slopes, axis=1, prepend=np.inf) != 0  # the rest fills up the array
    held, cut = np.nonzero(levels.held.ravel()[:, None] & np.repeat(is_new, len(problem.spans), axis=0))
    site = held // len(problem.spans)
    steep, offset = slopes[site, cut], offsets[site, cut]
    own_watts, work, slope = (each.ravel()[held] for each in (levels.own_watts, levels.work, levels.slope))
    inflow = diags_array(1 - steep * slope) @ net[held]
    lost = diags_array(steep * power_unit / work_unit) @ down[held]
    leaves = np.maximum(offset + steep * own_watts, np.minimum(work, problem.capacity[site]))
    return inflow + lost - dropped[held], (leaves - work) / work_unit


def _limit_rows(problem: Problem, levels: Levels, power: Any, slacks: Slacks, power_unit: float) -> list[Rows]:
    """Targets and the fleet's limit: the power of their sites together, less slack."""
    asked = [(each.sites, each.watts, slack) for each, slack in zip(problem.targets, slacks.targets, strict=True)]
    if problem.power_limit_watts is not None:
        everywhere = np.arange(len(problem.site_ids))
        asked.append((everywhere, np.full(len(problem.spans), problem.power_limit_watts), slacks.limit))
    found = []
    for sites, watts, slack in asked:
        spans = np.nonzero(np.isfinite(watts))[0]
        limit = (watts - levels.own_watts[sites].sum(axis=0))[spans] / power_unit
        found.append((_summed(power, sites, len(problem.spans))[spans] - _picked(slack[spans], power.shape[1]), limit))
    return found


def _ramp_rows(problem: Problem, levels: Levels, power: Any, slacks: Slacks, power_unit: float) -> list[Rows]:
    """Each site's and the fleet's change from span to span, down and up, where it may be too fast; less slack."""
    steps, seconds = len(problem.spans), between_seconds(problem)
    found = []
    slow = ramping_of(problem)
    slow[:, 0] &= np.isfinite(problem.power_now_watts)
    fleet_slow = fleet_ramping_of(problem)
    fleet_slow[0] &= bool(np.isfinite(problem.power_now_watts).all())
    by_site = _change(len(slow), steps)
    fleet = _change(1, steps) @ _summed(power, np.arange(len(slow)), steps)
    own, own_fleet = (_changes(each, now) for each, now in _own_powers(problem, levels))
    for sign, ramp, fleet_ramp in zip(
        (-1.0, 1.0), problem.ramp_watts_per_second, problem.fleet_ramp_watts_per_second, strict=True
    ):
        rows = np.nonzero(slow.ravel())[0]
        if len(rows):
            limit = (ramp[:, None] * seconds - sign * own).ravel()[rows] / power_unit
            found.append((sign * (by_site @ power)[rows] - _picked(slacks.ramps[rows], power.shape[1]), limit))
        spans = np.nonzero(fleet_slow)[0]
        if fleet_ramp is not None and len(spans):
            limit = (fleet_ramp * seconds - sign * own_fleet[0])[spans] / power_unit
            found.append((sign * fleet[spans] - _picked(slacks.fleet_ramp[spans], power.shape[1]), limit))
    return found


@lru_cache(maxsize=64)  # the same for every plan of a fleet
def _change(sites: int, steps: int) -> Any:
    """What times the power of sites and spans, flat, is its change from span to span; in the first all of it."""
    return kron(eye_array(sites), eye_array(steps) - eye_array(steps, k=-1), format="csr")


def _own_powers(problem: Problem, levels: Levels) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    now = problem.power_now_watts
    return (levels.own_watts, now), (levels.own_watts.sum(axis=0, keepdims=True), now.sum(keepdims=True))


def _changes(watts: Floats, now: Floats) -> Floats:
    return np.diff(watts, axis=1, prepend=now[:, None])


def _summed(power: Any, sites: Places, steps: int) -> Any:
    """The power of some sites together, (T, columns)."""
    row = np.tile(np.arange(steps), len(sites))
    column = (sites[:, None] * steps + np.arange(steps)).ravel()
    return csr_array((np.ones(len(row)), (row, column)), shape=(steps, power.shape[0])) @ power


def _picked(columns: Places, width: int) -> Any:
    """A row for each column, with that one in it."""
    return csr_array((np.ones(len(columns)), (np.arange(len(columns)), columns)), shape=(len(columns), width))
