"""What each site drew before it was asked for less: pinned when first asked, kept until the asking ends. Pure."""

from datetime import datetime

from schemas.fleet import Fleet, FleetFile, Site
from schemas.plan import Baseline, FleetPlan, ThrottleControl
from schemas.signals import EventSignal
from streams.capacity import full_power_watts
from streams.policy.view import FleetView

# Where a baseline belongs to no event but to the strike price.
ECONOMICS = "economics"
# A site whose power is this near to its target is held down by it: what it would draw can't be seen.
_BOUND_RATIO = 0.03


def sites_of(event: EventSignal, fleet: Fleet) -> list[Site]:
    """The sites that an event concerns, in file order."""
    return [site for site in fleet.sites if not event.site_ids or site.id in event.site_ids]


def pinned_baselines(view: FleetView, previous: FleetPlan, fleet_file: FleetFile, now: datetime) -> list[Baseline]:
    """The baselines that still serve: those pinned before, and new ones for events not heard of before."""
    ahead = list(view.events_ahead(now))
    for_events = {(event.signal_id, site.id) for event in ahead for site in sites_of(event, view.fleet)}
    over = {event.signal_id for event in ahead if event.ends_at <= now}
    for_economics = {(ECONOMICS, dwell.site_id) for dwell in previous.dwells if dwell.above}
    kept = [
        baseline
        for baseline in previous.baselines
        if (baseline.signal_id, baseline.site_id) in for_events | for_economics
    ]
    pinned = {(baseline.signal_id, baseline.site_id) for baseline in kept}
    for signal_id, site_id in sorted(for_events - pinned):
        power_watts = unthrottled_watts(view, previous.throttles, kept, fleet_file, site_id, now)
        if power_watts is not None and signal_id not in over:
            kept.append(Baseline(signal_id=signal_id, site_id=site_id, power_watts=power_watts))
    return kept


def unthrottled_watts(
    view: FleetView,
    throttles: list[ThrottleControl],
    baselines: list[Baseline],
    fleet_file: FleetFile,
    site_id: str,
    now: datetime,
) -> float | None:
    """What the site draws, or would draw if `throttles` did not hold it; None if nothing is known of it."""
    holding = [each for each in throttles if each.site_id == site_id and each.starts_at <= now < each.ends_at]
    causes = {ECONOMICS if each.reason == "economics" else cause for each in holding for cause in each.caused_by}
    before = [each.power_watts for each in baselines if each.site_id == site_id and each.signal_id in causes]
    if before:
        return max(before)
    measured = view.sites[site_id].baseline_watts()
    bound = any(abs(measured / each.target_power_watts - 1) < _BOUND_RATIO for each in holding) if measured else False
    return full_power_watts(view.site(site_id), fleet_file) if bound else measured


def baseline_watts(baselines: list[Baseline], signal_id: str, site_id: str) -> float | None:
    """The pinned baseline in W; None where there is none."""
    for baseline in baselines:
        if (baseline.signal_id, baseline.site_id) == (signal_id, site_id):
            return baseline.power_watts
    return None
