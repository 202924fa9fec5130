"""What a soak comes to: a line for each thing that must hold, and whether it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.live.load import Paced
from benchmarks.live.rig import Rig
from benchmarks.live.samples import Sample, Trend, lag_trends, memory_trends
from benchmarks.live.schedule import Window
from benchmarks.live.watch import Seen

# A process's first quarter holds its warming up, and Python's collector lets circles of objects wait until there are
# fifty thousand (`streams.worker`), some megabytes of them: so much more in the last quarter is still flat.
_FLAT_RATIO = 0.03
_FLAT_MEGABYTES = 8.0
_BEHIND_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line."""

    what: str
    holds: bool
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {'yes' if self.holds else 'NO'} ({self.why})"


def verdicts(rig: Rig, taken: Sequence[Sample], paced: Paced, stages: Sequence[str]) -> list[Verdict]:
    """All that must hold at the end."""
    last, rate = taken[-1], paced.asked_per_second
    gone = [name for name in stages if name not in last.rss_megabytes]
    answered, asked = len(rig.watch.event_seconds()), len(rig.watch.events)
    letters = ", ".join(f"{count} on {name}" for name, count in last.dead_letters.items())
    return [
        Verdict("every stage there at the end", not gone, ", ".join(gone) or "all"),
        _flat_memory({name: trend for name, trend in memory_trends(taken).items() if name in stages}),
        _kept_up({name: trend for name, trend in lag_trends(taken).items() if name in stages}, rate),
        Verdict("load reached", paced.kept_up, f"{paced.reached_per_second:.0f} of {rate:.0f} frames/s"),
        _once("power states, exactly one a site and window", rig.load.powers.closed(), rig.watch.powers),
        _once("load states, exactly one a site and window", rig.load.loads.closed(), rig.watch.loads),
        Verdict("every event answered", answered == asked, f"{answered} of {asked}"),
        Verdict("no dead letters", not letters, letters or "none"),
        Verdict("nothing late or skipped", not last.late + last.skipped, f"{last.late} late, {last.skipped} skipped"),
        Verdict("no restarts", not last.restarts, str(last.restarts)),
    ]


def _flat_memory(trends: Mapping[str, Trend]) -> Verdict:
    said = [f"{name} {trend.last - trend.first:+.1f} MB, {trend.by_hour:+.1f} MB/h" for name, trend in trends.items()]
    grown = [t for t in trends.values() if t.last - t.first > max(_FLAT_MEGABYTES, t.first * _FLAT_RATIO)]
    return Verdict("flat memory", not grown, "last quarter less first: " + "; ".join(said))


def _kept_up(trends: Mapping[str, Trend], frames_per_second: float) -> Verdict:
    said = [f"{name} {t.last:.0f} in the last quarter, {t.most:.0f} at most" for name, t in trends.items()]
    held = all(trend.last <= frames_per_second * _BEHIND_SECONDS for trend in trends.values())
    return Verdict("lag flat", held, "records: " + "; ".join(said))


def _once(what: str, expected: Mapping[Window, int], seen: Mapping[Window, Seen]) -> Verdict:
    missing = sum(window not in seen for window in expected)
    twice = sum(window in expected and each.times > 1 for window, each in seen.items())
    held = bool(expected) and not missing + twice
    return Verdict(what, held, f"{len(expected) - missing} of {len(expected)}, {twice} more than once")


def as_json(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as values."""
    return [{"what": each.what, "holds": each.holds, "why": each.why} for each in found]
