"""A quantile read from counts is near the one of the data that was counted."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.latency import BUCKETS, LATENCY_BOUNDS_SECONDS, quantile_seconds

FACTOR = 10 ** (1 / 6) * (1 + 1e-4)  # one bucket, and the rounding of the bounds to a microsecond

latencies = st.lists(st.floats(LATENCY_BOUNDS_SECONDS[0], LATENCY_BOUNDS_SECONDS[-1]), min_size=1, max_size=200)
quantiles = st.floats(0, 1)
all_counts = st.lists(st.integers(0, 2**62), min_size=BUCKETS, max_size=BUCKETS)


@settings(deadline=None)
@given(seconds=latencies, quantile=quantiles)
def test_quantile_is_within_a_bucket_of_numpys(seconds: list[float], quantile: float) -> None:
    # A bucket takes its upper bound; the very first would have no lower one, so 10 ms counts as just above it.
    places = np.maximum(np.searchsorted(LATENCY_BOUNDS_SECONDS, seconds, side="left"), 1)
    estimate = quantile_seconds(np.bincount(places, minlength=BUCKETS).tolist(), quantile)
    # Where the rank falls on the edge between two values, rounding decides which of them it is.
    around = np.clip([quantile - 1e-9, quantile + 1e-9], 0, 1)
    lower, upper = np.quantile(seconds, around, method="inverted_cdf")
    assert estimate is not None
    assert lower / FACTOR <= estimate <= upper * FACTOR


@settings(deadline=None)
@given(counts=all_counts, one=quantiles, other=quantiles)
def test_quantile_never_falls(counts: list[int], one: float, other: float) -> None:
    low, high = quantile_seconds(counts, min(one, other)), quantile_seconds(counts, max(one, other))
    if low is None or high is None:
        assert sum(counts) == 0
    else:
        assert 0 <= low <= high <= LATENCY_BOUNDS_SECONDS[-1]
