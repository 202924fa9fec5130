"""Meter power against rules 1 and 6: no site rises faster than its ramp, with another, or in the midst of an event.

Load comes and goes by itself; only what a throttle's end or change lets rise is judged. A site that is let go has a
limit that rises from what it was held at: its power stays below that line.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.site import PowerState
from streams.simulate.safety_ledger import GRID_REASONS, Finding, Hold, Ledger, SiteBook, strongest

_MINUTE = timedelta(seconds=60)
# Of the import limit: meter noise (0.3 % a reading), the actuator's lag, what a cap lets through beyond it.
_TOLERANCE_RATIO = 0.03
# Sites let go by their own clocks' ticks.
_TICK_SECONDS = 1.0


@dataclass(slots=True)
class _Rise:
    """A site on its way up: its limit left `from_watts` at `since`."""

    since: datetime
    from_watts: float
    ramp_watts_per_second: float
    to_watts: float
    told: bool = False

    def line_watts(self, moment: datetime) -> float:
        return self.from_watts + self.ramp_watts_per_second * max(0.0, (moment - self.since).total_seconds())

    def mean_line_watts(self, start: datetime, end: datetime) -> float:
        """Mean of the line over a span of time that ends after the rise began."""
        first, last = max(0.0, (start - self.since).total_seconds()), (end - self.since).total_seconds()
        return self.from_watts + self.ramp_watts_per_second * (last**2 - first**2) / (2 * (end - start).total_seconds())


@dataclass(slots=True)
class _Lapse:
    """What a site drew when its lease lapsed, and for which control."""

    control_id: str
    most_watts: float
    told: bool = False


class Power:
    """Follows the meters, and when each site is let go."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._targets: dict[str, float | None] = {}
        self._rises: dict[str, _Rise] = {}
        self._lapses: dict[str, _Lapse] = {}
        self._let_go: dict[str, datetime] = {}
        self._windows: dict[str, deque[tuple[datetime, float, float]]] = defaultdict(deque)
        self._minutes: dict[str, deque[tuple[datetime, float]]] = defaultdict(deque)

    def judge_moment(self, moment: datetime, book: SiteBook) -> Iterator[Finding]:
        """Something has begun or ended at a site: does it rise from now on, and does another?"""
        site_id = book.site.id
        ruling, before = strongest(book.held.values(), moment), self._targets.get(site_id)
        target = None if ruling is None else ruling.asks_watts(moment)
        self._targets[site_id] = target
        self._note_lapse(book, ruling, moment)
        if before is None or (target is not None and target <= before):
            if target is not None:
                self._rises.pop(site_id, None)
            return
        over = [each for each in book.held.values() if each.ends_at <= moment]
        freed_by = ruling or max(over, key=lambda each: each.ends_at, default=None)
        ramp = book.site.ramp_up_watts_per_second
        if freed_by is not None:
            ramp = min(ramp, freed_by.command.ramp_up_watts_per_second)
        from_watts = max(before, self._minute_mean(site_id, moment) or before)
        to_watts = book.site.import_limit_watts if target is None else target
        self._rises[site_id] = _Rise(moment, from_watts, ramp, to_watts)
        if target is None:
            # As it was told: that a release comes late is not the planner's doing.
            let_go_at = (freed_by.let_go_at if freed_by is not None else None) or moment
            yield from self._together(let_go_at, book)
            self._let_go[site_id] = let_go_at
        yield from self._ramps_together(moment, book)

    def _note_lapse(self, book: SiteBook, ruling: Hold | None, moment: datetime) -> None:
        site_id = book.site.id
        if ruling is None or not ruling.has_lapsed(moment) or ruling.command.reason not in GRID_REASONS:
            self._lapses.pop(site_id, None)
        elif site_id not in self._lapses:
            drawn = self._minute_mean(site_id, moment) or 0.0
            most = max(ruling.command.target_power_watts, drawn)
            self._lapses[site_id] = _Lapse(ruling.command.control_id, most)

    def _together(self, moment: datetime, book: SiteBook) -> Iterator[Finding]:
        stagger = book.fleet.limits.stagger_seconds - _TICK_SECONDS
        for other in book.fleet.sites:
            at = self._let_go.get(other.id)
            if other.id != book.site.id and at is not None and abs((moment - at).total_seconds()) < stagger:
                yield (6, moment, book.site.id, f"let go {abs((moment - at).total_seconds()):.0f} s from {other.id}")

    def _ramps_together(self, moment: datetime, book: SiteBook) -> Iterator[Finding]:
        most = book.fleet.limits.ramp_up_watts_per_second
        rising = [rise for rise in self._rising(book) if rise.line_watts(moment) < rise.to_watts]
        together = sum(rise.ramp_watts_per_second for rise in rising)
        if most is not None and together > most * (1 + 1e-6):
            yield (6, moment, book.site.id, f"{len(rising)} sites rise at {together:.0f} W/s together")

    def _rising(self, book: SiteBook) -> list[_Rise]:
        return [self._rises[site.id] for site in book.fleet.sites if site.id in self._rises]

    def judge_state(self, state: PowerState) -> Iterator[Finding]:
        """A window of meter power."""
        book = self._ledger.sites[state.site_id]
        watts = state.meter_power_watts
        watts = state.it_power_watts * book.site.pue if watts is None else watts
        self._observe(state, watts)
        rise, lapse = self._rises.get(state.site_id), self._lapses.get(state.site_id)
        if rise is None and lapse is None:
            return
        mean, tolerance = self._minute_mean(state.site_id, state.window_end), self._tolerance(book)
        if lapse is not None and not lapse.told and mean is not None and mean > lapse.most_watts + tolerance:
            lapse.told = True
            yield (1, state.window_end, state.site_id, f"{lapse.control_id} lapsed, and it rose to {mean:.0f} W")
        if rise is None or mean is None or state.window_end <= rise.since:
            return
        oldest = self._windows[state.site_id][0]
        line = rise.mean_line_watts(oldest[0] - timedelta(seconds=oldest[2]), state.window_end)
        if not rise.told and mean > line + tolerance:
            rise.told = True
            yield (6, state.window_end, state.site_id, f"{mean:.0f} W, {line:.0f} W by its ramp since {rise.since:%T}")
        yield from self._fleet_rise(state.window_end, book)
        if line >= rise.to_watts:
            del self._rises[state.site_id]

    def _fleet_rise(self, moment: datetime, book: SiteBook) -> Iterator[Finding]:
        most = book.fleet.limits.ramp_up_watts_per_second
        if most is None:
            return
        rising = {site.id: self._rises[site.id] for site in book.fleet.sites if site.id in self._rises}
        together = 0.0
        for site_id, rise in rising.items():
            minutes = self._minutes[site_id]
            if minutes and minutes[-1][0] - minutes[0][0] >= _MINUTE:
                together += max(0.0, minutes[-1][1] - max(rise.from_watts, minutes[0][1]))
        tolerance = sum(self._tolerance(self._ledger.sites[site_id]) for site_id in rising)
        if together > most * 60 + tolerance and not all(rise.told for rise in rising.values()):
            for rise in rising.values():
                rise.told = True
            yield (6, moment, book.site.id, f"the fleet rose by {together:.0f} W in a minute")

    def _observe(self, state: PowerState, watts: float) -> None:
        windows, minutes = self._windows[state.site_id], self._minutes[state.site_id]
        if windows and state.window_end <= windows[-1][0]:
            return
        windows.append((state.window_end, watts, (state.window_end - state.window_start).total_seconds()))
        while windows[0][0] <= state.window_end - _MINUTE:
            windows.popleft()
        minutes.append((state.window_end, sum(w * s for _, w, s in windows) / sum(s for _, _, s in windows)))
        while len(minutes) > 2 and minutes[1][0] <= state.window_end - _MINUTE:
            minutes.popleft()

    def _minute_mean(self, site_id: str, moment: datetime) -> float | None:
        """Mean over the minute that ended last by `moment`; None before there was one."""
        for at, mean in reversed(self._minutes[site_id]):
            if at <= moment:
                return mean
        return None

    @staticmethod
    def _tolerance(book: SiteBook) -> float:
        return _TOLERANCE_RATIO * book.site.import_limit_watts
