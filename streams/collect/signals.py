"""Prices and events as grid signals, fanned out to each fleet that they concern."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Literal

from schemas.envelope import LIVE_RUN
from schemas.fleet import Fleet, FleetFile
from schemas.signals import EventSignal, PriceSignal
from streams.collect.traces import PriceTrace

Market = Literal["real-time", "day-ahead"]

_SHORT_MARKET: Mapping[Market, str] = {"real-time": "rt", "day-ahead": "da"}


@dataclass(frozen=True, slots=True)
class PriceSource:
    """Where a settlement point's prices come from: a zone of a trace."""

    trace: PriceTrace
    zone: str


def price_sources(traces: Sequence[PriceTrace], fleet_file: FleetFile) -> tuple[dict[str, PriceSource], list[str]]:
    """The prices of every settlement point of the fleet file, and notes for people on what was made up.

    A point has the zone of its name, from the first trace that has one. Points that no trace knows take the zones of
    all traces in turn; a note says which took which.

    Raises:
        ValueError: `traces` is empty.
    """
    known = [PriceSource(trace, zone) for trace in traces for zone in trace.zones]
    if not known:
        raise ValueError("at least one trace of prices is needed")
    points = list(dict.fromkeys(site.settlement_point for _, site in fleet_file.sites()))
    sources: dict[str, PriceSource] = {}
    notes: list[str] = []
    for point in points:
        named = next((source for source in known if source.zone == point), None)
        sources[point] = named or known[len(notes) % len(known)]
        if named is None:
            notes.append(
                f"settlement point {point}: no such zone in {', '.join(trace.name for trace in traces)}; "
                f"takes the prices of {sources[point].zone}"
            )
    return sources, notes


def price_signals(
    sources: Mapping[str, PriceSource],
    fleet_file: FleetFile,
    run_starts_at: datetime,
    since_seconds: float,
    until_seconds: float,
    run_id: str = LIVE_RUN,
    market: Market = "real-time",
) -> list[PriceSignal]:
    """The price signals whose intervals start in [`since_seconds`, `until_seconds`) after the run's start.

    The traces are rebased: their beginning becomes `run_starts_at` (aware UTC). One signal per fleet, settlement
    point and interval, in time order, said when its interval starts. A missing price gives no signal: the last one
    ends and its readers see that they are price-blind. Call it with each tick's bounds and every interval comes once.
    """
    signals: list[PriceSignal] = []
    for fleet in fleet_file.fleets:
        for point in dict.fromkeys(site.settlement_point for site in fleet.sites):
            trace, zone = sources[point].trace, sources[point].zone
            first, end = (max(0, ceil(at / trace.step_seconds)) for at in (since_seconds, until_seconds))
            for step in range(first, end):
                price = trace.at(step, zone)
                if price is not None:
                    starts_at = run_starts_at + timedelta(seconds=step * trace.step_seconds)
                    signals.append(_price_signal(fleet, point, price, starts_at, trace, run_id, market))
    return sorted(signals, key=lambda signal: signal.starts_at)


def _price_signal(
    fleet: Fleet, point: str, price: float, starts_at: datetime, trace: PriceTrace, run_id: str, market: Market
) -> PriceSignal:
    return PriceSignal(
        run_id=run_id,
        fleet_id=fleet.id,
        signal_id=f"{_SHORT_MARKET[market]}/{point}/{starts_at:%Y-%m-%dT%H:%M:%SZ}",
        source=f"trace/{trace.name}"[:120],
        published_at=starts_at,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=trace.step_seconds),
        market=market,
        settlement_point=point,
        price_usd_per_mwh=price,
    )


def event_signal(
    fleet: Fleet,
    announced_at: datetime,
    notice_seconds: float = 600.0,
    duration_seconds: float = 3600.0,
    reduction_ratio: float = 0.25,
    ramp_seconds: float = 300.0,
    run_id: str = LIVE_RUN,
    kind: Literal["event", "emergency"] = "event",
) -> EventSignal:
    """The demo's grid event: every site of the fleet together gives up a quarter of its baseline for an hour.

    Announced at `announced_at` (aware UTC), it starts `notice_seconds` later and allows `ramp_seconds` to get there.

    Raises:
        ValueError: a duration is not positive, a notice negative, or the ratio lies outside 0-1.
    """
    if notice_seconds < 0:
        raise ValueError("notice_seconds must not be negative")
    starts_at = announced_at + timedelta(seconds=notice_seconds)
    return EventSignal(
        run_id=run_id,
        fleet_id=fleet.id,
        signal_id=f"{kind}/{fleet.id}/{starts_at:%Y-%m-%dT%H:%M:%SZ}",
        source="demo/utility",
        published_at=announced_at,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=duration_seconds),
        kind=kind,
        reduction_ratio=reduction_ratio,
        ramp_seconds=ramp_seconds,
    )
