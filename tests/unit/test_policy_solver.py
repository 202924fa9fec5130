"""The optimiser's process: it solves what the optimiser solves, outlives its worker's death, and ends when told."""

import multiprocessing
import pickle
from collections.abc import AsyncIterator

import numpy as np
import pytest

from streams.policy.optimise import optimise
from streams.policy.problem import Problem, problem_of
from streams.policy.solver import Solver
from streams.policy.view import FleetView
from tests.policy_cases import FLEET, FLEET_FILE, NOON, SITES, empty_plan, event, load, power, price


@pytest.fixture
async def solver() -> AsyncIterator[Solver]:
    solver = Solver()
    yield solver
    solver.close()


def a_problem() -> Problem:
    view = FleetView(FLEET)
    for number, site in enumerate(SITES):
        view.observe(load(site, 0, 5000 + 1000 * number))
        view.observe(power(site, 0, 45_000))
        view.observe(price(site, 20.0 + 30 * number))
    view.observe(event())
    problem = problem_of(view, empty_plan(), FLEET_FILE, NOON)
    assert problem is not None
    return problem


async def test_solver_solves_in_a_process_of_its_own_and_again_after_that_dies(solver: Solver) -> None:
    problem, before = a_problem(), set(multiprocessing.active_children())
    expected, found = optimise(problem), await solver.solve(problem)
    assert expected is not None
    assert found is not None
    assert np.array_equal(found.power_watts, expected.power_watts)
    assert found.moves == expected.moves

    (worker,) = set(multiprocessing.active_children()) - before
    worker.kill()
    worker.join()
    assert await solver.solve(problem) is None  # whether the pool notices before it is asked or after
    again = await solver.solve(problem)
    assert again is not None
    assert again.moves == expected.moves


async def test_solver_leaves_no_process_behind() -> None:
    before = set(multiprocessing.active_children())
    solver = Solver()
    await solver.solve(a_problem())
    solver.close()
    assert set(multiprocessing.active_children()) <= before


def test_problem_is_small_on_its_way_to_the_process() -> None:
    assert len(pickle.dumps(a_problem())) < 20_000
