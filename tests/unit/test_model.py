"""What trees and line learn from rows of which the answer is known."""

import numpy as np
import pytest

from forecasting.features import feature_names
from forecasting.model import Rows, fit, joined, rows_of, thinned
from forecasting.train import series_levels
from tests.load_cases import TWO_HOURS_SECONDS, series_of, wave

COUNT = len(feature_names())


def rows(count: int = 400, seed: int = 1) -> Rows:
    """Rows whose change is the first feature's half; the last one is not known of any."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(count, COUNT))
    found[:, -1] = np.nan
    found[rng.random((count, COUNT)) < 0.02] = np.nan
    return Rows(found, 0.5 * np.nan_to_num(found[:, 0]), np.ones(count))


def test_fit_learns_what_the_change_follows() -> None:
    model, new = fit(rows(), 1), rows(seed=2)
    assert model is not None
    by_trees, by_line = model.changes(new.features).T
    spread = np.abs(new.changes).mean()
    assert np.abs(by_trees - new.changes).mean() < 0.5 * spread
    assert np.corrcoef(by_line, new.changes)[0, 1] > 0.95


def test_fit_says_of_a_row_the_same_alone_and_among_others() -> None:
    model, many = fit(rows(), 1), rows(70, seed=3).features
    assert model is not None
    together = model.changes(many.reshape(10, 7, COUNT))
    assert together.shape == (10, 7, 2)
    for place in (0, 33, 69):
        assert model.changes(many[place]).tobytes() == together.reshape(70, 2)[place].tobytes()
    assert model.changes(many[::-2]).tobytes() == together.reshape(70, 2)[::-2].tobytes()


def test_fit_is_not_carried_away_by_a_burst() -> None:
    data = rows()
    data.changes[7] = 1e6
    model = fit(data, 1)
    assert model is not None
    assert np.abs(model.changes(rows(seed=2).features)).max() < 5


def test_fit_learns_nothing_of_too_few_rows() -> None:
    assert fit(rows(39), 1) is None


def test_fit_counts_a_row_by_its_weight() -> None:
    one, other = rows(200), rows(200, seed=2)
    both = joined([one, Rows(other.features, other.changes + 9, np.full(200, 1e-6))])
    model, alone = fit(both, 1), fit(joined([one, one]), 1)
    assert model is not None
    assert alone is not None
    expected = alone.changes(one.features).mean(axis=0)
    # Winsorised all the same, so that no change is beyond nine.
    np.testing.assert_allclose(model.changes(one.features).mean(axis=0), expected, atol=0.5)


def test_thinned_takes_evenly_of_very_many_steps() -> None:
    few, many = np.arange(10), np.arange(45_000)
    assert [each.tolist() for each in thinned([few, many])] == [few[::2].tolist(), many[::2].tolist()]
    assert thinned([few])[0].tolist() == few.tolist()


def test_rows_of_leave_out_what_did_not_come() -> None:
    values = wave(100, TWO_HOURS_SECONDS)
    values[50] = np.nan
    base, at = series_levels(series_of(values, TWO_HOURS_SECONDS)), np.arange(20, 97)
    found = rows_of(base, at, 3, False, values[None])
    assert len(found.changes) == len(at) - 1
    assert np.isfinite(found.changes).all()
    first = (values[23] - values[20]) / base.scale[0, 20]
    assert found.changes[0] == pytest.approx(first)
    assert found.weights[0] == pytest.approx(base.scale[0, 20] / base.scale.mean())
