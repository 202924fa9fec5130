"""Throttles for grid events: at once, every site to its share of the target. Pure."""

from datetime import datetime, timedelta
from hashlib import sha256

from schemas.fleet import FleetFile, Site
from schemas.plan import Baseline, Rejected, ThrottleControl
from schemas.signals import EventSignal
from streams.capacity import full_power_watts, least_power_watts
from streams.policy.baselines import baseline_watts, sites_of
from streams.policy.view import FleetView

# Time between a command and the power at the meter: bus, controller, actuator.
RESPONSE = timedelta(seconds=15)
# A control's name holds kind and site too; the contract allows it 200 characters.
_LONGEST_NAME = 120


def event_throttles(
    view: FleetView, baselines: list[Baseline], fleet_file: FleetFile, now: datetime, rejected: list[Rejected]
) -> list[ThrottleControl]:
    """One throttle for every event and site that it concerns; where two meet, the guard lets the stronger stand."""
    throttles = []
    for event in view.events_ahead(now):
        pinned = {site.id: baseline_watts(baselines, event.signal_id, site.id) for site in sites_of(event, view.fleet)}
        # An event that is over only lets go: who was never throttled for it is not throttled now.
        sites = [site for site in sites_of(event, view.fleet) if event.ends_at > now or pinned[site.id] is not None]
        bases = {site.id: _base_watts(pinned[site.id], site, fleet_file) for site in sites}
        targets = _targets(event, sites, bases, fleet_file, rejected)
        for place, site in enumerate(sites):
            throttles.append(_event_throttle(view, event, site, place, bases[site.id], targets[site.id], fleet_file))
    return sorted(throttles, key=lambda control: control.control_id)


def _base_watts(pinned: float | None, site: Site, fleet_file: FleetFile) -> float:
    # Nothing is known of the site: assume the most it can draw, so that an absolute target is met all the same.
    return full_power_watts(site, fleet_file) if pinned is None else pinned


def _targets(
    event: EventSignal, sites: list[Site], bases: dict[str, float], fleet_file: FleetFile, rejected: list[Rejected]
) -> dict[str, float]:
    """Every site to the same share of its baseline; what one can't give at its least power the others make up for."""
    total = sum(bases.values())
    allowed = event.target_power_watts if event.reduction_ratio is None else total * (1 - event.reduction_ratio)
    assert allowed is not None
    least = {site.id: least_power_watts(site, fleet_file) for site in sites}
    at_least: set[str] = set()
    while True:
        free = [site_id for site_id in bases if site_id not in at_least]
        base = sum(bases[site_id] for site_id in free)
        share = (allowed - sum(least[site_id] for site_id in at_least)) / base if base > 0 else 0.0
        short = [site_id for site_id in free if bases[site_id] * share < least[site_id]]
        if not short:
            break
        for site_id in short:
            why = f"below its least power of {least[site_id]:.0f} W"
            rejected.append(Rejected(alternative=f"{site_id} at {max(0.0, bases[site_id] * share):.0f} W", why=why))
        at_least.update(short)
    return {
        site.id: least[site.id] if site.id in at_least else min(bases[site.id] * share, site.import_limit_watts)
        for site in sites
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
        control_id=f"{event.kind}/{_short(event.signal_id)}/{site.id}",
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


def _short(signal_id: str) -> str:
    if len(signal_id) <= _LONGEST_NAME:
        return signal_id
    return f"{signal_id[: _LONGEST_NAME - 17]}~{sha256(signal_id.encode()).hexdigest()[:16]}"
