"""The strike price: what electricity may cost before a token costs more energy than it earns. Pure.

Two prices answer two questions. Take a site of 100 GPUs of 400 W that make 100 tokens/s each, at a PUE of 1.25, where
a million tokens earn 0.05 USD, and where a cap of 200 W leaves 80 % of the throughput:

- **average strike**: is the pool worth running at all? 10,000 tokens/s at 50 kW are 720,000 tokens/kWh, which earn
  0.036 USD/kWh: 36 USD/MWh.
- **marginal strike**, a rung of the ladder: is the last slice of power worth drawing? From 50 kW down to 25 kW the site
  loses 2,000 tokens/s, which earn 0.36 USD an hour, and saves 0.025 MW: 14.40 USD/MWh.

At 20 USD/MWh the site should thus be capped at 25 kW, and not be switched off. What is throttled is the ladder's
business; the average says how far a pool is from not paying for its power, as measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from schemas.fleet import Fleet, FleetFile, GpuModel, Pool, Site
from schemas.plan import Strike
from streams.capacity import full_power_watts, least_power_watts, tokens_per_second, work_per_second
from streams.policy.view import FleetView, SiteView, meter_watts

_SECONDS_PER_HOUR, _WATTS_PER_MW, _JOULES_PER_KWH = 3600.0, 1e6, 3.6e6
# Power and load are taken together where their windows end no further apart.
_SAME_TIME_SECONDS = 60.0
# How far a measurement may lie beyond what the fleet file says is possible before it is not believed.
_TOLERANCE_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Rung:
    """A slice of a site's power: what the meter shows less without it, what is lost, and the price that makes it even.

    Above `price_usd_per_mwh` the slice costs more energy than its tokens earn.
    """

    power_watts: float
    tokens_per_second_lost: float
    price_usd_per_mwh: float


@dataclass(frozen=True, slots=True)
class _Slice:
    """A segment of a pool's curve: W at the meter, and the tokens/s that they make with all batches full."""

    power_watts: float
    tokens_per_second: float

    @property
    def tokens_per_joule(self) -> float:
        return self.tokens_per_second / self.power_watts


def strike_ladder(site: Site, fleet_file: FleetFile) -> tuple[Rung, ...]:
    """The site's rungs from full power down to its least, in rising order of price; they add up to the difference.

    price = tokens lost/s x 3600 x what a token earns / MW saved, at full load. `strike_price_usd_per_mwh` of the
    fleet's limits, where it is set, is every rung's price instead. Power that the import limit keeps from being drawn
    is no rung. Prompts are counted at their cost in generated tokens: a mix with long prompts earns less than this
    says.
    """
    given = _fleet_of(site, fleet_file).limits.strike_price_usd_per_mwh
    earns = earns_usd_per_token(site, fleet_file)
    most = _unlimited_watts(site, fleet_file)
    first, last = most - full_power_watts(site, fleet_file), most - least_power_watts(site, fleet_file)
    return tuple(
        Rung(
            each.power_watts,
            each.tokens_per_second,
            each.tokens_per_joule * _SECONDS_PER_HOUR * _WATTS_PER_MW * earns if given is None else given,
        )
        for each in _part(_slices(site, fleet_file), first, last)
    )


def tokens_per_second_at(power_watts: float, site: Site, fleet_file: FleetFile) -> float:
    """Generated tokens/s that the site can serve while its meter is held at `power_watts`, prompts at their cost.

    Below the cliffs, where no target lies, it is what is left at them.
    """
    saved = _unlimited_watts(site, fleet_file) - power_watts
    lost = sum(each.tokens_per_second for each in _part(_slices(site, fleet_file), 0.0, saved))
    return tokens_per_second(site, fleet_file) - lost


def strikes(view: FleetView, fleet_file: FleetFile) -> list[Strike]:
    """The average strike of every pool: what its tokens earn by the kWh, as measured, or as rated where it is not.

    Measured are the tokens served and the meter's power of the site's newest windows, where these are of the same
    time and plausible. The balancer loads pools alike, so tokens are split over them by what they can serve, and power
    by what their load curves draw at that load.
    """
    found = []
    for site in view.fleet.sites:
        given = view.fleet.limits.strike_price_usd_per_mwh
        earns = earns_usd_per_token(site, fleet_file)
        rates = _measured(view.sites[site.id], site, fleet_file)
        for pool, tokens_per_kwh in zip(site.pools, rates or _rated(site, fleet_file), strict=True):
            price = tokens_per_kwh * 1000 * earns if given is None else given
            found.append(
                Strike(site_id=site.id, pool_id=pool.id, tokens_per_kwh=tokens_per_kwh, price_usd_per_mwh=price)
            )
    return found


def earns_usd_per_token(site: Site, fleet_file: FleetFile) -> float:
    """What a generated token earns at the site: the mean over the classes that it may serve, by their traffic."""
    here = [service for service in fleet_file.service_classes if not service.sites or site.id in service.sites]
    traffic = sum(service.traffic_ratio for service in here)
    if traffic <= 0:
        return 0.0
    return sum(service.traffic_ratio * service.earns_usd_per_million_tokens for service in here) / traffic / 1e6


def _fleet_of(site: Site, fleet_file: FleetFile) -> Fleet:
    return next(fleet for fleet, each in fleet_file.sites() if each.id == site.id)


def _unlimited_watts(site: Site, fleet_file: FleetFile) -> float:
    """Meter power with every GPU at its maximum, import limit or none: where the slices begin."""
    return site.pue * sum(pool.gpus * fleet_file.gpu_model(pool.gpu_model).max_power_watts for pool in site.pools)


def _slices(site: Site, fleet_file: FleetFile) -> list[_Slice]:
    """The slices of all pools down to their cliffs, those first that lose the fewest tokens for a joule."""
    slices: list[_Slice] = []
    for pool in site.pools:
        slices += _pool_slices(pool, fleet_file.gpu_model(pool.gpu_model), site.pue)
    return sorted(slices, key=lambda each: each.tokens_per_joule)


@lru_cache(maxsize=4096)  # asked for at every plan, and always the same
def _pool_slices(pool: Pool, model: GpuModel, pue: float) -> tuple[_Slice, ...]:
    """From the pool's full power down to its cliff, never falling in tokens by the joule.

    Where a curve is not concave, a slice that loses less than the one above it can't be had without that one: the two
    are one slice.
    """
    between = [watts for watts, _ in model.cap_throughput if model.cap_cliff_watts < watts < model.max_power_watts]
    slices: list[_Slice] = []
    for lower, upper in reversed(list(pairwise([model.cap_cliff_watts, *between, model.max_power_watts]))):
        tokens = (_throughput(model, upper) - _throughput(model, lower)) * model.tokens_per_second
        new = _Slice((upper - lower) * pue * pool.gpus, tokens * pool.gpus) if upper > lower else None
        while new is not None and slices and slices[-1].tokens_per_joule > new.tokens_per_joule:
            above = slices.pop()
            new = _Slice(above.power_watts + new.power_watts, above.tokens_per_second + new.tokens_per_second)
        slices += [new] if new is not None else []
    return tuple(slices)


def _throughput(model: GpuModel, cap_watts: float) -> float:
    caps, throughputs = zip(*model.cap_throughput, strict=True)
    return float(np.interp(cap_watts, caps, throughputs))


def _part(slices: Iterable[_Slice], since_watts: float, until_watts: float) -> list[_Slice]:
    """What of the slices, laid end to end from full power down, lies between two powers saved."""
    parts, begins = [], 0.0
    for each in slices:
        watts = min(begins + each.power_watts, until_watts) - max(begins, since_watts)
        begins += each.power_watts
        # What rounding leaves is no slice.
        if watts > 1e-9 * each.power_watts:
            parts.append(_Slice(watts, each.tokens_per_second * watts / each.power_watts))
    return parts


def _rated(site: Site, fleet_file: FleetFile) -> list[float]:
    """Tokens/kWh of each pool at full load, as the fleet file says."""
    models = [fleet_file.gpu_model(pool.gpu_model) for pool in site.pools]
    return [model.tokens_per_second / (model.max_power_watts * site.pue) * _JOULES_PER_KWH for model in models]


def _measured(known: SiteView, site: Site, fleet_file: FleetFile) -> list[float] | None:
    """Tokens/kWh of each pool in the newest windows; None where these say nothing that can be believed."""
    power, load = known.power, known.load
    if power is None or load is None:
        return None
    if abs((power.window_end - load.window_end).total_seconds()) > _SAME_TIME_SECONDS or load.covered_ratio < 0.5:
        return None
    pools = [(pool, fleet_file.gpu_model(pool.gpu_model)) for pool in site.pools]
    can, served, watts = tokens_per_second(site, fleet_file), load.tokens_served_per_second, meter_watts(power, site)
    idle = sum(pool.gpus * model.max_power_watts * model.load_power[0][1] for pool, model in pools) * site.pue
    full = _unlimited_watts(site, fleet_file)
    if not 0 < served <= can * (1 + _TOLERANCE_RATIO):
        return None
    if not idle * (1 - _TOLERANCE_RATIO) <= watts <= full * (1 + _TOLERANCE_RATIO) or watts <= 0:
        return None
    ratio = min(1.0, max(served, work_per_second(load, site, fleet_file)) / can)
    drawn = [pool.gpus * model.max_power_watts * _load_power(model, ratio) for pool, model in pools]
    if min(drawn) <= 0:
        return None
    return [
        served * pool.gpus * model.tokens_per_second / can / (watts * own / sum(drawn)) * _JOULES_PER_KWH
        for (pool, model), own in zip(pools, drawn, strict=True)
    ]


def _load_power(model: GpuModel, load_ratio: float) -> float:
    loads, powers = zip(*model.load_power, strict=True)
    return float(np.interp(load_ratio, loads, powers))
