"""Migrations: the numbered SQL files of infra/sql, each applied once, in order, forward only.

Changes are additive (new tables, new columns with a default), so that a program works on a database that a newer
one has migrated; such a database is left as it is.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, LiteralString

import psycopg

from infra.database import connect_blocking, faults_told_apart

_FILE_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LOCK: Final = 7_161_438_210_093  # any number that no other program takes on this database

_BOOKKEEPING: Final[LiteralString] = """
CREATE TABLE gridtide.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE gridtide.migrations IS 'Migrations applied to this schema, by gridtide itself.';
COMMENT ON COLUMN gridtide.migrations.number IS 'number of the file, from 1, without gaps';
COMMENT ON COLUMN gridtide.migrations.name IS 'name of the file';
COMMENT ON COLUMN gridtide.migrations.sha256 IS 'SHA-256 of the file as it was applied, hexadecimal';
COMMENT ON COLUMN gridtide.migrations.applied_at IS 'when it was applied, by the clock of the server, UTC';
"""


class MigrationError(RuntimeError):
    """The migrations can't be applied; the message is one line that names the file."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file."""

    number: int
    name: str
    sha256: str
    sql: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One migration that a database has had; `applied_at` is aware UTC."""

    number: int
    name: str
    sha256: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """How a migration stands: applied when (aware UTC, None: not yet), and whether this program has it."""

    name: str
    applied_at: datetime | None
    known: bool


def migration(name: str, sql: bytes) -> Migration:
    """Return the migration that a file holds.

    Raises:
        MigrationError: its name is not like 0001_power_and_load.sql, or it is not UTF-8.
    """
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        raise MigrationError(f"{name} is not a migration's name: like 0001_power_and_load.sql")
    sql = sql.replace(b"\r\n", b"\n")  # a checkout on Windows is not an edit
    try:
        return Migration(int(match[1]), name, hashlib.sha256(sql).hexdigest(), sql.decode())
    except UnicodeDecodeError:
        raise MigrationError(f"{name} is not UTF-8") from None


def pending(available: Iterable[Migration], applied: Iterable[Applied]) -> list[Migration]:
    """Return what is yet to be applied, in order. Applied ones that are newer than all available are left alone.

    Raises:
        MigrationError: numbers are missing or taken twice, or an applied file was edited or renamed.
    """
    files_in_order = sorted(available, key=lambda one: (one.number, one.name))
    done = sorted(applied, key=lambda one: one.number)
    _without_gaps(files_in_order, "the program")
    _without_gaps(done, "the database")
    for file, old in zip(files_in_order, done, strict=False):
        if file.name != old.name:
            raise MigrationError(f"{file.name}: applied to this database as {old.name}; migrations are never renamed")
        if file.sha256 != old.sha256:
            raise MigrationError(f"{file.name}: edited after it was applied; write a new migration instead")
    return files_in_order[len(done) :]


def _without_gaps(numbered: Sequence[Migration | Applied], where: str) -> None:
    for expected, one in enumerate(numbered, start=1):
        if one.number < expected:
            raise MigrationError(f"{one.name}: {where} has number {one.number:04} twice")
        if one.number > expected:
            raise MigrationError(f"{one.name}: {where} has no migration {expected:04} before it")


def available_migrations() -> list[Migration]:
    """Return the migrations that this program comes with, in order.

    Raises:
        MigrationError: a file has a wrong name or is not UTF-8.
    """
    folder = files("infra").joinpath("sql")
    return sorted(
        (migration(file.name, file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".sql")),
        key=lambda one: one.number,
    )


def migrate(dsn: str) -> list[str]:
    """Bring a database up to date and return the names of what was applied, in order. Harmless twice and at once.

    Each file is applied in its own transaction, with its place in the books: after a failure, or a kill at any
    moment, those before it are in whole and it is not at all.

    Raises:
        MigrationError: see `pending`; or the database's encoding is not UTF8; or a file's SQL fails.
        DatabaseUnavailableError, DatabaseConfigurationError: see infra.database.
    """
    available = available_migrations()
    with connect_blocking(dsn, "gridtide-migrate") as connection, faults_told_apart():
        if not pending(available, _applied(connection)):
            return []  # without the lock, and without the right to change anything
        with _alone(connection):
            to_do = pending(available, _applied(connection))  # another worker may have been faster
            if to_do:
                _prepare(connection)
            for one in to_do:
                _apply(connection, one)
    return [one.name for one in to_do]


def status(dsn: str) -> list[MigrationStatus]:
    """Return how every migration stands, in order, changing nothing.

    Raises:
        MigrationError: see `pending`.
        DatabaseUnavailableError, DatabaseConfigurationError: see infra.database.
    """
    available = available_migrations()
    with connect_blocking(dsn, "gridtide-migrate") as connection, faults_told_apart():
        done = _applied(connection)
    to_do = pending(available, done)
    return [
        *(MigrationStatus(one.name, one.applied_at, known=one.number <= len(available)) for one in done),
        *(MigrationStatus(one.name, None, known=True) for one in to_do),
    ]


def _applied(connection: psycopg.Connection[Any]) -> list[Applied]:
    (table,) = connection.execute("SELECT to_regclass('gridtide.migrations')").fetchone() or (None,)
    if table is None:
        return []
    found = connection.execute("SELECT number, name, sha256, applied_at FROM gridtide.migrations ORDER BY number")
    return [Applied(*row) for row in found]


@contextmanager
def _alone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    # Held by the session, across the transactions of several files; a killed worker's session gives it back.
    connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    yield
    connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def _prepare(connection: psycopg.Connection[Any]) -> None:
    (encoding,) = connection.execute("SHOW server_encoding").fetchone() or ("",)
    if encoding != "UTF8":
        raise MigrationError(f"the database's encoding is {encoding}: names on the bus need one made with UTF8")
    with connection.transaction():
        # Asked first: IF NOT EXISTS needs the right to create even where there is nothing to create.
        (schema,) = connection.execute("SELECT to_regnamespace('gridtide')").fetchone() or (None,)
        if schema is None:
            connection.execute("CREATE SCHEMA gridtide")
        (table,) = connection.execute("SELECT to_regclass('gridtide.migrations')").fetchone() or (None,)
        if table is None:
            connection.execute(_BOOKKEEPING)


def _apply(connection: psycopg.Connection[Any], one: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(one.sql.encode())
            connection.execute(
                "INSERT INTO gridtide.migrations (number, name, sha256) VALUES (%s, %s, %s)",
                [one.number, one.name, one.sha256],
            )
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error)
        raise MigrationError(f"{one.name}: {' '.join(said.split())} (SQLSTATE {error.sqlstate})") from error
