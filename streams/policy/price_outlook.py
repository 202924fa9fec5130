"""What energy will cost over the optimiser's steps, as far as it is known or can be told. Pure.

Where a real-time price is known to hold, it is that. Beyond, it is the day-ahead price and what is left of the newest
deviation from it: 0.8 x exp(-age / 45 min). Measured on NYISO 2016-2017, four zones, five-minute real-time against
hourly day-ahead prices: deviations clipped to +-50 USD/MWh correlate by 0.79-0.82 after 5 min, 0.59-0.63 after 20 min,
0.50-0.53 after 1 h, 0.28 after 4 h; unclipped by 0.47-0.65, 0.20-0.38, 0.10-0.18, 0.01-0.08, for spikes pass sooner.
Over the next two hours this outlook errs by 12.3 USD/MWh in the mean (day-ahead alone 13.5, persistence 13.3, the best
exponential for that score 12.0), and by 24.05 in the root of the mean square, errors cut at 200 (24.4, -, 23.9).
Without day-ahead prices the newest real-time price decays by the same to the mean of those seen: 12.8 USD/MWh in the
mean (persistence 13.3).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from schemas.signals import PriceSignal
from streams.policy.view import FleetView

Floats = NDArray[np.float64]

_LEFT_RATIO = 0.8
_DECAY_SECONDS = 45 * 60.0
# Where no price is known at all.
UNKNOWN_PRICE_USD_PER_MWH = 40.0


def prices_ahead(view: FleetView, now: datetime, step_seconds: float, steps: int) -> Floats:
    """USD/MWh at each site of the fleet, mean over each step from `now` on, shape (S, steps).

    A site whose settlement point has no known price takes the mean of those known elsewhere.
    """
    seen, ahead = _by_point(view.prices.values()), _by_point(view.day_ahead.values())
    rows = {
        point: _point_prices(
            view.price_at(point, now), seen.get(point, []), ahead.get(point, []), now, step_seconds, steps
        )
        for point in dict.fromkeys(site.settlement_point for site in view.fleet.sites)
    }
    elsewhere = mean_price(view)
    found = [rows[site.settlement_point] for site in view.fleet.sites]
    return np.array([np.full(steps, elsewhere) if row is None else row for row in found])


def mean_price(view: FleetView) -> float:
    """The mean of all prices of this fleet's settlement points that are known, USD/MWh."""
    points = {site.settlement_point for site in view.fleet.sites}
    known = [
        price.price_usd_per_mwh
        for price in (*view.prices.values(), *view.day_ahead.values())
        if price.settlement_point in points
    ]
    return sum(known) / len(known) if known else UNKNOWN_PRICE_USD_PER_MWH


def _by_point(prices: Iterable[PriceSignal]) -> dict[str, list[PriceSignal]]:
    found = dict[str, list[PriceSignal]]()
    for price in prices:
        found.setdefault(price.settlement_point, []).append(price)
    return found


def _point_prices(
    current: PriceSignal | None,
    seen: list[PriceSignal],
    ahead: list[PriceSignal],
    now: datetime,
    step_seconds: float,
    steps: int,
) -> Floats | None:
    if current is None and not ahead:
        return None
    middles: Floats = (np.arange(steps, dtype=np.float64) + 0.5) * step_seconds
    usual = _holding(ahead, middles, now)
    if current is None:
        return _filled(usual, float(np.mean([price.price_usd_per_mwh for price in ahead])))
    mean = sum(price.price_usd_per_mwh for price in seen) / len(seen)
    at_once = float(_filled(_holding(ahead, np.zeros(1), now), mean)[0])
    usual = _filled(usual, mean)
    left = _LEFT_RATIO * np.exp(-middles / _DECAY_SECONDS)
    expected = usual + left * (current.price_usd_per_mwh - at_once)
    # A price that holds until the middle of a step counts for half of it.
    holds_seconds = (current.ends_at - now).total_seconds()
    share = np.clip((holds_seconds - np.arange(steps) * step_seconds) / step_seconds, 0.0, 1.0)
    expected = share * current.price_usd_per_mwh + (1 - share) * expected
    told = _holding([price for price in seen if price.starts_at > now], middles, now)
    return np.where(np.isnan(told), expected, told)


def _holding(prices: Iterable[PriceSignal], at_seconds: Floats, now: datetime) -> Floats:
    """The price that holds at each time after `now`, the one published last where several do; NaN where none does."""
    found = np.full(len(at_seconds), np.nan)
    for price in sorted(prices, key=lambda price: (price.published_at, price.signal_id)):
        starts, ends = (price.starts_at - now).total_seconds(), (price.ends_at - now).total_seconds()
        found[(at_seconds >= starts) & (at_seconds < ends)] = price.price_usd_per_mwh
    return found


def _filled(values: Floats, otherwise: float) -> Floats:
    return np.where(np.isnan(values), otherwise, values)


def spanned(values: Floats, spans: Sequence[int]) -> Floats:
    """Means over spans of neighbouring steps: (..., sum of spans) becomes (..., len(spans))."""
    starts = np.concatenate([[0], np.cumsum(spans)[:-1]])
    return np.asarray(np.add.reduceat(values, starts, axis=-1) / np.asarray(spans))
