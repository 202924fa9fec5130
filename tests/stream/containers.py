"""Kafka and TimescaleDB through testcontainers, where a Docker engine answers and has, or can pull, the image."""

import gc
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import docker
import psycopg
from testcontainers.core.container import DockerContainer

from infra.embedded.process import free_port
from infra.kafka.local import answers, kafka_version

_START_SECONDS = 90.0
_OPEN_FILES = 16384
KAFKA_IMAGE = f"apache/kafka:{kafka_version()}"
_COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"


@cache
def timescale_image() -> str:
    """The image that docker-compose.yml runs."""
    found = re.search(r"image: (timescale/timescaledb:\S+)", _COMPOSE_FILE.read_text(encoding="utf-8"))
    assert found is not None, "docker-compose.yml names no timescale/timescaledb"
    return found[1]


@cache
def why_no_containers(image: str = KAFKA_IMAGE) -> str | None:
    """What is missing for a container of `image` here; None if nothing is."""
    client = _client()
    if client is None:
        # A client that could not be made leaves its socket to the collector, which must not speak up in some test.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return "no Docker engine answers"
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(image)
        except docker.errors.DockerException:
            return f"the image {image} can't be pulled"
    finally:
        client.close()
    return None


def _client() -> docker.DockerClient | None:
    try:
        return docker.from_env(timeout=5)  # asks the engine for its version
    except docker.errors.DockerException:
        return None


@contextmanager
def container_broker() -> Iterator[str]:
    """`host:port` of a Kafka in a container that lasts for the context."""
    port = free_port()
    listeners = "PLAINTEXT://:9092,CONTROLLER://:9093"
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    # Every test's topics stay until the session's end, each partition with files of its own: 1,024 are not enough.
    container.with_kwargs(ulimits=[docker.types.Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES)])
    for name, value in {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": listeners,
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "LOG_DIRS": "/var/lib/kafka/data",
    }.items():
        container.with_env(f"KAFKA_{name}", value)
    with container:
        servers = f"127.0.0.1:{port}"
        deadline = monotonic() + _START_SECONDS
        while not answers(port):
            if monotonic() > deadline:
                stdout, stderr = container.get_logs()
                raise RuntimeError(f"Kafka did not start in its container: {(stdout + stderr)[-500:]!r}")
        yield servers


@contextmanager
def container_timescale() -> Iterator[str]:
    """The address of a TimescaleDB, community edition, in a container that lasts for the context."""
    port, password = free_port(), "gridtide"
    container = DockerContainer(timescale_image()).with_bind_ports(5432, port)
    container.with_env("POSTGRES_PASSWORD", password).with_env("TIMESCALEDB_TELEMETRY", "off")
    dsn = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    with container:
        deadline = monotonic() + _START_SECONDS
        # The server that runs while the image sets up its database does not listen on TCP.
        while not _lets_in(dsn):
            if monotonic() > deadline:
                stdout, stderr = container.get_logs()
                raise RuntimeError(f"TimescaleDB did not start in its container: {(stdout + stderr)[-500:]!r}")
            sleep(0.2)
        yield dsn


def _lets_in(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
