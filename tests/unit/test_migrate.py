"""Migrations are planned forward only: no gaps, no edits, no renames; a newer database is left alone."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

import infra
from infra.migrate import Applied, Migration, MigrationError, available_migrations, migration, pending

THEN = datetime(2026, 11, 1, tzinfo=UTC)
ONE = migration("0001_one.sql", b"SELECT 1;\n")
TWO = migration("0002_two.sql", b"SELECT 2;\n")
THREE = migration("0003_three.sql", b"SELECT 3;\n")


def applied(*migrations: Migration) -> list[Applied]:
    return [Applied(one.number, one.name, one.sha256, THEN) for one in migrations]


@pytest.mark.parametrize(
    ("done", "expected"),
    [([], [ONE, TWO, THREE]), ([ONE], [TWO, THREE]), ([ONE, TWO, THREE], [])],
    ids=["nothing", "some", "all"],
)
def test_pending_is_what_is_left_in_order(done: list[Migration], expected: list[Migration]) -> None:
    assert pending([THREE, ONE, TWO], applied(*done)) == expected


def test_pending_leaves_a_database_that_is_ahead_alone() -> None:
    assert pending([ONE, TWO], applied(ONE, TWO, THREE)) == []


@pytest.mark.parametrize(
    ("available", "done", "message"),
    [
        ([ONE, THREE], [], "0003_three.sql: the program has no migration 0002 before it"),
        ([TWO], [], "0002_two.sql: the program has no migration 0001 before it"),
        ([ONE, migration("0001_other.sql", b"")], [], "0001_other.sql: the program has number 0001 twice"),
        ([ONE, TWO, THREE], [ONE, THREE], "0003_three.sql: the database has no migration 0002 before it"),
        ([migration("0000_zero.sql", b"")], [], "0000_zero.sql: the program has number 0000 twice"),
    ],
    ids=["gap", "no first", "number twice", "gap in the database", "zero"],
)
def test_pending_refuses_a_gap(available: list[Migration], done: list[Migration], message: str) -> None:
    with pytest.raises(MigrationError) as caught:
        pending(available, applied(*done))
    assert str(caught.value) == message


def test_pending_refuses_an_edited_file() -> None:
    edited = migration("0001_one.sql", b"SELECT 1; -- better\n")
    with pytest.raises(MigrationError, match=r"^0001_one\.sql: edited after it was applied"):
        pending([edited, TWO], applied(ONE))


def test_pending_refuses_a_renamed_file() -> None:
    renamed = migration("0001_uno.sql", b"SELECT 1;\n")
    with pytest.raises(MigrationError, match=r"^0001_uno\.sql: applied to this database as 0001_one\.sql"):
        pending([renamed, TWO], applied(ONE))


def test_migration_takes_line_ends_of_windows_for_no_edit() -> None:
    assert migration("0001_one.sql", b"SELECT 1;\r\n") == ONE


@pytest.mark.parametrize("name", ["1_one.sql", "0001-one.sql", "0001_One.sql", "one.sql", "00001_one.sql"])
def test_migration_refuses_a_wrong_name(name: str) -> None:
    with pytest.raises(MigrationError, match="is not a migration's name"):
        migration(name, b"")


def test_migration_refuses_what_is_not_utf8() -> None:
    with pytest.raises(MigrationError, match=r"0001_one\.sql is not UTF-8"):
        migration("0001_one.sql", b"\xff")


def test_available_migrations_are_the_files_of_infra_sql() -> None:
    names = sorted(path.name for path in (Path(infra.__file__).parent / "sql").glob("*.sql"))
    found = available_migrations()
    assert [one.name for one in found] == names
    assert pending(found, []) == found
