"""Traffic: what each site is asked for, how one trace feeds several sites, and what shifts do to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import FleetFile, GpuModel, ServiceClass, Site
from streams.collect.traces import RequestTrace

PEAK_LOAD_RATIO = 0.85
_PEAK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ClassDemand:
    """Requests of one service class: how many, their prompt tokens, and the tokens that they want generated."""

    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    def __add__(self, other: "ClassDemand") -> "ClassDemand":
        return ClassDemand(
            self.requests + other.requests, self.prompt_tokens + other.prompt_tokens, self.tokens + other.tokens
        )

    def __sub__(self, other: "ClassDemand") -> "ClassDemand":
        return ClassDemand(
            self.requests - other.requests, self.prompt_tokens - other.prompt_tokens, self.tokens - other.tokens
        )

    def share(self, ratio: float) -> "ClassDemand":
        """The part `ratio` (0–1) of it, in whole requests and tokens, rounded down."""
        if ratio >= 1:
            return self
        return ClassDemand(int(self.requests * ratio), int(self.prompt_tokens * ratio), int(self.tokens * ratio))


# What arrives at one site, by service class; and at many, by site. Over one step.
SiteDemand = Mapping[str, ClassDemand]
Demands = Mapping[str, SiteDemand]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a site can do uncapped: generated tokens/s, and the work of a prompt token in generated ones."""

    tokens_per_second: float
    prompt_token_cost_ratio: float


def capacity(site: Site, models: Sequence[GpuModel]) -> Capacity:
    """The capacity of a site; with several GPU models the prompt's cost is their mean, weighted by tokens/s.

    Raises:
        KeyError: a pool's GPU model is not among `models`.
    """
    by_id = {model.id: model for model in models}
    rates = [pool.gpus * by_id[pool.gpu_model].tokens_per_second for pool in site.pools]
    costs = [by_id[pool.gpu_model].prompt_token_cost_ratio for pool in site.pools]
    total = sum(rates)
    return Capacity(total, sum(rate * cost for rate, cost in zip(rates, costs, strict=True)) / total)


@dataclass(frozen=True, slots=True, eq=False)
class SpreadDemand:
    """One trace, spread over sites: the traffic of each site and step, the same again after the trace's end."""

    step_seconds: float
    steps: int
    _by_site: Mapping[str, NDArray[np.int64]]  # (steps, 3): requests, prompt tokens, tokens
    _shares: Mapping[str, Sequence[tuple[str, float]]]  # by site: class, and the shares up to and with it

    def at(self, step: int) -> dict[str, dict[str, ClassDemand]]:
        """The traffic of every site in step number `step` (from 0; it wraps). A site's classes add up exactly."""
        return {site: self._split(site, table[step % self.steps]) for site, table in self._by_site.items()}

    def _split(self, site: str, row: NDArray[np.int64]) -> dict[str, ClassDemand]:
        split, before = {}, np.zeros(3, dtype=np.int64)
        for service_class, upto in self._shares[site]:
            through = np.rint(row * upto).astype(np.int64)
            split[service_class] = ClassDemand(*(through - before).tolist())
            before = through
        return split


def spread(trace: RequestTrace, fleet_file: FleetFile, peak_load_ratio: float = PEAK_LOAD_RATIO) -> SpreadDemand:
    """Feeds every site of the fleet file from one trace.

    Site k of n sees the trace rotated by k/n of its span, so that sites do not peak together, and scaled so that its
    busiest minute (prompt tokens included at their cost) asks for `peak_load_ratio` of its uncapped capacity. A burst
    shorter than a minute may ask for more and queue. Scaling keeps a small trace's burstiness: harder than a large
    service, whose bursts average out. A class gets its `traffic_ratio`, among those that the site may serve.

    Raises:
        ValueError: the trace holds no tokens, or a site may serve no class.
    """
    sites = [site for _, site in fleet_file.sites()]
    tables, shares = {}, {}
    for number, site in enumerate(sites):
        scale = peak_load_ratio / peak_load(trace, capacity(site, fleet_file.gpu_models))
        columns = np.stack([trace.requests, trace.prompt_tokens, trace.tokens], axis=1) * scale
        shift = number * trace.steps // len(sites)
        tables[site.id] = np.rint(np.roll(columns, -shift, axis=0)).astype(np.int64)
        shares[site.id] = class_shares(site, fleet_file.service_classes)
    return SpreadDemand(trace.step_seconds, trace.steps, tables, shares)


def peak_load(trace: RequestTrace, can: Capacity) -> float:
    """The load of the busiest minute if the unscaled trace came to a site of this capacity.

    Raises:
        ValueError: the trace holds no tokens.
    """
    work = trace.tokens + can.prompt_token_cost_ratio * trace.prompt_tokens
    window = min(trace.steps, max(1, round(_PEAK_SECONDS / trace.step_seconds)))
    around = np.concatenate([[0.0], np.cumsum(np.concatenate([work, work[: window - 1]]))])
    peak = float(np.max(around[window:] - around[:-window])) / (window * trace.step_seconds)
    if peak <= 0:
        raise ValueError(f"{trace.name}: no tokens to spread over the sites")
    return peak / can.tokens_per_second


def class_shares(site: Site, classes: Sequence[ServiceClass]) -> list[tuple[str, float]]:
    """The classes that a site may serve, each with the shares of its traffic up to and with it; the last is 1.

    Raises:
        ValueError: it may serve no class with traffic.
    """
    allowed = [service for service in classes if not service.sites or site.id in service.sites]
    total = sum(service.traffic_ratio for service in allowed)
    if total <= 0:
        raise ValueError(f"{site.id}: no service class with traffic is allowed there")
    upto, shares = 0.0, []
    for service in allowed:
        upto += service.traffic_ratio / total
        shares.append((service.id, upto))
    shares[-1] = (shares[-1][0], 1.0)  # the last class takes what rounding left
    return shares


# Of a site's arriving traffic: by service class, by the site that takes it, the share that goes there.
Shifts = Mapping[str, Mapping[str, float]]


def route(demands: Demands, shifts: Mapping[str, Shifts]) -> dict[str, dict[str, ClassDemand]]:
    """Moves the shifted shares: `shifts[from_site][service_class][to_site]` is the share (0–1) that goes over.

    Every share is taken of what arrived at the donor before any shift, so moved traffic is not moved on. Tokens and
    requests are whole and none is lost: the sums over all sites stay what they were.

    Raises:
        ValueError: shares of a class are negative or exceed 1 together, or a site is not among `demands`.
    """
    routed = {site: dict(demand) for site, demand in demands.items()}
    for donor, by_class in shifts.items():
        for service_class, targets in by_class.items():
            if min(targets.values(), default=0.0) < 0 or sum(targets.values()) > 1 + 1e-9:
                raise ValueError(f"{donor}/{service_class}: shares must be 0 or more and add up to 1 at most")
            if unknown := {donor, *targets} - routed.keys():
                raise ValueError(f"{donor}/{service_class}: no such site to shift between: {min(unknown)}")
            _move(routed, donor, service_class, targets, demands[donor].get(service_class, ClassDemand()))
    return routed


def _move(
    routed: dict[str, dict[str, ClassDemand]],
    donor: str,
    service_class: str,
    targets: Mapping[str, float],
    arrived: ClassDemand,
) -> None:
    upto, gone = 0.0, ClassDemand()
    for acceptor, ratio in targets.items():
        upto += ratio
        through = arrived.share(upto)
        routed[acceptor][service_class] = routed[acceptor].get(service_class, ClassDemand()) + (through - gone)
        gone = through
    routed[donor][service_class] = routed[donor].get(service_class, ClassDemand()) - gone
