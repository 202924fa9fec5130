"""The columns of the optimiser's program: what may flow, be held down or lost, and what each of it costs. Pure.

Costs are in USD/MWh of a unit of power over a step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from streams.policy.levels import Levels, ramping_of, rungs_of
from streams.policy.problem import Problem
from streams.policy.site_curves import Floats

Places = NDArray[np.int64]

# A move under way costs this share of what a new one costs: it goes on until it is hardly worth it.
KEEPING_RATIO = 0.2
_EVENT_PENALTY, _RAMP_PENALTY, _EMERGENCY_PENALTY = 4.0, 16.0, 64.0
_JOULES_PER_MWH = 3.6e9


@dataclass(slots=True, eq=False)
class Columns:
    """Columns in the order in which they are added: their cost, their upper bound."""

    cost: list[Floats] = field(default_factory=list)
    most: list[Floats] = field(default_factory=list)
    width: int = 0

    def add(self, cost: Floats, most: Floats) -> Places:
        """Adds a column for each entry; gives their numbers."""
        self.cost.append(cost)
        self.most.append(most)
        self.width += len(most)
        return np.arange(self.width - len(most), self.width)


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Places in an array of sites, classes and spans, or of sites and spans, flat, and the columns that count there."""

    places: Places
    columns: Places

    def matrix(self, shape: tuple[int, int], row_of: Callable[[Places], Places] | None = None) -> Any:
        """What times all columns gives the sums at the places, or over those that are of one row."""
        rows = self.places if row_of is None else row_of(self.places)
        return csr_array((np.ones(len(self.columns)), (rows, self.columns)), shape=shape)


def hours_of(problem: Problem) -> Floats:
    """The spans' lengths in steps (T,): what a price is multiplied by."""
    return np.array(problem.spans, dtype=float)


def loss_prices(problem: Problem, levels: Levels, work_by_power: float) -> Floats:
    """(C,) what a unit of work not served costs, in USD/MWh of a unit of power; dropping it never saves money."""
    prices = problem.loss_usd_per_token * work_by_power * _JOULES_PER_MWH
    energy = 2 * (np.abs(problem.price_usd_per_mwh).max() + 1) * levels.slope.max() * work_by_power
    return np.maximum(prices, float(energy))


def add_flows(problem: Problem, levels: Levels, columns: Columns, slope: Floats) -> tuple[Flows, Flows]:
    """What sites let go and take in: half of a move's cost at either end, less for what moves already."""
    shape = problem.work.shape
    unit = float(problem.capacity.mean())
    cost = np.broadcast_to((problem.move_usd_per_mwh / 2 * slope * hours_of(problem))[:, None, :], shape)
    out_now, in_now = np.zeros(shape[:2]), np.zeros(shape)
    for each in problem.moving:
        if each.stays and problem.pairs[each.service_class, each.donor, each.acceptor]:
            out_now[each.donor, each.service_class] += each.share_ratio
            in_now[each.acceptor, each.service_class] += each.share_ratio * problem.work[each.donor, each.service_class]
    goes = np.broadcast_to(problem.may_give[:, :, None], shape)
    comes = np.broadcast_to(problem.may_take[:, :, None], shape)
    may_go = np.where(goes, np.minimum(levels.movable, _link_work(problem)[:, :, None]), 0.0)
    may_come = np.where(comes, (levels.room + levels.movable.sum(axis=1))[:, None, :], 0.0)
    keeps = KEEPING_RATIO * cost
    now = (np.minimum(out_now, 1.0)[:, :, None] * levels.movable, np.minimum(in_now, may_come))
    return tuple(  # type: ignore[return-value]
        _joined(_added(columns, cost, most / unit), _added(columns, keeps, kept / unit))
        for most, kept in zip((may_go, may_come), now, strict=True)
    )


def _added(columns: Columns, cost: Floats, most: Floats) -> Flows:
    places = np.nonzero(most.ravel() > 0)[0]
    return Flows(places, columns.add(cost.ravel()[places], most.ravel()[places]))


def _joined(a: Flows, b: Flows) -> Flows:
    return Flows(np.concatenate([a.places, b.places]), np.concatenate([a.columns, b.columns]))


def _link_work(problem: Problem) -> Floats:
    """The most work (S, C) that the links of a site carry together; infinite where one of them has no limit."""
    limit = np.full(problem.pairs.shape[1:], np.inf)
    for a, b, work in problem.link_limits:
        limit[a, b] = limit[b, a] = work
    return np.where(problem.pairs, limit, 0.0).sum(axis=2).T


def add_throttle(problem: Problem, levels: Levels, columns: Columns, power_unit: float) -> Flows:
    """What sites are held down by, at the prices of their ladders."""
    rungs = rungs_of(problem, levels)
    hours = hours_of(problem)[rungs.places % len(problem.spans)]
    return Flows(rungs.places, columns.add(rungs.price_usd_per_mwh * hours, rungs.watts / power_unit))


def add_unserved(problem: Problem, levels: Levels, columns: Columns, loss: Floats, work_unit: float) -> Flows:
    """What is lost of what arrives: where a target holds, or a site is asked for more than it can."""
    short = levels.held | (levels.work > problem.capacity[:, None])
    return _added(
        columns,
        np.broadcast_to(loss[:, None] * hours_of(problem), problem.work.shape),
        np.where(short[:, None, :], problem.work, 0.0) / work_unit,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Slacks:
    """Columns of slack: each target's (T,), the fleet's limit's (T,), the sites' ramps' (S T), the fleet's (T,)."""

    targets: list[Places]
    limit: Places
    ramps: Places
    fleet_ramp: Places


def add_slacks(problem: Problem, columns: Columns, top: float) -> Slacks:
    """What limits are missed by, at so many times the highest price of all else, `top`."""
    hours = hours_of(problem)
    sites = len(problem.site_ids)

    def add(penalty: float, times: int = 1) -> Places:
        return columns.add(np.tile(penalty * top * hours, times), np.full(times * len(hours), np.inf))

    return Slacks(
        [add(_EMERGENCY_PENALTY if target.emergency else _EVENT_PENALTY) for target in problem.targets],
        add(_EMERGENCY_PENALTY),
        add(_RAMP_PENALTY, sites if ramping_of(problem).any() else 0),
        add(_RAMP_PENALTY),
    )
