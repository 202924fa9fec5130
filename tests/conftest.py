"""The servers that tests run against, each started once a process, each skipped by name where it can't run."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.embedded.broker import EmbeddedBroker
from infra.embedded.postgres import EmbeddedPostgres
from infra.kafka.local import LocalKafka
from infra.migrate import migrate
from tests.stream.containers import container_broker, container_timescale, timescale_image, why_no_containers

# How long an example takes is the machine's affair: others may be busy on it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The address of a server that lasts for the session; its own database is nobody's to write to."""
    with EmbeddedPostgres() as postgres:
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            # It need not outlive a power cut, and to wait for the disk takes longer than most tests.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield postgres.dsn


@pytest.fixture
def database_dsn(postgres_dsn: str) -> Iterator[str]:
    """The address of a database that is this test's alone, empty."""
    with _database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def _migrated(postgres_dsn: str) -> Iterator[str]:
    """The name of a database with all migrations, to copy: that takes a third of the time of applying them."""
    with _database(postgres_dsn) as dsn:
        migrate(dsn)
        yield str(conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def migrated_dsn(postgres_dsn: str, _migrated: str) -> Iterator[str]:
    """The address of a database that is this test's alone, with all migrations and no rows."""
    with _database(postgres_dsn, template=_migrated) as dsn:
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


@pytest.fixture
def any_migrated_dsn(request: pytest.FixtureRequest, any_postgres_dsn: str) -> Iterator[str]:
    """As `migrated_dsn`, on each server that the history must work on."""
    if _parameters(request.node)["any_postgres_dsn"] == "embedded":
        yield request.getfixturevalue("migrated_dsn")
        return
    # TimescaleDB's workers are connected to every database that has it, and one in use can't be copied.
    with _database(any_postgres_dsn) as dsn:
        migrate(dsn)
        yield dsn


@contextmanager
def _database(server_dsn: str, template: str = "template0") -> Iterator[str]:
    """A database with the extension that the server has, if it has it.

    Not a copy of template1: TimescaleDB's workers are connected to it where it has the extension.
    """
    name = f"test_{uuid4().hex}"
    names = (sql.Identifier(name), sql.Identifier(template))
    dsn = make_conninfo(server_dsn, dbname=name)
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'").rowcount:
            with psycopg.connect(dsn, autocommit=True) as fresh:
                fresh.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        yield dsn
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """The address of the broker that `gridtide demo` runs on."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[str]:
    """The address of an Apache Kafka."""
    if missing := LocalKafka.missing():
        pytest.skip(f"Apache Kafka: {missing}")
    with LocalKafka() as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture(scope="session")
def container_kafka() -> Iterator[str]:
    """The address of an Apache Kafka in a container."""
    if missing := why_no_containers():
        pytest.skip(f"testcontainers: {missing}")
    with container_broker() as servers:
        yield servers


@pytest.fixture(scope="session", params=["embedded", "apache-kafka", "container"])
def broker(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which broker, and its address. One suite, several brokers."""
    name = str(request.param)
    # Fixtures of their own, so that none is stopped and started again where tests come in another order.
    server = {"embedded": "embedded_broker", "apache-kafka": "apache_kafka", "container": "container_kafka"}[name]
    return name, request.getfixturevalue(server)


def pytest_configure(config: pytest.Config) -> None:
    """Settings of whoever runs the tests must not reach them, nor that they run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Children would inherit it, and some tests end theirs as Ctrl-C does.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("GRIDTIDE_") and not name.startswith("GRIDTIDE_TEST_")]:
        del os.environ[name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the processes that `make test` runs tests in, one gets all tests of a server that there should be one of."""
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str | None:
    fixtures = set(getattr(item, "fixturenames", ()))
    parameters = _parameters(item)
    if "kafka" in fixtures or parameters.get("broker") == "apache-kafka":
        return "apache-kafka"
    for server in ("timescale", "container"):  # roles are the whole server's, and tests set their passwords
        if server in (parameters.get("broker"), parameters.get("any_postgres_dsn")):
            return server
    return "undisturbed" if "undisturbed" in fixtures else None


def _parameters(item: pytest.Item) -> dict[str, object]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
