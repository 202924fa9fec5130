"""What forecasts are held against: errors, intervals and alarms, each over the steps that are known.

Everywhere `actual` is what came, shape (m,), NaN where unknown; a forecast has NaN where it says nothing. What is
unknown on either side is left out, and a score of nothing is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from forecasting.series import Floats
from schemas.forecast import QUANTILE_LEVELS

_SAMPLES = 1000
_FALSE_ALARMS_RATIO = 0.1
_LEAST_STEPS_TO_TELL = 8


def wmape(actual: Floats, predicted: Floats) -> float:
    """Sum of absolute errors over the sum of what came, as a ratio; NaN where nothing came."""
    known = ~(np.isnan(actual) | np.isnan(predicted))
    total = float(np.abs(actual[known]).sum())
    return float(np.abs(actual[known] - predicted[known]).sum()) / total if total > 0 else float("nan")


def pinball(actual: Floats, quantiles: Floats, levels: Sequence[float] = QUANTILE_LEVELS) -> float:
    """Mean quantile loss over steps and levels, in the unit of the load (Koenker & Bassett 1978).

    `quantiles` has the shape (m, len(levels)).
    """
    error = actual[:, None] - quantiles
    level = np.array(levels)
    return _mean(np.maximum(level * error, (level - 1) * error).mean(axis=1))


def inside(actual: Floats, lower: Floats, upper: Floats) -> Floats:
    """1 where `lower` <= what came <= `upper`, 0 where not, NaN where unknown; shape (m,)."""
    unknown = np.isnan(actual) | np.isnan(lower) | np.isnan(upper)
    return np.where(unknown, np.nan, (lower <= actual) & (actual <= upper))


def coverage(actual: Floats, lower: Floats, upper: Floats) -> float:
    """The share of steps whose load lies in the interval, its ends included."""
    return _mean(inside(actual, lower, upper))


def width(actual: Floats, lower: Floats, upper: Floats) -> float:
    """Mean width of the intervals of the steps that are known, in the unit of the load."""
    return _mean(np.where(np.isnan(actual), np.nan, upper - lower))


def winkler(actual: Floats, lower: Floats, upper: Floats, outside_ratio: float = 0.1) -> float:
    """Mean interval score in the unit of the load, lower is better (Gneiting & Raftery 2007, eq. 43).

    The width, and 2 / `outside_ratio` times how far the load lies outside; 0.1 for the interval that is to hold 90 %.
    """
    missed = np.maximum(lower - actual, 0.0) + np.maximum(actual - upper, 0.0)
    return _mean(upper - lower + 2 / outside_ratio * missed)


def mean_interval(
    values: Floats, least_block_steps: int = 1, confidence_ratio: float = 0.95, seed: int = 1
) -> tuple[float, float]:
    """Confidence interval of the mean of a dependent series, by the circular block bootstrap.

    Blocks of following steps are drawn with replacement from the series laid in a circle (Politis & Romano 1992, after
    Künsch 1989), as long as `block_steps` finds them and no shorter than the cube root of m or `least_block_steps`:
    errors at a horizon of h steps overlap over h of them. NaN in `values`, shape (m,), are left out of each mean.

    Returns:
        The (1 - confidence_ratio) / 2 quantile of the means and its mirror image; NaN where nothing is known.
    """
    known = ~np.isnan(values)
    if not known.any():
        return float("nan"), float("nan")
    steps = len(values)
    block = max(block_steps(values[known]), least_block_steps, int(np.ceil(steps ** (1 / 3))))
    block = min(block, max(1, steps // 2))
    starts = np.random.default_rng(seed).integers(0, steps, (_SAMPLES, -(-steps // block)))

    def drawn_sums(of: Floats) -> Floats:
        circle = np.concatenate(([0.0], np.cumsum(np.concatenate((of, of[:block])))))
        sums: Floats = (circle[block:] - circle[:-block])[starts].sum(axis=1)
        return sums

    drawn_steps = np.full(_SAMPLES, float(starts.shape[1] * block))
    counts = drawn_steps if known.all() else drawn_sums(known.astype(np.float64))
    drawn = counts > 0.5
    means = drawn_sums(np.where(known, values, 0.0))[drawn] / counts[drawn]
    tail = (1 - confidence_ratio) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def block_steps(values: Floats) -> int:
    """The block length that estimates the variance of the mean best, from the series' own autocorrelation.

    The rule of Politis & White 2004 with the correction of Patton, Politis & White 2009, for circular blocks: the lag
    from which the correlation is negligible, then the flat-top window over twice as many lags. `values` have no NaN.
    """
    steps = len(values)
    if steps < _LEAST_STEPS_TO_TELL or np.ptp(values) < 1e-9:
        return 1
    spectrum_of_lags = np.fft.rfft(values - values.mean(), 2 * steps)
    covariances = np.fft.irfft(np.abs(spectrum_of_lags) ** 2)[:steps] / steps
    variance = float(covariances[0])
    most = int(np.ceil(min(3 * np.sqrt(steps), steps / 3)))
    in_a_row = max(5, int(np.ceil(np.sqrt(np.log10(steps)))))
    looked_at = int(np.ceil(np.sqrt(steps))) + in_a_row
    negligible = np.abs(covariances[1 : looked_at + 1] / variance) < 2 * np.sqrt(np.log10(steps) / steps)
    settled = np.flatnonzero(np.convolve(negligible, np.ones(in_a_row), mode="valid") > in_a_row - 0.5)
    last = max(1, int(settled[0]) if len(settled) else looked_at)
    lags = np.arange(1, min(2 * last, steps - 1) + 1)
    weighted = np.clip(2 * (1 - lags / (2 * last)), 0.0, 1.0) * covariances[lags]
    spectrum = variance + 2 * float(weighted.sum())
    slope = 2 * float((weighted * lags).sum())
    if spectrum <= 0:
        return 1
    return int(np.clip(np.ceil((1.5 * (slope / spectrum) ** 2 * steps) ** (1 / 3)), 1, most))


def average_precision(scores: Floats, came: Floats) -> float:
    """Area under precision over recall of `scores`, the higher the likelier; NaN where nothing came.

    `came` is 1 where it did, 0 where not, NaN where unknown; both have the shape (m,).
    """
    known = _both(scores, came)
    if not (came[known] > 0).any():
        return float("nan")
    return float(average_precision_score(came[known], scores[known]))


@dataclass(frozen=True, slots=True)
class Alarms:
    """An alarm is a score of `threshold` or more; `recall` is the share of what came that had one."""

    threshold: float
    recall: float


def alarms(scores: Floats, came: Floats, most_false_ratio: float = _FALSE_ALARMS_RATIO) -> Alarms:
    """The lowest threshold with which at most `most_false_ratio` of what did not come is alarmed, and its recall.

    The false alarm rate is FP / (FP + TN). A threshold above every score, that never alarms, is infinite. Where
    nothing came the recall is NaN.
    """
    known = _both(scores, came)
    spikes, quiet = scores[known & (came > 0)], np.sort(scores[known & (came <= 0)])[::-1]
    allowed = int(most_false_ratio * len(quiet) + 1e-9)
    every = np.unique(scores[known])
    lowest = every if allowed >= len(quiet) else every[every > quiet[allowed]]
    threshold = float(lowest[0]) if len(lowest) else float("inf")
    return Alarms(threshold, float((spikes >= threshold).mean()) if len(spikes) else float("nan"))


def lead_time_seconds(
    scores: Floats, onset: NDArray[np.bool_], threshold: float, step_seconds: float, most_seconds: float
) -> float:
    """How long before a spike its alarm rose: the median over the spikes that had one, at most `most_seconds`.

    `onset` is true where a spike begins at the step after. Counted is the unbroken run of alarms that lasts until
    then: an alarm at the last step before the spike alone is one step ahead, as a forecast one step ahead is. NaN
    where no spike had an alarm. Steps follow each other without a break; shapes (m,).
    """
    alarmed = ~np.isnan(scores) & (scores >= threshold)
    steps = np.arange(len(scores))
    last_quiet = np.maximum.accumulate(np.where(alarmed, -1, steps))
    caught = onset & alarmed
    if not caught.any():
        return float("nan")
    ahead = (steps - last_quiet)[caught] * step_seconds
    return float(np.median(np.minimum(ahead, most_seconds)))


def _both(scores: Floats, came: Floats) -> NDArray[np.bool_]:
    return ~(np.isnan(scores) | np.isnan(came))


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
