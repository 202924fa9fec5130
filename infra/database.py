"""Connecting to the history, and telling a database that is away from one that was set up wrongly.

The tables live in the schema `gridtide`; every connection made here finds them without naming it. Who writes in a
loop waits and tries again on both; who starts or is asked by a person ends on `DatabaseConfigurationError` with its
line. Any other psycopg error is a bug, and is let through as it is. No message made here holds the password.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

SCHEMA: Final = "gridtide"

# A dead peer is noticed within about a minute, a dead address within the time-out: never by waiting for ever.
_DEFAULTS: Final = {
    "application_name": "gridtide",
    "connect_timeout": 5,  # seconds, for each address that the host's name stands for
    "keepalives": 1,
    "keepalives_idle": 30,  # seconds
    "keepalives_interval": 10,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
# Set after connecting: poolers refuse what they don't know among the start-up options. Extensions live in public.
_SESSION: Final = f"SELECT set_config('search_path', '{SCHEMA}, public', false), set_config('timezone', 'UTC', false)"

# SQLSTATEs by their beginnings. What waiting can mend: connection lost, resources short (53100: disk full), server
# stopping or starting, cancelled by a time-out, lock or serialisation lost, I/O error, a standby before its promotion.
_UNAVAILABLE: Final = ("08", "53", "57", "40", "55P03", "55006", "58", "25006", "25P03")
# What only a person can: login, database, schema or tables missing, permission.
_MISCONFIGURED: Final = ("28", "3D", "3F", "42501", "42P01", "42703", "42704", "42883")
# libpq gives no SQLSTATE for a connection refused, only words; those not known here may pass.
_REFUSALS: Final = re.compile(
    r"authentication failed|no password supplied|does not exist|no pg_hba\.conf entry|permission denied"
    r"|not permitted to log in|not currently accepting connections|SSL was required|certificate|root\.crt"
    r"|authentication method|invalid .*(option|value)",
    re.IGNORECASE,
)


class DatabaseUnavailableError(RuntimeError):
    """The database can't take this now; the same may work later. The message is one line."""


class DatabaseConfigurationError(RuntimeError):
    """The database will never take this as things are set up; the message is one line that says what to mend."""


async def connect(dsn: str, application_name: str = "gridtide") -> psycopg.AsyncConnection[Any]:
    """Open a connection for an event loop: autocommit (transactions are blocks), no prepared statements, UTC.

    Raises:
        DatabaseUnavailableError: nobody answers there, or not now.
        DatabaseConfigurationError: the address is malformed, or we are not let in.
    """
    parameters = _parameters(dsn, application_name)
    with _refusals_told_apart(parameters):
        connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True, prepare_threshold=None)
        try:
            await connection.execute(_SESSION)
        except BaseException:
            await connection.close()
            raise
    return connection


def connect_blocking(dsn: str, application_name: str = "gridtide") -> psycopg.Connection[Any]:
    """Open a connection like that of `connect`, for commands that have no event loop.

    Raises:
        DatabaseUnavailableError: nobody answers there, or not now.
        DatabaseConfigurationError: the address is malformed, or we are not let in.
    """
    parameters = _parameters(dsn, application_name)
    with _refusals_told_apart(parameters):
        connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
        try:
            connection.execute(_SESSION)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def faults_told_apart() -> Iterator[None]:
    """Turn what psycopg raises inside into the two errors of this module, where it is one of them.

    Raises:
        DatabaseUnavailableError: try again later, on a new connection.
        DatabaseConfigurationError: never by itself.
    """
    try:
        yield
    except psycopg.Error as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise fault from error


def fault_of(error: psycopg.Error) -> DatabaseUnavailableError | DatabaseConfigurationError | None:
    """Return what an error of an open connection means; None where it is neither of the two, but a bug of ours."""
    state = error.sqlstate or ""
    line = _one_line(error.diag.message_primary or str(error))
    if state.startswith(_MISCONFIGURED):
        return DatabaseConfigurationError(f"the database refuses: {line} (SQLSTATE {state})")
    if state.startswith(_UNAVAILABLE):
        return DatabaseUnavailableError(f"the database can't take this now: {line} (SQLSTATE {state})")
    if not state and isinstance(error, psycopg.OperationalError):
        return DatabaseUnavailableError(f"the connection to the database is lost: {line}")
    return None


def place_of(dsn: str) -> str:
    """Return which database on which host `dsn` names, without user and password: fit for a log.

    Raises:
        DatabaseConfigurationError: the address is malformed.
    """
    return _place(_parameters(dsn, "gridtide"))


def _parameters(dsn: str, application_name: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        given = None  # psycopg's message quotes the address, password and all
    if given is None or _is_spilt(given):
        raise DatabaseConfigurationError(
            "the database's address can't be read: it must be like postgresql://user:password@host:5432/name,"
            " special characters in the password written as %40 and the like"
        )
    return {**_DEFAULTS, "application_name": application_name, **given}


def _is_spilt(given: dict[str, Any]) -> bool:
    # A password with a bare `@` or `/` in it spills into host, port and name, and from there into messages.
    ports = str(given.get("port", "")).split(",")
    named = f"{given.get('host', '')}{given.get('dbname', '')}"
    return "@" in named or not all(port.isdecimal() or not port for port in ports)


def _place(parameters: dict[str, Any]) -> str:
    name, host, port = (parameters.get(key) or "" for key in ("dbname", "host", "port"))
    return f"database {name or 'by default'} on {host or 'the default host'}{f':{port}' if port else ''}"


@contextmanager
def _refusals_told_apart(parameters: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        said, password = str(error), str(parameters.get("password") or "")
        line = _one_line(said.replace(password, "***") if password else said)
        # `from None`: the original may quote what we were given.
        if _REFUSALS.search(said) or isinstance(fault_of(error), DatabaseConfigurationError):
            raise DatabaseConfigurationError(f"{_place(parameters)} does not let us in: {line}") from None
        raise DatabaseUnavailableError(f"{_place(parameters)} does not answer: {line}") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
