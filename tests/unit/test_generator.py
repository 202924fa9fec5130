"""The generator's statistics are those that it promises, and the same seed gives the same world."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from streams.collect.generator import PriceShape, TrafficShape, generate_prices, generate_requests

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400.0


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_generate_requests_same_seed_same_trace() -> None:
    one, same, other = (generate_requests(rng(seed), MIDNIGHT, 3600) for seed in (1, 1, 2))
    assert one.tokens.tolist() == same.tokens.tolist()
    assert one.tokens.tolist() != other.tokens.tolist()


def test_generate_requests_has_the_mean_rate_and_lengths() -> None:
    trace = generate_requests(rng(), MIDNIGHT, 14 * DAY, step_seconds=60, shape=TrafficShape(bursts_per_hour=0))
    assert trace.steps == 14 * 1440
    assert trace.requests.mean() / 60 == pytest.approx(20, rel=0.03)
    assert trace.prompt_tokens.sum() / trace.requests.sum() == pytest.approx(1020 * np.exp(0.5), rel=0.01)
    assert trace.tokens.sum() / trace.requests.sum() == pytest.approx(129 * np.exp(0.405), rel=0.01)


def test_generate_requests_bursts_beyond_poisson() -> None:
    trace = generate_requests(rng(), MIDNIGHT, 7 * DAY, step_seconds=60)
    hours = trace.requests.reshape(-1, 60)  # within an hour the daily cycle hardly moves
    dispersion = (hours.var(axis=1) / hours.mean(axis=1)).mean()
    assert 50 < dispersion < 600  # Poisson: 1; gamma of shape 6 at 1,200 a minute: 201
    plain = TrafficShape(minute_gamma_shape=1e9, level_sigma=0, bursts_per_hour=0, peak_to_trough_ratio=1)
    calm = generate_requests(rng(), MIDNIGHT, DAY, 60, plain).requests
    assert calm.var() / calm.mean() == pytest.approx(1, abs=0.15)


def test_generate_requests_peaks_at_the_peak_hour() -> None:
    trace = generate_requests(rng(), MIDNIGHT, 14 * DAY, step_seconds=3600)
    by_hour = trace.requests.reshape(-1, 24).mean(axis=0)
    assert int(np.argmax(by_hour)) in (17, 18, 19, 20)
    assert 3 < by_hour.max() / by_hour.min() < 5.5


def test_generate_requests_cycle_hangs_on_the_start() -> None:
    evening = generate_requests(rng(), MIDNIGHT + timedelta(hours=18), 7200)
    morning = generate_requests(rng(), MIDNIGHT + timedelta(hours=6), 7200)
    assert evening.requests.sum() > 2 * morning.requests.sum()
    elsewhere = (MIDNIGHT + timedelta(hours=18)).astimezone(timezone(timedelta(hours=5)))
    assert generate_requests(rng(), elsewhere, 7200).requests.tolist() == evening.requests.tolist()


def test_generate_requests_single_lengths_are_log_normal() -> None:
    shape = TrafficShape(requests_per_second=0.02, peak_to_trough_ratio=1)
    trace = generate_requests(rng(), MIDNIGHT, 2_000_000, 10.0, shape)
    single = np.log(trace.prompt_tokens[trace.requests == 1])
    assert single.mean() == pytest.approx(np.log(1020), abs=0.05)
    assert single.std() == pytest.approx(1.0, abs=0.05)


def test_generate_requests_no_request_no_tokens() -> None:
    trace = generate_requests(rng(), MIDNIGHT, DAY, 1.0, TrafficShape(requests_per_second=0.5))
    none = trace.requests == 0
    assert none.any()
    assert not trace.tokens[none].any()
    assert (trace.tokens[~none] >= trace.requests[~none]).all()


@pytest.fixture(scope="module")
def year() -> np.ndarray:
    return generate_prices(rng(), MIDNIGHT, 365 * DAY).prices_usd_per_mwh


def test_generate_prices_same_seed_same_prices() -> None:
    one, same = (generate_prices(rng(5), MIDNIGHT, DAY).prices_usd_per_mwh for _ in range(2))
    assert np.array_equal(one, same)


def test_generate_prices_are_rarely_negative_and_rarely_very_high(year: np.ndarray) -> None:
    assert year.shape == (365 * 288, 4)
    assert not np.isnan(year).any()
    assert (year.mean(axis=0) > 20).all()
    assert (year.mean(axis=0) < 45).all()
    assert ((year < 0).mean(axis=0) > 0.005).all()
    assert ((year < 0).mean(axis=0) < 0.06).all()
    assert ((year > 200).mean(axis=0) > 0.002).all()
    assert ((year > 200).mean(axis=0) < 0.02).all()
    assert year.max() > 500


def test_generate_prices_follow_the_day(year: np.ndarray) -> None:
    by_hour = np.median(year[:, 0].reshape(365, 24, 12), axis=(0, 2))
    assert by_hour[7:10].max() < by_hour[22:].max() - 5


def test_generate_prices_zones_move_together_but_not_alike(year: np.ndarray) -> None:
    calm = (year < 100).all(axis=1)
    together = np.corrcoef(year[calm].T)
    assert (together > 0.5).all()
    assert together[0, 1] < 0.99


def test_generate_prices_spikes_last_a_while(year: np.ndarray) -> None:
    high = year[:, 0] > 200
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], high.astype(int), [0]]))))[::2]
    assert runs.mean() > 1.5


def test_generate_prices_can_be_calm() -> None:
    calm = PriceShape(spikes_per_day=0, gluts_per_day=0)
    prices = generate_prices(rng(), MIDNIGHT, 30 * DAY, ("A",), 900.0, calm)
    assert prices.zones == ("A",)
    assert prices.prices_usd_per_mwh.max() < 100


@pytest.mark.parametrize(("duration", "step"), [(0, 10), (-1, 10), (10, 0), (10, -1)])
def test_generate_refuses_no_time(duration: float, step: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        generate_requests(rng(), MIDNIGHT, duration, step)
    with pytest.raises(ValueError, match="must be positive"):
        generate_prices(rng(), MIDNIGHT, duration, ("A",), step)


def test_generate_refuses_naive_start_and_no_zones() -> None:
    with pytest.raises(ValueError, match="aware UTC"):
        generate_requests(rng(), MIDNIGHT.replace(tzinfo=None), 10)
    with pytest.raises(ValueError, match="at least one zone"):
        generate_prices(rng(), MIDNIGHT, 10, ())
