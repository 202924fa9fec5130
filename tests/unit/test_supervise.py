"""Children are real processes: started again when they fail, given up on when misconfigured, gone when we are."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from streams import supervise
from streams.supervise import CONFIGURATION_EXIT, Child, GaveUpError, stop_all, watch

# Stands in for the interpreter, and so for `gridtide`: says its process id into a FIFO, then ends as it is told.
PROGRAM = """#!{python}
import os, signal, sys
ends, line = sys.argv[3:5]
if ends == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
said = os.open(line, os.O_WRONLY)
os.write(said, b"%d\\n" % os.getpid())
if ends == "with-parent":
    from streams.one_clear_line import one_clear_line
    def command():
        os.write(said, b"under way\\n")
        signal.pause()
    one_clear_line(command)()
if ends in ("forever", "deaf"):
    signal.pause()
print("said before", "said last", sep="\\n", flush=True)
sys.exit(int(ends))
"""

# A parent that starts a child and says so; then it is killed.
PARENT = """
import signal, sys
from streams.supervise import Child
program, line = sys.argv[1:]
sys.executable = program
Child("child", ["with-parent", line]).start()
signal.pause()
"""


@dataclass
class Started:
    """A child of a test, and the FIFO on which each of its lives speaks."""

    child: Child
    line: int

    async def next_pid(self) -> int:
        """Waits until it has started once more; its process id."""
        return await asyncio.to_thread(lambda: int(os.read(self.line, 100).split()[0]))


Make = Callable[..., Started]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The stand-in for the interpreter."""
    path = tmp_path / "program"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o700)
    return path


@pytest.fixture
def make(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes children that end as told; none of them outlives the test."""
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(supervise, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(supervise, "_LOOK_SECONDS", 0.01)
    made: list[Started] = []

    def child(name: str, ends: str | int, *, start: bool = True, log: bool = False) -> Started:
        fifo = tmp_path / f"{name}.fifo"
        os.mkfifo(fifo)
        one = Child(name, [str(ends), str(fifo)], log_file=tmp_path / f"{name}.log" if log else None)
        made.append(Started(one, os.open(fifo, os.O_RDWR)))
        if start:
            one.start()
        return made[-1]

    yield child
    for each in made:
        each.child.kill()
        os.close(each.line)


async def until(watching: asyncio.Task[None], *heard: Started, times: int) -> list[list[int]]:
    """The process ids of so many lives of each, then stops watching."""
    try:
        return [[await each.next_pid() for _ in range(times)] for each in heard]
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def test_watch_starts_a_child_that_fails_again(make: Make) -> None:
    failing = make("failing", 1, log=True)
    ((*pids,),) = await until(asyncio.create_task(watch([failing.child])), failing, times=3)
    assert len(set(pids)) == 3
    assert failing.child.last_words() == "said last"


async def test_watch_starts_a_child_again_that_ends_without_being_told(make: Make) -> None:
    ended = make("ended", 0)
    await until(asyncio.create_task(watch([ended.child])), ended, times=2)


async def test_watch_leaves_alone_what_may_end_and_what_runs(make: Make) -> None:
    replay, stage, failing = make("replay", 0), make("stage", "forever"), make("failing", 1)
    children = [replay.child, stage.child, failing.child]
    first = await replay.next_pid(), await stage.next_pid()
    await until(asyncio.create_task(watch(children, finite=frozenset({"replay"}))), failing, times=3)
    assert replay.child.exit_status() == 0
    assert stage.child.pid == first[1]
    assert replay.child.restarts == stage.child.restarts == 0


async def test_watch_starts_a_finite_child_again_that_failed(make: Make) -> None:
    replay = make("replay", 3)
    await until(asyncio.create_task(watch([replay.child], finite=frozenset({"replay"}))), replay, times=2)


@pytest.mark.parametrize(("log", "said"), [(True, "said last"), (False, "see above")])
async def test_watch_gives_up_on_a_child_that_is_misconfigured(make: Make, log: bool, said: str) -> None:
    wrong, well = make("record", CONFIGURATION_EXIT, log=log), make("policy", "forever")
    with pytest.raises(GaveUpError, match=rf"^record can't start.*{said}$"):
        await watch([well.child, wrong.child])
    assert well.child.pid is not None  # ended by whoever started it


async def test_watch_keeps_starting_a_child_that_ran_well_then_crashed_and_now_finds_no_broker(make: Make) -> None:
    stage = make("stage", 1)
    await stage.next_pid()
    stage.child._started -= 16  # it has run for long when it crashes
    stage.child.arguments = [str(CONFIGURATION_EXIT), *stage.child.arguments[1:]]
    await until(asyncio.create_task(watch([stage.child])), stage, times=3)


async def test_the_wait_for_one_child_does_not_hold_up_another(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_LONGEST_WAIT_SECONDS", 1e6)
    stuck, wrong = make("stuck", 1), make("wrong", CONFIGURATION_EXIT)
    stuck.child.restarts = 60
    for each in (stuck, wrong):
        await each.next_pid()
        each.child.join(monotonic() + 60)
    with pytest.raises(GaveUpError, match="wrong"):
        await watch([stuck.child, wrong.child])


async def test_stop_all_ends_children_in_order_or_by_force(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_STOP_SECONDS", 0.2)
    willing, deaf, never = make("willing", "forever"), make("deaf", "deaf"), make("never", 0, start=False)
    await willing.next_pid(), await deaf.next_pid()
    for _ in range(2):  # harmless twice
        stop_all([willing.child, deaf.child, never.child])
    assert willing.child.exit_status() == -signal.SIGTERM
    assert deaf.child.exit_status() == -signal.SIGKILL
    assert (deaf.child.pid, never.child.pid, never.child.exit_status()) == (None, None, None)


def test_wait_before_restart_grows_and_starts_over_after_a_healthy_life() -> None:
    child = Child("stage", [])
    child._started = monotonic()
    waits = [child.wait_before_restart() for _ in range(9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    child._started -= 61
    assert child.wait_before_restart() == 0.5


def test_last_words_are_the_last_line_of_the_log(tmp_path: Path) -> None:
    assert Child("stage", []).last_words() == ""
    log = tmp_path / "log"
    assert Child("stage", [], log_file=log).last_words() == ""
    log.write_bytes(b"")
    assert Child("stage", [], log_file=log).last_words() == ""
    log.write_bytes(b"one\n\xff two\n\n")
    assert Child("stage", [], log_file=log).last_words() == "\N{REPLACEMENT CHARACTER} two"


def test_a_child_is_not_told_the_passwords_of_roles(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRIDTIDE_RECORDER_PASSWORD", "GRIDTIDE_ANALYST_PASSWORD", "GRIDTIDE_PARTITIONS"):
        monkeypatch.setenv(name, "3")
    started = make("stage", "forever")
    os.read(started.line, 100)  # it runs
    told = Path(f"/proc/{started.child.pid}/environ")
    if not told.exists():
        pytest.skip("/proc is not there to look at an environment")
    names = {variable.partition(b"=")[0].decode() for variable in told.read_bytes().split(b"\0")}
    assert {name for name in names if name.startswith("GRIDTIDE_")} == {"GRIDTIDE_PARTITIONS", "GRIDTIDE_LIFELINE"}


def test_a_child_ends_when_its_parent_is_killed(program: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(program), str(fifo)])
    with fifo.open() as line:
        pid = int(line.readline())
        assert line.readline() == "under way\n"
        parent.kill()
        parent.wait()
        assert line.read() == ""  # the end of the file: nobody is left to write
    assert pid != parent.pid
