"""Who gives whom, improved by the sites' exact powers: what a program of straight lines can't see. Pure.

A site's power is steep in its work near idle and flat near full load: to empty one site into others pays where each
half of it does not, and under a throttle the first part of what leaves saves nothing. A minimum of such concave costs
lies in a corner, so whole donors are tried: all that one may still give to another that has room, or all that moves
between them back; the best first, no site twice in a round, until nothing gains (local search as for concave-cost
flows: Guisewite and Pardalos 1990). From three beginnings: what the program found, what moves already, and nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.policy.columns import KEEPING_RATIO
from streams.policy.levels import Levels, saved_by_throttles
from streams.policy.problem import Problem
from streams.policy.site_curves import Floats

Pair = tuple[int, int, int]  # donor, acceptor, class

_ROUNDS = 20
_TINY = 1e-9
# Of the fleet's cost: less is rounding.
_LEAST_GAIN_RATIO = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """What may flow in the first span. S sites, C classes; work in tokens/s."""

    problem: Problem
    arriving: Floats  # (S, C)
    kept: Floats  # (C, S, S) from, to: what moves already and may go on
    room: Floats  # (S,) for all work of others
    new_room: Floats  # (S,) for new work, beside all that is on its way or promised
    link: Floats  # (S, S)
    move_cost: Floats  # (S, S) of a unit of work, USD/MWh x W

    @classmethod
    def of(cls, problem: Problem, levels: Levels) -> "_Ways":
        sites, arriving = len(problem.site_ids), problem.work[:, :, 0]
        kept, new_room = np.zeros(problem.pairs.shape), levels.room[:, 0].copy()
        for each in problem.moving:
            work = each.share_ratio * arriving[each.donor, each.service_class]
            new_room[each.acceptor] -= work
            if each.stays and problem.pairs[each.service_class, each.donor, each.acceptor]:
                kept[each.service_class, each.donor, each.acceptor] += work
        link = np.full((sites, sites), np.inf)
        for a, b, most in problem.link_limits:
            link[a, b] = link[b, a] = most
        slope = levels.slope[:, 0]
        cost = problem.move_usd_per_mwh * (slope[:, None] + slope) / 2
        inflow = kept.sum(axis=(0, 1))  # what no longer fits goes home
        kept *= np.divide(levels.room[:, 0], inflow, out=np.ones(sites), where=inflow > levels.room[:, 0])
        return cls(problem, arriving, kept, levels.room[:, 0], np.maximum(0.0, new_room), link, cost)

    def load(self, flows: Floats) -> Floats:
        """Work (S,) of each site under the flows (C, S, S)."""
        moved = flows.sum(axis=0)
        return np.asarray(self.arriving.sum(axis=1) - moved.sum(axis=1) + moved.sum(axis=0))

    def energy_cost(self, work: Floats) -> Floats:
        """USD/MWh x W of sites with work (S, K), of the same shape; less what throttles save on balance."""
        problem = self.problem
        watts = np.minimum(problem.curves.uncapped_watts(work), problem.import_limit_watts[:, None])
        return problem.price_usd_per_mwh[:, :1] * watts - saved_by_throttles(problem, watts)

    def moving_cost(self, flows: Floats) -> float:
        """USD/MWh x W of all flows; of those that go on less."""
        going_on = np.minimum(flows, self.kept)
        return float(((flows - (1 - KEEPING_RATIO) * going_on).sum(axis=0) * self.move_cost).sum())

    def cost(self, flows: Floats) -> float:
        """USD/MWh x W of the fleet."""
        return float(self.energy_cost(self.load(flows)[:, None]).sum()) + self.moving_cost(flows)

    def addable(self, flows: Floats) -> tuple[Floats, Floats]:
        """What each donor may still give each acceptor, (C, S, S): of what moves already, and new."""
        rest = self.arriving.T - flows.sum(axis=2)
        rest = np.where(self.problem.pairs, np.maximum(0.0, rest)[:, :, None], 0.0)
        used = flows.sum(axis=0)
        link = np.maximum(0.0, self.link - used - used.T)
        room = np.maximum(0.0, self.room - flows.sum(axis=(0, 1)))
        going_on = _first(np.minimum(rest, np.maximum(0.0, self.kept - flows)), np.minimum(link, room))
        left = self.new_room - np.maximum(0.0, flows - self.kept).sum(axis=(0, 1))
        most = np.minimum(np.maximum(0.0, left), np.minimum(link, room) - going_on.sum(axis=0))
        return going_on, _first(rest - going_on, most)


def _first(wanted: Floats, most: Floats) -> Floats:
    """What is wanted (C, S, S), the last classes first, up to `most` (S, S) of all together."""
    before = np.cumsum(wanted[::-1], axis=0)[::-1] - wanted
    return np.clip(most - before, 0.0, wanted)


def consolidated(problem: Problem, levels: Levels, work: dict[Pair, float]) -> dict[Pair, float]:
    """The work by pair that costs least in the first span, tokens/s, from that of the program on.

    Where a target, a limit or a ramp may bind, the program's stands: it has weighed what costs do not say.
    """
    if levels.bound[:, 0].any() or not problem.pairs.any():
        return work
    ways = _Ways.of(problem, levels)
    programmed = np.zeros(problem.pairs.shape)
    for (donor, acceptor, service), each in work.items():
        programmed[service, donor, acceptor] = each
    starts = [programmed, np.zeros_like(programmed)]
    if ways.kept.any():
        starts.append(ways.kept)
    found = [_improved(ways, start) for start in starts]
    best = min(found, key=ways.cost)
    return {
        (donor, acceptor, service): float(best[service, donor, acceptor])
        for service, donor, acceptor in np.argwhere(best > _TINY).tolist()
    }


def _improved(ways: _Ways, flows: Floats) -> Floats:
    flows = flows.copy()
    for _ in range(_ROUNDS):
        going_on, new = ways.addable(flows)
        more, back = going_on + new, flows
        gains = np.stack([_gains(ways, flows, more), _gains(ways, flows, -back)])
        least = _LEAST_GAIN_RATIO * (1.0 + abs(ways.cost(flows)))
        if not (gains > least).any():
            break
        _apply(flows, gains, more, back, least)
    return flows


def _gains(ways: _Ways, flows: Floats, change: Floats) -> Floats:
    """What the fleet saves by each pair's change (C, S, S) alone, (S, S)."""
    load, moved = ways.load(flows)[:, None], change.sum(axis=0)
    before = ways.energy_cost(load)
    donors = before - ways.energy_cost(load - moved)
    acceptors = (before - ways.energy_cost(load + moved.T)).T
    moving = _moving(ways, flows) - _moving(ways, flows + change)
    return np.where(np.abs(moved) > _TINY, donors + acceptors + moving, -np.inf)


def _moving(ways: _Ways, flows: Floats) -> Floats:
    return np.asarray((flows - (1 - KEEPING_RATIO) * np.minimum(flows, ways.kept)).sum(axis=0) * ways.move_cost)


def _apply(flows: Floats, gains: Floats, more: Floats, back: Floats, least: float) -> None:
    """The best changes of a round, none of two that touch the same site."""
    busy: NDArray[np.bool_] = np.zeros(gains.shape[1], dtype=bool)
    order = np.argsort(-gains, axis=None, kind="stable")[: int((gains > least).sum())]
    for returns, donor, acceptor in zip(*np.unravel_index(order, gains.shape), strict=True):
        if not busy[donor] and not busy[acceptor]:
            busy[[donor, acceptor]] = True
            flows[:, donor, acceptor] += -back[:, donor, acceptor] if returns else more[:, donor, acceptor]
