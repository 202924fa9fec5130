"""What each event and emergency of a run asked for: of whom, from when until when, down to what. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.catalog import GRID_SIGNALS
from schemas.fleet import FleetFile
from schemas.plan import FleetPlan
from schemas.signals import EventSignal
from streams.simulate.kpis.moves import plans_of
from streams.simulate.kpis.span import counted_from, end_of, ticks_within
from streams.simulate.log import Outcome

# A baseline measured without asking the planner: the mean of the meter over this long before the event was published.
_MEASURED_OVER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Asked:
    """An event as its newest revision has it; a revision is judged only from when it was heard of.

    Powers in W are sums over the event's sites. `held_from`: the end of the ramp, from when on the target binds.
    """

    signal: EventSignal
    heard_at: datetime  # the first record of the event was appended
    asked_at: datetime
    held_from: datetime
    ends_at: datetime
    rows: tuple[int, ...]  # of the trajectory
    base_power_watts: float | None
    measured_base_power_watts: float | None

    @property
    def target_power_watts(self) -> float | None:
        """The target by the baseline that the planner pinned when it first answered; measured where it pinned none."""
        return self._target(self.base_power_watts)

    @property
    def measured_target_power_watts(self) -> float | None:
        """The target by the measured baseline."""
        return self._target(self.measured_base_power_watts)

    def _target(self, base: float | None) -> float | None:
        if self.signal.reduction_ratio is None:
            return self.signal.target_power_watts
        return None if base is None else base * (1 - self.signal.reduction_ratio)


def all_asked(outcome: Outcome, fleet_file: FleetFile) -> list[Asked]:
    """The events of a run that lie after its warm-up at least in part, in the order of their starts.

    One that was withdrawn ends when that was heard of, and is left out if that was before it began.
    """
    heard: dict[str, list[tuple[datetime, EventSignal]]] = {}
    for entry in outcome.log:
        if entry.topic == GRID_SIGNALS.name and isinstance(entry.record, EventSignal):
            heard.setdefault(entry.record.signal_id, []).append((entry.at, entry.record))
    pinned = _pinned(plan for _, plan in plans_of(outcome))
    found = [_asked(outcome, fleet_file, revisions, pinned) for revisions in heard.values()]
    since, until = counted_from(outcome), end_of(outcome.trajectory)
    judged = [each for each in found if each.rows and max(since, each.asked_at) < min(until, each.ends_at)]
    return sorted(judged, key=lambda each: (each.asked_at, each.signal.signal_id))


def _pinned(plans: Iterable[FleetPlan]) -> dict[tuple[str, str], float]:
    first: dict[tuple[str, str], float] = {}
    for plan in plans:
        for baseline in plan.baselines:
            first.setdefault((baseline.signal_id, baseline.site_id), baseline.power_watts)
    return first


def _asked(
    outcome: Outcome,
    fleet_file: FleetFile,
    revisions: list[tuple[datetime, EventSignal]],
    pinned: dict[tuple[str, str], float],
) -> Asked:
    heard_at, first = revisions[0]
    newest_at, newest = max(revisions, key=_published)
    standing = [each for each in revisions if not each[1].cancelled] or revisions
    _, signal = max(standing, key=_published)
    # Said again without a change, an event is the one that it was.
    said_at, signal = next(each for each in standing if _substance(each[1]) == _substance(signal))
    ends_at = min(signal.ends_at, newest_at) if newest.cancelled else signal.ends_at
    asked_at = max(signal.starts_at, signal.published_at, *([] if signal is first else [said_at]))
    sites = signal.site_ids or list(outcome.trajectory.site_ids)
    rows = tuple(
        row
        for row, site_id in enumerate(outcome.trajectory.site_ids)
        if site_id in sites and fleet_file.fleet_of(site_id) == signal.fleet_id
    )
    measured = [_measured(outcome, row, first.published_at) for row in rows]
    by_plan = [pinned.get((signal.signal_id, outcome.trajectory.site_ids[row])) for row in rows]
    return Asked(
        signal=signal,
        heard_at=heard_at,
        asked_at=asked_at,
        held_from=asked_at + timedelta(seconds=signal.ramp_seconds),
        ends_at=ends_at,
        rows=rows,
        base_power_watts=_sum([of if ours is None else ours for ours, of in zip(by_plan, measured, strict=True)]),
        measured_base_power_watts=_sum(measured),
    )


def _published(revision: tuple[datetime, EventSignal]) -> datetime:
    return revision[1].published_at


def _substance(signal: EventSignal) -> EventSignal:
    return signal.model_copy(update={"published_at": signal.starts_at})


def _measured(outcome: Outcome, row: int, published_at: datetime) -> float | None:
    ticks = ticks_within(outcome.trajectory, published_at - _MEASURED_OVER, published_at)
    power = outcome.trajectory.meter_power_watts[row, ticks]
    return float(power.mean()) if power.size else None


def _sum(powers: list[float | None]) -> float | None:
    known = [each for each in powers if each is not None]
    return sum(known) if known and len(known) == len(powers) else None
