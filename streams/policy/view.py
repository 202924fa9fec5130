"""What is known of a fleet: the newest of every input, in memory, rebuilt from the bus after a restart. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from schemas.envelope import Record
from schemas.fleet import Fleet, Site
from schemas.forecast import SiteForecast
from schemas.signals import EventSignal, PriceSignal
from schemas.site import ControllerHeartbeat, LoadState, PowerState

Signal = TypeVar("Signal", PriceSignal, EventSignal)

# A baseline is the mean over so many of the newest windows (five minutes of ten-second windows).
_BASELINE_WINDOWS = 30
# Signals are forgotten this long after their end: the plan still explains itself by them meanwhile.
_FORGET = timedelta(hours=1)


@dataclass(slots=True)
class SiteView:
    """What is known of one site."""

    power: PowerState | None = None
    load: LoadState | None = None
    forecast: SiteForecast | None = None
    heartbeat: ControllerHeartbeat | None = None
    meter_watts: deque[float] = field(default_factory=lambda: deque(maxlen=_BASELINE_WINDOWS))

    def baseline_watts(self) -> float | None:
        """Mean meter power over the newest windows; None before the first."""
        return sum(self.meter_watts) / len(self.meter_watts) if self.meter_watts else None

    def is_stale(self, now: datetime, stale_seconds: float) -> bool:
        """True if no power is known that is younger than the limit."""
        return self.power is None or (now - self.power.window_end).total_seconds() > stale_seconds


@dataclass(slots=True)
class FleetView:
    """What is known of one fleet."""

    fleet: Fleet
    sites: dict[str, SiteView] = field(default_factory=dict)
    prices: dict[str, PriceSignal] = field(default_factory=dict)
    events: dict[str, EventSignal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for site in self.fleet.sites:
            self.sites[site.id] = SiteView()

    def observe(self, record: Record) -> None:
        """Takes a record in; one that is older than what is known changes nothing."""
        match record:
            case PowerState():
                self._observe_power(record)
            case LoadState():
                site = self.sites[record.site_id]
                if site.load is None or record.window_start > site.load.window_start:
                    site.load = record
            case SiteForecast():
                site = self.sites[record.site_id]
                if site.forecast is None or record.issued_at > site.forecast.issued_at:
                    site.forecast = record
            case ControllerHeartbeat():
                site = self.sites[record.site_id]
                if site.heartbeat is None or record.observed_at > site.heartbeat.observed_at:
                    site.heartbeat = record
            case PriceSignal() if record.market == "real-time":
                self._observe_signal(self.prices, record)
            case EventSignal():
                self._observe_signal(self.events, record)
            case _:
                pass  # day-ahead prices and carbon intensity serve the planner to come

    def _observe_power(self, state: PowerState) -> None:
        view = self.sites[state.site_id]
        if view.power is not None and state.window_start <= view.power.window_start:
            return
        view.power = state
        view.meter_watts.append(meter_watts(state, self.site(state.site_id)))

    @staticmethod
    def _observe_signal(known: dict[str, Signal], signal: Signal) -> None:
        before = known.get(signal.signal_id)
        if before is None or signal.published_at >= before.published_at:
            known[signal.signal_id] = signal

    def forget(self, now: datetime) -> None:
        """Drops the signals whose time is long over."""
        self.prices = {name: price for name, price in self.prices.items() if price.ends_at > now - _FORGET}
        self.events = {name: event for name, event in self.events.items() if event.ends_at > now - _FORGET}

    def site(self, site_id: str) -> Site:
        """The site's description.

        Raises:
            KeyError: the fleet has no such site.
        """
        for site in self.fleet.sites:
            if site.id == site_id:
                return site
        raise KeyError(site_id)

    def price_at(self, settlement_point: str, now: datetime) -> PriceSignal | None:
        """The real-time price that holds now; the one published last where several claim to.

        Markets publish a price when its interval has begun: until then the last one stands, for `stale_seconds`.
        """
        begun = [
            price
            for price in self.prices.values()
            if price.settlement_point == settlement_point and price.starts_at <= now
        ]
        holding = [price for price in begun if now < price.ends_at]
        if holding:
            return max(holding, key=lambda price: (price.published_at, price.signal_id))
        grace = timedelta(seconds=self.fleet.limits.stale_seconds)
        late = [price for price in begun if now < price.ends_at + grace]
        return max(late, key=lambda price: (price.ends_at, price.published_at, price.signal_id), default=None)

    def events_ahead(self, now: datetime) -> Iterable[EventSignal]:
        """Events not withdrawn and not over, their staggered restores included; emergencies first, then by start."""
        restores = timedelta(seconds=(len(self.fleet.sites) + 1) * self.fleet.limits.stagger_seconds)
        ahead = [event for event in self.events.values() if not event.cancelled and event.ends_at + restores > now]
        return sorted(ahead, key=lambda event: (event.kind != "emergency", event.starts_at, event.signal_id))

    def stale_sites(self, now: datetime) -> list[str]:
        """Sites of which no recent power is known."""
        stale_seconds = self.fleet.limits.stale_seconds
        return [site_id for site_id, view in self.sites.items() if view.is_stale(now, stale_seconds)]


def meter_watts(state: PowerState, site: Site) -> float:
    """Power at the meter: as read, or from the GPUs and the site's PUE where the meter is silent."""
    return state.meter_power_watts if state.meter_power_watts is not None else state.it_power_watts * site.pue
