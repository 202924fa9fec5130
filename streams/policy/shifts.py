"""Moving traffic to where power is cheap: when it is worth it, and how a two-phase shift goes on. Pure."""

from datetime import datetime, timedelta

from schemas.command import Release, Shift, Throttle
from schemas.fleet import FleetFile, ServiceClass, Site
from schemas.plan import Rejected, ShiftControl
from schemas.site import LoadState
from streams.capacity import full_power_watts, tokens_per_second, work_per_second
from streams.policy.view import FleetView

# Phases in which a shift still concerns somebody.
LIVING = frozenset({"proposed", "reserved", "active", "returning"})
_SHIFT_HORIZON = timedelta(hours=1)


def plan_shifts(
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
    dwell = timedelta(seconds=view.fleet.limits.dwell_seconds)
    going = [_continued(control, view, now, busy) for control in previous]
    going = [control for control in going if control.phase in LIVING or now < control.phase_since + dwell]
    engaged = {site_id for control in going for site_id in (control.from_site_id, control.to_site_id)}
    new = _best_new(view, fleet_file, now, busy | engaged, rejected)
    return [*going, *([new] if new else [])]


def _continued(control: ShiftControl, view: FleetView, now: datetime, busy: set[str]) -> ShiftControl:
    """A shift in its next state as far as the plan decides it; answers from the sites move it in `answered`."""
    stood = (now - control.phase_since).total_seconds()
    if control.phase not in LIVING:
        return control
    if control.phase == "returning":
        # A donor that never answers comes back by itself when its lease lapses.
        return _moved(control, "done", now) if stood > view.fleet.limits.lease_seconds else control
    unanswered = control.phase in {"proposed", "reserved"} and stood > 3 * view.fleet.limits.ack_timeout_seconds
    involved = {control.from_site_id, control.to_site_id}
    if unanswered or involved & busy or now >= control.ends_at or _spread(view, control, now) < 0:
        # Nothing was moved yet by a shift that is only proposed: there is nothing to return.
        return _moved(control, "aborted" if control.phase == "proposed" else "returning", now)
    return control


def answered(control: ShiftControl, command: Throttle | Shift | Release, status: str, now: datetime) -> ShiftControl:
    """The shift after a site's answer to its newest command: the donor drains only once the acceptor has reserved."""
    acceptor, release = command.site_id == control.to_site_id, isinstance(command, Release)
    match control.phase, status:
        case "proposed", "accepted" if acceptor:
            return _moved(control, "reserved", now)
        case "proposed", "rejected" | "partial" | "expired":
            return _moved(control, "aborted", now)
        case "reserved", "accepted" if not acceptor:
            return _moved(control, "active", now)
        case "reserved" | "active", "rejected" | "expired":
            return _moved(control, "returning", now)
        case "returning", "accepted" if release and not acceptor:
            # Only this says that the donor no longer drains; a donor that refuses is waited for until its lease lapses.
            return _moved(control, "done", now)
        case _:
            return control


def _moved(control: ShiftControl, phase: str, now: datetime) -> ShiftControl:
    return control.model_copy(update={"phase": phase, "phase_since": now})


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
        service = _movable(fleet_file, donor, acceptor)
        if service is None:
            rejected.append(Rejected(alternative=f"shift to {acceptor.id}", why="no movable class may be served there"))
            continue
        share, power_watts = _room(view, fleet_file, donor, acceptor, service)
        if share < 0.01:
            rejected.append(Rejected(alternative=f"shift {service.id} to {acceptor.id}", why="it has no room"))
            continue
        return ShiftControl(
            control_id=f"shift/{donor.id}/{acceptor.id}/{now:%Y%m%dT%H%M%SZ}",
            from_site_id=donor.id,
            to_site_id=acceptor.id,
            service_class=service.id,
            share_ratio=share,
            reserved_power_watts=power_watts,
            phase="proposed",
            phase_since=now,
            starts_at=now,
            ends_at=now + _SHIFT_HORIZON,
            caused_by=[dear_signal, cheap_signal],
            explanation=(
                f"{share:.0%} of {service.id} from {donor.id} at {dear_price:.2f} to {acceptor.id} "
                f"at {cheap_price:.2f} USD/MWh"
            ),
        )
    return None


def _movable(fleet_file: FleetFile, donor: Site, acceptor: Site) -> ServiceClass | None:
    """The most flexible class that both sites may serve; Flex 0 is untouched outside an emergency."""
    movable = [
        service
        for service in fleet_file.service_classes
        if service.flex > 0 and (not service.sites or {donor.id, acceptor.id} <= set(service.sites))
    ]
    return max(movable, key=lambda service: (service.flex, service.id), default=None)


def _room(
    view: FleetView, fleet_file: FleetFile, donor: Site, acceptor: Site, service: ServiceClass
) -> tuple[float, float]:
    """The share of the class that fits into the acceptor, and the meter power in W to reserve for it there."""
    donor_load, acceptor_load = view.sites[donor.id].load, view.sites[acceptor.id].load
    assert donor_load is not None
    assert acceptor_load is not None
    capacity = tokens_per_second(acceptor, fleet_file)
    free = view.fleet.limits.site_headroom_ratio * capacity - work_per_second(acceptor_load, acceptor, fleet_file)
    class_work = work_per_second(donor_load, donor, fleet_file) * _class_share(donor_load, service.id)
    if free <= 0 or class_work <= 0:
        return 0.0, 0.0
    share = min(view.fleet.limits.shift_share_ratio, free / class_work)
    return share, share * class_work / capacity * full_power_watts(acceptor, fleet_file)


def _class_share(load: LoadState, service_class: str) -> float:
    total = sum(each.tokens_arrived_per_second for each in load.classes)
    of_class = sum(each.tokens_arrived_per_second for each in load.classes if each.service_class == service_class)
    return of_class / total if total else 0.0
