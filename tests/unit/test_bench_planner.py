"""The planner's benchmark: what it sets side by side comes to the same, and it can be run small."""

import pytest

from benchmarks.planner import Taken, bare, bars, plan_of
from benchmarks.planner_fleets import NOW, first_plan, fleet_file, view_of
from streams.policy.problem import problem_of


def test_bare_pooled_moves_cost_what_a_transport_matrix_makes_them_cost() -> None:
    problem = problem_of(view_of(file := fleet_file(6, 1), 1, False), first_plan(), file, NOW)
    assert problem is not None
    (pooled, few), (transport, many) = (bare(problem, each) for each in (False, True))
    cost = pooled()
    assert cost is not None
    assert cost < 0
    assert transport() == pytest.approx(cost)
    assert (few, many) == (2 * 6 * 24 * 2, 6 * 5 * 24 * 2)


def test_plan_of_a_fleet_under_an_event_has_a_solution() -> None:
    taken = Taken("three sites")
    taken.time(plan_of(3, 1, True))
    assert taken.solved == 1


def test_bars_hold_the_slowest_plan_against_a_second() -> None:
    taken = [
        Taken(str(number), cpu=[seconds], wall=[seconds]) for number, seconds in enumerate((0.2, 2.0, 4.0, 0.1, 5.0))
    ]
    assert [bar.verdict for bar in bars(taken)] == ["MISSED", "met", "met"]
