"""Telemetry frames made beforehand: only number and time are put in when a frame is due.

Making a frame of 64 GPUs anew costs more than the stage takes to fold it, and the generator has the same cores.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.contenders.task import WINDOW_SECONDS
from benchmarks.fleet import Fleet
from benchmarks.frames import Feed, Frame, check_frame, long_ago

# So many different frames a collector has, in turn.
_TURNS = 4
_PUE = 1.2
_MEAN_GPU_WATTS = 520.0


@dataclass(frozen=True, slots=True)
class _Cut:
    """A frame without what changes: before its number, and after its interval."""

    partition: int
    key: bytes
    head: bytes
    tail: bytes


class LiveFrames:
    """The frames of a fleet's collectors, one of each in turn, without end."""

    def __init__(self, fleet: Fleet, run_id: str) -> None:
        """Makes them, and makes sure that what is patched is still what the contract writes."""
        self.collectors = fleet.frames_per_second
        feed = Feed(fleet, run_id, long_ago(0), WINDOW_SECONDS)
        meter_watts = fleet.collectors * fleet.gpus * _MEAN_GPU_WATTS * _PUE
        self._cuts = [
            # The first collector of each site reads the meter as well: it makes the first frames of a second.
            _cut(frame, meter_watts * (0.98 + 0.01 * turn) if place < fleet.sites else None)
            for turn in range(_TURNS)
            for place, frame in enumerate(feed.second())
        ]
        self._made = 0
        for frame in self.next(min(fleet.sites + 1, len(self._cuts)), datetime(2026, 1, 1, 0, 0, 0, 1, UTC), 0.125):
            check_frame(frame, run_id)

    def next(self, count: int, observed_at: datetime, interval_seconds: float) -> list[Frame]:
        """The next frames, all of one instant."""
        stamp = observed_at.replace(tzinfo=None).isoformat()
        middle = f',"observed_at":"{stamp}Z","interval_seconds":{interval_seconds!r}'.encode()
        cuts, collectors, frames = self._cuts, self.collectors, list[Frame]()
        for number in range(self._made, self._made + count):
            cut = cuts[number % len(cuts)]
            value = b"%b%d%b%b" % (cut.head, number // collectors, middle, cut.tail)
            frames.append(Frame(cut.partition, cut.key, value))
        self._made += count
        return frames


def _cut(frame: Frame, meter_watts: float | None) -> _Cut:
    head, mark, rest = frame.value.partition(b'"sequence":')
    assert mark
    _, mark, tail = rest.partition(b'"interval_seconds":1.0')
    assert mark
    if meter_watts is not None:
        tail = tail.removesuffix(b"null}") + f"{round(meter_watts, 1)!r}}}".encode()
    return _Cut(frame.partition, frame.key, head + b'"sequence":', tail)
