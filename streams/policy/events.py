"""Throttles for grid events: at once, every site to its share of the target. Pure."""

from datetime import datetime, timedelta

from schemas.fleet import FleetFile, Site
from schemas.plan import Baseline, Rejected, ThrottleControl
from schemas.signals import EventSignal
from streams.capacity import full_power_watts, least_power_watts
from streams.policy.baselines import baseline_watts, sites_of
from streams.policy.view import FleetView

# Time between a command and the power at the meter: bus, controller, actuator.
RESPONSE = timedelta(seconds=15)


def event_throttles(
    view: FleetView, baselines: list[Baseline], fleet_file: FleetFile, now: datetime, rejected: list[Rejected]
) -> list[ThrottleControl]:
    """One throttle a site, for the strongest event that concerns it."""
    throttles: dict[str, ThrottleControl] = {}
    for event in view.events_ahead(now):
        sites = [site for site in sites_of(event, view.fleet) if site.id not in throttles]
        for place, site in enumerate(sites):
            # Nothing is known of the site: assume the most it can draw, so that the target is met all the same.
            base = baseline_watts(baselines, event.signal_id, site.id) or full_power_watts(site, fleet_file)
            wanted = base * (1 - _reduction_ratio(event, sites, baselines, fleet_file))
            throttles[site.id] = _event_throttle(view, event, site, place, base, wanted, fleet_file, rejected)
    return [throttles[site_id] for site_id in sorted(throttles)]


def _reduction_ratio(event: EventSignal, sites: list[Site], baselines: list[Baseline], fleet_file: FleetFile) -> float:
    """The share that each site gives up: what the event says, or what brings the sites together to its target."""
    if event.reduction_ratio is not None:
        return event.reduction_ratio
    assert event.target_power_watts is not None
    total = sum(
        baseline_watts(baselines, event.signal_id, site.id) or full_power_watts(site, fleet_file) for site in sites
    )
    return max(0.0, 1 - event.target_power_watts / total) if total else 0.0


def _event_throttle(
    view: FleetView,
    event: EventSignal,
    site: Site,
    place: int,
    base_watts: float,
    wanted_watts: float,
    fleet_file: FleetFile,
    rejected: list[Rejected],
) -> ThrottleControl:
    least = least_power_watts(site, fleet_file)
    target = min(max(wanted_watts, least), site.import_limit_watts)
    if wanted_watts < least:
        rejected.append(
            Rejected(alternative=f"{site.id} at {wanted_watts:.0f} W", why=f"below its least power of {least:.0f} W")
        )
    ramp = timedelta(seconds=max(0.0, base_watts - target) / site.ramp_down_watts_per_second)
    starts_at = min(event.starts_at, event.starts_at + timedelta(seconds=event.ramp_seconds) - ramp - RESPONSE)
    # Sites never rise together: each holds a little longer than the one before.
    ends_at = event.ends_at + timedelta(seconds=place * view.fleet.limits.stagger_seconds)
    return ThrottleControl(
        control_id=f"{event.kind}/{event.signal_id}/{site.id}",
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
