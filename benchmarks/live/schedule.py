"""Which windows the records sent so far fill, and which record closes each: what a stage must come to, by its rules.

A window of a partition closes with the first record whose time has reached the window's end and the allowed
lateness. Whoever sends the records knows that one; the time from it to the state is the stage's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Window = tuple[str, int]  # site, number of the window since 1970


def microseconds_of(time: datetime) -> int:
    """Whole microseconds since 1970."""
    return (time - _BEGINNING) // _MICROSECOND


@dataclass(slots=True)
class Schedule:
    """The windows of one source topic. Records are noted in the order in which they are sent."""

    window_us: int
    lateness_us: int
    _filled: dict[tuple[int, int], set[str]] = field(default_factory=dict)  # by partition and window: the sites
    _closed_by: dict[tuple[int, int], int] = field(default_factory=dict)
    _passed: dict[int, int] = field(default_factory=dict)

    def note(self, partition: int, sites: Iterable[str], observed_us: int, instant_us: int | None = None) -> None:
        """Records of some sites, all in one partition and of one time; `instant_us`: where they count, if not then."""
        window = (observed_us if instant_us is None else instant_us) // self.window_us
        self._filled.setdefault((partition, window), set()).update(sites)
        passed = (observed_us - self.lateness_us) // self.window_us
        before = self._passed.get(partition, passed)
        for number in range(before, passed):
            self._closed_by[partition, number] = observed_us
        self._passed[partition] = max(before, passed)

    def closed(self) -> dict[Window, int]:
        """Every window that holds something and must be out, with the time of the record that closed it (µs)."""
        return {
            (site, window): self._closed_by[partition, window]
            for (partition, window), sites in self._filled.items()
            if (partition, window) in self._closed_by
            for site in sites
        }
