"""Prices and events become signals of each fleet, once per interval, and what was made up is said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from schemas.catalog import GRID_SIGNALS
from schemas.fleet import FleetFile, parse_fleet_file
from streams.collect.signals import event_signal, price_signals, price_sources
from streams.collect.traces import PriceTrace
from streams.simulate import plant

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILE: FleetFile = parse_fleet_file(Path(plant.__file__).with_name("demo_fleet.toml").read_text())


def a_trace(*zones: str, name: str = "prices.csv", step_seconds: float = 300.0) -> PriceTrace:
    prices = np.array([[100.0 * step + place for place, _ in enumerate(zones)] for step in range(4)])
    return PriceTrace(name, datetime(2016, 1, 1, tzinfo=UTC), step_seconds, zones, prices)


NYISO = a_trace("NYC", "LONGIL", "WEST", "NORTH")


def test_price_sources_take_the_zone_of_the_points_name() -> None:
    sources, notes = price_sources([NYISO, a_trace("HB_HUBAVG", name="ercot.csv")], FILE)
    assert {point: source.zone for point, source in sources.items()} == {point: point for point in sources}
    assert sources["HB_HUBAVG"].trace.name == "ercot.csv"
    assert notes == []


def test_price_sources_missing_points_take_zones_in_turn_and_are_noted() -> None:
    sources, notes = price_sources([a_trace("NORTH", "OTHER")], FILE)
    taken = {point: source.zone for point, source in sources.items()}
    assert taken == {"NYC": "NORTH", "WEST": "OTHER", "NORTH": "NORTH", "HB_HUBAVG": "NORTH", "LONGIL": "OTHER"}
    assert len(notes) == 4
    assert notes[1] == "settlement point WEST: no such zone in prices.csv; takes the prices of OTHER"


def test_price_sources_refuse_no_traces() -> None:
    with pytest.raises(ValueError, match="at least one trace"):
        price_sources([], FILE)


def test_price_signals_fan_out_to_every_fleet_and_point() -> None:
    sources, _ = price_sources([NYISO], FILE)
    signals = price_signals(sources, FILE, START, 0, 300, "demo")
    assert [(signal.fleet_id, signal.settlement_point) for signal in signals] == [
        ("nyiso", "NYC"),
        ("nyiso", "WEST"),
        ("nyiso", "NORTH"),
        ("ercot", "HB_HUBAVG"),
        ("campus", "LONGIL"),
    ]
    first = signals[0]
    assert first.signal_id == "rt/NYC/2026-03-01T12:00:00Z"
    assert first.published_at == first.starts_at == START
    assert first.ends_at == START + timedelta(minutes=5)
    assert (first.market, first.price_usd_per_mwh, first.run_id) == ("real-time", 0.0, "demo")
    assert signals[1].price_usd_per_mwh == 2.0


def test_price_signals_ticks_of_any_length_give_each_interval_once() -> None:
    sources, _ = price_sources([NYISO, a_trace("HB_HUBAVG", step_seconds=900.0)], FILE)
    whole = price_signals(sources, FILE, START, 0, 3600)
    ticked = [
        signal for tick in range(360) for signal in price_signals(sources, FILE, START, tick * 10.0, (tick + 1) * 10.0)
    ]
    assert ticked == whole
    assert len(whole) == 4 * 12 + 4
    assert len({GRID_SIGNALS.natural_key_of(signal) for signal in whole}) == len(whole)
    assert [signal.starts_at for signal in whole] == sorted(signal.starts_at for signal in whole)


def test_price_signals_missing_price_gives_no_signal() -> None:
    trace = a_trace("NYC")
    trace.prices_usd_per_mwh[1, 0] = np.nan
    sources, _ = price_sources([trace], FILE)
    starts = {signal.starts_at for signal in price_signals(sources, FILE, START, 0, 900)}
    assert starts == {START, START + timedelta(minutes=10)}


def test_price_signals_go_round_at_the_traces_end() -> None:
    sources, _ = price_sources([NYISO], FILE)
    prices = [
        signal.price_usd_per_mwh
        for signal in price_signals(sources, FILE, START, 900, 1500)
        if signal.settlement_point == "NYC"
    ]
    assert prices == [300.0, 0.0]


def test_price_signals_day_ahead_is_named_so() -> None:
    sources, _ = price_sources([NYISO], FILE)
    signal = price_signals(sources, FILE, START, 0, 300, market="day-ahead")[0]
    assert (signal.market, signal.signal_id[:3]) == ("day-ahead", "da/")


def test_event_signal_is_announced_before_it_starts() -> None:
    event = event_signal(FILE.fleets[0], START, run_id="demo")
    assert event.published_at == START
    assert event.starts_at == START + timedelta(minutes=10)
    assert event.ends_at == event.starts_at + timedelta(hours=1)
    assert (event.reduction_ratio, event.target_power_watts, event.site_ids) == (0.25, None, [])
    assert event.signal_id == "event/nyiso/2026-03-01T12:10:00Z"


def test_signals_are_read_back_from_the_bus_as_they_were() -> None:
    sources, _ = price_sources([NYISO], FILE)
    for signal in [*price_signals(sources, FILE, START, 0, 300), event_signal(FILE.fleets[1], START)]:
        assert GRID_SIGNALS.decode(signal.fleet_id.encode(), signal.to_json(), "live") == signal


def test_event_signal_refuses_what_is_no_event() -> None:
    with pytest.raises(ValueError, match="notice_seconds"):
        event_signal(FILE.fleets[0], START, notice_seconds=-1)
    with pytest.raises(ValidationError, match="ends_at must be after starts_at"):
        event_signal(FILE.fleets[0], START, duration_seconds=0)
    with pytest.raises(ValidationError, match="reduction_ratio"):
        event_signal(FILE.fleets[0], START, reduction_ratio=2)
