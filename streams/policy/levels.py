"""What the optimiser's program is linear about: a site's power near the work that it expects. Pure.

U, the power that work draws uncapped, is concave in it. The line is exact at the site's own work; its slope is that of
the secant between the work with all that may move gone and the work up to the headroom.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.policy.problem import Problem
from streams.policy.site_curves import Floats

# Depth below what is bearable for money costs this many times the highest price in sight.
_NOT_FOR_MONEY = 2.0
_LEAST_WATTS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """S sites, T spans, C classes; W, tokens/s, W by token/s."""

    work: Floats  # (S, T) of all classes
    own_watts: Floats  # (S, T) that it draws uncapped, within the import limit
    slope: Floats  # (S, T)
    movable: Floats  # (S, C, T)
    room: Floats  # (S, T) of work that may come in
    depth_watts: Floats  # (S, T) that a throttle may go down from `own_watts`
    depth_slope: Floats  # (S, T) by which that changes with the work
    held: NDArray[np.bool_]  # (S, T) by a target
    bound: NDArray[np.bool_]  # (S, T) by a target, the fleet's limit or a ramp


def levels_of(problem: Problem) -> Levels:
    """The levels about what arrives."""
    limit = problem.import_limit_watts[:, None]
    own = problem.work.sum(axis=1)
    movable = np.where(problem.may_give[:, :, None], problem.work, 0.0)
    comes = problem.may_take.any(axis=1, keepdims=True)
    capacity = problem.capacity[:, None]
    # What is expected, and what comes now, leaves the headroom free; what may come at worst finds a place in it.
    usual = problem.headroom_ratio * capacity - np.fmax(own, problem.seen_work[:, None])
    room = np.maximum(0.0, np.minimum(usual, capacity - problem.room_work))
    room = np.where(comes, room, 0.0)
    least = own - movable.sum(axis=1)

    def drawn(work: Floats) -> Floats:
        return np.minimum(problem.curves.uncapped_watts(work), limit)

    own_watts, least_watts = drawn(own), drawn(least)
    slope = _secant(least, least_watts, own + room, drawn(own + room))
    held = held_of(problem)
    bound: NDArray[np.bool_] = held | bound_of(problem)
    floor = np.where(bound, problem.least_watts[:, None], money_floor_watts(problem, own_watts))
    depth = np.maximum(0.0, own_watts - floor)
    depth_slope = _secant(least, np.maximum(0.0, least_watts - floor), own, depth)
    return Levels(own, own_watts, slope, movable, room, depth, depth_slope, held, bound)


def _secant(x0: Floats, y0: Floats, x1: Floats, y1: Floats) -> Floats:
    return np.divide(y1 - y0, x1 - x0, out=np.zeros_like(x0), where=x1 != x0)


def held_of(problem: Problem) -> NDArray[np.bool_]:
    """Sites and spans (S, T) that a target holds."""
    found = np.zeros(problem.room_work.shape, dtype=bool)
    for target in problem.targets:
        found[target.sites] |= np.isfinite(target.watts)
    return found


def bound_of(problem: Problem) -> NDArray[np.bool_]:
    """Sites and spans (S, T) that a ramp or the fleet's limit may hold: those of which it can't be ruled out."""
    found = np.zeros(problem.room_work.shape, dtype=bool)
    found |= ramping_of(problem)
    limit, most = problem.power_limit_watts, np.minimum(problem.import_limit_watts, problem.curves.load_watts[:, -1])
    return found | (fleet_ramping_of(problem) | (limit is not None and limit < most.sum()))


def swing_watts(problem: Problem) -> Floats:
    """The most that each site's power can change (S,)."""
    return problem.curves.load_watts[:, -1] - problem.curves.load_watts[:, 0]


def between_seconds(problem: Problem) -> Floats:
    """Time over which power may change from one span's mean to the next (T,); for the first span all of it."""
    seconds = problem.span_seconds
    return np.concatenate([seconds[:1], (seconds[1:] + seconds[:-1]) / 2])


def ramping_of(problem: Problem) -> NDArray[np.bool_]:
    """Sites and spans (S, T) where the site's own ramp is slow enough to matter."""
    slowest = problem.ramp_watts_per_second.min(axis=0)
    slow = slowest[:, None] * between_seconds(problem) < swing_watts(problem)[:, None]
    return np.asarray(slow)


def fleet_ramping_of(problem: Problem) -> NDArray[np.bool_]:
    """Spans (T,) where the fleet's ramp is slow enough to matter."""
    slowest = min((ramp for ramp in problem.fleet_ramp_watts_per_second if ramp is not None), default=np.inf)
    return np.asarray(slowest * between_seconds(problem) < swing_watts(problem).sum())


def money_floor_watts(problem: Problem, own_watts: Floats) -> Floats:
    """Power (S, T) below which no price asks a site to go."""
    least = np.maximum(problem.least_watts, problem.bearable_watts)[:, None]
    return np.maximum(least, own_watts * (1 - problem.economic_depth_ratio))


def saved_by_throttles(problem: Problem, own_watts: Floats) -> Floats:
    """What throttles for money save in the first span, on balance, USD/MWh x W of sites that draw (S, K)."""
    high, low = (edge[:, None, :] for edge in _rung_edges(problem))
    own, floor = own_watts[:, :, None], money_floor_watts(problem, own_watts)[:, :, None]
    width = np.maximum(0.0, np.minimum(own, high) - np.maximum(floor, low))
    gain = np.maximum(0.0, problem.price_usd_per_mwh[:, :1] - problem.rung_price_usd_per_mwh)
    return np.asarray((width * gain[:, None, :]).sum(axis=2))


def _rung_edges(problem: Problem) -> tuple[Floats, Floats]:
    """The powers (S, R) between which each rung of the ladder lies: upper, lower."""
    full = np.minimum(problem.import_limit_watts, problem.curves.cap_watts[:, -1])[:, None]
    top = full - np.concatenate([np.zeros((len(problem.capacity), 1)), np.cumsum(problem.rung_watts, axis=1)], axis=1)
    return top[:, :-1], top[:, 1:]


@dataclass(frozen=True, slots=True, eq=False)
class Rungs:
    """What a throttle costs as it deepens: entries of (site, span) with their width in W and price in USD/MWh."""

    places: NDArray[np.int64]  # site x T + span
    watts: Floats
    price_usd_per_mwh: Floats


def rungs_of(problem: Problem, levels: Levels) -> Rungs:
    """The rungs of the ladder between what a site draws by itself and the least it may be asked for.

    Where nothing but money asks for it, only those that a price in that span pays for; deeper than is bearable, at
    prices that no price in sight pays.
    """
    high, low = (edge[:, None, :] for edge in _rung_edges(problem))
    own, floor = levels.own_watts[:, :, None], money_floor_watts(problem, levels.own_watts)[:, :, None]
    price = np.broadcast_to(problem.rung_price_usd_per_mwh[:, None, :], np.broadcast_shapes(high.shape, own.shape))
    bound, energy = levels.bound[:, :, None], problem.price_usd_per_mwh[:, :, None]
    money = np.minimum(own, high) - np.maximum(floor, low)
    deep = np.minimum(np.minimum(own, floor), high) - np.maximum(problem.least_watts[:, None, None], low)
    dear = np.maximum(price, _NOT_FOR_MONEY * np.abs(problem.price_usd_per_mwh).max() + 1.0)
    widths = np.concatenate([np.where(bound | (price < energy), money, 0.0), np.where(bound, deep, 0.0)], axis=2)
    site, span, rung = np.nonzero(widths > _LEAST_WATTS)
    return Rungs(
        site * problem.price_usd_per_mwh.shape[1] + span,
        widths[site, span, rung],
        np.concatenate([price, dear], axis=2)[site, span, rung],
    )
