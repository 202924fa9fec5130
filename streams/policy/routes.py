"""Between which sites work may move, and what moves already: as arrays for the optimiser. Pure."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import Fleet, FleetFile, Link
from schemas.plan import FleetPlan
from streams.policy.load_outlook import moving_share


@dataclass(frozen=True, slots=True)
class Moving:
    """A share of a class that an acceptor keeps room for; by places in the problem's lists. `stays`: is to go on."""

    donor: int
    acceptor: int
    service_class: int
    share_ratio: float
    stays: bool


def pairs_of(fleet: Fleet, fleet_file: FleetFile, fresh: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which class may move from where to where, (C, S, S); `fresh` (S,): load and power are known and recent.

    Flex 0 moves nowhere; nothing moves to or from a site of which no recent power and load are known, nor
    over a way that is slower than the class bears.
    """
    places = {site.id: place for place, site in enumerate(fleet.sites)}
    far = np.full((len(places), len(places)), Link.model_fields["latency_seconds"].default)
    for link in fleet.links:
        a, b = (places[name] for name in link.between)
        far[a, b] = far[b, a] = link.latency_seconds
    other = ~np.eye(len(places), dtype=bool)
    pairs = np.zeros((len(fleet_file.service_classes), *far.shape), dtype=bool)
    for number, service in enumerate(fleet_file.service_classes):
        if service.flex > 0:
            here = fresh & np.array([not service.sites or site.id in service.sites for site in fleet.sites])
            pairs[number] = other & here[:, None] & here[None, :] & (far <= service.added_latency_limit_seconds)
    return pairs


def link_limits_of(fleet: Fleet) -> tuple[tuple[int, int, float], ...]:
    """Two sites' places and the most work between them, tokens/s, where a link has such a limit."""
    places = {site.id: place for place, site in enumerate(fleet.sites)}
    return tuple(
        (places[link.between[0]], places[link.between[1]], link.tokens_per_second_limit)
        for link in fleet.links
        if link.tokens_per_second_limit is not None
    )


def moving_of(fleet: Fleet, fleet_file: FleetFile, plan: FleetPlan, now: datetime) -> tuple[Moving, ...]:
    """Shares that move or are promised room, those of one pair and class together; what returns still takes room."""
    sites = {site.id: place for place, site in enumerate(fleet.sites)}
    classes = {service.id: place for place, service in enumerate(fleet_file.service_classes)}
    shares: dict[tuple[int, int, int, bool], float] = {}
    for shift in plan.shifts:
        known = {shift.from_site_id, shift.to_site_id} <= sites.keys() and shift.service_class in classes
        kept = shift.phase in {"proposed", "reserved", "ramping", "active"}
        share = shift.share_ratio if kept else moving_share(shift, now)
        if known and share > 0:
            pair = (sites[shift.from_site_id], sites[shift.to_site_id], classes[shift.service_class], kept)
            shares[pair] = shares.get(pair, 0.0) + share
    return tuple(
        Moving(donor, acceptor, service, share, kept) for (donor, acceptor, service, kept), share in shares.items()
    )
