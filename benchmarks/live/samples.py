"""What a soak looks at every ten seconds, and what that comes to: memory, lag, dead letters, restarts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from benchmarks.live.figures import quarters, slope
from benchmarks.live.processes import rss_bytes
from benchmarks.live.rig import Rig

_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """One look."""

    seconds: float  # since the soak began
    rss_megabytes: dict[str, float]
    lag_records: dict[str, int]
    dead_letters: dict[str, int]
    restarts: int
    skipped: int  # offsets that the broker no longer had when they were due
    late: int  # records for a window already closed


@dataclass(slots=True)
class Samples:
    """All looks so far."""

    rig: Rig
    began: float = field(default_factory=monotonic)
    taken: list[Sample] = field(default_factory=list)

    async def take(self) -> Sample:
        """Looks once more."""
        pids = self.rig.pids()
        sizes = {name: rss_bytes(pid) for name, pid in pids.items()}
        pages = await self.rig.stages.scrape()
        sample = Sample(
            seconds=monotonic() - self.began,
            rss_megabytes={name: size / _MEGABYTE for name, size in sizes.items() if size is not None},
            lag_records=await self.rig.lags.records(),
            dead_letters=await self.rig.lags.dead_letters(),
            restarts=self.rig.stages.restarts,
            skipped=sum(page.skipped for page in pages.values()),
            late=sum(page.late for page in pages.values()),
        )
        self.taken.append(sample)
        return sample


@dataclass(frozen=True, slots=True)
class Trend:
    """One series over a soak: means of its first and last quarter, greatest value, change by the hour."""

    first: float
    last: float
    most: float
    by_hour: float

    @classmethod
    def of(cls, seconds: Sequence[float], values: Sequence[float]) -> "Trend":
        """The trend of a series that is not empty."""
        first, last = quarters(values)
        return cls(first, last, max(values), slope(seconds, values) * 3600)

    def as_json(self, unit: str) -> dict[str, Any]:
        """With the unit in the names."""
        return {
            f"first_quarter_{unit}": self.first,
            f"last_quarter_{unit}": self.last,
            f"most_{unit}": self.most,
            f"{unit}_by_hour": self.by_hour,
        }


def memory_trends(taken: Sequence[Sample]) -> dict[str, Trend]:
    """By process, in MB."""
    return {name: _trend(taken, [each.rss_megabytes.get(name) for each in taken]) for name in taken[-1].rss_megabytes}


def lag_trends(taken: Sequence[Sample]) -> dict[str, Trend]:
    """By stage, in records."""
    return {name: _trend(taken, [each.lag_records.get(name) for each in taken]) for name in taken[-1].lag_records}


def _trend(taken: Sequence[Sample], values: Sequence[float | None]) -> Trend:
    known = [(each.seconds, value) for each, value in zip(taken, values, strict=True) if value is not None]
    return Trend.of([seconds for seconds, _ in known], [value for _, value in known])
