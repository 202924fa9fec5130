"""Forecasts scored when their time comes; the rule that says that they drift."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from forecasting.online import (
    SCORED_SECONDS,
    Scorecard,
    StepScore,
    Sums,
    is_drifting,
    pinball_loss,
    scored_horizons,
)
from schemas.forecast import QUANTILE_LEVELS

STEP_SECONDS = 300.0
AHEAD = 2  # steps in ten minutes
NAN = float("nan")
ADAPTER = TypeAdapter(Scorecard)


def quantiles(median: float, spread: float = 10.0) -> np.ndarray:
    """Quantiles around a median, the outermost `spread` away."""
    return median + spread * np.linspace(-1, 1, len(QUANTILE_LEVELS))


def played(
    load: Sequence[float], medians: Sequence[float], models: Sequence[str] = (), spread: float = 10.0
) -> list[list[StepScore]]:
    """What each step's closing says, the forecast of ten minutes ahead issued at each."""
    card, said = Scorecard(), []
    for step, median in enumerate(medians):
        said.append(card.close(np.array(load[: step + 1], dtype=np.float32), step, 1, STEP_SECONDS))
        card.issue(step, {600: quantiles(median, spread)}, models[step] if models else "m", STEP_SECONDS)
    return said


def test_a_forecast_is_scored_when_its_step_is_over() -> None:
    first, second, third = played([100.0, 110.0, 130.0], [120.0, 0.0, 0.0])
    assert first == second == []
    (score,) = third
    assert (score.horizon_seconds, score.model, score.came) == (600, "m", 130.0)
    assert (score.lower, score.median, score.upper, score.persistence) == (110.0, 120.0, 130.0, 100.0)
    assert score.wmape_ratio == pytest.approx(10 / 130)
    assert score.persistence_wmape_ratio == pytest.approx(30 / 130)
    assert score.coverage_ratio == 1.0
    assert not score.is_drifting
    below = [max(q * (130 - v), (q - 1) * (130 - v)) for q, v in zip(QUANTILE_LEVELS, quantiles(120.0), strict=True)]
    assert score.pinball_loss == pytest.approx(sum(below) / len(below))


def test_what_was_not_observed_is_not_scored() -> None:
    assert played([100.0, 110.0, NAN], [120.0, 0.0, 0.0])[2] == []
    assert played([NAN, 110.0, 130.0], [120.0, 0.0, 0.0])[2] == []


def test_no_load_at_all_has_no_ratio() -> None:
    (score,) = played([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])[2]
    assert (score.wmape_ratio, score.persistence_wmape_ratio, score.coverage_ratio) == (None, None, 1.0)


def test_a_new_model_is_scored_from_its_first_forecast_on() -> None:
    said = played([100.0] * 6, [150.0, 150.0, 150.0, 100.0, 100.0, 100.0], ["old", "old", "old", "new", "new", "new"])
    assert [each[0].model for each in said[2:]] == ["old", "old", "old", "new"]
    assert [each[0].wmape_ratio for each in said[2:]] == [0.5, 0.5, 0.5, 0.0]


@pytest.mark.parametrize("gaps", [1, 2, 3, 500])
def test_forecasts_of_steps_that_were_skipped_are_dropped(gaps: int) -> None:
    card = Scorecard()
    for step in range(3):
        card.issue(step, {600: quantiles(100.0)}, "m", STEP_SECONDS)
    known = np.array([100.0, 100.0, 100.0, 100.0, *[NAN] * gaps], dtype=np.float32)
    (score,) = card.close(known, 3, 1 + gaps, STEP_SECONDS)
    assert score.came == 100.0
    assert np.isnan(card.horizons[600].waiting).all()


def test_only_whole_and_not_too_many_steps_are_scored() -> None:
    ahead = range(300, 86_401, 300)
    assert scored_horizons(ahead, 300.0) == list(SCORED_SECONDS)
    assert scored_horizons(ahead, 3600.0) == [3600, 7200, 21_600, 86_400]
    assert scored_horizons(ahead, 10.0) == [600, 1800, 3600, 7200]
    assert scored_horizons(ahead, 700.0) == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1e6) | st.just(NAN), st.floats(0, 1e6)), min_size=3, max_size=30),
    st.integers(0, 30),
)
def test_scores_survive_their_memory(steps: list[tuple[float, float]], kept_at: int) -> None:
    card, kept = Scorecard(), Scorecard()
    load = np.array([value for value, _ in steps], dtype=np.float32)
    for step, (_, median) in enumerate(steps):
        if step == kept_at:
            kept = ADAPTER.validate_json(ADAPTER.dump_json(card))
        for each in (card, kept) if step >= kept_at else (card,):
            each.issue(step, {600: quantiles(median), 1800: quantiles(median)}, "m", STEP_SECONDS)
        said = [each.close(load[: step + 2], step + 1, 1, STEP_SECONDS) for each in (card, kept)]
        assert step < kept_at or said[0] == said[1]


def drifts(load: Sequence[float], medians: Sequence[float], spread: float) -> list[bool]:
    return [each[0].is_drifting for each in played(load, medians, spread=spread) if each]


def test_an_honest_forecast_does_not_drift() -> None:
    rng = np.random.default_rng(1)
    load = (100 + 10 * rng.standard_normal(600)).tolist()
    assert not any(drifts(load, [100.0] * 600, spread=16.45))


def test_a_forecast_worse_than_persistence_drifts_within_half_a_day() -> None:
    rng = np.random.default_rng(2)
    load = (100 + rng.standard_normal(400)).tolist()
    said = drifts(load, [104.0] * 400, spread=10.0)
    assert not any(said[:71])  # six hours
    assert all(said[144:])


@pytest.mark.parametrize(("spread", "drifting"), [(0.5, True), (1.6, False), (50.0, True)])
def test_intervals_too_narrow_or_too_wide_drift(spread: float, drifting: bool) -> None:
    rng = np.random.default_rng(3)
    load = (100 + rng.standard_normal(400)).tolist()
    assert drifts(load, [100.0] * 400, spread)[-1] == drifting


def test_a_day_says_little_of_a_day_ahead() -> None:
    half_covered = Sums("m", weight=138.0, load=138e2, absolute_error=138.0, persistence_error=138.0, covered=69.0)
    assert is_drifting(half_covered, 300.0, 600.0)
    assert is_drifting(half_covered, 300.0, 3600.0)
    assert not is_drifting(half_covered, 300.0, 86_400.0)


def test_pinball_loss_of_the_truth_is_zero() -> None:
    assert pinball_loss(np.full(len(QUANTILE_LEVELS), 5.0), 5.0) == 0.0
