"""One level of load: so many frames a second for so long, and how late states and commands were."""

import asyncio
from dataclasses import dataclass
from time import monotonic

from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS
from benchmarks.drain import ContenderError
from benchmarks.live.load import Paced
from benchmarks.live.processes import CpuMeter
from benchmarks.live.rig import Rig, Tell
from benchmarks.live.schedule import Window, microseconds_of
from infra.clock import wall_now

WANTED_SHARE = 0.7  # of what is drained from a backlog; what can't be kept up is no capacity
_SHARES = (WANTED_SHARE, 0.6, 0.5, 0.4, 0.3, 0.2)
_PROBE_SECONDS = 20.0
_EVENT_SECONDS = 0.5
_LEAD_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_BEHIND_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured while the load was on."""

    share: float
    paced: Paced
    state_seconds: list[float]  # from the reading that closed a window to its state on the bus
    age_seconds: list[float]  # from the window's end to its state on the bus
    event_seconds: list[float]  # from the event on the bus to the first command for it
    unanswered: list[str]
    states_missing: int
    newest_state_seconds: float  # the latest of those closed in the last window's time
    cores: dict[str, float]
    lag_records: dict[str, int]

    @property
    def lag_seconds(self) -> float:
        """The largest lag, as time at this pace."""
        return max(self.lag_records.values(), default=0) / self.paced.asked_per_second

    def doubts(self) -> list[str]:
        """Why the level was not sustained, a line each; empty if it was."""
        found = []
        if not self.paced.kept_up:
            reached, asked = self.paced.reached_per_second, self.paced.asked_per_second
            found.append(f"the generator reached {reached:.0f} of {asked:.0f} frames/s")
        if self.lag_seconds > _BEHIND_SECONDS:
            found.append(
                f"{max(self.lag_records.values())} records of lag at the end, {self.lag_seconds:.1f} s of load"
            )
        if self.newest_state_seconds > _BEHIND_SECONDS:
            found.append(f"the last states came {self.newest_state_seconds:.1f} s late")
        if self.states_missing:
            found.append(f"{self.states_missing} states did not come")
        return found


async def run_level(rig: Rig, share: float, frames_per_second: float, seconds: float) -> Level:
    """Runs one level, after a few seconds of the same load that don't count."""
    async with rig.speaking(_EVENT_SECONDS):
        await rig.load.run(frames_per_second, _LEAD_SECONDS)
        meter, began, began_us = CpuMeter.of(rig.pids()), monotonic(), microseconds_of(wall_now())
        paced = await rig.load.run(frames_per_second, seconds)
        cores, ended_us = meter.cores(rig.pids(), monotonic() - began), microseconds_of(wall_now())
        lag = await rig.lags.records()
    events = {name for name, at in rig.watch.events.items() if began_us / 1000 <= at <= ended_us / 1000}
    due = {
        window: closed_us
        for window, closed_us in rig.load.powers.closed().items()
        # A window that ended before the load began was closed by its beginning.
        if began_us <= closed_us <= ended_us and (window[1] + 1) * WINDOW_SECONDS * 1_000_000 >= began_us
    }
    await _until_answered(rig, events, due)
    answered = rig.watch.event_seconds()
    late = {
        window: rig.watch.powers[window].appended_ms / 1000 - closed_us / 1_000_000
        for window, closed_us in due.items()
        if window in rig.watch.powers
    }
    newest = ended_us - (WINDOW_SECONDS + LATENESS_SECONDS) * 1_000_000
    return Level(
        share=share,
        paced=paced,
        state_seconds=sorted(late.values()),
        age_seconds=sorted(
            rig.watch.powers[window].appended_ms / 1000 - (window[1] + 1) * WINDOW_SECONDS for window in late
        ),
        event_seconds=sorted(answered[name] for name in events if name in answered),
        unanswered=sorted(events - set(answered)),
        states_missing=len(due) - len(late),
        newest_state_seconds=max((late[window] for window in late if due[window] >= newest), default=0.0),
        cores=cores,
        lag_records=lag,
    )


async def _until_answered(rig: Rig, events: set[str], windows: dict[Window, int]) -> None:
    deadline = monotonic() + _ANSWER_SECONDS
    while monotonic() < deadline:
        if events <= set(rig.watch.answers) and set(windows) <= set(rig.watch.powers):
            return
        await asyncio.sleep(0.1)


async def sustained_capacity(rig: Rig, tell: Tell) -> tuple[float, str]:
    """Frames a second that all that follows is a share of, and what they are, in a line.

    That is what aggregate takes from a backlog, if 70 % of it can be kept up live. Where generator, broker and stages
    together have too few cores for that, it is the highest of a few paces, tried downwards, that all keep up with.

    Raises:
        ContenderError: not even the lowest was kept up.
    """
    drained, tried = rig.drained_per_second, list[str]()
    for share in _SHARES:
        tell(f"trying {drained * share:.0f} frames/s")
        level = await run_level(rig, share, drained * share, _PROBE_SECONDS)
        await rig.lags.until_at_rest()
        if not level.doubts():
            if share == WANTED_SHARE:
                return drained, "drained from a backlog, all stages running"
            short = f"{share:.0%} of the {drained:.0f} frames/s drained from a backlog"
            why = f"generator, broker and stages share the cores ({'; '.join(tried)})"
            return drained * share, f"the highest pace kept up, {short}: {why}"
        tried.append(f"at {share:.0%} {', '.join(level.doubts())}")
    raise ContenderError(f"not even {_SHARES[-1]:.0%} of {drained:.0f} frames/s was kept up: {level.doubts()[0]}")
