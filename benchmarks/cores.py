"""Which core does what, and how much processor time a process has used. Linux; elsewhere nothing is pinned."""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cores:
    """The contender's core, and those of the broker and of whoever measures; None where they can't be told apart."""

    contender: int | None
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The last core for the contender, all others for the rest; one core alone is shared."""
        if sys.platform != "linux":
            return cls(None, frozenset())
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) == 1:
            return cls(usable[0], frozenset(usable))
        return cls(usable[-1], frozenset(usable[:-1]))

    def stay_off(self) -> None:
        """Moves this process, and what it starts from now on, off the contender's core."""
        if self.others:
            os.sched_setaffinity(0, self.others)

    def pin(self, pid: int) -> None:
        """Keeps a process that has just been started, all threads that it will have included, on its core."""
        if self.contender is not None:
            os.sched_setaffinity(pid, {self.contender})

    def about(self) -> str:
        """One line that says how cores are shared."""
        if self.contender is None:
            return "nothing is pinned (not Linux): a contender may use more than one core"
        if self.contender in self.others:
            return "there is one core: broker, harness and contender share it"
        return f"contender on core {self.contender}, broker and harness on {sorted(self.others)}"


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process, all its threads included; None where there is no /proc or no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a command's name may hold spaces
    ticks = int(fields[11]) + int(fields[12])
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def resident_bytes(pid: int) -> int | None:
    """Memory of a process that lies in RAM; None where there is no /proc or no such process."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
