"""Latency as a histogram with fixed bounds: counts add up over time and sites; averages of percentiles don't."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from schemas.units import Count, Many

# Upper bounds in seconds; the last bucket is open. Six a decade from 10 ms to 100 s: a quantile read from them is
# within a factor of 1.47 of the true one (10 ** (1/6)), interpolation aside.
LATENCY_BOUNDS_SECONDS: tuple[float, ...] = tuple(round(10 ** (step / 6 - 2), 6) for step in range(25))
BUCKETS = len(LATENCY_BOUNDS_SECONDS) + 1

LatencyCounts = Annotated[Many[Count], Field(min_length=BUCKETS, max_length=BUCKETS)]

EMPTY_COUNTS: tuple[int, ...] = (0,) * BUCKETS


def quantile_seconds(counts: Sequence[int], quantile_ratio: float) -> float | None:
    """The latency in seconds below which `quantile_ratio` (0–1) of the counted requests lie.

    Linear inside a bucket; the open last bucket answers with its lower bound. None where nothing was counted.

    Raises:
        ValueError: `counts` has not BUCKETS places, or `quantile_ratio` lies outside 0–1.
    """
    if len(counts) != BUCKETS or not 0 <= quantile_ratio <= 1:
        raise ValueError(f"need {BUCKETS} counts and a quantile in 0-1")
    total = sum(counts)
    if total == 0:
        return None
    rank, below = quantile_ratio * total, 0
    edges = (0.0, *LATENCY_BOUNDS_SECONDS)
    for (lower, upper), count in zip(pairwise(edges), counts, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * max(0.0, rank - below) / count
        below += count
    return LATENCY_BOUNDS_SECONDS[-1]
