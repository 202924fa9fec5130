"""`gridtide demo` as a newcomer runs it: it plays, it answers for its figures, and it leaves nothing running behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.broker, pytest.mark.database]

PERCENTILES = {"p50", "p99"}
FIGURES = {
    "frames_in",
    "gpu_samples_in",
    "states_out",
    "forecasts_out",
    "offers_out",
    "commands_out",
    "acks_in",
    "dead_letters",
    "rows",
    "energy_kwh",
    "energy_cost_usd",
    "tokens",
    "usd_per_million_tokens",
    "signal_to_command_seconds",
    "telemetry_to_state_seconds",
}
WHOLE_SECONDS = 240
PATIENCE_SECONDS = 90
Process = tuple[int, str]  # its id and when it started: ids are used again


def hear_interrupts() -> None:
    """Whoever runs the tests in the background may have switched Ctrl-C off, which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def demo(folder: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`gridtide demo` in a folder of its own, which also gets its output; killed at the end, should it still run."""
    command = [sys.executable, "-m", "streams.cli", "demo", *options]
    folder.mkdir()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interrupts,  # noqa: PLW1509 - nothing of ours runs in threads here
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def status_of(process: subprocess.Popen[str], folder: Path, seconds: float) -> int:
    """Its exit status; fails with what it said if it does not end in time."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(f"not within {seconds:g} s: {(folder / 'output').read_text()[-2000:]}")


def descendants(root: int) -> dict[Process, str]:
    """All processes below one, with their command lines, as /proc tells."""
    below, found = {root}, {}
    stats = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            stats[int(entry.parent.name)] = (int(fields[1]), fields[19])
        except (FileNotFoundError, ProcessLookupError):
            continue
    while more := {pid for pid, (parent, _) in stats.items() if parent in below} - below:
        below |= more
    for pid in below - {root}:
        found[pid, stats[pid][1]] = command_line(pid)
    return found


def command_line(pid: int) -> str:
    """A process's command line; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(process: Process) -> bool:
    """Whether it is that very process, and not its remains either."""
    try:
        fields = Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] != "Z" and fields[19] == process[1]


def until_all_run(process: subprocess.Popen[str], folder: Path) -> dict[Process, str]:
    """Waits until servers, stages, controllers and the replay are there; returns all of them."""
    wanted = ("tansu", "postgres", "stage record", "controller --site", "replay --duration")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = descendants(process.pid)
        if all(any(word in line for line in found.values()) for word in wanted):
            return found
        assert process.poll() is None, (folder / "output").read_text()
        time.sleep(0.1)  # nothing tells of another process's children
    raise AssertionError(f"not within {PATIENCE_SECONDS} s: {wanted}; there are {sorted(found.values())}")


def until_gone(processes: dict[Process, str]) -> None:
    """Waits until none of them lives."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := [line for process, line in processes.items() if lives(process)]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary ones, where the servers' own user can reach it."""
    with tempfile.TemporaryDirectory(prefix="gridtide-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_demo_plays_and_answers_for_every_figure(tmp_path: Path) -> None:
    folder, summary_file = tmp_path / "demo", tmp_path / "summary.json"
    with demo(folder, "--duration", "20", "--speed", "60", "--json", str(summary_file)) as process:
        status = status_of(process, folder, WHOLE_SECONDS)
    said = (folder / "output").read_text()
    assert status == 0, said
    summary: dict[str, Any] = json.loads(summary_file.read_text())
    assert set(summary) >= FIGURES
    for name in ("frames_in", "gpu_samples_in", "states_out", "forecasts_out", "energy_kwh", "tokens"):
        assert summary[name] > 0, name
    assert sum(sum(by_reason.values()) for by_reason in summary["commands_out"].values()) > 0
    assert sum(summary["acks_in"].values()) > 0
    assert all(summary["rows"][table] > 0 for table in ("gpu_telemetry", "site_power", "site_commands", "command_acks"))
    assert summary["commands_without_answer"] == 0
    assert summary["dead_letters"] == {}
    assert summary["usd_per_million_tokens"] == pytest.approx(
        summary["energy_cost_usd"] / summary["tokens"] * 1e6, rel=1e-3
    )
    for name in ("signal_to_command_seconds", "telemetry_to_state_seconds"):
        assert set(summary[name]) == PERCENTILES
        assert 0 <= summary[name]["p50"] <= summary[name]["p99"]
    assert "Traceback" not in said
    assert [path.name for path in folder.iterdir()] == ["output"], "it leaves nothing where it is run"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc is not there to look for processes")
def test_demo_killed_leaves_no_process_and_the_next_one_interrupted_ends_with_130_and_leaves_nothing(
    tmp_path: Path, temporary: Path
) -> None:
    for name in ("killed", "next"):
        (temporary / name).mkdir()
    with demo(tmp_path / "killed", "--duration", "60", TMPDIR=str(temporary / "killed")) as process:
        started = until_all_run(process, tmp_path / "killed")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until_gone(started)
    with demo(tmp_path / "next", "--duration", "60", TMPDIR=str(temporary / "next")) as process:
        started = until_all_run(process, tmp_path / "next")
        folders = {path.name.rpartition("-")[0] for path in (temporary / "next").iterdir()}
        assert folders >= {"gridtide-demo", "gridtide-broker", "gridtide-postgres"}
        process.send_signal(signal.SIGINT)
        assert status_of(process, tmp_path / "next", PATIENCE_SECONDS) == 130
    until_gone(started)
    assert "Traceback" not in (tmp_path / "next" / "output").read_text()
    assert list((temporary / "next").iterdir()) == []
