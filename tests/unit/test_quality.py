"""What is said to be out of the ordinary."""

import numpy as np
import pytest

from forecasting.quality import has_shifted, is_dead
from tests.load_cases import HALF_HOUR_SECONDS, wave

DAY = 48


def test_is_dead_where_all_of_the_last_half_hour_is_zero() -> None:
    alive = np.full(20, 5.0)
    dead, new, gap, partly = alive.copy(), np.zeros(20), alive.copy(), alive.copy()
    dead[-3:], gap[-3:], partly[-2:] = 0.0, np.nan, 0.0
    known = np.stack([alive, dead, new, gap, partly])
    assert is_dead(known, 600.0).tolist() == [False, True, False, False, False]


def test_is_dead_of_a_sensor_that_is_partly_unheard() -> None:
    assert is_dead(np.array([[5.0, 0.0, np.nan, 0.0]]), 600.0).tolist() == [True]


@pytest.mark.parametrize(("factor", "shifted"), [(3.0, True), (1 / 3, True), (1.3, False)])
def test_has_shifted_where_the_load_is_far_from_yesterdays(factor: float, shifted: bool) -> None:
    values = wave(3 * DAY, HALF_HOUR_SECONDS)
    values[-4:] *= factor
    assert has_shifted(values[None], HALF_HOUR_SECONDS).tolist() == [shifted]


def test_has_shifted_until_yesterday_is_at_the_new_level() -> None:
    values = wave(5 * DAY, HALF_HOUR_SECONDS)
    values[3 * DAY :] *= 3
    marked = [bool(has_shifted(values[None, :end], HALF_HOUR_SECONDS)[0]) for end in range(1, 5 * DAY + 1)]
    assert not any(marked[: 3 * DAY])
    assert all(marked[3 * DAY : 3 * DAY + DAY // 2])
    assert not any(marked[4 * DAY :])


def test_has_shifted_not_by_a_weekend_that_is_like_the_last() -> None:
    values = wave(9 * DAY, HALF_HOUR_SECONDS, noise_ratio=0.02)
    values[:DAY] *= 0.3
    values[7 * DAY : 8 * DAY] *= 0.3
    assert not has_shifted(values[None, : 7 * DAY + 5], HALF_HOUR_SECONDS).any()
    unseen = values.copy()
    unseen[:DAY] /= 0.3
    assert has_shifted(unseen[None, : 7 * DAY + 5], HALF_HOUR_SECONDS).all()


def test_has_shifted_not_where_nothing_is_to_compare_with() -> None:
    for values in (np.full(3, 5.0), np.zeros(3 * DAY), np.r_[np.full(2 * DAY, np.nan), np.full(DAY, 3.0)]):
        assert not has_shifted(values[None], HALF_HOUR_SECONDS).any()
    back_again = np.r_[np.full(2 * DAY, 5.0), np.zeros(DAY), np.full(DAY, 5.0)]
    assert not has_shifted(back_again[None], HALF_HOUR_SECONDS).any()
