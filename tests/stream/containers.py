"""Apache Kafka through testcontainers, where a Docker engine answers and has, or can pull, the image."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import monotonic

import docker
from testcontainers.core.container import DockerContainer

from infra.embedded.process import free_port
from infra.kafka.local import answers, kafka_version

_START_SECONDS = 90.0
_OPEN_FILES = 16384
KAFKA_IMAGE = f"apache/kafka:{kafka_version()}"


@cache
def why_no_containers() -> str | None:
    """What is missing for containers here; None if nothing is."""
    client = _client()
    if client is None:
        # A client that could not be made leaves its socket to the collector, which must not speak up in some test.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return "no Docker engine answers"
    try:
        client.images.get(KAFKA_IMAGE)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(KAFKA_IMAGE)
        except docker.errors.DockerException:
            return f"the image {KAFKA_IMAGE} can't be pulled"
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
