"""A server as a child process that never outlives us: start, readiness, end."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infra.embedded.errors import EmbeddedError
from infra.embedded.placement import Account

LOCALHOST = "127.0.0.1"
PORT_ATTEMPTS = 3

_GUARDIAN = Path(__file__).with_name("guardian.py")
_POLL_SECONDS = 0.02
_GUARDIAN_SLACK_SECONDS = 10.0  # above the graces of the stops: SIGKILL, removing a folder, a busy machine
_ADDRESS_IN_USE = re.compile(r"address (already )?in use", re.IGNORECASE)


@dataclass(frozen=True)
class Command:
    """What to run, as whom, and how to end it."""

    name: str  # for messages
    argv: Sequence[str]
    log: Path
    account: Account | None  # None: the user that we are
    stops: Sequence[tuple[signal.Signals, float]]  # a signal and its grace in seconds; SIGKILL comes after all
    death_signal: signal.Signals  # from the kernel, should the guardian be killed (Linux)
    remove_if_orphaned: Path | None = None  # a temporary folder that our own end would have removed
    keep_fds: Sequence[int] = ()  # held open by guardian and server: a lock goes when the last of them is gone
    environment: tuple[tuple[str, str], ...] = ()


class GuardedProcess:
    """A running command, under a guardian process that ends it when we end, in whatever way."""

    def __init__(self, command: Command) -> None:
        """Start `command`.

        Raises:
            EmbeddedError: it can't be run, or its log can't be written.
        """
        self.command = command
        try:
            command.log.touch(mode=0o600)
            self._log_start = command.log.stat().st_size
        except OSError as error:
            raise EmbeddedError(f"the log {command.log} cannot be written: {error.strerror}") from None
        with command.log.open("ab") as log:
            self._guardian = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                [sys.executable, "-I", "-S", str(_GUARDIAN), _order(command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd="/",
                start_new_session=True,  # the terminal's Ctrl-C is for us; we then end the server in order
                pass_fds=command.keep_fds,
            )
        assert self._guardian.stdout is not None
        line = self._guardian.stdout.readline()
        if not line:
            self.stop()
            raise EmbeddedError(f"{command.name} could not be started: {self.log_tail()}")
        self.pid = int(line)
        self.guardian_pid = self._guardian.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def exit_status(self) -> int | None:
        """Return the exit status (128 + the signal, if one ended it), None while it runs."""
        return self._guardian.poll()

    def stop(self) -> None:
        """End the process, in order if it will, else by force; return when it is gone. Harmless twice."""
        assert self._guardian.stdin is not None
        assert self._guardian.stdout is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or we were here before
            self._guardian.stdin.write(b"stop\n")
        with contextlib.suppress(BrokenPipeError):
            self._guardian.stdin.close()
        limit = sum(grace for _, grace in self.command.stops) + _GUARDIAN_SLACK_SECONDS
        try:
            self._guardian.wait(limit)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
        self._guardian.stdout.close()

    def output(self) -> str:
        """Return what the process has written to its log since this start."""
        with self.command.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 3) -> str:
        """Return the last lines of the log since this start, as one line."""
        written = [line.strip() for line in self.output().splitlines() if line.strip()]
        return " | ".join(written[-lines:]) or f"it wrote nothing to {self.command.log}"


def _order(command: Command) -> str:
    account = command.account
    order = {
        "argv": list(command.argv),
        # Nothing of ours leaks in: PGPORT, LISTENER_URL and their like would change what the server does.
        "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **dict(command.environment)},
        "as": account.name if account else f"user id {os.geteuid()}",
        "uid": account.uid if account else None,
        "gid": account.gid if account else None,
        "parent": os.getpid(),
        "stops": [(int(number), grace) for number, grace in command.stops],
        "death_signal": int(command.death_signal),
        "remove_if_orphaned": str(command.remove_if_orphaned) if command.remove_if_orphaned else None,
        "keep_fds": list(command.keep_fds),
    }
    return json.dumps(order)


def free_port() -> int:
    """Return a TCP port that was free on 127.0.0.1 a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
    return port


def run_to_end(command: Command, timeout_seconds: float) -> None:
    """Run a command that ends by itself.

    Raises:
        EmbeddedError: it can't be run, fails, or takes longer than `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    with GuardedProcess(command) as process:
        while (status := process.exit_status()) is None:
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{command.name} took longer than {timeout_seconds:g} s: {process.log_tail()}")
            time.sleep(_POLL_SECONDS)
        if status != 0:
            raise EmbeddedError(f"{command.name} failed: {process.log_tail()}")


def serve(
    command_on: Callable[[int], Command],
    is_ready: Callable[[GuardedProcess, int], bool],
    timeout_seconds: float,
    fixed_port: int | None = None,
) -> tuple[GuardedProcess, int]:
    """Start a server on a free port (or the given one), wait until it is ready, and return it with its port.

    A port found free may be taken before the server listens on it: then another one is tried.

    Raises:
        EmbeddedError: it can't be run, ends while starting, or isn't ready within `timeout_seconds`.
    """
    for attempt in range(1, PORT_ATTEMPTS + 1):
        port = free_port() if fixed_port is None else fixed_port
        process = GuardedProcess(command_on(port))
        try:
            _await_ready(process, lambda: is_ready(process, port), timeout_seconds)  # noqa: B023 - called at once
        except BaseException as error:
            process.stop()
            taken = isinstance(error, EmbeddedError) and _ADDRESS_IN_USE.search(process.output())
            if not taken or fixed_port is not None or attempt == PORT_ATTEMPTS:
                raise
        else:
            return process, port
    raise AssertionError("unreachable: the last attempt returns or raises")


def _await_ready(process: GuardedProcess, is_ready: Callable[[], bool], timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        if process.exit_status() is not None:
            raise EmbeddedError(f"{process.command.name} ended while starting: {process.log_tail()}")
        if time.monotonic() > deadline:
            waited = f"{process.command.name} was not ready within {timeout_seconds:g} s"
            raise EmbeddedError(f"{waited}: {process.log_tail()}")
        time.sleep(_POLL_SECONDS)


def accepts_connections(port: int) -> bool:
    """Return whether something listens on this port of 127.0.0.1."""
    try:
        with socket.create_connection((LOCALHOST, port), timeout=1.0):
            return True
    except OSError:
        return False
