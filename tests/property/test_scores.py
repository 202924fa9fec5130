"""The scores: what they must be in plain cases, and what must always hold of them."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from forecasting import scores
from schemas.forecast import QUANTILE_LEVELS

Floats = NDArray[np.float64]
NAN = float("nan")

# An eighth of the smallest numbers that there are is zero: no load is so small.
TOKENS = st.floats(0, 1e6, allow_subnormal=False)
LOADS = st.one_of(TOKENS, st.just(NAN))


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """What came, (m,), and quantiles that do not cross, (m, 7); either with gaps."""
    steps = draw(st.integers(1, 40))
    actual = draw(arrays(np.float64, steps, elements=LOADS))
    quantiles = np.sort(draw(arrays(np.float64, (steps, len(QUANTILE_LEVELS)), elements=TOKENS)), axis=1)
    quantiles[draw(arrays(np.bool_, steps))] = np.nan
    return actual, quantiles


def every_score(actual: Floats, quantiles: Floats) -> list[float]:
    lower, middle, upper = quantiles[:, 0], quantiles[:, 3], quantiles[:, -1]
    return [
        scores.wmape(actual, middle),
        scores.pinball(actual, quantiles),
        scores.coverage(actual, lower, upper),
        scores.width(actual, lower, upper),
        scores.winkler(actual, lower, upper),
    ]


def test_scores_of_plain_cases() -> None:
    actual = np.array([10.0, 20.0, NAN, 30.0])
    assert scores.wmape(actual, np.array([9.0, 22.0, 5.0, 33.0])) == pytest.approx(6 / 60)
    lower, upper = np.array([9.0, 21.0, 0.0, 20.0]), np.array([11.0, 25.0, 1.0, 28.0])
    assert scores.coverage(actual, lower, upper) == pytest.approx(1 / 3)
    assert scores.width(actual, lower, upper) == pytest.approx((2 + 4 + 8) / 3)
    assert scores.winkler(actual, lower, upper) == pytest.approx((2 + 4 + 20 + 8 + 40) / 3)
    assert scores.pinball(np.array([10.0]), np.array([[8.0, 12.0]]), (0.1, 0.9)) == pytest.approx((0.2 + 0.2) / 2)


def test_scores_of_nothing_are_nan() -> None:
    for actual in (np.array([]), np.array([NAN, NAN])):
        assert np.isnan(every_score(actual, np.ones((len(actual), 7)))).all()
        assert np.isnan(scores.mean_interval(actual)).all()
    assert np.isnan(scores.wmape(np.zeros(3), np.ones(3)))


@given(forecasts())
def test_scores_leave_out_what_is_unknown(case: tuple[Floats, Floats]) -> None:
    actual, quantiles = case
    known = ~np.isnan(actual) & ~np.isnan(quantiles).any(axis=1)
    np.testing.assert_allclose(every_score(actual, quantiles), every_score(actual[known], quantiles[known]))


@given(forecasts())
def test_scores_are_never_negative_and_scale_with_the_load(case: tuple[Floats, Floats]) -> None:
    actual, quantiles = case
    here, tenfold = np.array(every_score(actual, quantiles)), np.array(every_score(actual * 8, quantiles * 8))
    assert not (here < 0).any()
    np.testing.assert_allclose(tenfold, here * np.array([1, 8, 1, 8, 8]), rtol=1e-9)


@given(forecasts())
def test_scores_of_a_perfect_forecast_are_perfect(case: tuple[Floats, Floats]) -> None:
    actual = case[0]
    assume(np.nansum(actual) > 0)
    perfect = np.repeat(actual[:, None], len(QUANTILE_LEVELS), axis=1)
    assert every_score(actual, perfect) == [0, 0, 1, 0, 0]


@given(forecasts(), st.floats(0, 100))
def test_winkler_and_pinball_agree_on_which_interval_is_better(case: tuple[Floats, Floats], wider: float) -> None:
    actual, quantiles = case
    # The interval score is the pinball loss of its two ends, times 2 / 0.1 (Gneiting & Raftery 2007, sec. 6.2).
    lower, upper = quantiles[:, 0] - wider, quantiles[:, -1] + wider
    ends = scores.pinball(actual, np.stack([lower, upper], axis=1), (0.05, 0.95))
    assert scores.winkler(actual, lower, upper) == pytest.approx(40 * ends, nan_ok=True)


@given(arrays(np.float64, st.integers(1, 80), elements=st.sampled_from([0.0, 1.0, NAN])), st.integers(1, 100))
def test_mean_interval_lies_within_the_values(values: Floats, least_block_steps: int) -> None:
    low, high = scores.mean_interval(values, least_block_steps)
    if np.isnan(values).all():
        assert np.isnan([low, high]).all()
    else:
        assert np.nanmin(values) <= low <= high <= np.nanmax(values)
        assert (low, high) == scores.mean_interval(values, least_block_steps)


def test_mean_interval_widens_where_errors_hang_together() -> None:
    rng = np.random.default_rng(1)
    loose = (rng.random(600) < 0.9).astype(np.float64)
    clumped = np.repeat(loose[:50], 12)
    narrow, broad = scores.mean_interval(loose), scores.mean_interval(clumped)
    assert narrow[0] <= 0.9 <= narrow[1]
    assert broad[1] - broad[0] > 1.8 * (narrow[1] - narrow[0])
    assert scores.block_steps(clumped) > 3 * scores.block_steps(loose)


@given(
    arrays(np.float64, 30, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, NAN])),
    arrays(np.float64, 30, elements=st.sampled_from([0.0, 1.0, NAN])),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_alarms_keep_to_the_false_alarms_allowed_and_no_lower_threshold_does(
    scored: Floats, came: Floats, most: float
) -> None:
    found = scores.alarms(scored, came, most)
    known = ~np.isnan(scored) & ~np.isnan(came)
    quiet, spikes = scored[known & (came == 0)], scored[known & (came == 1)]
    assert (quiet >= found.threshold).sum() <= most * len(quiet)
    lower = [each for each in np.unique(scored[known]) if each < found.threshold]
    assert all((quiet >= each).sum() > most * len(quiet) for each in lower)
    if len(spikes):
        assert found.recall == (spikes >= found.threshold).mean()
        precision = scores.average_precision(scored, came)
        assert len(spikes) / known.sum() - 1e-9 <= max(precision, len(spikes) / known.sum()) <= 1 + 1e-9
    else:
        assert np.isnan([found.recall, scores.average_precision(scored, came)]).all()


def test_alarms_of_a_score_that_knows_find_every_spike() -> None:
    came = np.array([0.0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    assert scores.alarms(came, came) == scores.Alarms(1.0, 1.0)
    assert scores.alarms(-came, came, 0.05).recall == 0
    assert scores.average_precision(came, came) == 1


def test_lead_time_is_the_run_of_alarms_before_the_spike() -> None:
    scored = np.array([0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.9, NAN, 0.9, 0.1])
    onset = np.zeros(10, dtype=np.bool_)
    assert np.isnan(scores.lead_time_seconds(scored, onset, 0.5, 600, 1800))
    onset[[4, 6, 9]] = True  # three steps ahead, one step ahead, not at all
    assert scores.lead_time_seconds(scored, onset, 0.5, 600, 1800) == 1200
    assert scores.lead_time_seconds(scored, onset, 0.5, 600, 900) == 750
    assert np.isnan(scores.lead_time_seconds(scored, onset, float("inf"), 600, 1800))
    assert scores.lead_time_seconds(np.ones(10), onset, 0.5, 60, 1e9) == 7 * 60
