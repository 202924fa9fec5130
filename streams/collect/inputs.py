"""What a replay plays: traffic for every site and prices for every settlement point, from files or generated. Pure
but for reading the files asked for.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from schemas.fleet import FleetFile
from schemas.signals import EventSignal
from streams.collect.generator import generate_prices, generate_requests
from streams.collect.signals import PriceSource, event_signal, price_sources
from streams.collect.traces import read_price_trace, read_request_trace
from streams.simulate.demand import SpreadDemand, spread


@dataclass(frozen=True, slots=True)
class ReplayInputs:
    """Everything that a replay puts on the bus but the plants' own readings; notes say what was made up."""

    demand: SpreadDemand
    prices: dict[str, PriceSource]
    events: list[EventSignal]
    notes: list[str]


def load_inputs(
    fleet_file: FleetFile,
    requests: Path | None,
    prices: list[Path],
    starts_at: datetime,
    span_seconds: float,
    interval_seconds: float,
    seed: int,
    run_id: str,
    price_start: str | None = None,
) -> ReplayInputs:
    """Reads the files, or generates what none was given for.

    Raises:
        TraceError: a file can't be read or is not such a trace; one line that names it.
    """
    rng = np.random.default_rng(seed)
    notes = []
    if requests is None:
        trace = generate_requests(rng, starts_at, max(span_seconds, 3600.0), interval_seconds)
        notes.append(f"requests: generated, seed {seed}")
    else:
        trace = read_request_trace(requests, interval_seconds)
        tiles = trace.tiles(span_seconds)
        notes.append(f"requests: {trace.name}, {trace.span_seconds / 60:.0f} min" + _tiled(tiles, span_seconds))
    if prices:
        price_traces = [read_price_trace(path, price_start) for path in prices]
        for each in price_traces:
            began = f"{each.starts_at:%Y-%m-%d %H:%M}"
            tiles = each.tiles(span_seconds)
            notes.append(f"prices: {each.name} from {began}, played as if now" + _tiled(tiles, span_seconds))
    else:
        price_traces = [generate_prices(rng, starts_at, max(span_seconds, 3600.0))]
        notes.append(f"prices: generated, seed {seed}")
    sources, made_up = price_sources(price_traces, fleet_file)
    return ReplayInputs(
        spread(trace, fleet_file), sources, demo_events(fleet_file, starts_at, span_seconds, run_id), [*notes, *made_up]
    )


def _tiled(tiles: int, span_seconds: float) -> str:
    return f", laid end to end {tiles} times for {span_seconds / 3600:.1f} h" if tiles > 1 else ""


def demo_events(fleet_file: FleetFile, starts_at: datetime, span_seconds: float, run_id: str) -> list[EventSignal]:
    """A grid event for the first fleet: a quarter less for an hour, or for half the span if that is shorter."""
    return [
        event_signal(
            fleet_file.fleets[0],
            announced_at=starts_at + timedelta(seconds=span_seconds / 8),
            notice_seconds=min(600.0, span_seconds / 12),
            duration_seconds=min(3600.0, span_seconds / 2),
            ramp_seconds=120.0,
            run_id=run_id,
        )
    ]
