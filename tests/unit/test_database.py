"""What an error of the database means, and that no message of ours shows the password."""

import pytest
from psycopg import errors

from infra.database import (
    DatabaseConfigurationError,
    DatabaseUnavailableError,
    connect_blocking,
    fault_of,
    faults_told_apart,
    place_of,
)

PASSWORD = "hush"


@pytest.mark.parametrize(
    "error",
    [
        errors.AdminShutdown,
        errors.CannotConnectNow,
        errors.ConnectionFailure,
        errors.DeadlockDetected,
        errors.DiskFull,
        errors.IdleInTransactionSessionTimeout,
        errors.IoError,
        errors.LockNotAvailable,
        errors.OperationalError,  # without a SQLSTATE: the connection is gone
        errors.QueryCanceled,
        errors.ReadOnlySqlTransaction,
        errors.SerializationFailure,
        errors.TooManyConnections,
    ],
)
def test_what_waiting_may_mend_is_unavailable(error: type[errors.Error]) -> None:
    assert isinstance(fault_of(error("said the server")), DatabaseUnavailableError)


@pytest.mark.parametrize(
    "error",
    [
        errors.InsufficientPrivilege,
        errors.InvalidCatalogName,
        errors.InvalidPassword,
        errors.InvalidSchemaName,
        errors.UndefinedColumn,
        errors.UndefinedTable,
    ],
)
def test_what_only_a_person_can_mend_is_a_configuration_fault(error: type[errors.Error]) -> None:
    assert isinstance(fault_of(error("said the server")), DatabaseConfigurationError)


@pytest.mark.parametrize("error", [errors.NumericValueOutOfRange, errors.SyntaxError, errors.UniqueViolation])
def test_a_bug_stays_what_it_is(error: type[errors.Error]) -> None:
    assert fault_of(error("said the server")) is None
    with pytest.raises(error, match="said the server"), faults_told_apart():
        raise error("said the server")


def test_a_fault_is_one_line_with_the_sqlstate() -> None:
    fault = fault_of(errors.DiskFull("could not extend file:\n\tNo space left on device"))
    assert str(fault) == (
        "the database can't take this now: could not extend file: No space left on device (SQLSTATE 53100)"
    )


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://gridtide:hush@hush@127.0.0.1:1/history",
        "postgresql://gridtide:hush/hush@127.0.0.1:1/history",
        "postgresql://gridtide:1/hush@127.0.0.1:1/history",
        "postgresql://gridtide:%hush@127.0.0.1:1/history",
        "postgresql//gridtide:hush@127.0.0.1:1/history",
        "host=127.0.0.1 port=1 password=hush hush",
        "host=127.0.0.1 port=1 password='hush",
    ],
)
def test_an_address_that_cannot_be_read_is_not_quoted(dsn: str) -> None:
    for ask in (place_of, connect_blocking):
        with pytest.raises(DatabaseConfigurationError, match=r"^the database's address can't be read") as caught:
            ask(dsn)
        assert PASSWORD not in str(caught.value)


def test_place_of_names_no_password() -> None:
    dsn = "postgresql://gridtide:hush@db.example:5433/history?sslmode=require"
    assert place_of(dsn) == "database history on db.example:5433"
    assert place_of("") == "database by default on the default host"
