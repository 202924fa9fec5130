"""A load over time in equal steps: what every model, baseline and score takes."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LoadSeries:
    """Load of one site, or of one service class of it, in n equal steps.

    `starts_at` is when the first step begins (aware UTC); `values` (n,) the mean load of each step in any unit of
    rate, NaN where it was not observed; `clients` (n,) how many clients were active in it and `dispersion` (n,) the
    variance over the mean of the counts in parts of it, each where it is known.
    """

    name: str
    starts_at: datetime
    step_seconds: float
    values: Floats
    clients: Floats | None = None
    dispersion: Floats | None = None
