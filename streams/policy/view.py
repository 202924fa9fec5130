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

# A baseline is the mean over the windows of so long a time.
_BASELINE = timedelta(minutes=5)
# What an event's sites deliver is judged by minutes, as a utility does.
_MINUTE = timedelta(minutes=1)
# A meter further than this from the GPUs' power and the PUE is not believed: cooling varies by less.
_PLAUSIBLE_RATIO = 0.15
# Below this share of reporting GPUs their sum says too little of the site to doubt its meter.
_REPORTING_RATIO = 0.9
# Signals are forgotten this long after their end: the plan still explains itself by them meanwhile.
_FORGET = timedelta(hours=1)


@dataclass(slots=True)
class SiteView:
    """What is known of one site."""

    power: PowerState | None = None
    load: LoadState | None = None
    forecast: SiteForecast | None = None
    heartbeat: ControllerHeartbeat | None = None
    meter_watts: deque[tuple[datetime, float]] = field(default_factory=deque)  # end of the window, mean over it

    def baseline_watts(self) -> float | None:
        """Mean meter power over the windows of the newest five minutes; None before the first."""
        return self._mean_watts(_BASELINE)

    def minute_watts(self) -> float | None:
        """Mean meter power over the windows of the newest minute; None before the first."""
        return self._mean_watts(_MINUTE)

    def _mean_watts(self, span: timedelta) -> float | None:
        if not self.meter_watts:
            return None
        newest = self.meter_watts[-1][0]
        recent = [watts for window_end, watts in self.meter_watts if window_end > newest - span]
        return sum(recent) / len(recent)

    def is_stale(self, now: datetime, stale_seconds: float) -> bool:
        """True if no power is known that is younger than the limit."""
        return self.power is None or (now - self.power.window_end).total_seconds() > stale_seconds


@dataclass(slots=True)
class FleetView:
    """What is known of one fleet, by somebody who has listened since a time (None: for ever)."""

    fleet: Fleet
    listening_since: datetime | None = None
    sites: dict[str, SiteView] = field(default_factory=dict)
    prices: dict[str, PriceSignal] = field(default_factory=dict)  # real-time
    day_ahead: dict[str, PriceSignal] = field(default_factory=dict)
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
            case PriceSignal():
                self._observe_signal(self.prices if record.market == "real-time" else self.day_ahead, record)
            case EventSignal():
                self._observe_signal(self.events, record)
            case _:
                pass  # carbon intensity is recorded, and weighs in no decision

    def _observe_power(self, state: PowerState) -> None:
        view = self.sites[state.site_id]
        if view.power is not None and state.window_start <= view.power.window_start:
            return
        view.power = state
        view.meter_watts.append((state.window_end, meter_watts(state, self.site(state.site_id))))
        while view.meter_watts[0][0] <= state.window_end - _BASELINE:
            view.meter_watts.popleft()

    @staticmethod
    def _observe_signal(known: dict[str, Signal], signal: Signal) -> None:
        before = known.get(signal.signal_id)
        if before is None or signal.published_at >= before.published_at:
            known[signal.signal_id] = signal

    def forget(self, now: datetime) -> None:
        """Drops the signals whose time is long over."""
        self.prices = {name: price for name, price in self.prices.items() if price.ends_at > now - _FORGET}
        self.day_ahead = {name: price for name, price in self.day_ahead.items() if price.ends_at > now - _FORGET}
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

    def silent_sites(self, now: datetime) -> list[str]:
        """The stale sites that would have been heard by now. Who has just begun to listen calls nobody silent."""
        stale_seconds = self.fleet.limits.stale_seconds
        since = self.listening_since
        if since is not None and (now - since).total_seconds() <= stale_seconds:
            return [site_id for site_id in self.stale_sites(now) if self.sites[site_id].power is not None]
        return self.stale_sites(now)

    def stale_sites(self, now: datetime) -> list[str]:
        """Sites of which no recent power is known."""
        stale_seconds = self.fleet.limits.stale_seconds
        return [site_id for site_id, view in self.sites.items() if view.is_stale(now, stale_seconds)]


def meter_watts(state: PowerState, site: Site) -> float:
    """Power at the meter: as read, or from the GPUs and the site's PUE where the meter is silent.

    Of a meter that is not to be believed and the GPUs' power the higher is taken: the grid stands behind the meter.
    """
    by_gpus = state.it_power_watts * site.pue
    if state.meter_power_watts is None:
        return by_gpus
    return state.meter_power_watts if is_meter_plausible(state, site) else max(by_gpus, state.meter_power_watts)


def is_meter_plausible(state: PowerState, site: Site) -> bool:
    """False where the meter contradicts the power of the site's GPUs, nearly all of which report."""
    by_gpus = state.it_power_watts * site.pue
    if state.meter_power_watts is None or by_gpus <= 0 or state.reporting_ratio < _REPORTING_RATIO:
        return True
    return abs(state.meter_power_watts / by_gpus - 1) <= _PLAUSIBLE_RATIO
