"""Runs that a policy is held against, in processes of their own."""

from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from streams.simulate.beside import beside
from streams.simulate.loop import simulate
from tests.simulations import event, read, text


def test_run_beside_is_the_run_itself_without_its_log(tmp_path: Path) -> None:
    _, _, world = read(tmp_path, text(more=event()))
    told: list[float] = []
    with beside(world, {"rules": told.append}) as others:
        found = others.outcomes()
    here = simulate(world, "rules")
    assert list(found) == ["rules"]
    assert np.array_equal(found["rules"].trajectory.meter_power_watts, here.trajectory.meter_power_watts)
    assert here.log
    assert not found["rules"].log
    assert told[-1] == 1.0


def test_runs_beside_end_with_the_one_that_they_are_held_against(tmp_path: Path) -> None:
    _, _, world = read(tmp_path, text(duration=864_000))  # minutes
    before = set(active_children())
    with pytest.raises(RuntimeError, match="given up"), beside(world, {"rules": lambda part: None}):
        raise RuntimeError("given up")
    assert not set(active_children()) - before
