"""What the topics have said so far, as the checker of safety reads it: signals, plans, commands, answers. Pure."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from schemas.command import PRECEDENCE, CommandAck, Release, Shift, Throttle
from schemas.fleet import Fleet, FleetFile, Site
from schemas.plan import FleetPlan
from schemas.signals import EventSignal, PriceSignal

AnyCommand = Throttle | Shift | Release
Pair = tuple[int, int]
Finding = tuple[int, datetime, str, str]  # rule, when, site, what

GRID_REASONS = frozenset({"emergency", "ramp", "event"})
# Answers by which a site takes a command on.
TAKEN = frozenset({"accepted", "partial"})
VERDICTS = TAKEN | {"rejected", "superseded"}
# A moment is judged this much later: what was decided by then may still be on its way into the log (a tick, the bus).
GRACE = timedelta(seconds=15)
# A planner can't know what was said less than this before it spoke.
REACTION = timedelta(seconds=5)
# What has been over for so long matters no more.
_FORGET = timedelta(hours=1)
# A settlement point's prices are looked through when there are so many.
_PRICES = 32


@dataclass(frozen=True, slots=True)
class Hold:
    """A throttle as it stands: as commanded, or as a site holds it."""

    command: Throttle
    ends_at: datetime
    released_at: datetime | None = None  # when a release was given, if one was
    let_go_at: datetime | None = None  # from when on that release lets the site rise
    target_is_known: bool = True

    def rules_at(self, moment: datetime) -> bool:
        """True from its start to its end."""
        return self.command.starts_at <= moment < self.ends_at

    def asks_watts(self, moment: datetime) -> float:
        """Its target; after its lease has lapsed the lower of target and fallback."""
        target = self.command.target_power_watts
        return min(target, self.command.fallback_power_watts) if self.has_lapsed(moment) else target

    def has_lapsed(self, moment: datetime) -> bool:
        """True if nobody has renewed its lease."""
        return moment >= self.command.lease_expires_at


def strongest(holds: Iterable[Hold], moment: datetime) -> Hold | None:
    """The one that rules: by precedence, then priority, then the lower target."""
    ruling = [each for each in holds if each.rules_at(moment)]
    return min(
        ruling,
        key=lambda each: (PRECEDENCE.index(each.command.reason), each.command.priority, each.asks_watts(moment)),
        default=None,
    )


@dataclass(slots=True)
class SiteBook:
    """One site: what it was told, what it has taken on, what it has answered."""

    site: Site
    fleet: Fleet
    told: dict[str, Hold] = field(default_factory=dict)
    held: dict[str, Hold] = field(default_factory=dict)
    shifts: dict[str, Shift] = field(default_factory=dict)  # taken on, by control
    commands: dict[Pair, AnyCommand] = field(default_factory=dict)
    unanswered: dict[Pair, AnyCommand] = field(default_factory=dict)
    taken: set[Pair] = field(default_factory=set)
    newest: dict[int, int] = field(default_factory=dict)  # the highest sequence that went out, by epoch
    highest: Pair = (0, 0)  # among the pairs that it has answered for
    highest_at: datetime | None = None
    answered_at: datetime | None = None
    served: set[str] = field(default_factory=set)  # events that it was throttled for

    def forget(self, before: datetime) -> None:
        """Drops what has been over for long."""
        for book in (self.told, self.held):
            for name in [name for name, hold in book.items() if hold.ends_at < before]:
                del book[name]
        for pair, command in list(self.unanswered.items()):
            if max(command.ends_at, command.lease_expires_at) < before:
                del self.unanswered[pair]


class Ledger:
    """Takes the entries of a log in, in time order; knows nothing of what they should be."""

    def __init__(self, fleet_file: FleetFile) -> None:
        self.fleet_file = fleet_file
        self.sites = {site.id: SiteBook(site, fleet) for fleet, site in fleet_file.sites()}
        self.events: dict[str, dict[str, list[tuple[datetime, EventSignal]]]] = defaultdict(dict)
        self.prices: dict[tuple[str, str], dict[str, PriceSignal]] = defaultdict(dict)
        self.plans: dict[tuple[str, int], FleetPlan] = {}
        self.planned_at: dict[str, datetime] = {}
        self.planned_controls: dict[str, set[str]] = defaultdict(set)
        self._moments: list[tuple[datetime, str]] = []

    def least_watts(self, site: Site) -> float:
        """The lowest target that makes sense: minimum-on, and the cap cliff of every GPU, cooling included."""
        cliff = sum(pool.gpus * self.fleet_file.gpu_model(pool.gpu_model).cap_cliff_watts for pool in site.pools)
        return min(site.import_limit_watts, max(site.minimum_on_watts, cliff * site.pue))

    @property
    def next_moment(self) -> datetime | None:
        """When the next thing begins or ends; None if nothing is to."""
        return self._moments[0][0] if self._moments else None

    def moments(self, until: datetime) -> Iterator[tuple[datetime, SiteBook]]:
        """The moments up to `until` at which something began or ended at a site, in order."""
        while self._moments and self._moments[0][0] <= until:
            moment, site_id = heapq.heappop(self._moments)
            book = self.sites[site_id]
            yield moment, book
            book.forget(moment - _FORGET)

    def take_signal(self, at: datetime, signal: EventSignal | PriceSignal) -> None:
        """Notes a signal; of an event every revision, of a price the last."""
        if isinstance(signal, EventSignal):
            self.events[signal.fleet_id].setdefault(signal.signal_id, []).append((at, signal))
        elif signal.market == "real-time":
            known = self.prices[signal.fleet_id, signal.settlement_point]
            known[signal.signal_id] = signal
            if len(known) > _PRICES:
                for name in [name for name, price in known.items() if price.ends_at < at - _FORGET]:
                    del known[name]

    def take_plan(self, at: datetime, plan: FleetPlan) -> None:
        """Notes a plan."""
        self.plans[plan.fleet_id, plan.epoch] = plan
        self.planned_at[plan.fleet_id] = at
        self.planned_controls[plan.fleet_id].update(each.control_id for each in plan.throttles)
        self.planned_controls[plan.fleet_id].update(each.control_id for each in plan.shifts)

    def take_command(self, command: AnyCommand) -> None:
        """Notes a command: from now on the site is told so, unless a higher pair tells it otherwise."""
        book = self.sites[command.site_id]
        book.commands[command.order] = book.unanswered[command.order] = command
        book.newest[command.epoch] = max(command.sequence, book.newest.get(command.epoch, 0))
        if isinstance(command, Throttle):
            before = book.told.get(command.control_id)
            if before is None or before.command.order <= command.order:
                book.told[command.control_id] = Hold(command, command.ends_at)
                self._at(command.site_id, max(command.starts_at, command.issued_at), command.ends_at)
            book.served.update(command.caused_by)
        elif isinstance(command, Release):
            hold = book.told.get(command.releases_control_id)
            if hold is not None and hold.command.order < command.order:
                ends_at = min(hold.ends_at, max(command.starts_at, command.issued_at))
                book.told[command.releases_control_id] = replace(hold, ends_at=ends_at, released_at=command.issued_at)
                self._at(command.site_id, ends_at)

    def take_ack(self, ack: CommandAck) -> None:
        """Notes an answer, and what the site holds from then on."""
        book, pair = self.sites[ack.site_id], (ack.epoch, ack.sequence)
        if (ack.highest_epoch, ack.highest_sequence) >= book.highest:
            book.highest, book.highest_at = (ack.highest_epoch, ack.highest_sequence), ack.observed_at
        if ack.status in VERDICTS:
            book.answered_at = max(book.answered_at or ack.observed_at, ack.observed_at)
            answered = [each for each in book.unanswered if each <= pair]
            for each in answered:
                if book.unanswered[each].control_id == ack.control_id:
                    del book.unanswered[each]
        if ack.status == "expired":
            book.shifts.pop(ack.control_id, None)
        command = book.commands.get(pair)
        if command is None or ack.status not in TAKEN or pair in book.taken:
            return
        book.taken.add(pair)
        self._hold(book, command, ack)

    def _hold(self, book: SiteBook, command: AnyCommand, ack: CommandAck) -> None:
        if isinstance(command, Shift):
            book.shifts[command.control_id] = command
        elif isinstance(command, Throttle):
            target = min(max(command.target_power_watts, book.site.minimum_on_watts), book.site.import_limit_watts)
            fallback = max(command.fallback_power_watts, book.site.minimum_on_watts)
            held = command.model_copy(update={"target_power_watts": target, "fallback_power_watts": fallback})
            known = ack.status == "accepted"
            book.held[command.control_id] = Hold(held, command.ends_at, target_is_known=known)
            begins_at = max(command.starts_at, ack.observed_at)
            self._at(command.site_id, begins_at, command.ends_at, command.lease_expires_at)
        else:
            book.shifts.pop(command.releases_control_id, None)
            hold = book.held.get(command.releases_control_id)
            if hold is not None:
                ends_at = min(hold.ends_at, max(command.starts_at, ack.observed_at))
                let_go_at = max(command.starts_at, command.issued_at)
                book.held[command.releases_control_id] = replace(hold, ends_at=ends_at, let_go_at=let_go_at)
                self._at(command.site_id, ends_at)

    def _at(self, site_id: str, *moments: datetime) -> None:
        for moment in moments:
            heapq.heappush(self._moments, (moment, site_id))

    def running_events(self, book: SiteBook, moment: datetime) -> list[EventSignal]:
        """Events that run at the site at a moment, by all that a planner may have known of them then."""
        running = []
        for revisions in self.events[book.fleet.id].values():
            old = [each for at, each in revisions if at <= moment - REACTION][-1:]
            new = [each for at, each in revisions if at > moment - REACTION]
            if old and all(_runs(each, book.site.id, moment) for each in (*old, *new)):
                running.append(old[-1])
        return running

    def emergency_runs(self, site_id: str, moment: datetime) -> bool:
        """True if any revision of an emergency says that it runs at the site at the moment."""
        events = self.events[self.sites[site_id].fleet.id].values()
        return any(
            event.kind == "emergency" and _runs(event, site_id, moment)
            for revisions in events
            for _, event in revisions
        )

    def price_is_known(self, fleet: Fleet, site: Site, moment: datetime) -> bool:
        """True if a real-time price holds at the site's settlement point, or has ended within the time to stale."""
        grace = timedelta(seconds=fleet.limits.stale_seconds)
        known = self.prices[fleet.id, site.settlement_point].values()
        return any(price.starts_at <= moment < price.ends_at + grace for price in known)


def _runs(event: EventSignal, site_id: str, moment: datetime) -> bool:
    concerned = not event.site_ids or site_id in event.site_ids
    return concerned and not event.cancelled and event.starts_at <= moment < event.ends_at
