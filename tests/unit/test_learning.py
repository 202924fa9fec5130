"""From series to a forecaster: what is learned, what is refused, and whether it was worth it."""

from dataclasses import replace

import numpy as np
import pytest

from forecasting.forecaster import Forecaster, statistical
from forecasting.holdout import holdout_pinball
from forecasting.parts import from_parts, parts
from forecasting.train import cross_fitted, fit_horizon, studied, train, training_steps
from tests.load_cases import TWO_HOURS_SECONDS, history_of, series_of, trained, wave

# Enough to learn from for the nearest horizons alone, which is quickly done.
SHORT = series_of(wave(58, TWO_HOURS_SECONDS), TWO_HOURS_SECONDS)


def told(forecaster: Forecaster) -> bytes:
    """What it says of a site."""
    history = history_of(wave(130, TWO_HOURS_SECONDS, seed=5), TWO_HOURS_SECONDS)
    return forecaster.advance([history], [None])[0].quantiles.tobytes()


def test_train_learns_the_same_again_with_the_same_seed() -> None:
    once, again = (train([SHORT], TWO_HOURS_SECONDS, "short", seed=3) for _ in range(2))
    assert once.models[0] is not None
    assert told(once) == told(again)


def test_train_tells_how_far_it_is() -> None:
    tiny, done = replace(SHORT, values=SHORT.values[:20]), list[tuple[int, int]]()
    found = train([tiny], TWO_HOURS_SECONDS, "tiny", progress=lambda *each: done.append(each))
    total = found.plan.layout.horizons
    assert done == [(place + 1, total) for place in range(total)]


@pytest.mark.parametrize("known", [1, 20])
def test_train_of_too_little_forecasts_all_the_same(known: int) -> None:
    values = np.where(np.arange(20) < 20 - known, np.nan, SHORT.values[:20])
    found = train([replace(SHORT, values=values)], TWO_HOURS_SECONDS, "tiny")
    assert set(found.models) == {None}
    forecast = found.advance([history_of([5.0], TWO_HOURS_SECONDS)], [None])[0]
    assert np.isfinite(forecast.quantiles).all()


def test_train_refuses_other_steps() -> None:
    with pytest.raises(ValueError, match="steps of 300 s"):
        train([SHORT], 300.0, "other")


def test_studied_refuses_steps_of_two_lengths_and_what_nobody_observed() -> None:
    with pytest.raises(ValueError, match="one length"):
        studied([SHORT, replace(SHORT, step_seconds=300.0)])
    unknown = replace(SHORT, values=np.full(10, np.nan))
    with pytest.raises(ValueError, match="observed"):
        studied([unknown])
    assert len(studied([SHORT, unknown]).known) == 1


def test_studied_learns_weekdays_of_two_weeks() -> None:
    week = series_of(wave(84, TWO_HOURS_SECONDS), TWO_HOURS_SECONDS)
    assert not studied([week]).weekdays
    assert studied([week, replace(week, values=np.tile(week.values, 2))]).weekdays


def test_training_steps_have_their_targets_among_what_is_known() -> None:
    assert training_steps(100, 7).max() + 7 == 99
    assert not len(training_steps(5, 7))


def test_cross_fitted_says_of_a_block_what_the_others_taught() -> None:
    values = wave(144, TWO_HOURS_SECONDS)
    last = np.array_split(training_steps(len(values), 0), 4)[-1]
    changed = values.copy()
    changed[last[5:]] *= 5
    one, other = (
        cross_fitted(studied([series_of(each, TWO_HOURS_SECONDS)]), 2, False, 1)[0] for each in (values, changed)
    )
    assert np.isfinite(one[training_steps(len(values), 0)]).all()
    # Only how much a row weighs beside the ridge's penalty moves with the series' mean.
    np.testing.assert_allclose(one[last[:5]], other[last[:5]], rtol=0.02)
    assert not np.allclose(one[last[5:]], other[last[5:]], rtol=0.5)


def test_fit_horizon_learns_of_all_series_together() -> None:
    rising, falling = (replace(SHORT, values=np.linspace(*ends, 40)) for ends in ((10.0, 90.0), (90.0, 10.0)))
    # Neither has forty steps to learn from.
    assert fit_horizon(studied([rising]), 1, False, 1) is None
    assert fit_horizon(studied([rising, falling]), 1, False, 1) is not None


def test_parts_give_the_forecaster_again() -> None:
    again = from_parts(parts(trained()))
    assert told(again) == told(trained())
    assert (again.name, again.weekdays, again.plan.layout) == ("quick", trained().weekdays, trained().plan.layout)


def test_from_parts_refuses_models_of_other_horizons() -> None:
    with pytest.raises(ValueError, match="0 models for 8 horizons"):
        from_parts({**parts(statistical(TWO_HOURS_SECONDS)), "models": []})


def test_holdout_pinball_prefers_what_has_learned() -> None:
    later = series_of(wave(120, TWO_HOURS_SECONDS, seed=9), TWO_HOURS_SECONDS)
    learned = holdout_pinball(trained(), [later], [60])
    assert 0 < learned < holdout_pinball(statistical(TWO_HOURS_SECONDS), [later], [60])


def test_holdout_pinball_is_the_same_in_other_units() -> None:
    baseline = statistical(TWO_HOURS_SECONDS)
    one = holdout_pinball(baseline, [SHORT], [30])
    thousandfold = replace(SHORT, values=SHORT.values * 1000)
    assert one == pytest.approx(holdout_pinball(baseline, [thousandfold], [30]), rel=1e-3)


def test_holdout_pinball_judges_every_horizon_by_its_target() -> None:
    """The last step is the target of one forecast of each horizon, a day's too, and of no other."""
    baseline, last = statistical(TWO_HOURS_SECONDS), len(SHORT.values) - 1
    unknown = replace(SHORT, values=np.where(np.arange(last + 1) < last, SHORT.values, np.nan))
    assert np.isfinite(holdout_pinball(baseline, [SHORT], [last]))
    assert np.isnan(holdout_pinball(baseline, [unknown], [last]))


def test_holdout_pinball_lets_a_series_that_never_changes_judge_nobody() -> None:
    baseline = statistical(TWO_HOURS_SECONDS)
    constant = replace(SHORT, values=np.full(40, 7.0))
    together = holdout_pinball(baseline, [constant, SHORT], [20, 30])
    assert together == holdout_pinball(baseline, [SHORT], [30])


@pytest.mark.parametrize("values", [np.zeros(40), np.full(40, np.nan), np.r_[np.ones(20), np.full(20, np.nan)]])
def test_holdout_pinball_is_unknown_where_nothing_can_be_judged(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    assert np.isnan(holdout_pinball(statistical(TWO_HOURS_SECONDS), [replace(SHORT, values=values)], [20]))
