"""How each event was answered: power against target minute by minute, how soon, how even, and what it cost. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from schemas.catalog import SITE_COMMANDS
from schemas.command import Release, Shift, Throttle
from schemas.fleet import FleetFile
from schemas.plan import FleetPlan
from streams.simulate.kpis.asked import Asked, all_asked
from streams.simulate.kpis.moves import plans_of
from streams.simulate.kpis.offered import Offers, offers_of
from streams.simulate.kpis.span import (
    Floats,
    minute_seconds,
    minutes_of,
    ratio,
    ticks_per_minute,
    ticks_within,
    time_of,
)
from streams.simulate.log import Outcome, Trajectory

# The margin is what floating point leaves.
_ROUNDING = 1 + 1e-9
# A site that restores is looked at for so long after the event, and for the time that the sites wait for one another.
_RESTORE = timedelta(minutes=15)

Plans = Sequence[tuple[datetime, FleetPlan]]


def event_figures(outcome: Outcome, fleet_file: FleetFile) -> list[dict[str, Any]]:
    """The KPIs of each event and emergency, in the order of their starts.

    A minute is a whole minute from the end of the ramp on, judged by the mean true power at the meters of the event's
    sites together. The target is the grid's: from the baseline that the planner pinned when it first answered and,
    beside it, from one measured independently (the five minutes before the event was published).
    """
    plans, told, offers = plans_of(outcome), _first_told(outcome), offers_of(outcome)
    return [
        _judged(asked, outcome.trajectory, fleet_file, plans, told, offers) for asked in all_asked(outcome, fleet_file)
    ]


def _judged(
    asked: Asked,
    trajectory: Trajectory,
    fleet_file: FleetFile,
    plans: Plans,
    told: Mapping[str, datetime],
    offers: Offers,
) -> dict[str, Any]:
    power = trajectory.meter_power_watts[list(asked.rows)].sum(axis=0)
    held = ticks_within(trajectory, asked.held_from, asked.ends_at)
    minutes = minutes_of(trajectory, power[held]).mean(axis=-1)
    target, base = asked.target_power_watts, asked.base_power_watts
    delivered = base - float(minutes.mean()) if base is not None and len(minutes) else None
    offered = offers.before(asked, trajectory)
    first = told.get(asked.signal.signal_id)
    return {
        "signal_id": asked.signal.signal_id,
        "kind": asked.signal.kind,
        "sites": [trajectory.site_ids[row] for row in asked.rows],
        "starts_at": _text(asked.signal.starts_at),
        "ends_at": _text(asked.ends_at),
        "base_power_watts": base,
        "target_power_watts": target,
        "measured_base_power_watts": asked.measured_base_power_watts,
        "measured_target_power_watts": asked.measured_target_power_watts,
        "minutes": _in_minutes(len(minutes), trajectory),
        "minutes_over_target": _over(minutes, target, trajectory),
        "minutes_over_measured_target": _over(minutes, asked.measured_target_power_watts, trajectory),
        "worst_minute_over_target_ratio": _worst(minutes, target),
        "delivered_power_watts": delivered,
        "over_delivery_ratio": _over_delivery(delivered, base, target),
        "time_to_target_seconds": _time_to_target(asked, trajectory, power),
        "command_latency_seconds": None if first is None else (first - asked.heard_at).total_seconds(),
        "tracking_mae_ratio": _mean_error(minutes, target),
        **_tracking_where_possible(asked, trajectory, plans, held),
        **_restore(asked, trajectory, fleet_file, power),
        **_service(asked, trajectory),
        **offered.beside(delivered, base, target),
    }


def _first_told(outcome: Outcome) -> dict[str, datetime]:
    """By signal, when the first command that answers it was appended."""
    told: dict[str, datetime] = {}
    for at, topic, record in outcome.judged():
        if topic == SITE_COMMANDS.name and isinstance(record, Throttle | Shift | Release):
            for signal_id in record.caused_by:
                told.setdefault(signal_id, at)
    return told


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _in_minutes(count: int, trajectory: Trajectory) -> int:
    return round(count * minute_seconds(trajectory) / 60)


def _over(minutes: Floats, target: float | None, trajectory: Trajectory) -> int | None:
    # Of what was not judged nothing is said: neither that it was good nor that it was not.
    if target is None or not len(minutes):
        return None
    return _in_minutes(int((minutes > target * _ROUNDING).sum()), trajectory)


def _worst(minutes: Floats, target: float | None) -> float | None:
    return float(minutes.max()) / target - 1 if target and len(minutes) else None


def _mean_error(minutes: Floats, target: float | None) -> float | None:
    return float(np.abs(minutes - target).mean()) / target if target and len(minutes) else None


def _over_delivery(delivered: float | None, base: float | None, target: float | None) -> float | None:
    """What was given beyond what was asked, of what was asked; 0 where less was given, or nothing asked."""
    if delivered is None or base is None or target is None:
        return None
    return 0.0 if base <= target else max(0.0, delivered / (base - target) - 1)


def _time_to_target(asked: Asked, trajectory: Trajectory, power: Floats) -> float | None:
    """From when it was asked to the end of the first tick at or below the target after which no minute is above it.

    0 where the power was there already, null where it never stayed.
    """
    target, span = asked.target_power_watts, ticks_within(trajectory, asked.asked_at, asked.ends_at)
    if target is None or span.start == span.stop:
        return None
    below = power[span] <= target * _ROUNDING
    length = min(ticks_per_minute(trajectory), span.stop - span.start)
    sums = np.concatenate([[0.0], np.cumsum(power[span])])
    rolling = (sums[length:] - sums[:-length]) / length
    above = np.flatnonzero(rolling > target * _ROUNDING)
    after = int(above[-1]) + 1 if len(above) else 0
    there = np.flatnonzero(below[after:])
    if not len(there):
        return None
    place = after + int(there[0])
    return 0.0 if place == 0 else (time_of(trajectory, span.start + place + 1) - asked.asked_at).total_seconds()


def _tracking_where_possible(asked: Asked, trajectory: Trajectory, plans: Plans, held: slice) -> dict[str, Any]:
    """The error over those minutes of sites in which work waited all the time: there the target could be reached.

    A site's part of the event's target is what the plan in force made it.
    """
    parts = _site_parts(asked, trajectory, plans, held)
    if parts is None:
        return {"tracking_mae_where_possible_ratio": None, "possible_site_minutes": 0}
    rows = list(asked.rows)
    meters = minutes_of(trajectory, trajectory.meter_power_watts[rows, held]).mean(axis=-1)
    targets = minutes_of(trajectory, parts).mean(axis=-1)
    possible = minutes_of(trajectory, _work_waiting(trajectory, rows, held)).all(axis=-1) & ~np.isnan(targets)
    error, of = np.abs(meters - targets)[possible].sum(), targets[possible].sum()
    return {
        "tracking_mae_where_possible_ratio": ratio(float(error), float(of)),
        "possible_site_minutes": _in_minutes(int(possible.sum()), trajectory),
    }


def _work_waiting(trajectory: Trajectory, rows: list[int], ticks: slice) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether work waits at the end of a tick (R, T)."""
    waiting: np.ndarray[Any, np.dtype[np.bool_]] = trajectory.work_queued[rows, ticks].sum(axis=-1) > 0
    return waiting


def _site_parts(asked: Asked, trajectory: Trajectory, plans: Plans, held: slice) -> Floats | None:
    """The event's target split over its sites (R, T) as the throttles of the plans in force split it; NaN: no part."""
    target, ticks = asked.target_power_watts, held.stop - held.start
    if target is None or not ticks:
        return None
    planned = np.full((len(asked.rows), ticks), np.nan)
    rows = {trajectory.site_ids[row]: place for place, row in enumerate(asked.rows)}
    first = bisect_left(plans, asked.heard_at, key=_appended)
    last = bisect_right(plans, asked.ends_at, key=_appended)
    for at, plan in plans[first:last]:
        begin = max(0, ticks_within(trajectory, at, asked.ends_at).start - held.start)
        planned[:, begin:] = np.nan
        for control in plan.throttles:
            if asked.signal.signal_id in control.caused_by and control.site_id in rows:
                planned[rows[control.site_id], begin:] = control.target_power_watts
    # A site that no throttle holds draws what it draws; the others have to make up what is left of the target.
    free = np.isnan(planned)
    left = target - np.where(free, trajectory.meter_power_watts[list(asked.rows), held], 0.0).sum(axis=0)
    together = np.nansum(planned, axis=0)
    parts: Floats = planned * np.divide(left, together, out=np.zeros(ticks), where=together > 0)
    return np.where(parts > 0, parts, np.nan)


def _appended(plan: tuple[datetime, FleetPlan]) -> datetime:
    return plan[0]


def _restore(asked: Asked, trajectory: Trajectory, fleet_file: FleetFile, power: Floats) -> dict[str, Any]:
    """The largest rise from one minute to the next after the end, and what the ramps of the sites allow in a minute."""
    fleet = fleet_file.fleet(asked.signal.fleet_id)
    assert fleet is not None
    wait = timedelta(seconds=fleet.limits.stagger_seconds * (len(asked.rows) - 1))
    minute = timedelta(seconds=minute_seconds(trajectory))
    span = ticks_within(trajectory, asked.ends_at - minute, asked.ends_at + _RESTORE + wait)
    rises = np.diff(minutes_of(trajectory, power[span]).mean(axis=-1))
    sites = {trajectory.site_ids[row] for row in asked.rows}
    allowed = sum(site.ramp_up_watts_per_second for site in fleet.sites if site.id in sites)
    if fleet.limits.ramp_up_watts_per_second is not None:
        allowed = min(allowed, fleet.limits.ramp_up_watts_per_second)
    return {
        "restore_jump_watts": max(0.0, float(rises.max())) if len(rises) else None,
        "restore_jump_allowed_watts": allowed * minute.total_seconds(),
    }


def _service(asked: Asked, trajectory: Trajectory) -> dict[str, Any]:
    """What the fleet's users got while the event lasted, all sites together: traffic may have moved.

    `weighted_performance_ratio` is what Emerald reports of its field demonstration: the performance of each kind of
    work (here: a service class), 1 at most, weighted by its size (here: the tokens that it asked for).
    """
    span = ticks_within(trajectory, asked.asked_at, asked.ends_at)
    arrived, served = (each[:, span].sum(axis=(0, 1)) for each in (trajectory.tokens_arrived, trajectory.tokens_served))
    late, requests = (float(each[:, span].sum()) for each in (trajectory.requests_late, trajectory.requests_arrived))
    total = float(arrived.sum())
    return {
        "tokens_ratio": ratio(float(served.sum()), total),
        "weighted_performance_ratio": ratio(float(np.minimum(served, arrived).sum()), total),
        "late_ratio": ratio(late, requests),
    }
