"""Quantiles from counts with fixed bounds."""

import pytest

from schemas.latency import BUCKETS, EMPTY_COUNTS, LATENCY_BOUNDS_SECONDS, quantile_seconds


def counts(**buckets: int) -> list[int]:
    """Counts by bucket: `counts(b3=7)` has seven in bucket 3."""
    return [buckets.get(f"b{number}", 0) for number in range(BUCKETS)]


def test_bounds_rise_six_a_decade_from_10_ms_to_100_s() -> None:
    assert LATENCY_BOUNDS_SECONDS[0] == 0.01
    assert LATENCY_BOUNDS_SECONDS[6] == 0.1
    assert LATENCY_BOUNDS_SECONDS[-1] == 100.0
    assert list(LATENCY_BOUNDS_SECONDS) == sorted(set(LATENCY_BOUNDS_SECONDS))
    assert len(LATENCY_BOUNDS_SECONDS) + 1 == BUCKETS == len(EMPTY_COUNTS)


def test_quantile_of_nothing_is_none() -> None:
    assert quantile_seconds(EMPTY_COUNTS, 0.5) is None


@pytest.mark.parametrize(
    ("quantile", "seconds"),
    [(0.0, LATENCY_BOUNDS_SECONDS[6]), (0.5, None), (1.0, LATENCY_BOUNDS_SECONDS[7])],
)
def test_quantile_is_linear_inside_a_bucket(quantile: float, seconds: float | None) -> None:
    lower, upper = LATENCY_BOUNDS_SECONDS[6], LATENCY_BOUNDS_SECONDS[7]
    assert quantile_seconds(counts(b7=10), quantile) == pytest.approx(seconds or (lower + upper) / 2)


def test_quantile_goes_over_empty_buckets() -> None:
    assert quantile_seconds(counts(b2=1, b9=1), 0.5) == LATENCY_BOUNDS_SECONDS[2]
    assert quantile_seconds(counts(b2=1, b9=1), 1.0) == LATENCY_BOUNDS_SECONDS[9]


def test_quantile_in_the_open_bucket_answers_its_lower_bound() -> None:
    assert quantile_seconds([*EMPTY_COUNTS[:-1], 5], 0.01) == 100.0
    assert quantile_seconds([1, *EMPTY_COUNTS[1:-1], 5], 1.0) == 100.0


def test_quantile_in_the_first_bucket_starts_at_zero() -> None:
    assert quantile_seconds(counts(b0=4), 0.0) == 0.0
    assert quantile_seconds(counts(b0=4), 0.5) == pytest.approx(0.005)


@pytest.mark.parametrize("quantile", [-0.01, 1.01, float("nan")])
def test_quantile_outside_0_to_1_raises(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile_seconds(EMPTY_COUNTS, quantile)


@pytest.mark.parametrize("length", [0, BUCKETS - 1, BUCKETS + 1])
def test_quantile_of_other_length_raises(length: int) -> None:
    with pytest.raises(ValueError, match="counts"):
        quantile_seconds([1] * length, 0.5)
