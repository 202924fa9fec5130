"""Where a process spends its time: py-spy's samples, by function."""

import subprocess
from collections import Counter
from pathlib import Path

from rich.table import Table

_SAMPLES_A_SECOND = 250
_SHOWN = 25
_WAITING = "select (selectors.py"  # py-spy takes a thread that waits for its core for one at work
_EVERYTHING = 0.95  # of the time: main functions and event loops say nothing


class NoProfilerError(RuntimeError):
    """py-spy is not there, or may not look into a process here; one line."""


def sample(py_spy: Path, pid: int, seconds: float, into: Path) -> list[tuple[tuple[str, ...], int]]:
    """Stacks (outermost first) and how often each was seen, over some seconds.

    Raises:
        NoProfilerError: it can't be done here.
    """
    command = [str(py_spy), "record", "--pid", str(pid), "--duration", str(max(1, round(seconds)))]
    command += ["--rate", str(_SAMPLES_A_SECOND), "--format", "raw", "--function", "--output", str(into)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoProfilerError(f"py-spy is not there ({error.strerror}): `make bench-aggregate` installs it") from error
    if done.returncode != 0 or not into.exists():
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise NoProfilerError(f"py-spy: {lines[-1] if lines else done.returncode}")
    stacks = []
    for line in into.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        stacks.append((tuple(stack.split(";")), int(count)))
    return stacks


def table(title: str, stacks: list[tuple[tuple[str, ...], int]]) -> Table:
    """The functions that took most of the time by themselves, and with what they called."""
    own: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    for stack, count in stacks:
        if _WAITING in stack[-1]:
            continue
        own[stack[-1]] += count
        for function in set(stack):
            with_callees[function] += count
    total = sum(own.values()) or 1
    telling = [(function, count) for function, count in with_callees.most_common() if count < total * _EVERYTHING]
    shown = Table(title=title)
    for heading in ("own", "function", "with what it calls", "function"):
        shown.add_column(heading, justify="left" if heading == "function" else "right", overflow="fold")
    for (left, count), (right, all_of_it) in zip(own.most_common(_SHOWN), telling, strict=False):
        shown.add_row(f"{count / total:.1%}", left, f"{all_of_it / total:.1%}", right)
    return shown
