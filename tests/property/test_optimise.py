"""The optimiser whatever it is asked: work is conserved, limits hold where they can, and it never raises."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.plan import FleetPlan
from streams.policy.consolidate import Pair, consolidated
from streams.policy.levels import Levels, levels_of, saved_by_throttles
from streams.policy.optimise import Solution, optimise
from streams.policy.problem import Problem, problem_of
from streams.policy.view import FleetView
from tests.policy_cases import (
    FLEET_FILE,
    IMPORT_LIMIT,
    NOON,
    SITES,
    at,
    empty_plan,
    event,
    load,
    power,
    price,
    shift_control,
)

_STEPS = 4
_loads = st.lists(st.floats(0, 12_000), min_size=3, max_size=3)
_prices = st.lists(st.floats(-200, 3000), min_size=3, max_size=3)
_limits = st.fixed_dictionaries(
    {
        "horizon_seconds": st.just(300.0 * _STEPS),
        "strike_price_usd_per_mwh": st.sampled_from([None, 100.0]),
        "power_limit_watts": st.sampled_from([None, 130_000.0, 60_000.0]),
        "ramp_down_watts_per_second": st.sampled_from([None, 100.0, 20.0]),
        "ramp_up_watts_per_second": st.sampled_from([None, 60.0, 10.0]),
        "shift_cost_usd_per_mwh": st.sampled_from([0.0, 15.0]),
    }
)
_events = st.lists(
    st.builds(
        lambda number, start, length, kind, sites, watts: event(
            f"e{number}", start, start + length, kind=kind, site_ids=sites, target_power_watts=watts
        ),
        st.integers(0, 9),
        st.integers(-600, 1200),
        st.integers(60, 1200),
        st.sampled_from(["event", "emergency"]),
        st.lists(st.sampled_from(SITES), unique=True, max_size=3),
        st.floats(0, 160_000),
    ),
    max_size=2,
    unique_by=lambda each: each.signal_id,
)
_shifts = st.lists(
    st.builds(
        lambda number, pair, name, share, phase: shift_control(
            phase, -300, control_id=f"s{number}", from_site_id=pair[0], to_site_id=pair[1], service_class=name,
            share_ratio=share, starts_at=at(-400),
        ),
        st.integers(0, 99),
        st.permutations(SITES).map(lambda each: each[:2]),
        st.sampled_from(["chat", "batch"]),
        st.floats(0.01, 0.5),
        st.sampled_from(["proposed", "reserved", "ramping", "active", "returning"]),
    ),
    max_size=2,
)  # fmt: skip


def asked(
    loads: Sequence[float],
    prices: Sequence[float],
    limits: dict[str, Any],
    events: Sequence[Any] = (),
    shifts: Sequence[Any] = (),
) -> Problem:
    fleet = FLEET_FILE.fleets[0]
    changed = fleet.model_copy(update={"limits": fleet.limits.model_copy(update=limits)})
    file = FLEET_FILE.model_copy(update={"fleets": (changed,)})
    view = FleetView(changed)
    for site, tokens, usd in zip(SITES, loads, prices, strict=True):
        view.observe(load(site, 0, tokens))
        view.observe(power(site, 0, 40_000))
        view.observe(price(site, usd, 0, 7200))
    for each in events:
        view.observe(each)
    plan: FleetPlan = empty_plan().model_copy(update={"shifts": list(shifts)})
    problem = problem_of(view, plan, file, NOON)
    assert problem is not None
    return problem


def solved(problem: Problem) -> Solution:
    solution = optimise(problem)
    assert solution is not None
    return solution


@settings(max_examples=30, deadline=None)
@given(_loads, _prices, _limits, _events, _shifts)
def test_optimise_conserves_work_and_moves_fair_shares_within_what_sites_can(
    loads: list[float], prices: list[float], limits: dict[str, Any], events: list[Any], shifts: list[Any]
) -> None:
    problem = asked(loads, prices, limits, events, shifts)
    solution = solved(problem)
    arriving = np.repeat(problem.work, problem.spans, axis=2)
    # Every class and step: over the sites, what is served and what is not is what arrives.
    np.testing.assert_allclose(
        (solution.served + solution.unserved).sum(axis=0), arriving.sum(axis=0), rtol=1e-6, atol=1e-3
    )
    assert (solution.served >= -1e-6).all()
    assert (solution.unserved >= -1e-6).all()
    # Flex 0 is served where it arrives.
    np.testing.assert_allclose((solution.served + solution.unserved)[:, 0], arriving[:, 0], atol=1e-6)
    assert (solution.served.sum(axis=1) <= problem.capacity[:, None] * (1 + 1e-6)).all()
    assert (solution.power_watts <= IMPORT_LIMIT + 1e-3).all()
    # No throttle goes below the least power.
    assert (solution.power_watts[solution.throttled] >= problem.least_watts[0] - 1e-3).all()
    given_away: dict[tuple[str, str], float] = {}
    for move in solution.moves:
        assert move.service_class != "interactive"
        assert move.from_site_id != move.to_site_id
        assert 0.01 <= move.share_ratio <= 1
        key = (move.from_site_id, move.service_class)
        given_away[key] = given_away.get(key, 0.0) + move.share_ratio
    assert all(total <= 1 + 1e-9 for total in given_away.values())
    assert len({(move.from_site_id, move.to_site_id, move.service_class) for move in solution.moves}) == len(
        solution.moves
    )


@settings(max_examples=30, deadline=None)
@given(_loads, _prices, _limits, _events)
def test_optimise_meets_every_target_that_the_sites_can_meet(
    loads: list[float], prices: list[float], limits: dict[str, Any], events: list[Any]
) -> None:
    unlimited = limits | {"ramp_down_watts_per_second": None, "ramp_up_watts_per_second": None}
    problem = asked(loads, prices, unlimited, events)
    solution = solved(problem)
    routed = (solution.served + solution.unserved).sum(axis=1)[:, : len(problem.spans)]
    by_itself = problem.curves.uncapped_watts(routed)
    lowest = np.minimum(by_itself, problem.least_watts[:, None])
    limited = [(each.sites, each.watts) for each in problem.targets]
    if problem.power_limit_watts is not None:
        limited.append((np.arange(3), np.full(len(problem.spans), problem.power_limit_watts)))
    for sites, watts in limited:
        total = solution.power_watts[sites, : len(problem.spans)].sum(axis=0)
        # Met, or every site of it down to its least.
        assert (total <= np.maximum(watts, lowest[sites].sum(axis=0)) + 1.0).all()


@settings(max_examples=20, deadline=None)
@given(_loads, _prices, _limits)
def test_optimise_keeps_the_fleets_ramps_wherever_its_load_lets_it(
    loads: list[float], prices: list[float], limits: dict[str, Any]
) -> None:
    problem = asked(loads, prices, limits | {"power_limit_watts": None})
    steady = replace(problem, power_now_watts=np.full(3, np.nan))
    total = solved(steady).power_watts.sum(axis=0)
    down, up = problem.fleet_ramp_watts_per_second
    changes = np.diff(total[: len(problem.spans)])
    # Persisting loads let every later step be as the first.
    assert down is None or (changes >= -down * 300 - 1.0).all()
    assert up is None or (changes <= up * 300 + 1.0).all()


@settings(max_examples=20, deadline=None)
@given(_loads, _prices, st.integers(0, 2), st.integers(1, _STEPS - 1), st.floats(0, 500), st.booleans())
def test_optimise_never_draws_more_for_a_higher_price(
    loads: list[float], prices: list[float], site: int, step: int, rise: float, by_moves: bool
) -> None:
    # By moves alone or by throttles alone: together, a throttle may take the place of a move that saved more.
    limits = {"horizon_seconds": 300.0 * _STEPS, "strike_price_usd_per_mwh": 1e6 if by_moves else None}
    problem = asked(loads, prices, limits)
    problem = problem if by_moves else replace(problem, pairs=np.zeros_like(problem.pairs))
    raised = problem.price_usd_per_mwh.copy()
    raised[site, step] += rise
    before = solved(problem).power_watts[site, step]
    after = solved(replace(problem, price_usd_per_mwh=raised)).power_watts[site, step]
    assert after <= before + 1.0


@settings(max_examples=40, deadline=None)
@given(_loads, _prices, st.lists(st.floats(0, 1), min_size=18, max_size=18))
def test_consolidated_costs_no_more_than_what_it_begins_with_and_fits(
    loads: list[float], prices: list[float], shares: list[float]
) -> None:
    problem = asked(loads, prices, {"horizon_seconds": 300.0, "shift_cost_usd_per_mwh": 3.0})
    levels = levels_of(problem)
    begun = begun_work(problem, levels, shares)
    found = consolidated(problem, levels, begun)
    assert cost_of(problem, found) <= cost_of(problem, begun) + 1e-6 * abs(cost_of(problem, begun)) + 1e-9
    arriving, pairs = problem.work[:, :, 0], problem.pairs
    given, taken = np.zeros_like(arriving), np.zeros(len(arriving))
    for (donor, acceptor, service), work in found.items():
        assert pairs[service, donor, acceptor]
        given[donor, service] += work
        taken[acceptor] += work
    assert (given <= arriving + 1e-6).all()
    assert (taken <= levels.room[:, 0] + 1e-6).all()


def begun_work(problem: Problem, levels: Levels, shares: Sequence[float]) -> dict[Pair, float]:
    """Some work by pair, within what may be moved and taken."""
    work: dict[Pair, float] = {}
    rest, room = problem.work[:, :, 0].copy(), levels.room[:, 0].copy()
    for (service, donor, acceptor), share in zip(np.argwhere(problem.pairs).tolist(), shares, strict=False):
        moved = min(share * rest[donor, service], room[acceptor])
        rest[donor, service] -= moved
        room[acceptor] -= moved
        if moved > 0:
            work[donor, acceptor, service] = moved
    return work


def cost_of(problem: Problem, work: dict[Pair, float]) -> float:
    """Energy less what throttles save, and moving: USD/MWh x W."""
    load = problem.work[:, :, 0].sum(axis=1)
    slope = levels_of(problem).slope[:, 0]
    moving = 0.0
    for (donor, acceptor, _), moved in work.items():
        load[donor] -= moved
        load[acceptor] += moved
        moving += problem.move_usd_per_mwh * moved * (slope[donor] + slope[acceptor]) / 2
    watts = np.minimum(problem.curves.uncapped_watts(load[:, None])[:, 0], problem.import_limit_watts)
    throttled = saved_by_throttles(problem, watts[:, None]).sum()
    return float((problem.price_usd_per_mwh[:, 0] * watts).sum() - throttled + moving)
