"""Forecasts between the horizons that are forecast: drawn as straight lines. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from forecasting.series import Floats


@dataclass(frozen=True)
class Ahead:
    """Horizons wanted, of those that there are, in the same unit; beyond the outermost, that one."""

    wanted: tuple[float, ...]
    given: tuple[float, ...]

    def drawn(self, quantiles: Floats) -> Floats:
        """Quantiles (m, given, 7) at the horizons wanted, (m, wanted, 7)."""
        low, high, share = self._places
        return quantiles[:, low] * (1 - share) + quantiles[:, high] * share

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        place = np.interp(self.wanted, self.given, np.arange(len(self.given)))
        low = np.floor(place).astype(np.int64)
        return low, np.minimum(low + 1, len(self.given) - 1), (place - low)[:, None]


def steps_within(seconds: float, step_seconds: float, given: Sequence[int]) -> Ahead:
    """Every step of the next so many seconds, one at least, of horizons given in steps."""
    steps = max(1, round(seconds / step_seconds))
    return Ahead(tuple(float(n) for n in range(1, steps + 1)), tuple(float(n) for n in given))
