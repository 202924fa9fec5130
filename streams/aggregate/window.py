"""Event-time windows of one partition of one source topic: a pure function of the log.

A window is open until the partition's watermark (its newest event time less the allowed lateness) reaches the
window's end; it then closes once and for all, in log order, never by a timer. What comes later is counted and
changes nothing. After a restart the partition is read again from the committed position, and the watermark as it
was remembered keeps what was closed from opening again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from schemas.catalog import Rejected
from schemas.envelope import LIVE_RUN
from schemas.fleet import FleetFile
from schemas.requests import RequestRates
from schemas.site import LoadState, PowerState
from schemas.telemetry import TelemetryFrame
from streams.aggregate.columns import FrameSums, sums_of
from streams.aggregate.load import LoadWindow
from streams.aggregate.power import PowerWindow
from streams.positions import Held

Source = TelemetryFrame | RequestRates
State = PowerState | LoadState
Place = tuple[datetime, str]  # window start, site

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)
_LONGEST_INTERVAL_WINDOWS = 1.5  # some slack, as sources that measure their interval never meet it to the dot


@dataclass(frozen=True)
class WindowRules:
    """How time is cut into windows."""

    window_seconds: float
    allowed_lateness_seconds: float

    @cached_property
    def window(self) -> timedelta:
        """A window's length."""
        return timedelta(seconds=self.window_seconds)

    @cached_property
    def allowed_lateness(self) -> timedelta:
        """How far the watermark stays behind the newest event time."""
        return timedelta(seconds=self.allowed_lateness_seconds)

    def instant_of(self, record: Source) -> datetime:
        """The instant whose window a record belongs to.

        A frame is an instant; request rates belong where the last instant of their interval lies, so that a report
        that ends on a window's edge counts for the window it covers. Where the interval begins would not do: of two
        sources out of phase, the watermark would then pass one's reports that came in order.
        """
        if isinstance(record, RequestRates):
            return max(record.observed_at, BEGINNING) - _INSTANT
        return record.observed_at

    def start_of(self, record: Source) -> datetime:
        """The start of the window that a record belongs to."""
        return self.start_at(self.instant_of(record))

    def start_at(self, instant: datetime) -> datetime:
        """The start of the window that an instant lies in."""
        # Whole numbers: exact at every edge. All before the beginning is one window, closed from the start.
        return BEGINNING + max((instant - BEGINNING) // self.window, -1) * self.window

    def end_of(self, start: datetime) -> datetime:
        """The end of the window that starts then."""
        return start + self.window

    def refused(self, record: Source) -> Rejected | None:
        """Why a record can't be put into windows: its counts would all fall into one and look like a spike."""
        longest = _LONGEST_INTERVAL_WINDOWS * self.window_seconds
        if isinstance(record, RequestRates) and record.interval_seconds > longest:
            why = f"interval_seconds is {record.interval_seconds:g}, a window has {self.window_seconds:g}"
            return Rejected("long_interval", why)
        return None


@dataclass(slots=True)
class PartitionWindows:
    """The open windows of one partition, and which position may be committed."""

    rules: WindowRules
    fleet_file: FleetFile
    run_id: str = LIVE_RUN
    watermark: datetime = BEGINNING
    held: Held = field(default_factory=Held)
    late: int = 0
    open: dict[Place, PowerWindow | LoadWindow] = field(default_factory=dict)

    def fold(self, records: Iterable[Source], next_offset: int) -> None:
        """Adds a batch of records in log order, without those `refused`; `next_offset` is the position after it."""
        feeds: set[Place] = set()
        start = end = BEGINNING
        for addend in _addends(list(records)):
            record = addend.frame if isinstance(addend, FrameSums) else addend
            observed_at, instant = record.observed_at, self.rules.instant_of(record)
            if not start <= instant < end:  # most records lie in the window of the one before
                start = self.rules.start_at(instant)
                end = self.rules.end_of(start)
            if end <= self.watermark:
                self.late += 1
            else:
                place = (start, record.site_id)
                window = self.open.get(place)
                if window is None:
                    window = self.open[place] = PowerWindow() if isinstance(addend, FrameSums) else LoadWindow()
                window.fold(addend)  # type: ignore[arg-type]  # a topic has one kind of record
                feeds.add(place)
            # Compared first, as a time before the year 2 has nothing to take the lateness from.
            if observed_at > self.watermark:
                self.watermark = max(self.watermark, observed_at - self.rules.allowed_lateness)
        self.held.hold(next_offset, feeds)

    def due(self) -> list[tuple[Place, State]]:
        """Closes the windows that the watermark has passed, oldest first. Their positions are held until `settle`."""
        passed = sorted(place for place in self.open if place[0] + self.rules.window <= self.watermark)
        return [(place, self._close(place, self.open.pop(place))) for place in passed]

    def settle(self, places: Iterable[Place]) -> int | None:
        """These windows are out and the watermark is remembered: returns the position that may be committed."""
        return self.held.release(places)

    def _close(self, place: Place, window: PowerWindow | LoadWindow) -> State:
        start, site_id = place
        site = self.fleet_file.site(site_id)
        fleet_id = self.fleet_file.fleet_of(site_id)
        assert site is not None  # the intake rejected unknown sites
        assert fleet_id is not None
        return window.close(fleet_id, site_id, start, self.rules.end_of(start), site.gpus, self.run_id)


def _addends(records: list[Source]) -> list[FrameSums | RequestRates]:
    """What windows add up: frames in one pass over all their columns, request rates as they are."""
    sums = iter(sums_of(record for record in records if isinstance(record, TelemetryFrame)))
    return [next(sums) if isinstance(record, TelemetryFrame) else record for record in records]
