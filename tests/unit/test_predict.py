"""The forecast of a history: horizons, spikes, flags, and nothing but the history in it."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from forecasting.history import SiteHistory
from forecasting.predict import HORIZON_SECONDS, MODEL, SPIKE_WITHIN_SECONDS, history_for, predict
from schemas.forecast import SiteForecast
from tests.examples import FLEET, SITE, after


def history(steps: Sequence[float | None], step_seconds: float = 300.0) -> SiteHistory:
    """A history whose last closed step ends at noon."""
    of_site = history_for(step_seconds)
    of_site.steps, of_site.end = list(steps), after(0)
    return of_site


def forecast(steps: Sequence[float | None], step_seconds: float = 300.0) -> SiteForecast:
    """The forecast, which must be one."""
    made = predict(history(steps, step_seconds), FLEET, SITE, "replay-1")
    assert made is not None
    return made


def test_predict_of_nothing_known_is_none() -> None:
    assert predict(history_for(300.0), FLEET, SITE) is None
    assert predict(history([]), FLEET, SITE) is None
    assert predict(history([None, None]), FLEET, SITE) is None


def test_predict_says_of_what_it_speaks() -> None:
    made = forecast([10.0] * 60)
    assert (made.fleet_id, made.site_id, made.run_id, made.model) == (FLEET, SITE, "replay-1", MODEL)
    assert (made.issued_at, made.history_steps, made.flags) == (after(0), 60, [])
    assert tuple(each.horizon_seconds for each in made.horizons) == HORIZON_SECONDS
    assert tuple(each.within_seconds for each in made.spikes) == SPIKE_WITHIN_SECONDS


def test_predict_flags_a_cold_start_and_gaps() -> None:
    assert forecast([5.0]).flags == ["cold-start"]
    assert forecast([5.0] * 100 + [None]).flags == ["gaps"]
    assert forecast([5.0, None, *[5.0] * 100]).flags == []
    assert forecast([None, 5.0]).flags == ["cold-start", "gaps"]


def test_a_steady_load_has_no_spike_ahead() -> None:
    made = forecast([100.0] * 60)
    assert [each.threshold_tokens_per_second for each in made.spikes] == [200.0, 200.0]
    assert [each.probability_ratio for each in made.spikes] == [0.0, 0.0]


def test_a_load_that_often_doubles_has_one() -> None:
    restless = [100.0, 100.0, 100.0, 900.0] * 30
    soon, later = forecast(restless).spikes
    assert 0 < soon.probability_ratio <= later.probability_ratio < 1


def test_the_spike_threshold_is_of_the_last_half_hour_or_the_last_known_step() -> None:
    assert forecast([1.0] * 50 + [300.0] * 6).spikes[0].threshold_tokens_per_second == 600.0
    assert forecast([40.0] + [None] * 20).spikes[0].threshold_tokens_per_second == 80.0


@pytest.mark.parametrize("step_seconds", [60.0, 300.0, 3600.0, 7200.0])
def test_predict_takes_steps_of_any_length(step_seconds: float) -> None:
    assert len(forecast([3.0] * 40, step_seconds).horizons) == len(HORIZON_SECONDS)


def test_predict_is_a_function_of_the_history_and_leaves_it_alone() -> None:
    of_site = history([1.0, None, 3.0] * 20)
    before = of_site.to_json()
    first, second = (predict(of_site, FLEET, SITE) for _ in range(2))
    assert first == second
    assert of_site.to_json() == before


def test_history_for_keeps_two_weeks() -> None:
    assert history_for(300.0).keep_steps == 14 * 288
    assert history_for(60.0, timedelta(hours=1)).keep_steps == 60
