"""How likely a spike is."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting.drawn import steps_within
from forecasting.series import Floats
from forecasting.spikes import probability_above, probability_within, trailing_median
from schemas.forecast import QUANTILE_LEVELS

amounts = st.floats(0, 1e9)
quantiles = arrays(np.float64, (7,), elements=amounts).map(np.sort)
# Quantiles and limits that floating point tells apart.
apart = st.lists(st.integers(1, 1000), min_size=7, max_size=7).map(lambda gaps: np.cumsum(gaps).astype(np.float64))


@settings(max_examples=40, deadline=None)
@given(quantiles, st.lists(amounts, min_size=2, max_size=10))
def test_probability_above_falls_as_the_limit_rises(found: Floats, limits: list[float]) -> None:
    probability = probability_above(np.sort(limits), np.tile(found, (len(limits), 1)))
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) <= 1e-9).all()


@settings(max_examples=40, deadline=None)
@given(apart)
def test_probability_above_a_quantile_is_what_is_left(found: Floats) -> None:
    probability = probability_above(found, np.tile(found, (7, 1)))
    np.testing.assert_allclose(probability, 1 - np.array(QUANTILE_LEVELS), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(apart, st.sampled_from([0, 6]))
def test_probability_above_has_no_step_at_the_outermost_quantiles(found: Floats, place: int) -> None:
    near = found[place] + 1e-6 * np.array([-1.0, 1.0])
    below, above = probability_above(near, np.tile(found, (2, 1)))
    assert below - above == pytest.approx(0, abs=1e-5)


def test_probability_above_tells_far_from_farther() -> None:
    found = np.arange(10.0, 17.0)
    probability = probability_above(np.array([17.0, 20.0, 30.0]), np.tile(found, (3, 1)))
    assert (np.diff(probability) < 0).all()
    assert (probability > 0).all()


@settings(max_examples=40, deadline=None)
@given(quantiles, st.lists(amounts, min_size=2, max_size=6), amounts, st.integers(1, 6))
def test_probability_within_falls_as_the_limit_rises(
    found: Floats, limits: list[float], now: float, steps: int
) -> None:
    made = np.tile(np.stack([found, found + 1]), (len(limits), 1, 1))
    ahead = steps_within(300.0 * steps, 300.0, (1, 3))
    probability = probability_within(np.sort(limits), made, np.full(len(limits), now), ahead)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) <= 1e-9).all()


def test_probability_within_more_steps_is_no_lower() -> None:
    made, limit, now = np.stack([np.arange(10.0, 17.0), np.arange(12.0, 19.0)])[None], np.array([16.5]), np.array([9.0])
    found = [float(probability_within(limit, made, now, steps_within(300.0 * n, 300.0, (1, 3)))[0]) for n in (1, 2, 3)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(float(probability_above(limit, made[:, 0])[0]))


def test_probability_within_stays_high_until_the_load_has_fallen() -> None:
    made, limit, next_step = np.arange(10.0, 17.0)[None, None], np.array([30.0]), steps_within(300.0, 300.0, (1,))
    assert probability_within(limit, made, np.array([40.0]), next_step)[0] > 0.9
    assert probability_within(limit, made, np.array([13.0]), next_step)[0] < 0.05


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (2, 12), elements=st.one_of(st.just(np.nan), amounts)),
    st.lists(st.integers(0, 11), min_size=1, max_size=4),
    st.sampled_from([300.0, 600.0, 1800.0, 7200.0]),
)
def test_trailing_median_is_that_of_the_known_of_the_last_half_hour(
    values: Floats, at: list[int], step_seconds: float
) -> None:
    found = trailing_median(values, np.array(at), step_seconds)
    count = max(1, round(1800 / step_seconds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a half hour that nobody knows
        expected = np.stack(
            [np.nanmedian(values[:, max(0, last + 1 - count) : last + 1], axis=1) for last in at], axis=1
        )
    np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(found[0], trailing_median(values[0], np.array(at), step_seconds))


def test_probability_above_is_none_where_nothing_is_ever_more() -> None:
    assert probability_above(np.zeros(1), np.zeros((1, 7)))[0] == 0.0
    now, ahead = np.zeros(1), steps_within(1800.0, 300.0, (1, 2, 6))
    assert probability_within(np.zeros(1), np.zeros((1, 3, 7)), now, ahead)[0] == 0.0
