"""The aggregates: the same names, columns and values on every server, late rows included; policies where they exist."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import sql

from infra.database import connect
from infra.migrate import migrate
from schemas.catalog import GPU_TELEMETRY, SITE_STATE
from schemas.latency import quantile_seconds
from schemas.site import LoadState, PowerState
from streams.record.rows import Row, rows_of
from streams.record.writer import write_batch
from tests.aggregated import FAMILIES, SECONDS_OF, added, as_aggregated, states
from tests.examples import FLEET, POWER

pytestmark = pytest.mark.database

Connection = psycopg.AsyncConnection[Any]

# While aggregate is down the bus keeps telemetry, then while the recorder is down it keeps states.
MOST_LATE = timedelta(seconds=GPU_TELEMETRY.retention_seconds + SITE_STATE.retention_seconds)

KEYS = "bucket_start timestamptz, site_id text, fleet_id text, run_id text, "
CLASS_KEYS = "bucket_start timestamptz, site_id text, service_class text, fleet_id text, run_id text, "
COLUMNS = {
    "site_power": KEYS + "windows int8, seconds float8, it_energy_joules float8, meter_energy_joules float8,"
    " metered_seconds float8, it_power_watts_max float8, meter_power_watts_max float8, meter_power_watts_min float8,"
    " utilization_samples float8, temperature_celsius_max float8, gpu_samples int8, masked_values int8,"
    " gpus_reporting_min int8, reporting_ratio_min float8, records int8, duplicates int8",
    "site_load": KEYS + "windows int8, seconds float8, requests float8, tokens_arrived float8, tokens_served float8,"
    " tokens_queued_max int8, covered_seconds float8, records int8, duplicates int8",
    "site_class_load": CLASS_KEYS + "windows int8, seconds float8, requests float8, prompt_tokens float8,"
    " tokens_arrived float8, tokens_served float8, tokens_queued_max int8, ttft_seconds_counts _int8",
}


@pytest.fixture
async def connection(any_migrated_dsn: str) -> AsyncIterator[Connection]:
    async with await connect(any_migrated_dsn, "gridtide-test") as opened:
        yield opened


async def fetch(connection: Connection, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode(), arguments)).fetchall()


async def aggregates_are_continuous(connection: Connection) -> bool:
    """Only TimescaleDB's community edition has them; the setting is null where the extension is not loaded."""
    ((edition,),) = await fetch(connection, "SELECT current_setting('timescaledb.license', true)")
    ((installed,),) = await fetch(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
    return bool(installed) and edition == "timescale"


async def refresh_as_the_policies_do(connection: Connection) -> None:
    """One refresh of each aggregate over its policy's window; nothing where they are plain views."""
    if not await aggregates_are_continuous(connection):
        return
    for suffix, family in product(SECONDS_OF, FAMILIES):
        ((start, end),) = await fetch(
            connection,
            "SELECT now() - (config->>'start_offset')::interval, now() - (config->>'end_offset')::interval"
            " FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'"
            " AND hypertable_schema = 'gridtide' AND hypertable_name = %s",
            f"{family}_{suffix}",
        )
        await connection.execute(
            "CALL refresh_continuous_aggregate(%s::regclass, %s::timestamptz, %s::timestamptz)",
            [f"gridtide.{family}_{suffix}", start, end],
        )


async def record(connection: Connection, found: Sequence[PowerState | LoadState]) -> None:
    tables: dict[str, list[Row]] = defaultdict(list)
    for state in found:
        for table, row in rows_of(state):
            tables[table].append(row)
    await write_batch(connection, tables)


async def assert_aggregates_say(connection: Connection, found: Sequence[PowerState | LoadState]) -> None:
    for suffix, seconds in SECONDS_OF.items():
        for family, expected in as_aggregated(found, seconds).items():
            cursor = await connection.execute(
                sql.SQL("SELECT * FROM {}").format(sql.Identifier("gridtide", f"{family}_{suffix}"))
            )
            names = [column.name for column in cursor.description or ()]
            keys = 3 if family == "site_class_load" else 2
            rows = await cursor.fetchall()
            assert {row[keys : keys + 2] for row in rows} == {(FLEET, POWER.run_id)}
            assert {row[:keys] for row in rows} == set(expected)
            assert len(rows) == len(expected)
            for row in rows:
                said = dict(zip(names[keys + 2 :], row[keys + 2 :], strict=True))
                due = expected[row[:keys]]
                assert {name: nearly(value) for name, value in due.items()} == said, (family, suffix, row[:keys])


def nearly(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


async def test_aggregates_have_the_same_columns_everywhere(connection: Connection) -> None:
    found = await fetch(
        connection,
        "SELECT table_name, string_agg(column_name || ' ' || udt_name, ', ' ORDER BY ordinal_position)"
        " FROM information_schema.columns WHERE table_schema = 'gridtide' AND table_name ~ '_(1m|5m|1h)$' GROUP BY 1",
    )
    assert dict(found) == {f"{family}_{suffix}": COLUMNS[family] for family, suffix in product(FAMILIES, SECONDS_OF)}


async def test_aggregates_are_the_sums_of_their_windows(connection: Connection) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    found = states(random.Random(1), yesterday, range(100, 700))
    await record(connection, found)
    await assert_aggregates_say(connection, found)  # put together when asked
    await refresh_as_the_policies_do(connection)
    await assert_aggregates_say(connection, found)  # as materialised


async def test_late_rows_are_in_after_the_next_refresh(connection: Connection) -> None:
    rng = random.Random(2)
    as_late_as_can_be = (datetime.now(UTC) - MOST_LATE).replace(minute=0, second=0, microsecond=0)
    found = states(rng, as_late_as_can_be, (*range(20), *range(3000, 3020)))
    await record(connection, found)
    await refresh_as_the_policies_do(connection)
    late = states(rng, as_late_as_can_be, range(20, 400))  # into buckets that are materialised, and between them
    await record(connection, late)
    await refresh_as_the_policies_do(connection)
    await assert_aggregates_say(connection, found + late)


async def test_latency_counts_give_the_quantile_of_all_windows_together(connection: Connection) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    found = states(random.Random(3), yesterday, range(500))
    await record(connection, found)
    await refresh_as_the_policies_do(connection)
    counts = [each.ttft_seconds_counts for state in found if isinstance(state, LoadState) for each in state.classes]
    for suffix in SECONDS_OF:
        ((p99,),) = await fetch(
            connection, f"SELECT quantile_seconds(sum_counts(ttft_seconds_counts), 0.99) FROM site_class_load_{suffix}"
        )
        assert p99 == pytest.approx(quantile_seconds(added(counts), 0.99), rel=1e-9)
    assert await fetch(connection, "SELECT sum_counts(ttft_seconds_counts) FROM site_class_load_1h WHERE false") == [
        (None,)
    ]


async def test_runs_are_kept_apart(connection: Connection) -> None:
    found = states(random.Random(4), datetime.now(UTC) - timedelta(hours=3), range(1))
    await record(connection, found)
    await record(connection, [state.model_copy(update={"run_id": "other"}) for state in found])
    for family, suffix in product(FAMILIES, SECONDS_OF):
        rows = await fetch(connection, f"SELECT run_id, sum(windows)::int8 FROM {family}_{suffix} GROUP BY 1")
        windows = 4 if family == "site_class_load" else 2
        assert sorted(rows) == [("live", windows), ("other", windows)]


async def policies(connection: Connection) -> dict[str, dict[str, Any]]:
    """By policy and table what is set, as the server says."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    ((jobs,),) = await fetch(connection, "SELECT to_regclass('timescaledb_information.jobs')")
    if jobs is not None:
        rows = await fetch(
            connection,
            "SELECT proc_name, hypertable_name, config FROM timescaledb_information.jobs"
            " WHERE hypertable_schema = 'gridtide'",
        )
        for policy, table, config in rows:
            found[policy][table] = config
    return dict(found)


async def test_policies_are_where_the_edition_has_them(connection: Connection) -> None:
    found = await policies(connection)
    if not await aggregates_are_continuous(connection):
        assert found == {}
        return
    names = {suffix: {f"{family}_{suffix}" for family in FAMILIES} for suffix in SECONDS_OF}
    raw = {*FAMILIES, "gpu_telemetry", "inference_requests", "site_heartbeats"}
    assert {policy: set(tables) for policy, tables in found.items()} == {
        "policy_refresh_continuous_aggregate": names["1m"] | names["5m"] | names["1h"],
        "policy_compression": raw | names["1m"] | names["5m"] | {"site_forecasts"},
        "policy_retention": raw,
    }


async def test_policies_do_not_touch_what_may_still_come(connection: Connection) -> None:
    found = await policies(connection)
    if not found:
        pytest.skip("no policies: not TimescaleDB's community edition")
    ((late,),) = await fetch(connection, "SELECT %s::interval", MOST_LATE)
    for aggregate, config in found["policy_refresh_continuous_aggregate"].items():
        (start,) = (await fetch(connection, "SELECT %s::interval", config["start_offset"]))[0]
        ((kept,),) = await fetch(
            connection, "SELECT %s::interval", found["policy_retention"][aggregate.rsplit("_", 1)[0]]["drop_after"]
        )
        assert late < start < kept


async def test_aggregates_outlive_their_windows_and_packed_windows_are_in_once(connection: Connection) -> None:
    if not await aggregates_are_continuous(connection):
        pytest.skip("nothing is packed or deleted: not TimescaleDB's community edition")
    found = states(random.Random(6), datetime.now(UTC) - timedelta(days=30), range(100))
    await record(connection, found)
    await connection.execute("SELECT compress_chunk(chunk) FROM show_chunks('gridtide.site_power') AS chunk")
    await record(connection, found)  # read again, as after a restart
    assert await fetch(connection, "SELECT count(*) FROM site_power") == [(200,)]
    for suffix, family in product(SECONDS_OF, FAMILIES):
        await connection.execute(
            "CALL refresh_continuous_aggregate(%s::regclass, NULL, %s::timestamptz)",
            [f"gridtide.{family}_{suffix}", datetime.now(UTC) - timedelta(days=7)],
        )
    for family in FAMILIES:
        await connection.execute(
            "SELECT drop_chunks(%s::regclass, older_than => INTERVAL '14 days')", [f"gridtide.{family}"]
        )
    assert await fetch(connection, "SELECT count(*) FROM site_power") == [(0,)]
    await refresh_as_the_policies_do(connection)
    await assert_aggregates_say(connection, found)


async def test_aggregates_work_with_the_extension_in_a_schema_of_its_own(
    any_postgres_dsn: str, any_database_dsn: str
) -> None:
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(any_database_dsn)["dbname"]))
    with psycopg.connect(any_postgres_dsn, autocommit=True) as server:
        query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'"
        if server.execute(query).fetchone() == (0,):
            pytest.skip("this server has no TimescaleDB")
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    with psycopg.connect(any_database_dsn, autocommit=True) as fresh:
        fresh.execute("CREATE SCHEMA elsewhere; CREATE EXTENSION timescaledb SCHEMA elsewhere")
    migrate(any_database_dsn)
    found = states(random.Random(5), datetime.now(UTC) - timedelta(hours=3), range(100))
    async with await connect(any_database_dsn) as connection:
        await record(connection, found)
        await assert_aggregates_say(connection, found)
        assert bool(await policies(connection)) == await aggregates_are_continuous(connection)
