"""The rules' shifts: from the dearest site to the cheapest one with room, one at a time. Pure."""

from datetime import datetime

from schemas.fleet import FleetFile, ServiceClass, Site
from schemas.plan import Rejected, ShiftControl
from streams.capacity import class_work_per_second, tokens_per_second, work_per_second
from streams.policy.shifts import GIVING, continued, ended, proposed
from streams.policy.view import FleetView


def spread_shifts(
    view: FleetView,
    previous: list[ShiftControl],
    fleet_file: FleetFile,
    now: datetime,
    busy: set[str],
    rejected: list[Rejected],
) -> list[ShiftControl]:
    """The shifts from `now` on: those under way, and at most one new one a fleet and plan.

    `busy` sites (under an event, or silent) neither give nor take anything new, and what they take part in returns.
    After a shift its sites rest for the dwell: one that was refused is not asked again and again.
    """
    going = [
        ended(control, now) if control.phase in GIVING and _spread(view, control, now) < 0 else control
        for control in continued(previous, view, now, busy)
    ]
    engaged = {site_id for control in going for site_id in (control.from_site_id, control.to_site_id)}
    new = _best_new(view, fleet_file, now, busy | engaged, rejected)
    return [*going, *([new] if new else [])]


def _spread(view: FleetView, control: ShiftControl, now: datetime) -> float:
    """USD/MWh saved by the shift; what is unknown saves nothing and costs nothing."""
    prices = [
        view.price_at(view.site(site_id).settlement_point, now)
        for site_id in (control.from_site_id, control.to_site_id)
    ]
    if prices[0] is None or prices[1] is None:
        return 0.0
    return prices[0].price_usd_per_mwh - prices[1].price_usd_per_mwh


def _best_new(
    view: FleetView, fleet_file: FleetFile, now: datetime, taken: set[str], rejected: list[Rejected]
) -> ShiftControl | None:
    """From the dearest free site to the cheapest one with room, if the price difference is worth it."""
    priced = []
    for site in view.fleet.sites:
        price = view.price_at(site.settlement_point, now)
        load = view.sites[site.id].load
        recent = load is not None and (now - load.window_end).total_seconds() <= view.fleet.limits.stale_seconds
        if price is not None and site.id not in taken and recent:
            priced.append((price.price_usd_per_mwh, site.id, site, price.signal_id))
    priced.sort(key=lambda each: each[:2])
    if len(priced) < 2:
        return None
    dear_price, _, donor, dear_signal = priced[-1]
    for cheap_price, _, acceptor, cheap_signal in priced[:-1]:
        if dear_price - cheap_price < view.fleet.limits.shift_spread_usd_per_mwh:
            return None
        service = _movable(view, fleet_file, donor, acceptor)
        if service is None:
            rejected.append(Rejected(alternative=f"shift to {acceptor.id}", why="no movable class may be served there"))
            continue
        share = _room(view, fleet_file, donor, acceptor, service)
        if share < 0.01:
            rejected.append(Rejected(alternative=f"shift {service.id} to {acceptor.id}", why="it has no room"))
            continue
        why = f"{dear_price:.2f} there, {cheap_price:.2f} USD/MWh here"
        causes = [dear_signal, cheap_signal]
        return proposed(donor, acceptor, service.id, share, view, fleet_file, now, causes, why)
    return None


def _movable(view: FleetView, fleet_file: FleetFile, donor: Site, acceptor: Site) -> ServiceClass | None:
    """The most flexible class that both sites may serve, and whose requests bear the way between them.

    Flex 0 is untouched outside an emergency.
    """
    latency_seconds = view.fleet.link(donor.id, acceptor.id).latency_seconds
    movable = [
        service
        for service in fleet_file.service_classes
        if service.flex > 0
        and latency_seconds <= service.added_latency_limit_seconds
        and (not service.sites or {donor.id, acceptor.id} <= set(service.sites))
    ]
    return max(movable, key=lambda service: (service.flex, service.id), default=None)


def _room(view: FleetView, fleet_file: FleetFile, donor: Site, acceptor: Site, service: ServiceClass) -> float:
    """The share of the class that fits into the acceptor and over the way there."""
    acceptor_load = view.sites[acceptor.id].load
    assert acceptor_load is not None
    capacity = tokens_per_second(acceptor, fleet_file)
    free = view.fleet.limits.site_headroom_ratio * capacity - work_per_second(acceptor_load, acceptor, fleet_file)
    way = view.fleet.link(donor.id, acceptor.id).tokens_per_second_limit
    free = free if way is None else min(free, way)
    class_work = class_work_per_second(view.sites[donor.id].load, donor, fleet_file, service.id)
    if free <= 0 or class_work <= 0:
        return 0.0
    return min(view.fleet.limits.shift_share_ratio, free / class_work)
