"""A real PostgreSQL for the tests of the database, with a fresh database for each test."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra.embedded.postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """Give the address of a server that lasts for the session; its own database is nobody's to write to."""
    with EmbeddedPostgres() as postgres:
        yield postgres.dsn


@pytest.fixture
def database_dsn(postgres_dsn: str) -> Iterator[str]:
    """Give the address of a database that is this test's alone, empty."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(postgres_dsn, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
