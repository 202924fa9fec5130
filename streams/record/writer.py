"""Rows into the history, each natural key once: COPY where all is new, and a detour over a staging table where not.

Nearly every batch is all new, so it is copied straight into the table. Only after a restart, when the tail of a
topic is read again, some keys are there already: then the copy fails as a whole, is undone to a savepoint, and the
batch goes into a staging table, and from there what is new.
"""

import struct
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.errors import UniqueViolation
from psycopg.pq import Format

from infra.database import SCHEMA, faults_told_apart
from streams.record.rows import Row
from streams.record.sites import otherwise, withdrawn
from streams.record.tables import BY_NAME, SITES, Table

_STAGING: Final = "gridtide_staging"


async def write_batch(
    connection: psycopg.AsyncConnection[Any],
    rows_by_table: Mapping[str, Sequence[Row]],
    repeating: Collection[str] = (),
) -> dict[str, int]:
    """Write rows of several tables in one transaction; return how many of each were new.

    For the tables in `repeating` some keys are expected to be there, and the attempt to do without is left out.

    Raises:
        DatabaseUnavailableError: try again on a new connection. Should it have broken during the commit, the rows may
            be in already: then the second time they are not new.
        DatabaseConfigurationError: nothing was written, nor will it be: tables or permissions are missing.
        KeyError: there is no such table.
    """
    with faults_told_apart():
        async with connection.transaction():
            # In one order for all, so that two workers with the same rows wait for each other and don't deadlock.
            return {
                table: await write(connection, table, rows_by_table[table], repeating=table in repeating)
                for table in sorted(rows_by_table)
            }


async def write_descriptions(
    connection: psycopg.AsyncConnection[Any], rows_by_table: Mapping[str, Sequence[Row]]
) -> dict[str, int]:
    """Write of `streams.record.sites.described` what the history does not say already; return how many of each.

    Raises:
        DatabaseUnavailableError, DatabaseConfigurationError: see `write_batch`.
    """
    changed = {}
    with faults_told_apart():
        for table, rows in rows_by_table.items():
            known = BY_NAME[table]
            key = sql.SQL(", ").join(map(sql.Identifier, known.key[1:]))
            query = "SELECT DISTINCT ON ({key}) {columns} FROM {table} ORDER BY {key}, {since} DESC"
            newest = await connection.execute(
                sql.SQL(query).format(
                    key=key,
                    columns=_columns(known),
                    table=sql.Identifier(SCHEMA, table),
                    since=sql.Identifier(known.key[0]),
                )
            )
            held = await newest.fetchall()
            changed[table] = otherwise(rows, held)
            if known is SITES:
                changed[table] += withdrawn(rows, held)
    return await write_batch(connection, changed)


async def write(
    connection: psycopg.AsyncConnection[Any], table: str, rows: Sequence[Row], *, repeating: bool = False
) -> int:
    """Write rows, made by `row_of`, to one table, and return how many of them were new.

    A row whose key the table has already changes nothing, neither does one whose key stood before it in `rows`.
    All of it, or none, in the transaction that the connection is in, or in its own.

    Raises:
        DatabaseUnavailableError, DatabaseConfigurationError, KeyError: see `write_batch`.
    """
    known = BY_NAME[table]
    if not rows:
        return 0
    with faults_told_apart():
        async with connection.transaction():
            if repeating:
                return await _write_what_is_new(connection, known, rows)
            try:
                async with connection.transaction():
                    await copy_rows(connection, table, rows)
            except UniqueViolation:
                return await _write_what_is_new(connection, known, rows)
            return len(rows)


async def _write_what_is_new(connection: psycopg.AsyncConnection[Any], table: Table, rows: Sequence[Row]) -> int:
    names = {
        "staging": sql.Identifier("pg_temp", _STAGING),
        "table": sql.Identifier(SCHEMA, table.name),
        "columns": _columns(table),
        "typed": sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(type_)) for column, type_ in table.types.items()
        ),
    }
    # From what we know of the table, as who may only insert may not ask it.
    create = "CREATE TEMPORARY TABLE {staging} ({typed}) ON COMMIT DROP"
    insert = "INSERT INTO {table} ({columns}) SELECT {columns} FROM {staging} ON CONFLICT DO NOTHING"
    await connection.execute(sql.SQL(create).format(**names))
    await _copy(connection, names["staging"], table, rows)
    inserted = await connection.execute(sql.SQL(insert).format(**names))
    await connection.execute(sql.SQL("DROP TABLE {staging}").format(**names))  # the transaction may have more to write
    return inserted.rowcount


async def copy_rows(connection: psycopg.AsyncConnection[Any], table: str, rows: Sequence[Row]) -> None:
    """Copy rows, made by `row_of`, into one table, in binary form.

    Raises:
        psycopg.errors.UniqueViolation: a key is there already, or stands twice in `rows`; nothing was written.
        KeyError: there is no such table.
    """
    await _copy(connection, sql.Identifier(SCHEMA, table), BY_NAME[table], rows)


async def _copy(
    connection: psycopg.AsyncConnection[Any], target: sql.Composable, table: Table, rows: Sequence[Row]
) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(target, _columns(table))
    async with connection.cursor() as cursor:
        cursor.adapters.register_dumper(None, ReadingsDumper)
        cursor.adapters.register_dumper(None, JsonTextDumper)
        async with cursor.copy(statement) as copy:
            copy.set_types(list(table.types.values()))
            for row in rows:
                await copy.write_row(row)


def _columns(table: Table) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.columns))


class JsonTextDumper(Dumper):
    """JSON that is text already, as `row_of` makes it, for jsonb."""

    format = Format.BINARY
    oid = psycopg.postgres.types["jsonb"].oid

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()  # the version of the binary form


class ReadingsDumper(Dumper):
    """Lists of readings for float8[]: in one go, where psycopg's own dumper goes value by value."""

    format = Format.BINARY
    oid = psycopg.postgres.types["float8"].array_oid

    def dump(self, obj: Sequence[float | None]) -> bytes:
        if not obj:
            return _EMPTY_ARRAY
        try:
            parts: list[Any] = [_FLOAT8_BYTES] * (2 * len(obj))
            parts[1::2] = obj
            return _array_header(len(obj), has_nulls=False) + _elements(len(obj)).pack(*parts)
        except struct.error:  # null where nothing was read: seldom
            elements = [_NULL_ELEMENT if value is None else _ELEMENT.pack(_FLOAT8_BYTES, value) for value in obj]
            return _array_header(len(obj), has_nulls=True) + b"".join(elements)


_FLOAT8_OID: Final = psycopg.postgres.types["float8"].oid
_FLOAT8_BYTES: Final = 8
_ELEMENT: Final = struct.Struct("!id")  # length in bytes, value
_NULL_ELEMENT: Final = struct.pack("!i", -1)
_EMPTY_ARRAY: Final = struct.pack("!iiI", 0, 0, _FLOAT8_OID)


def _array_header(length: int, *, has_nulls: bool) -> bytes:
    # Dimensions, whether there are nulls, element type; then length and lower bound of the one dimension.
    return struct.pack("!iiIii", 1, has_nulls, _FLOAT8_OID, length, 1)


@lru_cache(maxsize=64)  # fleets have a few sizes of frames; one of the largest holds 256 KB
def _elements(length: int) -> struct.Struct:
    return struct.Struct("!" + "id" * length)
