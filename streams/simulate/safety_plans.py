"""Plans, and when commands come and go, against the rules 1, 9, 10 and 11. Pure."""

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.command import PRECEDENCE, Throttle
from schemas.plan import FleetPlan
from schemas.signals import EventSignal
from schemas.site import PowerState
from streams.simulate.safety_ledger import (
    GRID_REASONS,
    REACTION,
    AnyCommand,
    Finding,
    Hold,
    Ledger,
    SiteBook,
    strongest,
)

_TICK = timedelta(seconds=1)
# A planner that has said nothing for so many of its steps is not there.
_ALIVE_STEPS = 2.5


@dataclass(slots=True)
class _Price:
    """A site's price throttles: when the last began, and ended."""

    began_at: datetime | None = None
    ended_at: datetime | None = None


class Plans:
    """Follows what the planner knows, and how it answers."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._power_until: dict[str, datetime] = {}
        self._ruling: dict[str, Hold | None] = {}
        self._price: dict[str, _Price] = defaultdict(_Price)
        self._answered: dict[str, set[str]] = defaultdict(set)  # event: sites that were told
        self._owed: list[tuple[datetime, str]] = []
        self._unheard: dict[str, list[str]] = defaultdict(list)  # fleet: events said while no planner was there
        self._events: dict[str, EventSignal] = {}

    def note_state(self, state: PowerState) -> None:
        """How far a site's power is known."""
        known = self._power_until.get(state.site_id)
        self._power_until[state.site_id] = state.window_end if known is None else max(known, state.window_end)

    def judge_plan(self, at: datetime, plan: FleetPlan) -> Iterator[Finding]:
        """Rule 9: a plan is in the mode that what is known allows. The log knows at least what its planner knew."""
        for name in self._unheard.pop(plan.fleet_id, []) if plan.kind == "plan" else []:
            heapq.heappush(self._owed, (at + REACTION, name))
        fleet = self._ledger.fleet_file.fleet(plan.fleet_id)
        if plan.kind != "plan" or fleet is None:
            return
        oldest = plan.issued_at - timedelta(seconds=fleet.limits.stale_seconds)
        blind = [site for site in fleet.sites if not self._ledger.price_is_known(fleet, site, plan.issued_at)]
        stale = [site for site in fleet.sites if (until := self._power_until.get(site.id)) is None or until < oldest]
        if len(stale) == len(fleet.sites) and plan.mode != "hold":
            yield (9, at, stale[0].id, f"mode {plan.mode}: no recent power of any site is known")
        elif blind and plan.mode == "normal":
            yield (9, at, blind[0].id, "mode normal: no price is known")

    def note_event(self, at: datetime, event: EventSignal) -> None:
        """Rule 11: from now on every site that it concerns is owed a command. To be called before it is noted."""
        known = event.signal_id in self._ledger.events[event.fleet_id]
        fleet = self._ledger.fleet_file.fleet(event.fleet_id)
        if known or fleet is None or event.cancelled or event.ends_at <= at:
            return
        self._events[event.signal_id] = event
        planned_at = self._ledger.planned_at.get(event.fleet_id)
        alive = timedelta(seconds=_ALIVE_STEPS * fleet.limits.plan_interval_seconds)
        if planned_at is not None and at - planned_at <= alive:
            heapq.heappush(self._owed, (at + REACTION, event.signal_id))
        else:
            self._unheard[event.fleet_id].append(event.signal_id)

    def note_command(self, command: AnyCommand) -> None:
        """Who was told of which event."""
        if isinstance(command, Throttle):
            for name in command.caused_by:
                self._answered[name].add(command.site_id)

    @property
    def next_due(self) -> datetime | None:
        """By when the next answer is owed; None if none is."""
        return self._owed[0][0] if self._owed else None

    def judge_owed(self, until: datetime) -> Iterator[Finding]:
        """The events whose time to be answered has run out."""
        while self._owed and self._owed[0][0] < until:
            due, name = heapq.heappop(self._owed)
            event = self._events[name]
            last = self._ledger.events[event.fleet_id][name][-1][1]
            if last.cancelled or last.ends_at <= due:
                continue
            fleet = self._ledger.fleet_file.fleet(event.fleet_id)
            assert fleet is not None
            for site in fleet.sites:
                concerned = not event.site_ids or site.id in event.site_ids
                if concerned and site.id not in self._answered[name] and not self._is_held(site.id, event):
                    yield (11, due, site.id, f"{event.kind} {name} was not answered within {REACTION.seconds} s")

    def _is_held(self, site_id: str, event: EventSignal) -> bool:
        """True if something stronger holds the site through the event."""
        rank = PRECEDENCE.index("emergency" if event.kind == "emergency" else "event")
        return any(
            PRECEDENCE.index(hold.command.reason) <= rank
            and hold.command.starts_at <= event.starts_at
            and hold.ends_at >= event.ends_at
            for hold in self._ledger.sites[site_id].told.values()
        )

    def judge_moment(self, moment: datetime, book: SiteBook) -> Iterator[Finding]:
        """Something that the site was told begins or ends: rule 1 for events, rule 10 for prices."""
        site_id = book.site.id
        before, ruling = self._ruling.get(site_id), strongest(book.told.values(), moment)
        self._ruling[site_id] = ruling
        if _is_for_the_grid(before) and not _is_for_the_grid(ruling):
            for event in self._ledger.running_events(book, moment):
                if event.signal_id in book.served:
                    yield (1, moment, site_id, f"let go while {event.kind} {event.signal_id} runs")
        yield from self._judge_price(moment, book, before, ruling)

    def _judge_price(
        self, moment: datetime, book: SiteBook, before: Hold | None, ruling: Hold | None
    ) -> Iterator[Finding]:
        price, dwell = self._price[book.site.id], timedelta(seconds=book.fleet.limits.dwell_seconds) - _TICK
        if ruling is not None and ruling.command.reason == "economics":
            if before is None:
                if price.ended_at is not None and moment - price.ended_at < dwell:
                    detail = f"{ruling.command.control_id} begins {(moment - price.ended_at).seconds} s after the last"
                    yield (10, moment, book.site.id, detail)
                price.began_at = ruling.command.starts_at
        elif ruling is None and before is not None and before.command.reason == "economics":
            last = book.told.get(before.command.control_id, before)
            price.ended_at = last.released_at or moment
            known = self._ledger.price_is_known(book.fleet, book.site, price.ended_at)
            if price.began_at is not None and moment - price.began_at < dwell and known:
                detail = f"{before.command.control_id} ends after {(moment - price.began_at).seconds} s"
                yield (10, moment, book.site.id, detail)


def _is_for_the_grid(hold: Hold | None) -> bool:
    return hold is not None and hold.command.reason in GRID_REASONS
