"""What shifts moved: each control's share over time, by the plans in the log, and the traffic that it took. Pure.

The trajectory counts traffic where it arrived, before any shift. Where it was to be served follows from the shares.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from schemas.catalog import FLEET_PLANS
from schemas.plan import FleetPlan, ShiftControl
from streams.simulate.kpis.span import Floats, counted_from, counted_ticks, time_of
from streams.simulate.log import Outcome, Trajectory


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """The share of a class's traffic that goes from one row of the trajectory to another, tick by tick from `first`."""

    donor: int
    acceptor: int
    service_class: int
    first: int
    shares: Floats


@dataclass(slots=True)
class _Saga:
    """One shift's history: since when it has been what."""

    times: list[datetime] = field(default_factory=list)
    states: list[ShiftControl] = field(default_factory=list)


def plans_of(outcome: Outcome) -> list[tuple[datetime, FleetPlan]]:
    """The plans in the log, claims left out, with the times of their appends."""
    return [
        (entry.at, entry.record)
        for entry in outcome.log
        if entry.topic == FLEET_PLANS.name and isinstance(entry.record, FleetPlan) and entry.record.kind == "plan"
    ]


def moves_of(outcome: Outcome) -> list[Move]:
    """Every shift that moved something."""
    trajectory, found = outcome.trajectory, []
    rows = {site_id: row for row, site_id in enumerate(trajectory.site_ids)}
    columns = {class_id: column for column, class_id in enumerate(trajectory.class_ids)}
    for saga in _sagas(outcome).values():
        last = saga.states[-1]
        begins = next((at for at, state in zip(saga.times, saga.states, strict=True) if state.phase == "ramping"), None)
        if begins is None or not {last.from_site_id, last.to_site_id} <= rows.keys():
            continue
        first, shares = _shares(saga, begins, trajectory)
        donor, acceptor = rows[last.from_site_id], rows[last.to_site_id]
        found.append(Move(donor, acceptor, columns[last.service_class], first, shares))
    return found


def arrivals_where_served(values: Floats, moved: list[Move]) -> Floats:
    """Traffic (S, K, C) counted at the site that it was sent to, from traffic counted where it arrived."""
    here = values.copy()
    for each in moved:
        span = slice(each.first, each.first + len(each.shares))
        taken = values[each.donor, span, each.service_class] * each.shares
        here[each.donor, span, each.service_class] -= taken
        here[each.acceptor, span, each.service_class] += taken
    return here


def shifts(outcome: Outcome, moved: list[Move]) -> dict[str, object]:
    """Shifts by the phase in which the log leaves them, and the generated tokens that they moved."""
    counted, since = counted_ticks(outcome), counted_from(outcome)
    arrived, tokens = outcome.trajectory.tokens_arrived, 0.0
    for each in moved:
        skipped = max(0, counted.start - each.first)
        span = slice(each.first + skipped, each.first + len(each.shares))
        tokens += float((arrived[each.donor, span, each.service_class] * each.shares[skipped:]).sum())
    phases = Counter(saga.states[-1].phase for saga in _sagas(outcome).values() if saga.times[-1] >= since)
    return {"by_end_state": dict(sorted(phases.items())), "tokens_moved": tokens}


def _sagas(outcome: Outcome) -> dict[str, _Saga]:
    sagas: dict[str, _Saga] = {}
    for at, plan in plans_of(outcome):
        for control in plan.shifts:
            saga = sagas.setdefault(control.control_id, _Saga())
            if not saga.states or _moves_on(saga.states[-1], control):
                saga.times.append(at)
                saga.states.append(control)
    return sagas


def _moves_on(before: ShiftControl, now: ShiftControl) -> bool:
    return (before.phase, before.phase_since, before.share_ratio) != (now.phase, now.phase_since, now.share_ratio)


def _shares(saga: _Saga, begins: datetime, trajectory: Trajectory) -> tuple[int, Floats]:
    """The first tick concerned, and the share in the middle of each tick from there until it is back at 0."""
    step, ticks = timedelta(seconds=trajectory.step_seconds), trajectory.meter_power_watts.shape[1]
    first = max(0, (begins - trajectory.starts_at) // step)
    shares: list[float] = []
    for tick in range(first, ticks):
        middle = time_of(trajectory, tick) + step / 2
        share = _share(saga, middle)
        if share == 0 and shares and middle >= saga.times[-1]:
            break
        shares.append(share)
    return first, np.array(shares)


def _share(saga: _Saga, now: datetime) -> float:
    """The share at a time: even ramps there and back, from where the shift was when it turned."""
    place = bisect_right(saga.times, now) - 1
    if place < 0:
        return 0.0
    state = saga.states[place]
    if now >= state.ends_at:
        return 0.0  # the sites let go by themselves, whatever became of the planner
    if state.phase == "active":
        return state.share_ratio
    if state.phase == "ramping":
        return state.share_ratio * _progress(state, now)
    if state.phase == "returning":
        reached = _share(_Saga(saga.times[:place], saga.states[:place]), state.phase_since)
        return max(0.0, reached - state.share_ratio * _progress(state, now))
    return 0.0


def _progress(state: ShiftControl, now: datetime) -> float:
    gone = (now - state.phase_since).total_seconds()
    return 1.0 if gone >= state.ramp_seconds else max(0.0, gone / state.ramp_seconds)
