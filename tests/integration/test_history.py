"""The history on real servers: migrated once whoever asks, each natural key in once, every record whole."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from infra import migrate as migrate_module
from infra.database import DatabaseConfigurationError, DatabaseUnavailableError, connect
from infra.migrate import MigrationError, available_migrations, migrate, migration, status
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.catalog import BY_NAME as TOPIC_BY_NAME
from schemas.envelope import Record
from schemas.latency import BUCKETS, LATENCY_BOUNDS_SECONDS, quantile_seconds
from streams.record.rows import DeadLetter, Row, row_of, rows_of
from streams.record.sites import described
from streams.record.tables import BY_NAME, SITE_CLASS_LOAD, TABLES, Table
from streams.record.writer import write, write_batch, write_descriptions
from tests.examples import ACK, EXAMPLES, FRAME, PLAN, REQUESTS

pytestmark = pytest.mark.database

Connection = psycopg.AsyncConnection[Any]
LETTER = DeadLetter(
    arrived_at=datetime(2026, 11, 1, tzinfo=UTC),
    topic="gpu.telemetry.v1",
    partition_id=3,
    message_offset=2**40,
    run_id="live",
    reason="not_json",
    detail="EOF while parsing a value",
    message_key=None,
    message=b"\x00\xff{",
)


@pytest.fixture
async def connection(any_migrated_dsn: str) -> AsyncIterator[Connection]:
    opened = await connect(any_migrated_dsn, "gridtide-test")
    async with opened:
        yield opened


async def fetch(connection: Connection, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode(), arguments)).fetchall()


async def all_rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    found = await connection.execute(sql.SQL("SELECT {} FROM {}").format(columns, sql.Identifier(table.name)))
    return [dict(zip(table.columns, row, strict=True)) for row in await found.fetchall()]


def acks(*sequences: int) -> list[Row]:
    return [row_of(ACK.model_copy(update={"sequence": sequence}))[1] for sequence in sequences]


def by_table(records: Sequence[Record | DeadLetter]) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = {}
    for record in records:
        for name, row in rows_of(record):
            tables.setdefault(name, []).append(row)
    return tables


def test_migrate_twice_is_a_no_op(any_database_dsn: str) -> None:
    names = [one.name for one in available_migrations()]
    assert [(one.name, one.applied_at) for one in status(any_database_dsn)] == [(name, None) for name in names]
    assert migrate(any_database_dsn) == names
    before = status(any_database_dsn)
    assert migrate(any_database_dsn) == []
    assert status(any_database_dsn) == before
    assert [one.name for one in before if one.applied_at is not None and one.known] == names


def test_migrate_by_four_at_once_applies_once(any_database_dsn: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [any_database_dsn] * 4))
    assert sorted(applied, key=len) == [[], [], [], [one.name for one in available_migrations()]]


def test_migrate_refuses_an_edited_file(any_migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = available_migrations()
    edited = migration(first.name, first.sql.encode() + b"-- edited\n")
    monkeypatch.setattr(migrate_module, "available_migrations", lambda: [edited, *others])
    for ask in (migrate, status):
        with pytest.raises(MigrationError, match=rf"^{first.name}: edited after it was applied"):
            ask(any_migrated_dsn)


def test_migrate_undoes_a_file_that_fails_and_keeps_those_before(
    any_database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = migration("0001_a.sql", b"CREATE TABLE a ();"), migration("0002_b.sql", b"CREATE TABLE b (); OOPS;")
    monkeypatch.setattr(migrate_module, "available_migrations", lambda: [good, bad])
    with pytest.raises(MigrationError, match=r'^0002_b\.sql: syntax error at or near "OOPS" \(SQLSTATE 42601\)$'):
        migrate(any_database_dsn)
    with psycopg.connect(any_database_dsn) as plain:
        assert plain.execute(
            "SELECT to_regclass('gridtide.a') IS NULL, to_regclass('gridtide.b') IS NULL"
        ).fetchone() == (
            False,
            True,
        )
    assert [one.applied_at is not None for one in status(any_database_dsn)] == [True, False]


def test_migrate_up_to_date_needs_no_right_to_change_anything(any_migrated_dsn: str) -> None:
    read_only = f"{any_migrated_dsn} options='-c default_transaction_read_only=on'"
    assert migrate(read_only) == []


def test_migrate_refuses_a_database_that_cannot_hold_every_name(any_postgres_dsn: str, any_database_dsn: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(any_database_dsn)["dbname"]
    with psycopg.connect(any_postgres_dsn, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(str(name))))
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'").format(
                sql.Identifier(str(name))
            )
        )
    with pytest.raises(MigrationError, match="encoding is LATIN1"):
        migrate(any_database_dsn)


async def test_columns_are_those_of_rows(connection: Connection) -> None:
    found = await fetch(
        connection,
        "SELECT table_name, column_name, udt_name FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'gridtide' AND table_type = 'BASE TABLE' ORDER BY table_name, ordinal_position",
    )
    types: dict[str, dict[str, str]] = {}
    for table, column, udt in found:
        types.setdefault(table, {})[column] = f"{udt[1:]}[]" if udt.startswith("_") else udt
    del types["migrations"]
    assert types == {table.name: table.types for table in TABLES}
    assert all(tuple(types[table.name]) == table.columns for table in TABLES)


async def test_primary_keys_are_the_natural_keys(connection: Connection) -> None:
    found = await fetch(
        connection,
        "SELECT table_name, array_agg(column_name::text ORDER BY usage.ordinal_position)"
        " FROM information_schema.key_column_usage AS usage"
        " JOIN information_schema.table_constraints USING (constraint_schema, constraint_name, table_name)"
        " WHERE constraint_schema = 'gridtide' AND constraint_type = 'PRIMARY KEY' GROUP BY table_name",
    )
    keys = {name: tuple(columns) for name, columns in found}
    assert keys.pop("migrations") == ("number",)
    assert keys == {table.name: table.key for table in TABLES}
    for topic, records in EXAMPLES.items():
        assert {keys[row_of(record)[0]] for record in records} == {TOPIC_BY_NAME[topic].natural_key}


async def test_every_table_and_column_has_a_comment(connection: Connection) -> None:
    bare = await fetch(
        connection,
        "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum >= 0"
        " WHERE relnamespace = 'gridtide'::regnamespace AND relkind IN ('r', 'v', 'm') AND NOT attisdropped"
        " AND (obj_description(pg_class.oid, 'pg_class') IS NULL"
        "   OR coalesce(col_description(pg_class.oid, attnum), '') = '')",
    )
    assert bare == []


async def test_every_record_lands_and_reads_back_equal(connection: Connection) -> None:
    for topic, records in EXAMPLES.items():
        batch = by_table(records)
        assert await write_batch(connection, batch) == {table: len(rows) for table, rows in batch.items()}
        adapter = TOPIC_BY_NAME[topic].adapter
        whole = set(batch) - {SITE_CLASS_LOAD.name}
        rows = [row for table in whole for row in await all_rows(connection, BY_NAME[table])]
        parts = await all_rows(connection, SITE_CLASS_LOAD)
        for row in rows:
            if row.get("kind") == "load":
                row["classes"] = [each for each in parts if each["window_start"] == row["window_start"]]
        read = [adapter.validate_json(json.dumps(row, default=in_rfc_3339)) for row in rows]
        assert sorted(read, key=Record.to_json) == sorted(records, key=Record.to_json)


def in_rfc_3339(value: datetime) -> str:
    return value.isoformat()


async def test_a_dead_letter_lands_and_reads_back_equal(connection: Connection) -> None:
    assert await write_batch(connection, by_table([LETTER])) == {"dead_letters": 1}
    (row,) = await all_rows(connection, BY_NAME["dead_letters"])
    assert DeadLetter(**row) == LETTER


async def test_extremes_land_and_read_back_equal(connection: Connection) -> None:
    frame = FRAME.model_copy(
        update={
            "sequence": 2**62,
            "observed_at": datetime.max.replace(tzinfo=UTC),
            "source": "é␀\U0001f50b" * 40,
            "power_watts": [1.7976931348623157e308, 5e-324, -0.0],
            "energy_joules": [None, None, None],
            "utilization_ratio": [],
            "temperature_celsius": [1, 2, 3],
        }
    )
    assert await write(connection, *_one(frame)) == 1
    (row,) = await all_rows(connection, BY_NAME["gpu_telemetry"])
    assert row == vars(frame)


async def test_quantile_seconds_is_what_the_contracts_say(connection: Connection) -> None:
    rng = random.Random(4)
    for _ in range(50):
        counts = [rng.choice([0, 0, 1, 7, 300]) for _ in range(BUCKETS)]
        ratio = rng.choice([0.0, 0.01, 0.5, 0.99, 1.0])
        ((found,),) = await fetch(connection, "SELECT quantile_seconds(%s::bigint[], %s)", counts, ratio)
        assert found == pytest.approx(quantile_seconds(counts, ratio), rel=1e-9)
    ((bounds,),) = await fetch(connection, "SELECT latency_bounds_seconds()")
    assert tuple(bounds) == pytest.approx(LATENCY_BOUNDS_SECONDS, rel=1e-12)


async def test_descriptions_are_written_when_they_are_new_or_changed(connection: Connection) -> None:
    fleet_file = load_fleet_file(DEMO_FLEET_FILE)
    sites = len(list(fleet_file.sites()))
    first, later, last = (datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2, 3))
    new = await write_descriptions(connection, described(fleet_file, first, "live"))
    assert new == {"sites": sites, "service_classes": len(fleet_file.service_classes)}
    assert await write_descriptions(connection, described(fleet_file, later, "live")) == dict.fromkeys(new, 0)
    rows = described(fleet_file, last, "live")
    place = BY_NAME["sites"].columns.index("pue")
    rows["sites"][0] = (*rows["sites"][0][:place], 2.5, *rows["sites"][0][place + 1 :])
    assert await write_descriptions(connection, rows) == {"sites": 1, "service_classes": 0}
    spans = await fetch(
        connection,
        "SELECT pue, holds_from = '-infinity', holds_until = 'infinity' FROM site_spans WHERE site_id = %s ORDER BY 2",
        rows["sites"][0][1],
    )
    assert spans == [(2.5, False, True), (next(iter(fleet_file.sites()))[1].pue, True, False)]
    # A site that is taken out of the file ends there, once, and begins anew should it come back.
    site_id, gone_at, back_at = rows["sites"][0][1], *(datetime(2026, 11, day, tzinfo=UTC) for day in (4, 5))
    left = {"sites": described(fleet_file, gone_at, "live")["sites"][1:], "service_classes": []}
    assert (await write_descriptions(connection, left))["sites"] == 1
    assert (await write_descriptions(connection, left))["sites"] == 0
    ended = "SELECT holds_until FROM site_spans WHERE site_id = %s ORDER BY holds_from DESC LIMIT 1"
    assert await fetch(connection, ended, site_id) == [(gone_at,)]
    assert (await write_descriptions(connection, described(fleet_file, back_at, "live")))["sites"] == 1
    # Another run is another's.
    assert (await write_descriptions(connection, described(fleet_file, later, "other")))["sites"] == sites


def _one(record: Record) -> tuple[str, list[Row]]:
    name, row = row_of(record)
    return name, [row]


async def test_the_same_batch_twice_inserts_nothing_more(connection: Connection) -> None:
    batch = by_table([record for records in EXAMPLES.values() for record in records] + [LETTER])
    first = await write_batch(connection, batch)
    assert first == {table: len(rows) for table, rows in batch.items()}
    before = {table: await all_rows(connection, BY_NAME[table]) for table in batch}
    assert await write_batch(connection, batch) == dict.fromkeys(batch, 0)
    assert {table: await all_rows(connection, BY_NAME[table]) for table in batch} == before


@pytest.mark.parametrize("repeating", [False, True], ids=["as if new", "as expected"])
async def test_a_mixed_batch_inserts_only_what_is_new(connection: Connection, repeating: bool) -> None:
    assert await write(connection, "command_acks", acks(1, 2, 3), repeating=repeating) == 3
    assert await write(connection, "command_acks", acks(2, 3, 4, 5), repeating=repeating) == 2
    assert {row["sequence"] for row in await all_rows(connection, BY_NAME["command_acks"])} == {1, 2, 3, 4, 5}


async def test_duplicates_within_a_batch_go_in_once_and_the_first_holds(connection: Connection) -> None:
    other = [row_of(ACK.model_copy(update={"sequence": 1, "detail": "said later"}))[1]]
    assert await write(connection, "command_acks", acks(1, 2, 1) + other) == 2
    details = {row["detail"] for row in await all_rows(connection, BY_NAME["command_acks"])}
    assert details == {ACK.detail}


async def test_one_transaction_may_write_a_table_more_than_once(connection: Connection) -> None:
    await write(connection, "command_acks", acks(1))
    async with connection.transaction():
        assert await write(connection, "command_acks", acks(1, 2)) == 1
        assert await write(connection, "command_acks", acks(2, 3)) == 1
    assert len(await all_rows(connection, BY_NAME["command_acks"])) == 3


async def test_an_empty_batch_writes_nothing(connection: Connection) -> None:
    assert await write_batch(connection, {}) == {}
    assert await write_batch(connection, {"command_acks": []}) == {"command_acks": 0}


async def test_a_batch_that_fails_leaves_nothing_and_the_connection_usable(connection: Connection) -> None:
    broken = (*row_of(PLAN)[1][:-1], "{not json")
    with pytest.raises(psycopg.DataError):
        await write_batch(connection, {"command_acks": acks(1), "fleet_plans": [broken]})
    assert await all_rows(connection, BY_NAME["command_acks"]) == []
    assert await write(connection, "command_acks", acks(1)) == 1


async def test_two_writers_of_the_same_rows_insert_them_once(any_migrated_dsn: str, connection: Connection) -> None:
    async with await connect(any_migrated_dsn) as other:
        written = await asyncio.gather(
            write(connection, "command_acks", acks(*range(500))), write(other, "command_acks", acks(*range(500)))
        )
    assert sum(written) == 500


async def test_a_connection_that_was_cut_is_worth_another_try(any_migrated_dsn: str, connection: Connection) -> None:
    async with await connect(any_migrated_dsn) as other:
        await other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(DatabaseUnavailableError):
            await write(connection, "command_acks", acks(1))
        with pytest.raises(DatabaseUnavailableError):
            await write_batch(connection, by_table([REQUESTS]))
        assert await write(other, "command_acks", acks(1)) == 1


async def test_missing_tables_and_permissions_are_for_a_person_to_mend(any_database_dsn: str) -> None:
    async with await connect(any_database_dsn) as connection:
        with pytest.raises(DatabaseConfigurationError, match='schema "gridtide" does not exist'):
            await write(connection, "command_acks", acks(1))
        migrate(any_database_dsn)
        await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(DatabaseUnavailableError, match="SQLSTATE 25006"):
            await write(connection, "command_acks", acks(1))
