"""What the simple rules say."""

import numpy as np
import pytest

from forecasting.experts import EXPERTS, LEARNED, SIMPLE, prior_weights, simple_experts
from forecasting.series import Floats
from forecasting.train import series_levels
from tests.load_cases import TWO_HOURS_SECONDS, series_of, wave

DAY = 12


def said(values: Floats, horizon: int) -> dict[str, float]:
    """What each says at the last step."""
    found = simple_experts(series_levels(series_of(values, TWO_HOURS_SECONDS)), np.array([len(values) - 1]), horizon)
    return dict(zip(SIMPLE, found[0, 0].tolist(), strict=True))


@pytest.mark.parametrize("horizon", [1, 5, DAY])
def test_simple_experts_that_know_the_day_are_right_where_each_is_the_same(horizon: int) -> None:
    values = wave(8 * DAY + horizon, TWO_HOURS_SECONDS, noise_ratio=0.0)
    found = said(values[: len(values) - horizon], horizon)
    assert found["last"] == values[-1 - horizon]
    for name in ("same_time_yesterday", "scaled_like_yesterday"):
        assert found[name] == pytest.approx(values[-1])
    if horizon == DAY:
        assert found["moved_like_last_week"] == pytest.approx(values[-1])


def test_simple_experts_say_nothing_of_days_they_have_not_seen() -> None:
    found = said(wave(DAY, TWO_HOURS_SECONDS), 1)
    assert {name for name, value in found.items() if np.isnan(value)} == {
        "same_time_yesterday", "moved_like_yesterday", "scaled_like_yesterday", "moved_like_last_week"
    }  # fmt: skip
    assert np.isnan(said(wave(2 * DAY, TWO_HOURS_SECONDS), DAY + 1)["same_time_yesterday"])


def test_simple_experts_follow_a_level_that_shifted() -> None:
    values = wave(3 * DAY, TWO_HOURS_SECONDS, noise_ratio=0.0)
    shifted = np.where(np.arange(len(values)) >= 2 * DAY + 8, 3 * values, values)
    assert said(shifted, 4)["scaled_like_yesterday"] == pytest.approx(3 * values[len(values) - 1 + 4 - DAY])


def test_simple_experts_never_fall_below_zero() -> None:
    found = simple_experts(
        series_levels(series_of(np.tile([0.0, 500.0, 0.0], 40), TWO_HOURS_SECONDS)), np.arange(120), 1
    )
    assert (np.isnan(found) | (found >= 0)).all()
    assert found.shape == (1, 120, len(EXPERTS) - len(LEARNED))


def test_prior_weights_are_shares_of_which_the_last_value_gets_less_as_it_gets_far() -> None:
    found = prior_weights([300.0, 7200.0, 10_800.0, 86_400.0])
    assert found.shape == (4, len(EXPERTS))
    assert (found > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (np.diff(found[:, SIMPLE.index("last")]) <= 0).all()
    assert (np.diff(found[:, SIMPLE.index("same_time_yesterday")]) >= 0).all()


def test_simple_experts_know_the_time_of_day_beyond_a_day_ahead() -> None:
    values = wave(6 * DAY, TWO_HOURS_SECONDS, noise_ratio=0.0)
    horizon = DAY + 5
    found = said(values[:-horizon], horizon)
    for name in ("same_time_yesterday", "scaled_like_yesterday"):
        assert found[name] == pytest.approx(values[-1])
