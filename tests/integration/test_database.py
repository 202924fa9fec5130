"""Being let in by a real PostgreSQL, or not: the two kinds of trouble told apart, on one line, without the password."""

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.database import DatabaseConfigurationError, DatabaseUnavailableError, connect, connect_blocking
from infra.migrate import migrate

pytestmark = pytest.mark.database


async def test_connect_finds_the_schema_in_utc_and_says_who_it_is(database_dsn: str) -> None:
    async with await connect(database_dsn, "gridtide-record") as connection:
        found = await connection.execute(
            "SELECT current_setting('search_path'), current_setting('timezone'), current_setting('application_name')"
        )
        assert await found.fetchone() == ("gridtide, public", "UTC", "gridtide-record")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"password": "hush"}, "password authentication failed"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
        ({"sslmode": "require"}, "server does not support SSL, but SSL was required"),
    ],
    ids=["password", "database", "tls"],
)
async def test_connect_refused_for_good_is_a_configuration_fault(
    database_dsn: str, changed: dict[str, str], said: str
) -> None:
    dsn = make_conninfo(database_dsn, passfile="/dev/null", **changed)
    for attempt in (lambda: connect(dsn), lambda: _blocking(dsn)):
        with pytest.raises(DatabaseConfigurationError, match=said) as caught:
            await attempt()
        _is_one_line_without(str(conninfo_to_dict(dsn)["password"]), caught.value)


@pytest.mark.parametrize(
    "changed", [{"port": "1"}, {"host": "nowhere.invalid"}], ids=["nobody listens", "no such host"]
)
async def test_connect_to_nobody_is_worth_another_try(database_dsn: str, changed: dict[str, str]) -> None:
    dsn = make_conninfo(database_dsn, **changed)
    for attempt in (lambda: connect(dsn), lambda: _blocking(dsn)):
        with pytest.raises(DatabaseUnavailableError, match="does not answer") as caught:
            await attempt()
        _is_one_line_without(str(conninfo_to_dict(dsn)["password"]), caught.value)


def test_connect_to_a_full_server_is_worth_another_try(database_dsn: str) -> None:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest_full LOGIN PASSWORD 'guest' CONNECTION LIMIT 0")
        try:
            with pytest.raises(DatabaseUnavailableError, match="too many connections"):
                connect_blocking(make_conninfo(database_dsn, user="guest_full", password="guest"))
        finally:
            connection.execute("DROP ROLE guest_full")


def test_migrate_without_permission_is_a_configuration_fault(database_dsn: str) -> None:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest_poor LOGIN PASSWORD 'guest'")
        try:
            with pytest.raises(DatabaseConfigurationError, match=r"permission denied for database .*SQLSTATE 42501"):
                migrate(make_conninfo(database_dsn, user="guest_poor", password="guest"))
        finally:
            connection.execute("DROP ROLE guest_poor")


async def _blocking(dsn: str) -> None:
    connect_blocking(dsn).close()


def _is_one_line_without(password: str, error: Exception) -> None:
    assert password not in str(error)
    assert "\n" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__
