"""Traffic and prices from a seed, for use without files. The same types as the readers give.

Requests: a daily cycle, times a slow level that wanders with the clients (ServeGen, Alibaba 2025: client churn moves
the level), times a gamma factor a minute, the counts Poisson given the rate. Gamma-modulated counts are
over-dispersed, variance/mean = 1 + mean/shape a minute, as BurstGPT (Azure OpenAI, 2023-24), ServeGen and the Azure
traces of 2023 are: 20 at 328 requests a minute in conversation (shape 17), 160 at 152 in code (shape 1).
Lengths are log-normal. Prices: two humps a day, wandering noise, rare high spikes, negative hours at night when wind is
ample; the default rates follow ERCOT's hub average of 2024 (0.6 % of intervals above 200 USD/MWh, 2.4 % negative).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from streams.collect.traces import PriceTrace, RequestTrace

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class TrafficShape:
    """How generated traffic looks; lengths in tokens, medians and sigmas near Azure's conversation trace."""

    requests_per_second: float = 20.0  # over a day, bursts aside
    peak_to_trough_ratio: float = 4.0  # over the day; Azure's code traffic of 2024 has 9.6 on weekdays
    peak_hour_utc: float = 19.0
    minute_gamma_shape: float = 6.0
    level_sigma: float = 0.12
    bursts_per_hour: float = 0.5
    burst_ratio: float = 1.0  # the mean burst doubles the traffic, for minutes
    prompt_median: float = 1020.0
    prompt_sigma: float = 1.0
    tokens_median: float = 129.0
    tokens_sigma: float = 0.9


@dataclass(frozen=True, slots=True)
class PriceShape:
    """How generated prices look, in USD/MWh."""

    base_usd_per_mwh: float = 27.0
    noise_usd_per_mwh: float = 6.0
    congestion_usd_per_mwh: float = 5.0
    spikes_per_day: float = 0.6
    spike_median_usd_per_mwh: float = 300.0
    spike_sigma: float = 0.8
    spike_seconds: float = 1200.0
    gluts_per_day: float = 0.5
    glut_seconds: float = 5400.0
    glut_usd_per_mwh: float = -12.0


def generate_requests(
    rng: np.random.Generator,
    starts_at: datetime,
    duration_seconds: float,
    step_seconds: float = 10.0,
    shape: TrafficShape | None = None,
) -> RequestTrace:
    """Traffic for `duration_seconds` from `starts_at` (aware UTC: the daily cycle hangs on it).

    The token sum of a step's n requests is drawn from the log-normal with the sum's mean and variance
    (Fenton-Wilkinson), which is exact for one request and costs the same for a million.

    Raises:
        ValueError: a duration or step is not positive, or `starts_at` has no offset.
    """
    shape = shape or TrafficShape()
    seconds = _steps(starts_at, duration_seconds, step_seconds)
    swing = log(shape.peak_to_trough_ratio) / 2
    phase = 2 * np.pi * ((seconds + _since_midnight(starts_at)) / _DAY_SECONDS - shape.peak_hour_utc / 24)
    cycle = np.exp(swing * np.cos(phase)) / np.i0(swing)  # i0: so that the day's mean is 1
    # A step of several minutes takes the mean of their factors, which has as many times the shape.
    period_seconds = max(60.0, step_seconds)
    gamma_shape = shape.minute_gamma_shape * period_seconds / 60
    periods = (seconds // period_seconds).astype(np.int64)
    gamma = rng.gamma(gamma_shape, 1 / gamma_shape, int(periods[-1]) + 1)[periods]
    level = np.exp(_wander(rng, len(seconds), step_seconds / 1800, shape.level_sigma) - shape.level_sigma**2 / 2)
    bursts = shape.burst_ratio * _pulses(rng, seconds, shape.bursts_per_hour / 3600, 180.0)
    rate = shape.requests_per_second * cycle * level * gamma * (1 + bursts)
    requests = rng.poisson(rate * step_seconds).astype(np.float64)
    prompts = _sums(rng, requests, shape.prompt_median, shape.prompt_sigma)
    tokens = _sums(rng, requests, shape.tokens_median, shape.tokens_sigma)
    return RequestTrace("generated", starts_at, step_seconds, requests, prompts, tokens)


def generate_prices(
    rng: np.random.Generator,
    starts_at: datetime,
    duration_seconds: float,
    zones: tuple[str, ...] = ("NYC", "LONGIL", "WEST", "NORTH"),
    step_seconds: float = 300.0,
    shape: PriceShape | None = None,
) -> PriceTrace:
    """Real-time prices for `duration_seconds` from `starts_at` (aware UTC).

    The zones share cycle, noise, spikes and gluts, each with its own congestion and its own part of the spikes.

    Raises:
        ValueError: a duration or step is not positive, there is no zone, or `starts_at` has no offset.
    """
    if not zones:
        raise ValueError("at least one zone is needed")
    shape = shape or PriceShape()
    seconds = _steps(starts_at, duration_seconds, step_seconds)
    hours = ((seconds + _since_midnight(starts_at)) / 3600) % 24
    # Morning and evening humps, and a trough in the night, as seen from UTC on the American east coast.
    cycle = 1 + 0.25 * np.cos((hours - 23) * np.pi / 12) + 0.12 * np.cos((hours - 13) * np.pi / 6)
    common = shape.base_usd_per_mwh * cycle + _wander(rng, len(seconds), step_seconds / 3600, shape.noise_usd_per_mwh)
    night = (hours > 4) & (hours < 11)
    glut = night & (_pulses(rng, seconds, shape.gluts_per_day / _DAY_SECONDS * 24 / 7, shape.glut_seconds) > 0.4)
    spike = np.zeros(len(seconds))
    for first in np.flatnonzero(rng.random(len(seconds)) < shape.spikes_per_day * step_seconds / _DAY_SECONDS):
        length = max(1, round(rng.exponential(shape.spike_seconds) / step_seconds))
        spike[first : first + length] += shape.spike_median_usd_per_mwh * exp(shape.spike_sigma * rng.standard_normal())
    columns = []
    for _ in zones:
        congestion = rng.normal(0, 3) + _wander(rng, len(seconds), step_seconds / 7200, shape.congestion_usd_per_mwh)
        calm = np.where(glut, shape.glut_usd_per_mwh + 0.3 * (common - shape.base_usd_per_mwh), common)
        columns.append(calm + congestion + spike * rng.uniform(0.7, 1.1))
    prices: NDArray[np.float64] = np.stack(columns, axis=1).astype(np.float64).round(2)
    return PriceTrace("generated", starts_at, step_seconds, zones, prices)


def _steps(starts_at: datetime, duration_seconds: float, step_seconds: float) -> NDArray[np.float64]:
    """Seconds from the start to each step's beginning."""
    if not (duration_seconds > 0 and step_seconds > 0):
        raise ValueError("duration_seconds and step_seconds must be positive")
    if starts_at.tzinfo is None:
        raise ValueError("starts_at must be an aware UTC time")
    return np.arange(ceil(duration_seconds / step_seconds - 1e-9), dtype=np.float64) * step_seconds


def _since_midnight(when: datetime) -> float:
    utc = when.astimezone(UTC)
    return (utc - utc.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()


def _wander(rng: np.random.Generator, steps: int, step_ratio: float, sigma: float) -> NDArray[np.float64]:
    """A stationary AR(1) path of mean 0 and standard deviation `sigma`; `step_ratio` is step/correlation time."""
    keep = exp(-step_ratio)
    kicks = rng.standard_normal(steps) * sigma * sqrt(1 - keep**2)
    path, value = np.empty(steps), sigma * float(rng.standard_normal())
    for place, kick in enumerate(kicks.tolist()):
        value = keep * value + kick
        path[place] = value
    return path


def _pulses(
    rng: np.random.Generator, seconds: NDArray[np.float64], per_second: float, decay_seconds: float
) -> NDArray[np.float64]:
    """Pulses that come at random, exponential heights of mean 1, each dying away over `decay_seconds`: step means."""
    step = float(seconds[1] - seconds[0]) if len(seconds) > 1 else 1.0
    keep, value = exp(-step / decay_seconds), 0.0
    kicks = rng.poisson(per_second * step, len(seconds)) * rng.exponential(1.0, len(seconds))
    path = np.empty(len(seconds))
    for place, kick in enumerate(kicks.tolist()):
        value = keep * value + kick
        path[place] = value
    return path * ((1 - keep) * decay_seconds / step)  # a pulse much shorter than a step counts for little in it


def _sums(rng: np.random.Generator, counts: NDArray[np.float64], median: float, sigma: float) -> NDArray[np.float64]:
    """For each n in `counts` the sum of n log-normal lengths, whole tokens, by Fenton-Wilkinson."""
    some = np.maximum(counts, 1)
    mean = median * exp(sigma**2 / 2)
    sum_sigma = np.sqrt(np.log1p((exp(sigma**2) - 1) / some))
    sums = some * mean * np.exp(sum_sigma * rng.standard_normal(len(counts)) - sum_sigma**2 / 2)
    return np.where(counts > 0, np.maximum(np.rint(sums), some), 0.0)
