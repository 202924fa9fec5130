"""What serves: the same walk as in a backtest, honest after whatever disturbs a load."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest

from forecasting.backtest import Options, backtest
from forecasting.experts import LEARNED
from forecasting.features import features
from forecasting.forecaster import HORIZONS_SECONDS, SeriesForecast, live_layout, statistical
from forecasting.history import history_for
from forecasting.model import rows_of
from forecasting.series import Floats
from forecasting.state import Track
from forecasting.train import learned_points, series_levels
from tests.load_cases import HALF_HOUR_SECONDS, MONDAY, TWO_HOURS_SECONDS, history_of, series_of, trained, walked, wave

DAY = 48  # steps
BEFORE = 3 * DAY
LENGTH = BEFORE + 2 * DAY
SEEDS = (1, 2, 3)
FORECASTER = statistical(HALF_HOUR_SECONDS)
NEAR = [HORIZONS_SECONDS.index(seconds) for seconds in (1800, 3600, 5400, 7200)]


def shifted(values: Floats) -> Floats:
    """Three times as much from the third day's end on."""
    return np.where(np.arange(len(values)) >= BEFORE, 3 * values, values)


def silenced(values: Floats) -> Floats:
    """Zeros for three hours."""
    return np.where(_within(values, 6), 0.0, values)


def gapped(values: Floats) -> Floats:
    """Nothing observed for an hour."""
    return np.where(_within(values, 2), np.nan, values)


def _within(values: Floats, steps: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    at = np.arange(len(values))
    return (at >= BEFORE) & (at < BEFORE + steps)


@dataclass(frozen=True)
class Disturbed:
    """Loads (S, n) of one kind, and what was forecast of each at each step."""

    values: Floats
    forecasts: list[list[SeriesForecast]]

    def flagged(self, step: int) -> list[tuple[str, ...]]:
        return [each.flags for each in self.forecasts[step]]

    def second_day(self) -> tuple[Floats, Floats, Floats]:
        """Quantiles (m, S, H, 7), what came (m, S, H), and the last value known (m, S, 1), from a day after on."""
        steps = range(LENGTH - DAY - 1, LENGTH - 1 - len(NEAR))
        made = np.stack([[each.quantiles[NEAR] for each in self.forecasts[step]] for step in steps])
        came = np.stack([self.values[:, step + 1 : step + 1 + len(NEAR)] for step in steps])
        return made, came, np.stack([self.values[:, step, None] for step in steps])


KINDS = {"nothing": lambda values: values, "level": shifted, "zeros": silenced, "gap": gapped}


@pytest.fixture(scope="module")
def disturbed() -> dict[str, Disturbed]:
    """All kinds in one walk."""
    loads = {name: [kind(wave(LENGTH, HALF_HOUR_SECONDS, seed)) for seed in SEEDS] for name, kind in KINDS.items()}
    forecasts = walked(FORECASTER, np.stack([row for rows in loads.values() for row in rows]))
    found = {}
    for place, (name, rows) in enumerate(loads.items()):
        mine = slice(place * len(SEEDS), (place + 1) * len(SEEDS))
        found[name] = Disturbed(np.stack(rows), [each[mine] for each in forecasts])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_forecasts_are_calibrated_on_the_second_day_after(disturbed: dict[str, Disturbed], kind: str) -> None:
    made, came, _ = disturbed[kind].second_day()
    held = ((came >= made[..., 0]) & (came <= made[..., -1])).mean()
    assert 0.75 <= held <= 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_forecasts_are_no_worse_than_the_last_value_on_the_second_day_after(
    disturbed: dict[str, Disturbed], kind: str
) -> None:
    made, came, last = disturbed[kind].second_day()
    assert np.abs(made[..., 3] - came).mean() <= 1.02 * np.abs(last - came).mean()


def test_flags_say_what_happened(disturbed: dict[str, Disturbed]) -> None:
    first, hour, before, after = 0, 23, BEFORE - 1, LENGTH - 1
    for kind in KINDS:
        assert disturbed[kind].flagged(first) == [("cold-start", "gaps")] * len(SEEDS)
        assert all("cold-start" in flags for flags in disturbed[kind].flagged(hour))
        assert disturbed[kind].flagged(before) == [()] * len(SEEDS)
        assert disturbed[kind].flagged(after) == [()] * len(SEEDS)
    assert all("dead-sensor" in flags for flags in disturbed["zeros"].flagged(BEFORE + 1))
    assert all("gaps" in flags for flags in disturbed["gap"].flagged(BEFORE))
    assert all("gaps" in flags for flags in disturbed["gap"].flagged(BEFORE + 10))
    levels = [disturbed["level"].flagged(step) for step in range(BEFORE, BEFORE + 12)]
    assert all(any("level-shift" in flags[seed] for flags in levels) for seed in range(len(SEEDS)))
    for step in range(BEFORE - 12, LENGTH):
        assert disturbed["nothing"].flagged(step) == [()] * len(SEEDS)


def test_forecasts_follow_a_shifted_level_within_a_day(disturbed: dict[str, Disturbed]) -> None:
    made, came, _ = disturbed["level"].second_day()
    assert made[..., 3].mean() == pytest.approx(came.mean(), rel=0.05)


def test_advance_says_what_a_backtest_would() -> None:
    values, train_steps = wave(60, TWO_HOURS_SECONDS), 40
    # No model is learned of so few steps: both are the statistical forecaster.
    horizons = tuple(steps * TWO_HOURS_SECONDS for steps in live_layout(TWO_HOURS_SECONDS).horizon_steps)
    options = Options(horizons, train_steps, refit_seconds=1e9, spike_within_seconds=(TWO_HOURS_SECONDS,))
    found = backtest(series_of(values, TWO_HOURS_SECONDS), options)
    live = walked(statistical(TWO_HOURS_SECONDS), values[None])
    drawn = [HORIZONS_SECONDS.index(int(seconds)) for seconds in horizons]
    served = np.stack([live[origin][0].quantiles[drawn] for origin in found.origins])
    np.testing.assert_allclose(served, found.quantiles["model"], rtol=1e-9)


def test_said_rests_on_the_features_that_were_trained_on() -> None:
    forecaster, values = trained(), wave(96, TWO_HOURS_SECONDS, seed=7)
    base = series_levels(series_of(values, TWO_HOURS_SECONDS))
    said = forecaster.said(base)
    for place, steps in enumerate(forecaster.plan.layout.horizon_steps):
        model, last = forecaster.models[place], np.array([len(values) - 1 - steps])
        assert model is not None
        rows = rows_of(base, last, steps, forecaster.weekdays, values[None])
        np.testing.assert_array_equal(rows.features[0], features(base, last, steps, forecaster.weekdays)[0, 0])
        served = forecaster.said(series_levels(series_of(values[: last[0] + 1], TWO_HOURS_SECONDS)))
        learned = learned_points(model, base, last, steps, forecaster.weekdays)
        np.testing.assert_array_equal(served[0, place, -len(LEARNED) :], learned[0, 0])
    assert said.shape == (1, forecaster.plan.layout.horizons, forecaster.plan.layout.experts)


def test_advance_is_of_nothing_for_no_sites() -> None:
    assert FORECASTER.advance([], []) == []


def test_advance_begins_anew_with_a_track_of_another_layout() -> None:
    other = history_of(wave(200, HALF_HOUR_SECONDS), HALF_HOUR_SECONDS, Track(np.ones(7, dtype=np.float32)))
    new = history_of(wave(200, HALF_HOUR_SECONDS), HALF_HOUR_SECONDS)
    theirs, ours = FORECASTER.advance([other], [None])[0], FORECASTER.advance([new], [None])[0]
    assert theirs.quantiles.tobytes() == ours.quantiles.tobytes()
    assert other.track.state.tobytes() == new.track.state.tobytes()


def test_advance_answers_for_a_site_that_was_silent_for_longer_than_it_looks_back() -> None:
    site = history_of([40.0, *[None] * (9 * DAY)], HALF_HOUR_SECONDS)
    forecast = FORECASTER.advance([site], [None])[0]
    np.testing.assert_allclose(forecast.quantiles[:, 3], 40.0)
    assert "gaps" in forecast.flags


def test_advance_takes_the_threshold_it_is_given_else_twice_the_median() -> None:
    values = np.full(100, 40.0)
    given, own = FORECASTER.advance([history_of(values, HALF_HOUR_SECONDS) for _ in range(2)], [55.0, None])
    assert (given.spike_threshold, own.spike_threshold) == (55.0, 80.0)
    assert (given.spike_probability >= own.spike_probability).all()


def test_advance_after_a_clock_jump_scores_nothing_that_waited() -> None:
    site = history_of(wave(100, HALF_HOUR_SECONDS), HALF_HOUR_SECONDS)
    FORECASTER.advance([site], [None])
    site.end += timedelta(days=800)
    FORECASTER.advance([site], [None])
    assert not FORECASTER.plan.layout.fields(site.track.state[None])["scored"].any()


def test_advance_learns_of_the_step_before_gaps_that_closed_with_it() -> None:
    values = wave(60, HALF_HOUR_SECONDS)
    values[20:][::2] = np.nan
    each_step = walked(FORECASTER, values[None])
    site = history_of([], HALF_HOUR_SECONDS)
    for step in [*range(19), *range(20, 60, 2)]:
        site.steps, site.end = values[: step + 1], MONDAY + (step + 1) * timedelta(seconds=HALF_HOUR_SECONDS)
        site.gaps = int(np.isnan(values[step]))
        (made,) = FORECASTER.advance([site], [None])
        assert made.quantiles.tobytes() == each_step[step][0].quantiles.tobytes()
    # Of 39 observed steps, all but those that nothing had been forecast of before.
    assert FORECASTER.plan.layout.fields(site.track.state[None])["scored"][0, :2].tolist() == [38, 37]


def test_advance_looks_back_no_further_than_a_history_of_short_steps_is_kept() -> None:
    forecaster = statistical(60.0)
    kept = history_for(60.0).keep_steps
    longer = np.concatenate([np.full(3000, 1e6), wave(kept + 1, 60.0)])
    ours, same = (forecaster.advance([history_of(longer[cut:], 60.0)], [None])[0] for cut in (0, 3000))
    np.testing.assert_array_equal(ours.quantiles[NEAR, 3], same.quantiles[NEAR, 3])


def test_advance_refuses_steps_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"^every history must have steps of 1800 s$"):
        FORECASTER.advance([history_of([1.0], TWO_HOURS_SECONDS)], [None])


@pytest.mark.parametrize("step_seconds", [20.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0])
def test_live_layout_asks_for_whole_beats(step_seconds: float) -> None:
    layout = live_layout(step_seconds)
    assert list(layout.horizon_steps) == sorted(set(layout.horizon_steps))
    assert all(steps % cadence == 0 for steps, cadence in zip(layout.horizon_steps, layout.cadence_steps, strict=True))
    assert min(layout.cadence_steps) * step_seconds >= 300
    assert layout.horizon_steps[-1] * step_seconds == HORIZONS_SECONDS[-1]
