"""Levels and features, on loads of which they are known by hand."""

from dataclasses import replace

import numpy as np
import pytest

from forecasting.features import back, feature_names, features, forward_filled, levels_of, smooth_back, smoothed
from forecasting.series import Floats
from forecasting.train import series_levels
from tests.load_cases import TWO_HOURS_SECONDS, series_of, wave

NAMES = feature_names()
DAY = 12  # steps of two hours


def of_last(values: Floats, horizon: int = 1, weekdays: bool = True, clients: Floats | None = None) -> dict[str, float]:
    """The features at the last step; where clients are known, the counts within a step vary as their mean does."""
    dispersion = None if clients is None else np.ones(len(values))
    beside = replace(series_of(values, TWO_HOURS_SECONDS), clients=clients, dispersion=dispersion)
    base = series_levels(beside)
    return dict(zip(NAMES, features(base, np.array([len(values) - 1]), horizon, weekdays)[0, 0].tolist(), strict=True))


def test_features_are_as_many_as_their_names() -> None:
    assert len(of_last(wave(30, TWO_HOURS_SECONDS))) == len(set(NAMES)) == len(NAMES)


def test_features_are_the_same_of_a_load_in_other_units() -> None:
    values = wave(200, TWO_HOURS_SECONDS)
    one, other = of_last(values), of_last(values * 1000)
    np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-6)


def test_features_of_a_load_that_is_zero_are_finite_or_unknown() -> None:
    found = of_last(np.zeros(200))
    assert not any(np.isinf(value) for value in found.values())
    assert found["change_1_steps"] == found["growth_1_days_ago"] == 0


def test_features_say_what_the_load_did_after_this_time_yesterday() -> None:
    values = np.tile(np.arange(1.0, DAY + 1), 9)[: 8 * DAY + 4]
    found = of_last(values, horizon=3)
    unit = series_levels(series_of(values, TWO_HOURS_SECONDS)).scale[0, -1]
    for days in (1, 2, 3, 7):
        assert found[f"growth_{days}_days_ago"] == pytest.approx(3 / unit)
        assert found[f"growth_ratio_{days}_days_ago"] == pytest.approx(3 / unit, rel=1e-6)
        assert found[f"difference_{days}_days_ago"] == pytest.approx(3 / unit)


def test_features_know_no_other_day_of_a_load_that_is_new() -> None:
    found = of_last(wave(DAY, TWO_HOURS_SECONDS), horizon=2)
    assert all(np.isnan(found[name]) for name in NAMES if "days_ago" in name)
    # A day ahead nothing is known of the target's own day before.
    assert np.isnan(of_last(wave(2 * DAY, TWO_HOURS_SECONDS), horizon=DAY + 1)["growth_1_days_ago"])


def test_features_tell_the_targets_time_of_day() -> None:
    noon_ahead = of_last(np.ones(6), horizon=0)  # the step from 10 to 12 o'clock: 11 in its middle
    assert noon_ahead["day_sine"] == pytest.approx(np.sin(2 * np.pi * 11 / 24))
    assert noon_ahead["day_cosine"] == pytest.approx(np.cos(2 * np.pi * 11 / 24))


def test_features_tell_the_weekend_where_weekdays_count() -> None:
    friday = np.ones(5 * DAY)
    assert of_last(friday, horizon=0)["target_is_weekend"] == 0
    assert of_last(friday, horizon=1)["target_is_weekend"] == 1
    assert np.isnan(of_last(friday, horizon=1, weekdays=False)["target_is_weekend"])


def test_features_tell_who_came_and_how_bursty_it_is_where_that_is_known() -> None:
    values = np.full(20, 10.0)
    clients = np.where(np.arange(20) < 19, 4.0, 8.0)
    found = of_last(values, clients=clients)
    assert found["clients_change_1_step"] == found["clients_change_6_steps"] == pytest.approx(0.5)
    assert found["load_a_client_change_6_steps"] == pytest.approx(-1)
    assert found["dispersion"] == pytest.approx(np.log(2))
    unknown = of_last(values)
    assert all(np.isnan(unknown[name]) for name in (*NAMES[-3:], "dispersion"))


def test_levels_of_stand_where_nothing_is_known_anew() -> None:
    known = np.array([[np.nan, np.nan, 8.0, np.nan, 8.0, np.nan]])
    base = levels_of(known, np.zeros(1), TWO_HOURS_SECONDS)
    np.testing.assert_array_equal(base.filled, [[np.nan, np.nan, 8, 8, 8, 8]])
    np.testing.assert_allclose(base.levels, 8.0)
    np.testing.assert_array_equal(base.changes, 0.0)
    assert np.isnan(base.clients).all()


def test_levels_of_keep_a_scale_above_zero() -> None:
    lull = np.concatenate([np.full(50, 100.0), np.zeros(20)])
    base = levels_of(np.stack([lull, np.zeros(70)]), np.zeros(2), TWO_HOURS_SECONDS)
    assert (base.scale > 0).all()
    assert base.scale[0, -1] > 1  # a part of the day's level


def test_forward_filled_takes_the_last_known() -> None:
    known = np.array([[np.nan, 1.0, np.nan, 3.0], [2.0, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(forward_filled(known), [[np.nan, 1, 1, 3], [2, 2, 2, 2]])


def test_smoothed_is_half_way_after_a_half_life() -> None:
    found = smoothed(np.array([[0.0] + [1.0] * 10]), 5.0)[0]
    assert found[0] == 0
    assert found[5] == pytest.approx(0.5)
    assert found[10] == pytest.approx(0.75)


def test_back_knows_neither_what_was_before_the_beginning_nor_what_lies_ahead() -> None:
    values, at = np.array([[10.0, 11.0, 12.0]]), np.array([0, 1, 2])
    np.testing.assert_array_equal(back(values, at, 1), [[np.nan, 10, 11]])
    np.testing.assert_array_equal(back(values, at, -1), [[np.nan] * 3])
    np.testing.assert_array_equal(back(values, np.full(4, 2), np.array([0, 2, 3, -1])), [[12, 10, np.nan, np.nan]])


def test_smooth_back_takes_three_values_none_of_them_ahead() -> None:
    values = np.array([[1.0, 2.0, 6.0, 8.0]])
    np.testing.assert_allclose(smooth_back(values, np.array([3]), 1), [[(2 + 6 + 8) / 3]])
    np.testing.assert_allclose(smooth_back(values, np.array([3]), 0), [[(6 + 8 + 8) / 3]])
