"""What each site drew before it was asked for less: pinned when first asked, kept until the asking ends. Pure."""

from datetime import datetime

from schemas.fleet import Fleet, Site
from schemas.plan import Baseline, FleetPlan
from schemas.signals import EventSignal
from streams.policy.view import FleetView

# Where a baseline belongs to no event but to the strike price.
ECONOMICS = "economics"


def sites_of(event: EventSignal, fleet: Fleet) -> list[Site]:
    """The sites that an event concerns, in file order."""
    return [site for site in fleet.sites if not event.site_ids or site.id in event.site_ids]


def pinned_baselines(view: FleetView, previous: FleetPlan, now: datetime) -> list[Baseline]:
    """The baselines that still serve: those pinned before, and new ones for events not heard of before."""
    for_events = {
        (event.signal_id, site.id) for event in view.events_ahead(now) for site in sites_of(event, view.fleet)
    }
    for_economics = {(ECONOMICS, dwell.site_id) for dwell in previous.dwells if dwell.above}
    kept = [
        baseline
        for baseline in previous.baselines
        if (baseline.signal_id, baseline.site_id) in for_events | for_economics
    ]
    known = {(baseline.signal_id, baseline.site_id) for baseline in kept}
    for signal_id, site_id in sorted(for_events - known):
        # A site under an economic throttle is measured from before it.
        power_watts = baseline_watts(kept, ECONOMICS, site_id) or view.sites[site_id].baseline_watts()
        if power_watts is not None:
            kept.append(Baseline(signal_id=signal_id, site_id=site_id, power_watts=power_watts))
    return kept


def baseline_watts(baselines: list[Baseline], signal_id: str, site_id: str) -> float | None:
    """The pinned baseline in W; None where there is none."""
    for baseline in baselines:
        if (baseline.signal_id, baseline.site_id) == (signal_id, site_id):
            return baseline.power_watts
    return None
