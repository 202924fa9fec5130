"""The statistical baseline: what it says of histories whose future is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from forecasting.baseline import Baseline
from schemas.forecast import QUANTILE_LEVELS

STEP_SECONDS = 300.0
DAY = 288
MODEL = Baseline(STEP_SECONDS)
MEDIAN = QUANTILE_LEVELS.index(0.5)
NAN = float("nan")


def steps(*values: float) -> NDArray[np.float64]:
    """Steps as the history has them."""
    return np.array(values, dtype=np.float64)


def test_a_constant_load_is_foreseen_without_spread() -> None:
    values, measured = MODEL.quantiles(np.full(100, 42.0), 6)
    assert measured
    assert values == pytest.approx([42.0] * len(QUANTILE_LEVELS))


def test_zeros_stay_zeros() -> None:
    values, measured = MODEL.quantiles(np.zeros(400), 24)
    assert measured
    assert values.tolist() == [0.0] * len(QUANTILE_LEVELS)


def test_one_step_gives_a_wide_assumed_spread_about_it() -> None:
    values, measured = MODEL.quantiles(steps(100.0), 6)
    assert not measured
    assert values[MEDIAN] == 100.0
    assert values[0] == pytest.approx(55.0)
    assert values[-1] == pytest.approx(145.0)


def test_errors_are_measured_from_eight_on() -> None:
    assert not MODEL.quantiles(np.arange(13.0), 6)[1]
    assert MODEL.quantiles(np.arange(14.0), 6)[1]


def test_unknown_steps_are_no_errors_and_no_level() -> None:
    gap = np.full(60, 10.0)
    gap[20:35] = NAN
    values, measured = MODEL.quantiles(gap, 3)
    assert measured
    assert values == pytest.approx([10.0] * len(QUANTILE_LEVELS))
    assert MODEL.quantiles(steps(NAN, NAN, 7.0, NAN), 1)[0][MEDIAN] == 7.0


def test_a_daily_pattern_is_foreseen() -> None:
    day = 100 + 50 * np.sin(2 * np.pi * np.arange(3 * DAY) / DAY)
    values, _ = MODEL.quantiles(day, 24)
    future = 100 + 50 * np.sin(2 * np.pi * (3 * DAY - 1 + 24) / DAY)
    assert values[MEDIAN] == pytest.approx(future, rel=0.02)


def test_only_the_past_is_used_for_the_errors() -> None:
    calm, shifted = np.full(50, 10.0), np.full(50, 10.0)
    shifted[-1] = 30.0
    assert MODEL.quantiles(calm, 6)[0][0] == pytest.approx(10.0)
    low = MODEL.quantiles(shifted, 6)[0]
    assert low[0] > 10.0  # the level follows the last step; the errors before it were none


@pytest.mark.parametrize("horizon", [1, 6, 24, DAY - 1, DAY, 2 * DAY, 5000])
@pytest.mark.parametrize("length", [1, 2, 7, DAY, DAY + 1, 2 * DAY + 3])
def test_any_horizon_of_any_history_is_finite_rising_and_not_negative(horizon: int, length: int) -> None:
    rng = np.random.default_rng(length)
    history = rng.gamma(0.3, 1000.0, length)
    history[length // 2 :] *= 3
    history[rng.random(length) < 0.2] = NAN
    history[0] = 1.0
    values, _ = MODEL.quantiles(history, horizon)
    assert values.shape == (len(QUANTILE_LEVELS),)
    assert np.isfinite(values).all()
    assert (np.diff(values) >= 0).all()
    assert (values >= 0).all()
