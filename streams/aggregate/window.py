"""Event-time windows of one partition of one source topic: a pure function of the log.

A window is open until the partition's watermark (its newest event time less the allowed lateness) reaches the
window's end; it then closes once and for all, in log order, never by a timer. What comes later is counted and
changes nothing. After a restart the partition is read again from the committed position, and the watermark as it
was remembered keeps what was closed from opening again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from schemas.catalog import Rejected
from schemas.envelope import LIVE_RUN
from schemas.fleet import FleetFile
from schemas.requests import RequestRates
from schemas.site import LoadState, PowerState
from schemas.telemetry import TelemetryFrame
from streams.aggregate.load import LoadWindow
from streams.aggregate.power import PowerWindow
from streams.positions import Held

Source = TelemetryFrame | RequestRates
State = PowerState | LoadState
Place = tuple[datetime, str]  # window start, site

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)
_LONGEST_INTERVAL_WINDOWS = 1.5  # some slack, as sources that measure their interval never meet it to the dot


@dataclass(frozen=True, slots=True)
class WindowRules:
    """How time is cut into windows."""

    window_seconds: float
    allowed_lateness_seconds: float

    def start_of(self, record: Source) -> datetime:
        """The start of the window that a record belongs to.

        A frame is an instant; request rates belong where the last instant of their interval lies, so that a report
        that ends on a window's edge counts for the window it covers. Where the interval begins would not do: of two
        sources out of phase, the watermark would then pass one's reports that came in order.
        """
        window, since = timedelta(seconds=self.window_seconds), record.observed_at - BEGINNING
        if isinstance(record, RequestRates):
            since -= _INSTANT
        # Whole numbers: exact at every edge. All before the beginning is one window, closed from the start.
        return BEGINNING + max(since // window, -1) * window

    def end_of(self, start: datetime) -> datetime:
        """The end of the window that starts then."""
        return start + timedelta(seconds=self.window_seconds)

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
        feeds = set()
        for record in records:
            start = self.rules.start_of(record)
            if self.rules.end_of(start) <= self.watermark:
                self.late += 1
            else:
                place = (start, record.site_id)
                window = self.open.get(place)
                if window is None:
                    window = self.open[place] = PowerWindow() if isinstance(record, TelemetryFrame) else LoadWindow()
                window.fold(record)  # type: ignore[arg-type]  # a topic has one kind of record
                feeds.add(place)
            # Compared first, as a time before the year 2 has nothing to take the lateness from.
            if record.observed_at > self.watermark:
                moved = record.observed_at - timedelta(seconds=self.rules.allowed_lateness_seconds)
                self.watermark = max(self.watermark, moved)
        self.held.hold(next_offset, feeds)

    def due(self) -> list[tuple[Place, State]]:
        """The closed records of the windows that the watermark has passed, oldest first; `settle` removes them."""
        passed = sorted(place for place in self.open if self.rules.end_of(place[0]) <= self.watermark)
        return [(place, self._close(place)) for place in passed]

    def settle(self, places: Iterable[Place]) -> int | None:
        """These windows are out and the watermark is remembered: returns the position that may be committed."""
        places = list(places)
        for place in places:
            del self.open[place]
        return self.held.release(places)

    def _close(self, place: Place) -> State:
        start, site_id = place
        site = self.fleet_file.site(site_id)
        fleet_id = self.fleet_file.fleet_of(site_id)
        assert site is not None  # the intake rejected unknown sites
        assert fleet_id is not None
        return self.open[place].close(fleet_id, site_id, start, self.rules.end_of(start), site.gpus, self.run_id)
