"""How far the optimiser looks, in which steps, and what the grid asks for meanwhile. Pure.

Time is cut into the fleet's steps, from now on, to the end of its horizon or of the last event in sight with its
restores, a day at most. The first FINE_STEPS of them stand by themselves; the rest are taken together in at most
COARSE_STEPS spans of equal length, so that the program's size does not grow with the events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import FleetFile
from schemas.plan import FleetPlan
from schemas.signals import EventSignal
from streams.capacity import full_power_watts
from streams.policy.baselines import baseline_watts, sites_of
from streams.policy.view import FleetView

Floats = NDArray[np.float64]

FINE_STEPS = 24
COARSE_STEPS = 12
_LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A power that some sites together are held to: `watts` (T,), infinite where nothing holds them."""

    signal_id: str
    emergency: bool
    sites: NDArray[np.int64]
    watts: Floats


def spans_of(view: FleetView, now: datetime) -> tuple[int, ...]:
    """How many steps each span of the program takes together."""
    limits, sites = view.fleet.limits, len(view.fleet.sites)
    restores = timedelta(seconds=(sites + 1) * limits.stagger_seconds)
    ends = [event.ends_at + restores - now for event in view.events_ahead(now)]
    reach = min(_LONGEST, max([timedelta(seconds=limits.horizon_seconds), *ends]))
    steps = max(1, -int(-reach.total_seconds() // limits.step_seconds))
    fine = min(steps, FINE_STEPS)
    each = -(-(steps - fine) // COARSE_STEPS)
    return (*[1] * fine, *[each] * (-(-(steps - fine) // each) if each else 0))


def targets_of(
    view: FleetView, plan: FleetPlan, fleet_file: FleetFile, now: datetime, spans: Sequence[int]
) -> tuple[Target, ...]:
    """Events in sight. One holds in every span that it touches once the time to reach its target is over."""
    places = {site.id: place for place, site in enumerate(view.fleet.sites)}
    edges = np.concatenate([[0], np.cumsum(spans)]) * view.fleet.limits.step_seconds
    targets = []
    for event in view.events_ahead(now):
        held_from = (event.starts_at - now).total_seconds() + event.ramp_seconds
        held_until = (event.ends_at - now).total_seconds()
        holds = (edges[1:] > held_from) & (edges[:-1] < held_until)
        if holds.any():
            watts = np.where(holds, _target_watts(event, view, plan, fleet_file), np.inf)
            sites = np.array([places[site.id] for site in sites_of(event, view.fleet)], dtype=np.int64)
            targets.append(Target(event.signal_id, event.kind == "emergency", sites, watts))
    return tuple(targets)


def _target_watts(event: EventSignal, view: FleetView, plan: FleetPlan, fleet_file: FleetFile) -> float:
    if event.target_power_watts is not None:
        return event.target_power_watts
    assert event.reduction_ratio is not None
    total = 0.0
    for site in sites_of(event, view.fleet):
        pinned = baseline_watts(plan.baselines, event.signal_id, site.id)
        drawn = view.sites[site.id].baseline_watts() if pinned is None else pinned
        total += full_power_watts(site, fleet_file) if drawn is None else drawn
    return total * (1 - event.reduction_ratio)
