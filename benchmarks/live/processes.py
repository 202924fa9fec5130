"""The stages as processes of their own, and what each process of the run uses. Linux."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cores import cpu_seconds
from benchmarks.drain import ContenderError
from benchmarks.live.scrape import Scrape, scrape
from infra.embedded.process import free_port
from infra.settings import Settings
from streams.supervise import Child, stop_all, watch

START_SECONDS = 30.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Stages:
    """Stages that run, each started again if it ends; `restarts` counts that."""

    children: dict[str, Child]
    ports: dict[str, int]
    restarts: int = 0
    _pids: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """In the order in which the data goes."""
        return list(self.children)

    def pids(self) -> dict[str, int]:
        """The processes that run now; one that is not the one of the last look is a restart."""
        now = {name: child.pid for name, child in self.children.items()}
        found = {name: pid for name, pid in now.items() if pid is not None}
        self.restarts += sum(self._pids.get(name, pid) != pid for name, pid in found.items())
        self._pids |= found
        return found

    async def scrape(self) -> dict[str, Scrape]:
        """What each says of itself; a stage that does not answer is left out."""
        names = list(self.ports)
        found = await asyncio.gather(*(asyncio.to_thread(scrape, self.ports[name]) for name in names))
        return {name: page for name, page in zip(names, found, strict=True) if page is not None}

    async def until_started(self) -> None:
        """Until all answer.

        Raises:
            ContenderError: one does not.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while len(found := await self.scrape()) < len(self.ports) or not all(  # noqa: ASYNC110
                    page.started for page in found.values()
                ):
                    await asyncio.sleep(0.2)  # no event tells of it
        except TimeoutError:
            missing = [name for name in self.names if name not in found]
            said = "; ".join(f"{name}: {self.children[name].last_words()}" for name in missing or self.names)
            raise ContenderError(f"not started in {START_SECONDS:g} s: {said}") from None


@contextlib.asynccontextmanager
async def running(settings: Settings, names: Sequence[str], folder: Path) -> AsyncIterator[Stages]:
    """Stages, watched until the block ends; then they are ended, however it ends."""
    ports = {name: free_port() for name in names}
    children = {
        name: Child(name, ["stage", name], _environment(settings, ports[name]), folder / f"{name}.log")
        for name in names
    }
    watching: asyncio.Task[None] | None = None
    try:
        for child in children.values():
            child.start()
        watching = asyncio.create_task(watch(list(children.values())))
        yield Stages(children, ports)
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        # Not in a thread: a second Ctrl-C must find them ended or ending.
        stop_all(list(children.values()))


def _environment(settings: Settings, metrics_port: int) -> dict[str, str]:
    changed = settings.model_copy(update={"metrics_port": metrics_port, "log_level": "warning"})
    return {**changed.as_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class CpuMeter:
    """Processor time of some processes since it was made."""

    began: dict[str, float]

    @classmethod
    def of(cls, pids: dict[str, int]) -> "CpuMeter":
        """Begins now."""
        return cls({name: cpu_seconds(pid) or 0.0 for name, pid in pids.items()})

    def cores(self, pids: dict[str, int], seconds: float) -> dict[str, float]:
        """Cores that each has used on the average, over so many seconds."""
        return {name: ((cpu_seconds(pid) or 0.0) - self.began.get(name, 0.0)) / seconds for name, pid in pids.items()}


def rss_bytes(pid: int) -> int | None:
    """Memory of a process that is in RAM; None where it has ended."""
    try:
        resident = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]
    except OSError:
        return None
    return int(resident) * _PAGE_BYTES
