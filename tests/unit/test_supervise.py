"""Children are real processes: started again when they fail, given up on when misconfigured, gone when we are."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from streams import supervise
from streams.supervise import CONFIGURATION_EXIT, Child, GaveUpError, stop_all, watch

# What a child runs in place of `gridtide`: it says that it lives through a FIFO, which blocks until we hear it.
_SPEAK = "import os, sys, time; open(sys.argv[1], 'w').write(f'{os.getpid()}\\n'); "
ENDS_WITH: dict[object, str] = {
    "forever": _SPEAK + "time.sleep(600)",
    "deaf": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + _SPEAK + "time.sleep(600)",
    **{status: _SPEAK + f"sys.exit({status})" for status in (0, 1, CONFIGURATION_EXIT)},
    "words": _SPEAK + "print('fine'); sys.exit('gridtide: topic x is missing') if 0 else print('said last'); sys.exit(2)",
}
MakeChild = Callable[..., Child]


class Line:
    """The FIFO of one child: who speaks on it, each time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def hear(self) -> int:
        """Blocks until the child has started; its process id."""
        return int(self.path.read_text().split()[0])


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeChild]:
    """Makes children that end in a way of ENDS_WITH; they are gone when the test is."""
    monkeypatch.setattr(supervise, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(supervise, "_LOOK_SECONDS", 0.01)
    real, made = subprocess.Popen, list[Child]()

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        ends, line = command[-2:]
        key = int(ends) if ends.isdigit() else ends
        return real([sys.executable, "-c", ENDS_WITH[key], line], **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(supervise.subprocess, "Popen", popen)

    def make(name: str, ends: object, *, log: bool = False) -> Child:
        line = Line(tmp_path / f"{name}.fifo")
        made.append(Child(name, [str(ends), str(line.path)], log_file=tmp_path / f"{name}.log" if log else None))
        made[-1].line = line  # type: ignore[attr-defined]
        return made[-1]

    yield make
    for each in made:
        each.kill()
