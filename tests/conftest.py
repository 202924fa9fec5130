"""The servers that tests run against, each started once a session, each skipped by name where it can't run."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra.embedded.broker import EmbeddedBroker
from infra.embedded.postgres import EmbeddedPostgres
from infra.kafka.local import LocalKafka
from tests.stream.containers import container_broker, container_timescale, timescale_image, why_no_containers


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The address of a server that lasts for the session; its own database is nobody's to write to."""
    with EmbeddedPostgres() as postgres:
        yield postgres.dsn


@pytest.fixture
def database_dsn(postgres_dsn: str) -> Iterator[str]:
    """The address of a database that is this test's alone, empty."""
    with _database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="session", params=["embedded", "timescale", "container"])
def any_postgres_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of each server that the history must work on; new databases have TimescaleDB where it has it.

    `timescale` is whatever server GRIDTIDE_TEST_TIMESCALE_DSN names, of either edition, where databases can be made.
    """
    if request.param == "embedded":
        yield request.getfixturevalue("postgres_dsn")
    elif request.param == "timescale":
        dsn = os.environ.get("GRIDTIDE_TEST_TIMESCALE_DSN")
        if not dsn:
            pytest.skip("TimescaleDB: GRIDTIDE_TEST_TIMESCALE_DSN is not set")
        yield dsn
    else:
        missing = why_no_containers(timescale_image())
        if missing:
            pytest.skip(f"testcontainers: {missing}")
        with container_timescale() as dsn:
            yield dsn


@pytest.fixture
def any_database_dsn(any_postgres_dsn: str) -> Iterator[str]:
    """The address of a database that is this test's alone, empty, on each server that the history must work on."""
    with _database(any_postgres_dsn) as dsn:
        yield dsn


@contextmanager
def _database(server_dsn: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(server_dsn, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session", params=["embedded", "apache-kafka", "container"])
def broker(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Which broker, and its address. One suite, several brokers."""
    name = str(request.param)
    if name == "embedded":
        with EmbeddedBroker() as embedded:
            yield name, embedded.bootstrap_servers
    elif name == "apache-kafka":
        missing = LocalKafka.missing()
        if missing:
            pytest.skip(f"Apache Kafka: {missing}")
        with LocalKafka() as kafka:
            yield name, kafka.bootstrap_servers
    else:
        missing = why_no_containers()
        if missing:
            pytest.skip(f"testcontainers: {missing}")
        with container_broker() as servers:
            yield name, servers


def pytest_configure(config: pytest.Config) -> None:
    """Settings of whoever runs the tests must not reach them, nor that they run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Children would inherit it, and some tests end theirs as Ctrl-C does.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("GRIDTIDE_") and not name.startswith("GRIDTIDE_TEST_")]:
        del os.environ[name]
