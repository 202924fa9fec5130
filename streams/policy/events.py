"""Throttles for grid events: at once, every site to its share of the target. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from schemas.fleet import FleetFile, Site
from schemas.plan import Baseline, Rejected, ThrottleControl, Tracking
from schemas.signals import EventSignal
from streams.capacity import full_power_watts, least_power_watts
from streams.policy.baselines import baseline_watts, sites_of
from streams.policy.feedback import Asked, correction_watts
from streams.policy.names import shortened
from streams.policy.view import FleetView

# Time between a command and the power at the meter: bus, controller, actuator.
RESPONSE = timedelta(seconds=15)
# A control's name holds kind and site too; the contract allows it 200 characters.
_LONGEST_NAME = 120


# A split over the sites that differs by less than this share of a site's power from the one in force changes nothing.
_RESPLIT_RATIO = 0.05


def asked_of(view: FleetView, baselines: list[Baseline], fleet_file: FleetFile, now: datetime) -> list[Asked]:
    """Every event that asks something of somebody, with what its sites drew before it and what they may draw."""
    asked = []
    for event in view.events_ahead(now):
        pinned = {site.id: baseline_watts(baselines, event.signal_id, site.id) for site in sites_of(event, view.fleet)}
        # An event that is over only lets go: who was never throttled for it is not throttled now.
        sites = [site for site in sites_of(event, view.fleet) if event.ends_at > now or pinned[site.id] is not None]
        bases = {site.id: _base_watts(pinned[site.id], site, fleet_file) for site in sites}
        if event.reduction_ratio is None:
            assert event.target_power_watts is not None
            target_watts = event.target_power_watts
        else:
            target_watts = sum(bases.values()) * (1 - event.reduction_ratio)
        asked.append(Asked(event, bases, target_watts))
    return asked


def event_throttles(
    view: FleetView,
    asked: list[Asked],
    previous: list[ThrottleControl],
    fleet_file: FleetFile,
    rejected: list[Rejected],
    tracking: Sequence[Tracking] = (),
    split_watts: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> list[ThrottleControl]:
    """One throttle for every event and site that it concerns; where two meet, the guard lets the stronger stand.

    `tracking` says how far below its target each event is to stay. `split_watts`, by event and site, is how the
    optimiser would share the target out; an event that it does not know is shared out by the sites' baselines.
    """
    throttles = []
    for each in asked:
        allowed = max(0.0, each.target_watts - correction_watts(tracking, each.event.signal_id))
        wanted = _wanted(each, split_watts.get(each.event.signal_id), previous)
        targets = _targets(view, allowed, each.base_watts, wanted, fleet_file, rejected)
        for place, site_id in enumerate(each.base_watts):
            base, target = each.base_watts[site_id], targets[site_id]
            throttles.append(_event_throttle(view, each.event, view.site(site_id), place, base, target, fleet_file))
    return sorted(throttles, key=lambda control: control.control_id)


def _wanted(
    asked: Asked, split_watts: Mapping[str, float] | None, previous: list[ThrottleControl]
) -> Mapping[str, float]:
    """What the sites' shares of the target are measured by: the optimiser's split, the one in force, or baselines."""
    if split_watts is None or asked.base_watts.keys() - split_watts.keys() or sum(split_watts.values()) <= 0:
        return asked.base_watts
    held = {
        control.site_id: control.target_power_watts
        for control in previous
        if control.caused_by == [asked.event.signal_id] and control.site_id in asked.base_watts
    }
    if held.keys() != asked.base_watts.keys():
        return split_watts
    scale = sum(held.values()) / sum(split_watts.values())
    moved = max(
        abs(held[site_id] / (split_watts[site_id] * scale) - 1) if split_watts[site_id] else 1.0 for site_id in held
    )
    return split_watts if moved > _RESPLIT_RATIO else held


def _base_watts(pinned: float | None, site: Site, fleet_file: FleetFile) -> float:
    # Nothing is known of the site: assume the most it can draw, so that an absolute target is met all the same.
    return full_power_watts(site, fleet_file) if pinned is None else pinned


def _targets(
    view: FleetView,
    allowed_watts: float,
    base_watts: Mapping[str, float],
    wanted_watts: Mapping[str, float],
    fleet_file: FleetFile,
    rejected: list[Rejected],
) -> dict[str, float]:
    """Every site to the same share of what is wanted of it; what one can't give at its least the others make up for."""
    sites = {site_id: view.site(site_id) for site_id in base_watts}
    least = {site_id: least_power_watts(site, fleet_file) for site_id, site in sites.items()}
    fixed: dict[str, float] = {}
    while True:
        free = [site_id for site_id in base_watts if site_id not in fixed]
        weight = sum(wanted_watts[site_id] for site_id in free)
        share = (allowed_watts - sum(fixed.values())) / weight if weight > 0 else 0.0
        short = {site_id: least[site_id] for site_id in free if wanted_watts[site_id] * share < least[site_id]}
        for site_id in short:
            why = f"below its least power of {least[site_id]:.0f} W"
            rejected.append(
                Rejected(alternative=f"{site_id} at {max(0.0, wanted_watts[site_id] * share):.0f} W", why=why)
            )
        if not short:
            break
        fixed |= short
    return {
        site_id: fixed.get(site_id, min(wanted_watts[site_id] * share, sites[site_id].import_limit_watts))
        for site_id in base_watts
    }


def _event_throttle(
    view: FleetView,
    event: EventSignal,
    site: Site,
    place: int,
    base_watts: float,
    target: float,
    fleet_file: FleetFile,
) -> ThrottleControl:
    least, full = least_power_watts(site, fleet_file), full_power_watts(site, fleet_file)
    # In time even if the site draws the most it can when the event begins: its load may have risen since.
    ramp = timedelta(seconds=max(0.0, full - target) / site.ramp_down_watts_per_second)
    starts_at = min(event.starts_at, event.starts_at + timedelta(seconds=event.ramp_seconds) - ramp - RESPONSE)
    # Sites never rise together: each holds a little longer than the one before.
    ends_at = event.ends_at + timedelta(seconds=place * view.fleet.limits.stagger_seconds)
    return ThrottleControl(
        control_id=f"{event.kind}/{shortened(event.signal_id, _LONGEST_NAME)}/{site.id}",
        site_id=site.id,
        reason="emergency" if event.kind == "emergency" else "event",
        target_power_watts=target,
        ramp_down_watts_per_second=site.ramp_down_watts_per_second,
        ramp_up_watts_per_second=site.ramp_up_watts_per_second,
        fallback_power_watts=min(target, max(site.failsafe_watts, least)),
        starts_at=starts_at,
        ends_at=ends_at,
        caused_by=[event.signal_id],
        explanation=(
            f"{site.id} to {target / 1000:.1f} kW from {base_watts / 1000:.1f} kW for {event.kind} {event.signal_id}"
        ),
    )
