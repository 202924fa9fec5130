"""Nothing that a forecast rests on at a step changes when later steps do, or are not there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting.backtest import Backtest, Options, backtest
from forecasting.experts import simple_experts
from forecasting.features import Levels, features, levels_of
from forecasting.series import Floats, LoadSeries
from tests.load_cases import TWO_HOURS_SECONDS, series_of, wave

STEP_SECONDS = 7200.0  # twelve a day: a hundred of them know last week
STARTS_AT = np.array([1_793_577_600.0])
LENGTH = 100

loads = st.one_of(st.floats(0, 1e6), st.just(0.0), st.just(np.nan))
rows = arrays(np.float64, (1, LENGTH), elements=loads, fill=st.just(10.0))
# Of what is observed, with the first step known: nothing is forecast of a series before.
observed = st.tuples(rows.map(lambda row: np.where(np.arange(LENGTH) == 0, np.nan_to_num(row), row)), rows, rows)


def levels(known: Floats, clients: Floats, dispersion: Floats) -> Levels:
    return levels_of(known, STARTS_AT, STEP_SECONDS, clients, dispersion)


@settings(max_examples=25, deadline=None)
@given(observed, observed, st.integers(0, LENGTH - 1), st.integers(1, 30), st.booleans())
def test_features_and_experts_see_nothing_that_comes_later(
    first: tuple[Floats, ...], second: tuple[Floats, ...], last: int, horizon: int, weekdays: bool
) -> None:
    at, later = np.arange(last + 1), np.arange(LENGTH) > last
    changed = levels(*(np.where(later, other, one) for one, other in zip(first, second, strict=True)))
    cut = levels(*(one[:, : last + 1] for one in first))
    whole = levels(*first)
    for other in (changed, cut):
        np.testing.assert_array_equal(whole.filled[:, at], other.filled[:, at])
        np.testing.assert_array_equal(whole.levels[:, :, at], other.levels[:, :, at])
        np.testing.assert_array_equal(whole.changes[:, :, at], other.changes[:, :, at])
        np.testing.assert_array_equal(whole.scale[:, at], other.scale[:, at])
        np.testing.assert_array_equal(features(whole, at, horizon, weekdays), features(other, at, horizon, weekdays))
        np.testing.assert_array_equal(simple_experts(whole, at, horizon), simple_experts(other, at, horizon))


@settings(max_examples=15, deadline=None)
@given(observed, st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_features_and_experts_of_many_horizons_are_those_of_each(data: tuple[Floats, ...], ahead: list[int]) -> None:
    base, last = levels(*data), np.full(len(ahead), LENGTH - 1)
    together, said = features(base, last, np.array(ahead), True), simple_experts(base, last, np.array(ahead))
    for place, horizon in enumerate(ahead):
        np.testing.assert_array_equal(together[:, place], features(base, last[:1], horizon, True)[:, 0])
        np.testing.assert_array_equal(said[:, place], simple_experts(base, last[:1], horizon)[:, 0])


OPTIONS = Options((TWO_HOURS_SECONDS, 3 * TWO_HOURS_SECONDS), 72, refit_seconds=24 * TWO_HOURS_SECONDS)
SERIES = replace(
    series_of(np.concatenate([np.full(3, np.nan), wave(117, TWO_HOURS_SECONDS)]), TWO_HOURS_SECONDS),
    clients=wave(120, TWO_HOURS_SECONDS, seed=2),
    dispersion=wave(120, TWO_HOURS_SECONDS, seed=3),
)


def _changed_after(last: int) -> LoadSeries:
    """The series with other values in all steps after this one: a level four times as high, zeros, and gaps."""
    parts = [SERIES.values, SERIES.clients, SERIES.dispersion]
    later = np.arange(len(SERIES.values)) > last
    mixed = np.array([4.0, 0.0, np.nan, 6.0])[np.arange(len(SERIES.values)) % 4]
    values, clients, dispersion = (np.where(later, each * mixed, each) for each in parts if each is not None)
    return replace(SERIES, values=values, clients=clients, dispersion=dispersion)


@pytest.fixture(scope="module")
def whole() -> Backtest:
    return backtest(SERIES, OPTIONS)


@pytest.mark.parametrize("last", [71, 100])  # at the first origin, and after the second training
def test_backtest_forecasts_nothing_from_what_comes_later(whole: Backtest, last: int) -> None:
    found = backtest(_changed_after(last), OPTIONS)
    known = whole.origins <= last
    assert known.any()
    for method, quantiles in whole.quantiles.items():
        np.testing.assert_array_equal(found.quantiles[method][known], quantiles[known], err_msg=method)
    for name, spikes in whole.spikes.items():
        for method, scores in spikes.scores.items():
            np.testing.assert_array_equal(found.spikes[name].scores[method][known], scores[known], err_msg=method)
    assert not np.array_equal(found.quantiles["model"], whole.quantiles["model"])
