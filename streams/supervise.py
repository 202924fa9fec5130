"""Processes of ours that run side by side: started, watched, started again when one fails, never outliving us."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import structlog

log = structlog.get_logger()

CONFIGURATION_EXIT = 2
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0  # who has run so long has recovered: its next failure waits the first wait again
_PROVEN_SECONDS = 15.0  # longer than a start takes
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.1


class GaveUpError(RuntimeError):
    """A process says that it can't start as things are set up; the message is one line with what it said."""


@dataclass(slots=True)
class Child:
    """One `gridtide` process."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log_file: Path | None = None
    _process: subprocess.Popen[bytes] | None = None
    _lifeline: int | None = None
    _started: float = 0.0
    restarts: int = 0
    _proven: bool = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Starts it. It holds the reading end of a pipe whose writing end only we hold: when we end, it ends."""
        theirs, self._lifeline = os.pipe()
        out = self.log_file.open("ab") if self.log_file else None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "streams.cli", *self.arguments],
                env={**_inherited(), **self.environment, "GRIDTIDE_LIFELINE": str(theirs)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[theirs],
                start_new_session=True,  # Ctrl-C is for us; we then end it in order
            )
        finally:
            os.close(theirs)
            if out:
                out.close()
        self._started = monotonic()

    def exit_status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll() if self._process else None

    def last_words(self) -> str:
        """The last line of its log; empty where it writes to ours."""
        if self.log_file is None or not self.log_file.exists():
            return ""
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def has_proven_itself(self) -> bool:
        """True once it has run for a while: if it can't start later, a broker or a database is away, and comes back."""
        self._proven = self._proven or monotonic() - self._started > _PROVEN_SECONDS
        return self._proven

    def wait_before_restart(self) -> float:
        """Seconds to wait before it is started again; grows while it keeps failing."""
        if monotonic() - self._started > _HEALTHY_SECONDS:
            self.restarts = 0
        wait: float = min(_FIRST_WAIT_SECONDS * 2**self.restarts, _LONGEST_WAIT_SECONDS)
        self.restarts += 1
        return wait

    def terminate(self) -> None:
        """Asks it to end."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """kill -9, and returns when it is gone."""
        if self._process:
            self._process.kill()
        self.join(monotonic())

    def join(self, deadline: float) -> None:
        """Waits for its end until `deadline` (monotonic), then kills it. Harmless twice."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def _inherited() -> dict[str, str]:
    """Our environment without what no stage needs: the roles' passwords are for `gridtide migrate`."""
    kept_back = ("GRIDTIDE_RECORDER_PASSWORD", "GRIDTIDE_ANALYST_PASSWORD")
    return {name: value for name, value in os.environ.items() if name not in kept_back}


def stop_all(children: Sequence[Child]) -> None:
    """Ends all children together, in order if they will, else by force; returns when they are gone."""
    for child in children:
        child.terminate()
    deadline = monotonic() + _STOP_SECONDS
    for child in children:
        child.join(deadline)


async def watch(children: Sequence[Child], *, finite: frozenset[str] = frozenset()) -> None:
    """Starts again what fails, until cancelled. Children named in `finite` may end by themselves, with status 0.

    Each child is watched on its own: the wait before one is started again must not keep another one down.

    Raises:
        GaveUpError: a child could not start from the first, and says that its configuration is wrong.
    """
    watching = [asyncio.create_task(_watch_one(child, child.name in finite)) for child in children]
    try:
        await asyncio.gather(*watching)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def _watch_one(child: Child, finite: bool) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        status = child.exit_status()
        if status is None or (status == 0 and finite):
            continue
        said = child.last_words()
        # Asked at every end: a worker that ran for days and crashed with its broker has proven itself, though started
        # again it finds no broker.
        proven = child.has_proven_itself()
        if status == CONFIGURATION_EXIT and not proven:
            raise GaveUpError(f"{child.name} can't start: {said}" if said else f"{child.name} can't start; see above")
        child.join(monotonic())
        wait_seconds = child.wait_before_restart()
        log.warning("ended; starting it again", process=child.name, status=status, seconds=wait_seconds, said=said)
        await asyncio.sleep(wait_seconds)
        child.start()


def end_with_parent(pipe: int) -> None:
    """Ends this process when the other end of `pipe` closes: no worker outlives whoever supervises it.

    Blocks; for a daemon thread, so that a busy event loop is no excuse.
    """
    os.read(pipe, 1)
    os._exit(1)
