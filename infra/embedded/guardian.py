"""The guardian of one server: starts it, and ends it when told to or when the parent is gone.

It is run as a script by `process.py`, in a process and session of its own, and imports nothing of ours.

The parent holds the write end of the pipe that is our standard input. However the parent dies, `kill -9`
included, the kernel closes that pipe and the guardian ends the server. That holds on Linux and macOS, for a
server under another user id, and whichever thread of the parent started it; PR_SET_PDEATHSIG alone is lost
with the *thread* that forked. Here it guards the guardian: we are single-threaded, so the server gets it when
we are killed.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
CHECK_PARENT_SECONDS = 1.0
UNKILLABLE_SECONDS = 5.0  # only a process stuck in the kernel outlives SIGKILL


def main(order: dict[str, Any]) -> int:
    """Run the server of `order` to its end; return its exit status, 127 if it can't be started."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, _nothing)  # a handler, not SIG_IGN: the server would inherit that
    child_ended = _child_ended_pipe()
    try:
        server = _start(order)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot run {order['argv'][0]} as {order['as']}: {error}", file=sys.stderr)  # noqa: T201 - the log
        return 127
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{server.pid}\n".encode())
    orphaned = _watch(server, child_ended, order["parent"])
    _stop(server, order["stops"])
    if orphaned and order["remove_if_orphaned"]:
        shutil.rmtree(order["remove_if_orphaned"], ignore_errors=True)
    status = server.returncode
    return 128 - status if status < 0 else int(status)


def _nothing(*_: object) -> None:
    """Take a signal and do nothing: what it woke looks around by itself."""


def _child_ended_pipe() -> int:
    """Return a file descriptor that becomes readable whenever a signal, SIGCHLD above all, comes in."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _nothing)
    return read_end


def _start(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    drop: dict[str, Any] = {}
    if order["uid"] is not None:
        drop = {"user": order["uid"], "group": order["gid"], "extra_groups": []}
    return subprocess.Popen(  # noqa: S603 - the order comes from our own parent
        order["argv"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # which is the log
        env=order["env"],
        cwd="/",  # the parent's folder may be closed to the server's user
        umask=0o077,
        process_group=0,
        pass_fds=order["keep_fds"],
        preexec_fn=_die_with_us(order["death_signal"]),  # noqa: PLW1509 - there is one thread here
        **drop,
    )


def _die_with_us(death_signal: int) -> Callable[[], None] | None:
    """What the server does between fork and exec: ask the kernel for a signal when the guardian dies."""
    if sys.platform != "linux":
        return None
    prctl, guardian = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != guardian:  # killed before the kernel was asked
            os._exit(127)

    return ask


def _watch(server: subprocess.Popen[bytes], child_ended: int, parent: int) -> bool:
    """Wait until the server ends, the parent orders a stop, or the parent is gone; return whether it is gone."""
    while server.poll() is None:
        ready, _, _ = select.select([0, child_ended], [], [], CHECK_PARENT_SECONDS)
        if child_ended in ready:
            os.read(child_ended, 64)
        if 0 in ready:
            return os.read(0, 16) == b""  # a word is an order; the bare end of the pipe is a death
        if os.getppid() != parent:  # something that the parent forked still holds the pipe
            return True
    return False


def _stop(server: subprocess.Popen[bytes], stops: list[tuple[int, float]]) -> None:
    """Send each signal in turn to the server's group, allow each its seconds, and then SIGKILL."""
    for number, seconds in [*stops, (signal.SIGKILL, UNKILLABLE_SECONDS)]:
        if server.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
