"""How sure forecasts are: as often right as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting import intervals
from forecasting.backtest import Options, conformal_quantiles
from forecasting.series import Floats
from forecasting.state import RING
from tests.load_cases import series_of

STEP_SECONDS = 600.0
STEPS = 900
rings = arrays(np.float64, (2, RING), elements=st.floats(-1e3, 1e3), fill=st.floats(-10, 10))
amounts = arrays(np.float64, (2,), elements=st.floats(0, 1e9))
logarithms = arrays(np.float64, (2,), elements=st.floats(-1.5, 1.5))


@settings(max_examples=40, deadline=None)
@given(amounts, amounts, rings, logarithms)
def test_quantiles_rise_about_the_point_from_zero_up(
    point: Floats, unit: Floats, ring: Floats, widening: Floats
) -> None:
    found = intervals.quantiles(point, unit, ring, widening)
    assert found.shape == (2, 7)
    assert (np.diff(found, axis=-1) >= 0).all()
    assert (found >= 0).all()
    np.testing.assert_array_equal(found[:, 3], point)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=300), st.floats(0, 1))
def test_widened_stays_within_bounds(missed: list[bool], rate: float) -> None:
    widening = np.zeros(1)
    for each in missed:
        before, widening = widening, intervals.widened(widening, np.array([float(each)]), np.array([rate]))
        assert abs(widening[0]) <= 1.5
        assert widening[0] >= before[0] if each else widening[0] <= before[0]


@settings(max_examples=40, deadline=None)
@given(amounts, amounts, amounts, amounts)
def test_spread_is_above_zero_and_finite(fast: Floats, slow: Floats, size: Floats, level: Floats) -> None:
    found = intervals.spread(fast, slow, size, level)
    assert (found > 0).all()
    assert np.isfinite(found).all()


def test_default_ring_is_that_of_a_normal_error() -> None:
    ring = intervals.default_ring()
    assert ring.shape == (RING,)
    assert ring.mean() == pytest.approx(0, abs=1e-9)
    assert np.abs(ring).mean() == pytest.approx(1, abs=0.05)  # a spread is a mean absolute error


@pytest.mark.parametrize("errors", ["normal", "exponential"])
def test_intervals_of_independent_errors_hold_nine_of_ten(errors: str) -> None:
    rng = np.random.default_rng(11)
    noise = getattr(rng, errors)(size=STEPS)
    values = np.maximum(100 + 10 * (noise - np.median(noise)), 0.0)
    options = Options((STEP_SECONDS,), STEPS // 2)
    made = conformal_quantiles(np.full((STEPS, 1), 100.0), series_of(values, STEP_SECONDS), options)
    late, came = made[STEPS // 2 : -1, 0], values[STEPS // 2 + 1 :]
    held = ((came >= late[:, 0]) & (came <= late[:, -1])).mean()
    assert held == pytest.approx(0.9, abs=0.03)
    assert (came <= late[:, 4]).mean() == pytest.approx(0.75, abs=0.08)
