"""The peers' roll: nobody sees a step before its time, the better variant is taken on the training span alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.rolling import (
    Floats,
    Forecaster,
    Steps,
    Task,
    actual_at,
    filled,
    load_rolled,
    periods,
    roll,
    save_rolled,
)


class Last:
    """Persistence plus an offset: what is known last is what comes."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset, self.fitted = offset, list[int]()

    def fit(self, past: Floats) -> None:
        self.fitted.append(len(past))

    def points(self, known: Floats, origins: Steps, ahead: Steps) -> Floats:
        assert len(known) == origins[-1] + 1
        assert self.fitted[-1] == origins[0] + 1
        return np.repeat(known[origins][:, None], len(ahead), axis=1) + self.offset


class Broken(Last):
    """Raises when it is asked."""

    def points(self, known: Floats, origins: Steps, ahead: Steps) -> Floats:
        raise RuntimeError("no\nway")


def task(values: Floats, train: int = 30, ahead: tuple[int, ...] = (1, 3)) -> Task:
    return Task(values, 600.0, 0.0, np.arange(train - 1, len(values) - 1), np.array(ahead), 20)


def test_task_comes_back_from_its_file(tmp_path: Path) -> None:
    sent = task(np.array([1.0, np.nan, *range(40)]))
    sent.save(tmp_path / "task.npz")
    found = Task.load(tmp_path / "task.npz")
    np.testing.assert_array_equal(found.values, sent.values)
    np.testing.assert_array_equal(found.origins, sent.origins)
    np.testing.assert_array_equal(found.ahead, sent.ahead)
    assert (found.step_seconds, found.refit_steps, found.day_steps) == (600.0, 20, 144)


def test_rolled_comes_back_from_its_file(tmp_path: Path) -> None:
    rolled = roll(task(np.arange(80.0)), {"last": Last})
    save_rolled(tmp_path / "points.npz", {"naive": rolled})
    found = load_rolled(tmp_path / "points.npz")["naive"]
    np.testing.assert_array_equal(found.points, rolled.points)
    assert list(found.told.variants) == ["last", "last"]


def test_periods_begin_anew_each_refit() -> None:
    origins = np.array([9, 10, 11, 14, 15, 30])
    assert [list(origins[each]) for each in periods(origins, 5)] == [[9, 10, 11], [14, 15], [30]]


def test_roll_forecasts_every_origin_and_the_last_third_of_the_training_span() -> None:
    found = roll(task(np.arange(80.0)), {"last": Last}).points
    assert found.shape == (80, 2)
    assert np.isnan(found[:19]).all()
    np.testing.assert_array_equal(found[19:79, 0], np.arange(19.0, 79.0))
    assert np.isnan(found[79]).all()


@pytest.mark.parametrize("offsets", [(0.0, 5.0), (5.0, 0.0)])
def test_roll_takes_the_variant_that_the_training_span_prefers(offsets: tuple[float, float]) -> None:
    variants: dict[str, Callable[[], Forecaster]] = {str(each): partial(Last, each) for each in offsets}
    values = np.full(80, 7.0)
    values[30:] = 12.0  # the offset would be right here, which nobody may know
    told = roll(task(values), variants).told
    assert set(told.variants) == {"0.0"}


def test_roll_notes_what_a_peer_raises_and_goes_on() -> None:
    found = roll(task(np.arange(80.0)), {"broken": Broken})
    assert np.isnan(found.points).all()
    assert found.told.faults[0] == "broken, choosing: RuntimeError: no way"
    found = roll(task(np.arange(80.0)), {"broken": Broken, "last": Last})
    assert set(found.told.variants) == {"last"}


def test_roll_knows_no_negative_load() -> None:
    assert np.nanmin(roll(task(np.zeros(80)), {"low": lambda: Last(-3.0)}).points) == 0.0


@settings(max_examples=25)
@given(st.integers(30, 78), st.floats(-10, 10))
def test_roll_points_never_change_with_what_comes_later(cut: int, change: float) -> None:
    values = np.abs(np.sin(np.arange(80.0)))
    later = values.copy()
    later[cut + 1 :] += change
    before, after = (roll(task(each), {"last": Last}).points for each in (values, later))
    np.testing.assert_array_equal(before[: cut + 1], after[: cut + 1])


def test_filled_takes_the_last_known_step() -> None:
    np.testing.assert_array_equal(filled(np.array([np.nan, 2.0, np.nan, np.nan, 4.0])), [0.0, 2.0, 2.0, 2.0, 4.0])


def test_actual_at_is_unknown_after_the_end() -> None:
    found = actual_at(np.arange(5.0), np.array([2, 3]), np.array([1, 2]))
    np.testing.assert_array_equal(found, [[3.0, 4.0], [4.0, np.nan]])
