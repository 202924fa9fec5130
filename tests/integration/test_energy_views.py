"""The views on energy, cost, settlement and quality, against figures worked out here from the same few rows."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from infra.database import connect
from schemas.envelope import LIVE_RUN, Record
from streams.record.rows import DeadLetter
from streams.record.writer import write_batch
from tests.examples import FLEET, NOON, OTHER_SITE, SITE, after
from tests.history_cases import frame, load, power, price, requests, rows_by_table, site_rows

pytestmark = pytest.mark.database

Connection = psycopg.AsyncConnection[Any]
KWH = 10 / 3600 / 1000  # of a watt over a window


@pytest.fixture
async def connection(any_migrated_dsn: str) -> AsyncIterator[Connection]:
    opened = await connect(any_migrated_dsn, "gridtide-test")
    async with opened:
        await write_batch(opened, site_rows())
        yield opened


async def put(connection: Connection, records: Iterable[Record | DeadLetter], run_id: str = LIVE_RUN) -> None:
    await write_batch(connection, rows_by_table(records, run_id))


async def ask(connection: Connection, query: str) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(query.encode())).fetchall()


async def energy(connection: Connection) -> dict[str, Any]:
    (row,) = await ask(connection, "SELECT * FROM energy_hourly")
    return row


async def test_energy_hourly_is_what_the_windows_add_up_to(connection: Connection) -> None:
    await put(connection, [power(SITE, 0, 800e3, 1000e3), power(SITE, 10, 880e3, 1100e3), load(SITE, 0, 3000.0)])
    await put(connection, [price(0, 300, 40.0)])
    row = await energy(connection)
    assert (row["fleet_id"], row["site_id"], row["hour_start"]) == (FLEET, SITE, NOON)
    assert row["it_energy_kwh"] == pytest.approx(1680e3 * KWH)
    assert row["meter_energy_kwh"] == pytest.approx(2100e3 * KWH)
    assert (row["covered_ratio"], row["metered_ratio"]) == (pytest.approx(20 / 3600), 1)
    assert (row["mean_power_kw"], row["peak_power_kw"]) == (pytest.approx(1050), pytest.approx(1100))
    assert row["cost_usd"] == pytest.approx(2100e3 * KWH * 0.040)
    assert row["unpriced_energy_kwh"] == 0
    assert row["tokens_served"] == pytest.approx(30_000)
    assert row["meter_energy_joules_per_token"] == pytest.approx(2100e3 * 10 / 30_000)


async def test_energy_hourly_takes_it_power_times_pue_where_the_meter_is_silent(connection: Connection) -> None:
    # Silent for five minutes; and in another five for one window of two, where power counts as even.
    await put(connection, [power(SITE, 0, 900e3, None), power(SITE, 300, 800e3, 1050e3), power(SITE, 310, 820e3, None)])
    row = await energy(connection)
    assert row["meter_energy_kwh"] == pytest.approx((900e3 * 1.25 + 1050e3 + 1620e3 / 2 * 1.25) * KWH)
    assert row["metered_ratio"] == pytest.approx(1 / 3)
    assert row["peak_power_kw"] == pytest.approx(1125)


async def test_energy_hourly_without_a_power_usage_effectiveness_says_nothing_of_the_meter(
    connection: Connection,
) -> None:
    await put(connection, [power("unknown-1", 0, 800e3, None), power("unknown-1", 300, 800e3, 1000e3)])
    await put(connection, [price(0, 300, 40.0)])
    row = await energy(connection)
    assert row["it_energy_kwh"] == pytest.approx(1600e3 * KWH)
    assert (row["meter_energy_kwh"], row["cost_usd"], row["tokens_served"]) == (None, None, None)


async def test_energy_hourly_prices_each_part_and_says_what_has_no_price(connection: Connection) -> None:
    await put(connection, [power(SITE, seconds, 800e3, 1000e3) for seconds in (0, 300, 600)])
    # A negative price for two of five minutes, none for the others; one that was mended after the fact; day-ahead.
    await put(connection, [price(300, 420, -20.0), price(600, 900, 50.0), price(600, 900, 70.0, published=7200)])
    await put(connection, [price(0, 3600, 99.0, market="day-ahead"), price(0, 300, 99.0, settlement_point="HB_WEST")])
    row = await energy(connection)
    assert row["cost_usd"] == pytest.approx(1000e3 * KWH * (0.070 - 0.020 * 2 / 5))
    assert row["unpriced_energy_kwh"] == pytest.approx(1000e3 * KWH * (1 + 3 / 5))


async def test_energy_hourly_without_any_price_has_no_cost(connection: Connection) -> None:
    await put(connection, [power(SITE, 0, 800e3, 1000e3)])
    row = await energy(connection)
    assert (row["cost_usd"], row["unpriced_energy_kwh"]) == (None, pytest.approx(1000e3 * KWH))


async def test_energy_hourly_prices_where_the_site_was_priced_then(connection: Connection) -> None:
    await write_batch(connection, site_rows(known_from=after(300), settlement_point="HB_SOUTH"))
    await put(connection, [power(SITE, 0, 800e3, 1000e3), power(SITE, 300, 800e3, 1000e3)])
    await put(connection, [price(0, 600, 10.0), price(0, 600, 20.0, settlement_point="HB_SOUTH")])
    assert (await energy(connection))["cost_usd"] == pytest.approx(1000e3 * KWH * 0.030)


async def test_cost_per_million_tokens_of_sites_and_of_their_fleet(connection: Connection) -> None:
    await put(connection, [power(SITE, 0, 800e3, 1000e3), power(OTHER_SITE, 0, 400e3, 600e3)])
    await put(connection, [load(SITE, 0, 4000.0), load(OTHER_SITE, 0, 1000.0)])
    await put(connection, [price(0, 300, 40.0), price(0, 300, 80.0, settlement_point="HB_WEST")])
    rows = await ask(connection, "SELECT * FROM cost_per_million_tokens ORDER BY site_id")
    assert [row["site_id"] for row in rows] == [SITE, OTHER_SITE]
    assert [row["usd_per_million_tokens"] for row in rows] == pytest.approx(
        [1000e3 * KWH * 0.040 / 0.040, 600e3 * KWH * 0.080 / 0.010]
    )
    assert [row["kwh_per_million_tokens"] for row in rows] == pytest.approx([1000e3 * KWH / 0.040, 600e3 * KWH / 0.010])
    (fleet,) = await ask(connection, "SELECT * FROM fleet_cost_per_million_tokens")
    assert (fleet["fleet_id"], fleet["hour_start"]) == (FLEET, NOON)
    assert fleet["tokens_served"] == pytest.approx(50_000)
    assert fleet["usd_per_million_tokens"] == pytest.approx(KWH * (1000e3 * 0.040 + 600e3 * 0.080) / 0.050)
    assert fleet["kwh_per_million_tokens"] == pytest.approx(1600e3 * KWH / 0.050)


async def test_cost_per_million_tokens_is_not_known_where_a_price_is_missing(connection: Connection) -> None:
    await put(connection, [power(SITE, 0, 800e3, 1000e3), power(SITE, 300, 800e3, 1000e3), load(SITE, 0, 4000.0)])
    await put(connection, [power(OTHER_SITE, 0, 400e3, 600e3), price(0, 300, 40.0)])
    rows = await ask(connection, "SELECT * FROM cost_per_million_tokens ORDER BY site_id")
    assert [row["cost_usd"] for row in rows] == [pytest.approx(1000e3 * KWH * 0.040), None]
    assert [row["usd_per_million_tokens"] for row in rows] == [None, None]
    (fleet,) = await ask(connection, "SELECT * FROM fleet_cost_per_million_tokens")
    assert fleet["usd_per_million_tokens"] is None
    assert fleet["unpriced_energy_kwh"] == pytest.approx(1600e3 * KWH)


async def settled(connection: Connection, site_id: str = SITE) -> list[dict[str, Any]]:
    return await ask(connection, f"SELECT * FROM settlement WHERE site_id = '{site_id}' ORDER BY starts_at")


async def test_settlement_splits_windows_by_overlap_and_names_what_is_missing(connection: Connection) -> None:
    await put(connection, [power(SITE, 290, 800e3, 1000e3), power(SITE, 297, 800e3, None, window_seconds=10)])
    await put(connection, [price(0, 300, 40.0), price(300, 600, -20.0), price(600, 900, 30.0)])
    first, second, third = await settled(connection)
    # Three of the silent window's ten seconds lie before the edge.
    assert first["energy_kwh"] == pytest.approx((1000e3 + 800e3 * 1.25 * 0.3) * KWH)
    assert first["covered_ratio"] == pytest.approx(13 / 300)
    assert first["metered_ratio"] == pytest.approx(10 / 13)
    assert second["energy_kwh"] == pytest.approx(800e3 * 1.25 * 0.7 * KWH)
    assert (second["covered_ratio"], second["metered_ratio"]) == (pytest.approx(7 / 300), 0)
    assert second["cost_usd_now"] == pytest.approx(-0.020 * second["energy_kwh"])
    assert (third["starts_at"], third["ends_at"], third["settlement_point"]) == (after(600), after(900), "HB_NORTH")
    assert [third[name] for name in ("energy_kwh", "covered_ratio", "metered_ratio", "cost_usd_now")] == [
        None,
        0,
        None,
        None,
    ]
    assert await settled(connection, OTHER_SITE) == []  # nobody said a price at its settlement point


async def test_settlement_has_the_price_as_known_then_and_as_known_now(connection: Connection) -> None:
    await put(connection, [power(SITE, seconds, 800e3, 1000e3) for seconds in (0, 300)])
    await put(
        connection, [price(0, 300, 40.0), price(0, 300, 50.0, published=200), price(300, 600, 30.0, published=660)]
    )
    await put(connection, [price(0, 300, -10.0, published=4000, signal_id="another-name")])
    first, second = await settled(connection)
    prices = [f"price_usd_per_mwh_{when}" for when in ("first_known", "at_end", "now")]
    costs = [f"cost_usd_{when}" for when in ("first_known", "at_end", "now")]
    assert [first[name] for name in prices] == [40.0, 50.0, -10.0]
    assert [first[name] for name in costs] == pytest.approx([1000e3 * KWH * usd for usd in (0.040, 0.050, -0.010)])
    assert first["cost_change_usd"] == pytest.approx(-1000e3 * KWH * 0.060)
    assert first["published_at"] == after(4000)
    assert [second[name] for name in prices] == [30.0, None, 30.0]
    assert [second["cost_usd_at_end"], second["cost_change_usd"]] == [None, None]


async def test_settlement_and_energy_hourly_come_to_the_same(connection: Connection) -> None:
    await put(connection, [power(SITE, s, 800e3, None if s < 900 else 1000e3 + s) for s in range(0, 3600, 10)])
    await put(connection, [price(s, s + 900, 20.0 + s / 100) for s in range(0, 3600, 900)])
    rows, hour = await settled(connection), await energy(connection)
    assert sum(row["energy_kwh"] for row in rows) == pytest.approx(hour["meter_energy_kwh"])
    assert sum(row["cost_usd_now"] for row in rows) == pytest.approx(hour["cost_usd"])
    assert {row["covered_ratio"] for row in rows} == {1.0}


async def test_price_spans_never_overlap(connection: Connection) -> None:
    # A quarter of an hour, of which the middle is said again later; then an older price for the last part.
    await put(connection, [price(0, 900, 40.0), price(300, 600, 60.0, published=900)])
    await put(connection, [price(600, 900, 99.0, published=-500)])
    rows = await ask(connection, "SELECT * FROM price_spans ORDER BY holds_from")
    assert [(row["holds_from"], row["holds_until"], row["price_usd_per_mwh"]) for row in rows] == [
        (NOON, after(300), 40.0),
        (after(300), after(600), 60.0),
        (after(600), after(900), 40.0),
    ]


async def test_prices_has_one_row_an_interval(connection: Connection) -> None:
    await put(connection, [price(0, 300, 40.0), price(0, 300, 50.0, published=600), price(300, 600, 60.0)])
    first, second = await ask(connection, "SELECT * FROM prices ORDER BY starts_at")
    assert (first["price_usd_per_mwh_now"], first["publications"], first["published_at"]) == (50.0, 2, after(600))
    assert (first["price_usd_per_mwh_at_end"], first["first_published_at"]) == (40.0, after(-30))
    assert (second["price_usd_per_mwh_now"], second["publications"]) == (60.0, 1)


async def quality(connection: Connection, site_id: str, topic: str, hour: datetime = NOON) -> dict[str, Any]:
    rows = await ask(connection, f"SELECT * FROM stream_quality WHERE hour_start = '{hour.isoformat()}'")
    (row,) = [row for row in rows if (row["site_id"], row["topic"]) == (site_id, topic)]
    return row


async def test_stream_quality_counts_what_is_there_and_what_is_not(connection: Connection) -> None:
    # Six hundred seconds of windows, one of them missing.
    await put(connection, [power(SITE, s, 1.0, None) for s in range(0, 600, 10) if s != 200])
    await put(connection, [power(SITE, 600, 1.0, None, reporting_ratio=0.25, masked_values=10, duplicates=3)])
    row = await quality(connection, SITE, "gpu.telemetry.v1")
    assert (row["windows"], row["windows_expected"], row["covered_ratio"]) == (60, 360, pytest.approx(1 / 6))
    assert row["reporting_ratio_min"] == 0.25
    assert row["reporting_ratio_mean"] == pytest.approx((59 * 0.75 + 0.25) / 60)
    assert row["masked_ratio"] == pytest.approx((59 * 4 + 10) / (60 * 30 * 5))
    assert (row["records"], row["duplicates"]) == (60, 3)
    silent = await quality(connection, OTHER_SITE, "gpu.telemetry.v1")
    assert (silent["windows"], silent["windows_expected"], silent["covered_ratio"]) == (0, 360, 0)
    unheard = await quality(connection, SITE, "inference.requests.v1")
    assert (unheard["windows"], unheard["windows_expected"]) == (0, None)


async def test_stream_quality_counts_records_that_are_in_no_window(connection: Connection) -> None:
    windows = range(0, 1200, 10)
    await put(connection, [power(SITE, s, 1.0, None) for s in windows])
    await put(connection, [frame(SITE, s + 0.5) for s in windows])
    await put(connection, [load(SITE, s, 1.0, covered_ratio=0.5) for s in windows])
    # Each ends on its window's edge; the first one belongs to the hour before.
    await put(connection, [requests(SITE, s) for s in (0, *(s + 10 for s in windows))])
    for topic in ("gpu.telemetry.v1", "inference.requests.v1"):
        assert (await quality(connection, SITE, topic))["late_records"] == 0
    # Two frames for windows long closed, one of a site of which no window is known; and two not judged yet.
    await put(connection, [frame(SITE, 15.5), frame(SITE, 16.5), frame(OTHER_SITE, 15.5), frame(SITE, 1190.7)])
    await put(connection, [requests(SITE, 15), requests(SITE, 1205)])
    assert (await quality(connection, SITE, "gpu.telemetry.v1"))["late_records"] == 2
    assert (await quality(connection, OTHER_SITE, "gpu.telemetry.v1"))["late_records"] == 1
    about_load = await quality(connection, SITE, "inference.requests.v1")
    assert (about_load["late_records"], about_load["covered_ratio"]) == (1, pytest.approx(1200 * 0.5 / 3600))


async def test_stream_quality_does_not_know_what_was_late_once_the_records_are_gone(connection: Connection) -> None:
    await put(connection, [power(SITE, s, 1.0, None) for s in (*range(0, 1200, 10), *range(3600, 4200, 10))])
    assert (await quality(connection, SITE, "gpu.telemetry.v1"))["late_records"] is None
    await put(connection, [frame(SITE, s + 0.5) for s in range(3600, 4200, 10)])
    assert (await quality(connection, SITE, "gpu.telemetry.v1"))["late_records"] is None
    # Of the silent site fewer than none can't be missing, but the hour lies before the oldest record.
    assert (await quality(connection, OTHER_SITE, "gpu.telemetry.v1"))["late_records"] is None
    assert (await quality(connection, SITE, "gpu.telemetry.v1", after(3600)))["late_records"] == 0


async def test_stream_quality_expects_nothing_of_a_site_before_it_is_known(connection: Connection) -> None:
    await connection.execute("DELETE FROM sites WHERE site_id = %s", [OTHER_SITE])
    await write_batch(connection, {"sites": site_rows(known_from=after(3700))["sites"][1:]})
    await put(connection, [power(SITE, s, 1.0, None) for s in (0, 3600)])
    rows = await ask(connection, "SELECT DISTINCT hour_start, site_id FROM stream_quality ORDER BY 1, 2")
    assert [(row["hour_start"], row["site_id"]) for row in rows] == [
        (NOON, SITE),
        (after(3600), SITE),
        (after(3600), OTHER_SITE),
    ]


async def test_dead_letters_hourly_counts_by_topic_and_reason(connection: Connection) -> None:
    letters = [
        DeadLetter(after(offset * 1000), "gpu.telemetry.v1", 0, offset, LIVE_RUN, reason, "", None, None)
        for offset, reason in enumerate(["not_json", "not_json", "wrong_key", "not_json", "not_json"])
    ]
    await put(connection, letters)
    rows = await ask(connection, "SELECT * FROM dead_letters_hourly ORDER BY hour_start, reason")
    assert [(row["hour_start"], row["reason"], row["messages"]) for row in rows] == [
        (NOON, "not_json", 3),
        (NOON, "wrong_key", 1),
        (after(3600), "not_json", 1),
    ]


async def test_views_show_the_run_asked_for_and_no_other(connection: Connection) -> None:
    watts = {LIVE_RUN: 1000e3, "demo": 2000e3}
    await write_batch(connection, site_rows(run_id="demo"))
    for run_id, power_watts in watts.items():
        records = [power(SITE, s, 800e3, power_watts) for s in range(0, 600, 10)] + [frame(SITE, 1.0)]
        records += [price(0, 300, power_watts / 1e4), load(SITE, 0, power_watts), requests(SITE, 5)]
        await put(connection, records, run_id)
    letter = DeadLetter(NOON, "gpu.telemetry.v1", 0, 1, "demo", "not_json", "", None, None)
    await put(connection, [letter])
    for run_id, power_watts in watts.items():
        await connection.execute("SELECT set_config('gridtide.run_id', %s, false)", [run_id])
        row = await energy(connection)
        assert row["meter_energy_kwh"] == pytest.approx(60 * power_watts * KWH)
        assert row["cost_usd"] == pytest.approx(30 * power_watts * KWH * power_watts / 1e7)
        assert row["tokens_served"] == pytest.approx(10 * power_watts)
        (interval,) = await settled(connection)
        assert interval["energy_kwh"] == pytest.approx(30 * power_watts * KWH)
        assert (await quality(connection, SITE, "gpu.telemetry.v1"))["records"] == 60
        for view in _VIEWS:
            expected = set() if (run_id, view) == (LIVE_RUN, "dead_letters_hourly") else {run_id}
            assert {each["run_id"] for each in await ask(connection, f"SELECT run_id FROM {view}")} == expected


_VIEWS = (
    "prices",
    "price_spans",
    "energy_hourly",
    "cost_per_million_tokens",
    "fleet_cost_per_million_tokens",
    "settlement",
    "stream_quality",
    "dead_letters_hourly",
)
