"""What the guard judges a plan by, and what it has changed so far. Pure."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from schemas.command import PRECEDENCE
from schemas.fleet import Fleet, FleetFile, Limits, Site
from schemas.plan import FleetPlan, Rejected, ThrottleControl
from schemas.signals import EventSignal
from streams.policy.view import FleetView

Span = tuple[datetime, datetime]

# Reasons of the controls that serve the grid: what these hold down does not rise before its event ends.
GRID_REASONS = frozenset({"emergency", "ramp", "event"})
UNEXPLAINED = "guard: unexplained"
# A name of 200 characters is the longest that the contract allows.
_LONGEST_STEM = 180


@dataclass(frozen=True)
class Case:
    """The plan before, what is known, and the time; `changes` grows as the guard goes on."""

    before: FleetPlan
    view: FleetView
    fleet_file: FleetFile
    now: datetime
    changes: list[Rejected] = field(default_factory=list)

    @property
    def fleet(self) -> Fleet:
        """The fleet that is planned."""
        return self.view.fleet

    @property
    def limits(self) -> Limits:
        """Its limits."""
        return self.view.fleet.limits

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Its sites, by name."""
        return {site.id: site for site in self.view.fleet.sites}

    @property
    def dwell(self) -> timedelta:
        """How long a price command holds, and how long none follows it."""
        return timedelta(seconds=self.limits.dwell_seconds)

    def note(self, alternative: str, why: str) -> None:
        """Records a change."""
        self.changes.append(Rejected(alternative=alternative, why=f"guard: {why}"))

    def is_stale(self, site_id: str) -> bool:
        """True if no recent power is known of the site."""
        return self.view.sites[site_id].is_stale(self.now, self.limits.stale_seconds)

    def standing_events(self, site_id: str) -> list[EventSignal]:
        """The events that concern the site, are not withdrawn and not over."""
        return [
            event
            for event in self.view.events.values()
            if not event.cancelled and event.ends_at > self.now and (not event.site_ids or site_id in event.site_ids)
        ]

    def served(self, control: ThrottleControl) -> list[EventSignal]:
        """The standing events that a throttle serves."""
        if control.reason not in GRID_REASONS:
            return []
        return [event for event in self.standing_events(control.site_id) if event.signal_id in control.caused_by]


def gaps(span: Span, taken: Iterable[Span]) -> list[Span]:
    """The parts of a span of time that others leave free, in order."""
    free, starts_at = [], span[0]
    for other_start, other_end in sorted(taken):
        if starts_at < min(other_start, span[1]):
            free.append((starts_at, min(other_start, span[1])))
        starts_at = max(starts_at, other_end)
    if starts_at < span[1]:
        free.append((starts_at, span[1]))
    return free


def other_names(name: str) -> Iterator[str]:
    """Names made of another, one after the other."""
    return (f"{name[:_LONGEST_STEM]}~{number}" for number in itertools.count(1))


def span_of(control: ThrottleControl) -> Span:
    """From its start to its end."""
    return (control.starts_at, control.ends_at)


def strength(control: ThrottleControl) -> tuple[int, int, float, str]:
    """What decides which of two throttles stands (rule 4): the lower is the stronger."""
    return (PRECEDENCE.index(control.reason), control.priority, control.target_power_watts, control.control_id)
