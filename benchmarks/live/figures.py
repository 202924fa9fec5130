"""Quantiles and slopes."""

import math
from collections.abc import Sequence

import numpy as np


def quantile(ordered: Sequence[float], ratio: float) -> float | None:
    """The least value that so many of the values don't exceed; None where there are none."""
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)] if ordered else None


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Change of the values by unit of time, by least squares; 0 for fewer than two."""
    return float(np.polyfit(times, values, 1)[0]) if len(times) > 1 else 0.0


def quarters(values: Sequence[float]) -> tuple[float, float]:
    """The means of the first and of the last quarter; NaN where there are none."""
    if not values:
        return math.nan, math.nan
    size = max(1, len(values) // 4)
    return float(np.mean(values[:size])), float(np.mean(values[-size:]))
