"""Who may do what: the recorder adds rows and reads none, the analyst reads all and changes nothing."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from typer.testing import CliRunner

from infra import migrate as migrate_module
from infra.database import DatabaseConfigurationError, connect
from infra.embedded.postgres import EmbeddedPostgres
from infra.migrate import MigrationError, available_migrations, migrate, migration, status
from infra.roles import ANALYST, RECORDER, let_in
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from streams import cli
from streams.record.rows import Row, rows_of
from streams.record.sites import described
from streams.record.tables import TABLES
from streams.record.writer import write_batch, write_descriptions
from tests.examples import EXAMPLES

pytestmark = pytest.mark.database

TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
ROLES = ("gridtide_owner", RECORDER, ANALYST)


@pytest.fixture
def server_dsn(kept_folder: Path) -> Iterator[str]:
    """The address of a server of this test's own: roles are the whole server's, and others have made them on theirs."""
    with EmbeddedPostgres(kept_folder) as postgres:
        yield postgres.dsn


def login(dsn: str, role: str) -> str:
    """The address by which a role logs in."""
    password = uuid4().hex
    let_in(dsn, {role: SecretStr(password)})
    return make_conninfo(dsn, user=role, password=password)


def execute(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    """Runs statements, each its own transaction; returns what the last one found."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def rights_of(dsn: str, role: str) -> dict[str, set[str]]:
    """What a role may do with each relation of the schema, by whatever way."""
    found = execute(
        dsn,
        "SELECT relname, granted FROM pg_class, unnest(ARRAY['" + "', '".join(TABLE_RIGHTS) + "']) AS granted"
        " WHERE relnamespace = 'gridtide'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')"
        f" AND has_table_privilege('{role}', pg_class.oid, granted)",
    )
    rights: dict[str, set[str]] = {}
    for relation, right in found:
        rights.setdefault(relation, set()).add(right)
    return rights


def relations(dsn: str) -> set[str]:
    """All tables and views of the schema."""
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'gridtide'::regnamespace AND relkind IN ('r', 'v', 'm')"
    return {name for (name,) in execute(dsn, query)}


def batch() -> Mapping[str, list[Row]]:
    """Rows for every table that a topic fills."""
    tables: dict[str, list[Row]] = {}
    for records in EXAMPLES.values():
        for record in records:
            for name, row in rows_of(record):
                tables.setdefault(name, []).append(row)
    return tables


async def test_recorder_writes_all_that_it_has_to_with_the_rights_that_it_has(migrated_dsn: str) -> None:
    recorder_dsn = login(migrated_dsn, RECORDER)
    assert all(each.applied_at for each in status(recorder_dsn)), "the check before the start"
    rows = batch()
    async with await connect(recorder_dsn) as connection:
        assert await write_batch(connection, rows) == {table: len(found) for table, found in rows.items()}
        assert await write_batch(connection, rows) == dict.fromkeys(rows, 0)
        sites = described(load_fleet_file(DEMO_FLEET_FILE), datetime(2026, 11, 1, tzinfo=UTC), "live")
        new = await write_descriptions(connection, sites)
        assert new == {table: len(found) for table, found in sites.items()}
        assert await write_descriptions(connection, sites) == dict.fromkeys(new, 0)


def test_recorder_may_do_nothing_else(migrated_dsn: str) -> None:
    expected = {table.name: {"INSERT"} for table in TABLES}
    for read in ("sites", "service_classes"):
        expected[read] = {"SELECT", "INSERT"}
    expected["migrations"] = {"SELECT"}
    assert rights_of(migrated_dsn, RECORDER) == expected
    recorder_dsn = login(migrated_dsn, RECORDER)
    for statement in (
        "SELECT FROM gridtide.gpu_telemetry",
        "SELECT FROM gridtide.site_spans",
        "DELETE FROM gridtide.command_acks",
        "CREATE TABLE gridtide.mine ()",
        "ALTER TABLE gridtide.sites ADD COLUMN mine text",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            execute(recorder_dsn, statement)


def test_analyst_reads_all_and_changes_nothing(migrated_dsn: str) -> None:
    everything = relations(migrated_dsn)
    assert rights_of(migrated_dsn, ANALYST) == {name: {"SELECT"} for name in everything}
    analyst_dsn = login(migrated_dsn, ANALYST)
    for name in everything:
        execute(analyst_dsn, f"SELECT * FROM gridtide.{name} LIMIT 1")
    assert execute(analyst_dsn, "SELECT gridtide.quantile_seconds(gridtide.latency_bounds_seconds()::bigint[], 0.5)")
    assert execute(analyst_dsn, "SHOW statement_timeout") == [("1min",)]
    with pytest.raises(errors.ReadOnlySqlTransaction):
        execute(analyst_dsn, "CREATE TEMPORARY TABLE mine ()")
    for statement in ("DELETE FROM gridtide.command_acks", "CREATE TABLE gridtide.mine ()"):
        with pytest.raises(errors.InsufficientPrivilege):
            execute(analyst_dsn, "SET default_transaction_read_only = off", statement)


def test_owner_may_change_every_row(migrated_dsn: str) -> None:
    rights = rights_of(migrated_dsn, "gridtide_owner")
    assert set(rights) == relations(migrated_dsn)
    assert all(may == {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"} for may in rights.values())


def test_roles_have_what_a_later_migration_adds(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = available_migrations()
    number = len(known) + 1
    later = migration(
        f"{number:04}_later.sql",
        b"CREATE TABLE gridtide.later (place integer);"
        b"CREATE VIEW gridtide.later_places AS SELECT place FROM gridtide.later;"
        b"CREATE FUNCTION gridtide.later_answer() RETURNS integer LANGUAGE sql RETURN 42;"
        b"REVOKE EXECUTE ON FUNCTION gridtide.later_answer() FROM PUBLIC;",
    )
    monkeypatch.setattr(migrate_module, "available_migrations", lambda: [*known, later])
    assert migrate(migrated_dsn) == [later.name]
    added = {"later", "later_places"}
    rights = rights_of(migrated_dsn, RECORDER)
    assert not added & set(rights), "one can insert through a simple view: nobody gets that unasked"
    analyst_dsn = login(migrated_dsn, ANALYST)
    assert execute(analyst_dsn, "SELECT gridtide.later_answer(), count(*) FROM gridtide.later_places") == [(42, 0)]
    assert "DELETE" in rights_of(migrated_dsn, "gridtide_owner")["later"]


def test_no_function_runs_with_the_rights_of_its_owner(migrated_dsn: str) -> None:
    # Everybody may execute functions, as PostgreSQL has it: harmless as long as they lend nobody's rights.
    query = "SELECT proname FROM pg_proc WHERE pronamespace = 'gridtide'::regnamespace AND prosecdef"
    assert execute(migrated_dsn, query) == []


def test_databases_of_one_server_that_migrate_at_once_share_the_roles(server_dsn: str) -> None:
    names = [f"history_{number}" for number in range(4)]
    execute(server_dsn, *(f"CREATE DATABASE {name}" for name in names))
    databases = [make_conninfo(server_dsn, dbname=name) for name in names]
    everything = [one.name for one in available_migrations()]
    with ThreadPoolExecutor(len(databases)) as pool:
        assert list(pool.map(migrate, databases)) == [everything] * len(databases)
        list(pool.map(let_in, databases, [{RECORDER: SecretStr("theirs")}] * len(databases)))
    for dsn in databases:
        assert "INSERT" in rights_of(dsn, RECORDER)["gpu_telemetry"]
        assert execute(make_conninfo(dsn, user=RECORDER, password="theirs"), "SELECT 1") == [(1,)]


def test_who_may_not_create_roles_is_told_what_to_do(server_dsn: str) -> None:
    execute(server_dsn, "CREATE ROLE migrator LOGIN PASSWORD 'm'", "CREATE DATABASE history OWNER migrator")
    dsn = make_conninfo(server_dsn, dbname="history", user="migrator", password="m")
    with pytest.raises(MigrationError) as caught:
        migrate(dsn)
    assert str(caught.value) == (
        "0010_roles.sql: migrator may not create the role gridtide_owner: let it (ALTER ROLE migrator CREATEROLE),"
        " or have an administrator make it first (CREATE ROLE gridtide_owner) (SQLSTATE 42501)"
    )
    # The second way: the administrator makes all three.
    execute(server_dsn, *(f"CREATE ROLE {role}" for role in ROLES))
    assert "0010_roles.sql" in migrate(dsn)
    assert rights_of(dsn, ANALYST)["gpu_telemetry"] == {"SELECT"}
    with pytest.raises(DatabaseConfigurationError, match=r"^migrator may not set the password of gridtide_recorder: "):
        let_in(dsn, {RECORDER: SecretStr("r")})


def test_who_may_create_roles_need_not_be_superuser(server_dsn: str) -> None:
    execute(server_dsn, "CREATE ROLE migrator LOGIN CREATEROLE PASSWORD 'm'", "CREATE DATABASE history OWNER migrator")
    dsn = make_conninfo(server_dsn, dbname="history", user="migrator", password="m")
    assert migrate(dsn) == [one.name for one in available_migrations()]
    for role in (RECORDER, ANALYST):
        assert execute(login(dsn, role), "SELECT current_user") == [(role,)]


@pytest.mark.parametrize("first", ["s3cret", "µ ' \\ \" %s $1 \U0001f50b"], ids=["plain", "odd"])
def test_migrate_sets_passwords_that_stand_in_no_log(first: str, kept_folder: Path) -> None:
    said = ""
    with EmbeddedPostgres(kept_folder) as postgres:
        log = Path(execute(postgres.dsn, "SHOW data_directory")[0][0]).parent / "postgres.log"
        execute(postgres.dsn, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
        for password in (first, first, "another-s3cret"):
            environment = {"GRIDTIDE_DATABASE_DSN": postgres.dsn, "GRIDTIDE_RECORDER_PASSWORD": password}
            result = CliRunner(env=environment).invoke(cli.app, ["migrate"])
            assert result.exit_code == 0, result.output
            assert "gridtide_recorder may log in" in result.stderr
            assert ANALYST not in result.stderr, "it was given no password"
            said += result.output
            recorder_dsn = make_conninfo(postgres.dsn, user=RECORDER, password=password)
            assert execute(recorder_dsn, "SELECT current_user") == [(RECORDER,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            execute(make_conninfo(postgres.dsn, user=RECORDER, password=first), "SELECT 1")
        said += log.read_text()
    assert said.count('ALTER ROLE "gridtide_recorder" LOGIN PASSWORD \'SCRAM-SHA-256$') == 3
    assert first not in said
    assert "another-s3cret" not in said


def test_a_role_that_was_dropped_is_named(migrated_dsn: str) -> None:
    with pytest.raises(DatabaseConfigurationError, match='role "gridtide_nobody" does not exist'):
        let_in(migrated_dsn, {"gridtide_nobody": SecretStr("x")})
