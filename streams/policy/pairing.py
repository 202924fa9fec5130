"""From what each site lets go and takes in to who gives whom: the first span's moves. Pure.

The program pools a class's work; which pairs may move it, and how much a link carries, is seen to here. Pairs that
already move go on first. Then the dearest donor gives to the cheapest acceptor, within the room that is not promised to
others: what a shift lets go of is free only once it has gone. What no planned acceptor may take from its donor goes to
the cheapest other one that has room, if that is worth a move; else it stays where it arrived.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.policy.consolidate import Pair, consolidated
from streams.policy.levels import Levels
from streams.policy.moves import LEAST_CHANGE_RATIO
from streams.policy.problem import Problem
from streams.policy.site_curves import Floats

# Shares are whole percents.
_QUANTUM = 0.01
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Move:
    """The share of a class's arriving traffic that should go from one site to another: all of it, not what to add."""

    from_site_id: str
    to_site_id: str
    service_class: str
    share_ratio: float


class _Left:
    """What is still to be given and taken, of a class or of all; falls as pairs are made."""

    def __init__(self, problem: Problem, levels: Levels) -> None:
        arriving = problem.work[:, :, 0]
        self.links = {(a, b): work for a, b, work in problem.link_limits}
        self.room = levels.room[:, 0].copy()
        for each in problem.moving:
            work = each.share_ratio * arriving[each.donor, each.service_class]
            self.room[each.acceptor] -= work

    def link(self, a: int, b: int) -> float:
        """Work that the link between two sites still carries."""
        return self.links.get((a, b), self.links.get((b, a), np.inf))

    def use_link(self, a: int, b: int, work: float) -> None:
        """Takes it up."""
        for pair in ((a, b), (b, a)):
            if pair in self.links:
                self.links[pair] -= work


def shares_of(problem: Problem, levels: Levels, inflow: Floats, outflow: Floats) -> dict[Pair, float]:
    """Shares by pair and class that carry out the net of what flows in the first span, (S, C) each, tokens/s."""
    both = np.minimum(inflow, outflow)
    gives, takes = outflow - both, inflow - both
    left = _Left(problem, levels)
    worth = problem.price_usd_per_mwh[:, 0] * levels.slope[:, 0]
    work = _kept(problem, worth, gives, takes, left)
    _match(problem, worth, gives, takes, left, work)
    slope = levels.slope[:, 0]
    gains = worth[:, None] - worth >= problem.move_usd_per_mwh * (slope[:, None] + slope) / 2
    relieves = levels.held[:, 0][:, None] & ~levels.held[:, 0]
    others = np.where(problem.may_take, np.maximum(0.0, left.room)[:, None], 0.0)
    _match(problem, worth, gives, others, left, work, gains | relieves)
    return _shares(problem, consolidated(problem, levels, work))


def _match(
    problem: Problem,
    worth: Floats,
    gives: Floats,
    takes: Floats,
    left: _Left,
    work: dict[Pair, float],
    allowed: NDArray[np.bool_] | None = None,
) -> None:
    """Adds to `work` what goes from the dearest donor to the cheapest acceptor, and takes it off what is left."""
    for service in range(len(problem.class_ids)):
        pairs = problem.pairs[service] if allowed is None else problem.pairs[service] & allowed
        donors = sorted(np.nonzero(gives[:, service] > _TINY)[0].tolist(), key=lambda site: (-worth[site], site))
        acceptors = sorted(np.nonzero(takes[:, service] > _TINY)[0].tolist(), key=lambda site: (worth[site], site))
        for donor in donors:
            for acceptor in (each for each in acceptors if pairs[donor, each]):
                given = min(
                    gives[donor, service], takes[acceptor, service], left.link(donor, acceptor), left.room[acceptor]
                )
                if given > _TINY:
                    pair = (donor, acceptor, service)
                    work[pair] = work.get(pair, 0.0) + given
                    gives[donor, service] -= given
                    takes[acceptor, service] -= given
                    left.room[acceptor] -= given
                    left.use_link(donor, acceptor, given)


def _kept(problem: Problem, worth: Floats, gives: Floats, takes: Floats, left: _Left) -> dict[Pair, float]:
    """What goes on between pairs that already move; the pair that saves most first."""
    work = dict[Pair, float]()
    staying = [each for each in problem.moving if each.stays]
    for each in sorted(staying, key=lambda each: (worth[each.acceptor] - worth[each.donor], each.donor, each.acceptor)):
        moving = each.share_ratio * problem.work[each.donor, each.service_class, 0]
        kept = min(gives[each.donor, each.service_class], takes[each.acceptor, each.service_class], moving)
        if kept > _TINY and problem.pairs[each.service_class, each.donor, each.acceptor]:
            work[each.donor, each.acceptor, each.service_class] = kept
            gives[each.donor, each.service_class] -= kept
            takes[each.acceptor, each.service_class] -= kept
            left.use_link(each.donor, each.acceptor, kept)
    return work


def _shares(problem: Problem, work: dict[Pair, float]) -> dict[Pair, float]:
    """Whole percents; those that move already first, and as they are where the change is too small to command."""
    now = {(each.donor, each.acceptor, each.service_class): each.share_ratio for each in problem.moving if each.stays}
    shares = dict[Pair, float]()
    given = np.zeros(problem.work.shape[:2])
    for pair in sorted(work, key=lambda pair: (pair not in now, pair)):
        donor, _, service = pair
        share = min(work[pair] / problem.work[donor, service, 0], 1.0 - given[donor, service])
        kept = now.get(pair, 0.0)
        if abs(share - kept) >= LEAST_CHANGE_RATIO or kept > 1.0 - given[donor, service]:
            kept = round(int(share / _QUANTUM + 1e-6) * _QUANTUM, 6)
        if kept >= _QUANTUM:
            shares[pair] = kept
            given[donor, service] += kept
    return dict(sorted(shares.items()))
