"""One Apache Kafka node on this machine, from the Maven repository's jars: for development, tests and drills.

`make kafka` runs it in the foreground. A test holds one, may `kill()` it (SIGKILL) and `start()` it again on
the same data and port. It needs Java 17 and Maven; `LocalKafka.missing()` says in one line what is not there.
"""

import argparse
import functools
import os
import re
import secrets
import shutil
import signal
import socket
import string
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import FrameType
from typing import Self

from infra.embedded.errors import EmbeddedError
from infra.embedded.process import LOCALHOST, Command, GuardedProcess, run_to_end

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
POM = HERE / "pom.xml"

HEAP = "-Xmx512m"
OLDEST_JAVA = 17
FETCH_SECONDS = 300.0
FORMAT_SECONDS = 60.0
START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOG_TAIL_LINES = 6


def kafka_version() -> str:
    """The pinned version. Raises EmbeddedError if the pom does not name one."""
    found = re.search(r"<kafka\.version>([^<]+)<", POM.read_text(encoding="utf-8"))
    if found is None:
        raise EmbeddedError(f"no kafka.version in {POM}")
    return found[1]


def default_jars() -> Path:
    return CHECKOUT / ".cache" / "kafka" / kafka_version()


def fetch_jars(into: Path) -> None:
    """Brings Kafka's jars into `into`, whole or not at all; does nothing if they are there.

    Raises EmbeddedError if Maven can't.
    """
    if into.is_dir():
        return
    into.parent.mkdir(parents=True, exist_ok=True)
    # Two test runs may fetch at once, and any may be interrupted: only a complete folder gets the name.
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".fetching-") as scratch:
        complete = Path(scratch) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        _run_maven([*command, f"-DoutputDirectory={complete}"])
        try:
            complete.rename(into)
        except OSError as error:
            if not into.is_dir():
                raise EmbeddedError(f"can't put Kafka's jars into {into}: {error}") from error


def _run_maven(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise EmbeddedError(f"{command[0]} is not on the PATH (Maven brings Kafka's jars)")
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedError(f"mvn can't fetch Kafka's jars: {error}") from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        reason = lines[0] if lines else f"exit status {done.returncode}"
        raise EmbeddedError(f"mvn can't fetch Kafka's jars: {reason}")


@functools.cache
def _missing() -> str | None:
    if shutil.which("java") is None:
        return f"java is not on the PATH (Apache Kafka needs {OLDEST_JAVA} or newer)"
    shown = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)  # noqa: S607
    found = re.search(r'version "(\d+)', shown.stderr)
    if found is None or int(found[1]) < OLDEST_JAVA:
        return f"java is {found[1] if found else 'broken'}; Apache Kafka needs {OLDEST_JAVA} or newer"
    try:
        fetch_jars(default_jars())
    except EmbeddedError as error:
        return str(error)
    return None


class LocalKafka:
    """A single-node broker on a loopback port, with its data in `data_dir` or in a temporary folder."""

    def __init__(self, data_dir: Path | None = None, port: int | None = None, jars: Path | None = None) -> None:
        """Fixes the place and the ports for this object's life; starts nothing. Raises EmbeddedError."""
        self._temporary = data_dir is None
        if data_dir is None:
            data_dir = Path(tempfile.mkdtemp(prefix="gridtide-kafka-"))
            # stop() must keep it, for the next start(): it goes with this object, or with the process.
            weakref.finalize(self, shutil.rmtree, data_dir, ignore_errors=True)
        self.data_dir = data_dir.resolve()
        self.port = port or free_port()
        self._controller_port = free_port()
        self._jars = jars or default_jars()
        self._process: GuardedProcess | None = None

    @staticmethod
    def missing() -> str | None:
        """Why Apache Kafka can't run here, in one line, or None. Brings the jars, once a process."""
        return _missing()

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOCALHOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the broker."""
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.exit_status() is None

    def start(self) -> None:
        """Starts the broker, formatting its storage the first time, and waits until it answers.

        Raises EmbeddedError if it doesn't, with the end of its log; nothing is left running then.
        """
        if self.running:
            return
        for port in (self.port, self._controller_port):
            # Whoever has it might answer in the place of ours.
            if not is_free(port):
                raise EmbeddedError(f"port {port} is taken: no Kafka started")
        fetch_jars(self._jars)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        config = self._write_config()
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format(config)
        self._process = GuardedProcess(self._command([HEAP], ["kafka.Kafka", str(config)]))
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the broker in good order, or by force if that takes too long."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """kill -9: what a crash does. Records that were acknowledged are there after the next start()."""
        if self._process is None:
            return
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, options: list[str], main: list[str]) -> Command:
        java = shutil.which("java")
        if java is None:
            raise EmbeddedError("java is not on the PATH")
        logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return Command(
            name="Kafka" if main[0] == "kafka.Kafka" else "the formatting of Kafka's storage",
            argv=[java, *options, logging, "-cp", f"{self._jars}/*", *main],
            log=self.data_dir / "kafka.log",
            account=None,  # unlike PostgreSQL it has nothing against root
            stops=((signal.SIGTERM, STOP_SECONDS),),
            death_signal=signal.SIGKILL,
            remove_if_orphaned=self.data_dir if self._temporary else None,
        )

    def _write_config(self) -> Path:
        template = string.Template((HERE / "server.properties").read_text(encoding="utf-8"))
        config = self.data_dir / "server.properties"
        config.write_text(
            template.substitute(
                port=self.port, controller_port=self._controller_port, data_dir=self.data_dir.as_posix()
            ),
            encoding="utf-8",
        )
        return config

    def _format(self, config: Path) -> None:
        # A leading dash would be taken for an option.
        cluster_id = f"g{secrets.token_urlsafe(16)[1:]}"
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", f"--config={config}"]
        # It is over before the optimising compiler would have paid.
        run_to_end(self._command(["-Xmx128m", "-XX:TieredStopAtLevel=1"], tool), FORMAT_SECONDS)

    def _wait_until_ready(self, process: GuardedProcess) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if process.exit_status() is not None:
                raise EmbeddedError(f"Kafka ended while starting: {end_of_log(process.output())}")
            if time.monotonic() > deadline:
                waited = f"Kafka did not answer in {START_SECONDS:.0f} s"
                raise EmbeddedError(f"{waited}: {end_of_log(process.output())}")
            time.sleep(0.05)


def end_of_log(written: str) -> str:
    """The last lines that say something, as one: a Java stack trace ends in many that don't."""
    lines = [line.strip() for line in written.splitlines() if line.strip() and not line.startswith("\t")]
    return " | ".join(lines[-LOG_TAIL_LINES:]) or "it wrote nothing to its log"


def answers(port: int) -> bool:
    """Whether a broker on this loopback port answers a metadata request, and has itself in the answer.

    Written by hand, so that it works inside a running event loop, where a client's bootstrap would not. A
    broker accepts connections some time before the controller has let it in.
    """
    no_client, no_topics = -1, 0
    body = struct.pack(">hhihi", 3, 1, 0, no_client, no_topics)  # Metadata, version 1
    try:
        with socket.create_connection((LOCALHOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                head = answer.read(12)  # length, correlation, number of brokers
    except OSError:
        return False
    return len(head) == 12 and struct.unpack(">iii", head)[2] > 0


def free_port() -> int:
    """A loopback port that nothing listens on, below the ports that the kernel gives to outgoing connections.

    From among those, one could be taken by a client that is just trying to reconnect to the broker that was
    killed, and the restart would fail. Raises EmbeddedError if none is found.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(10_000)
        if is_free(port):
            return port
    raise EmbeddedError("no free port from 20000 to 30000")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the broker does: connections that ended a moment ago are no obstacle, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs a broker until Ctrl-C; its data goes with it unless a folder is named."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.local", description=main.__doc__)
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--data-dir", type=Path, help="keep the records here")
    options = parser.parse_args()
    if reason := LocalKafka.missing():
        sys.stderr.write(f"{reason}\n")
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with LocalKafka(options.data_dir, options.port) as kafka:
            sys.stdout.write(f"Kafka {kafka_version()} on {kafka.bootstrap_servers}; Ctrl-C ends it\n")
            sys.stdout.flush()
            while kafka.running:
                time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write("Kafka ended by itself\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
