"""The plan: events at once, then the strike price, then shifts. Pure: the same inputs give the same plan.

By rules alone it shares an event out by the sites' baselines, goes as deep as the strike prices say and moves traffic
from the dearest site to the cheapest. Where the optimiser has looked further, it says how an event is shared out, how
deep a dear hour goes and what moves where; the rest stays as it is.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from schemas.fleet import FleetFile
from schemas.plan import FleetPlan, Inputs, Mode, Rejected, Schedule, ShiftControl, SiteSchedule, ThrottleControl
from streams.policy.baselines import pinned_baselines
from streams.policy.economics import dwells_after, economic_throttles
from streams.policy.events import RESPONSE, asked_of, event_throttles
from streams.policy.feedback import Asked, track
from streams.policy.moves import Pair, moved_shifts, shares_given
from streams.policy.optimise import Solution
from streams.policy.spread import spread_shifts
from streams.policy.strike import strikes
from streams.policy.view import FleetView, is_meter_plausible


def plan(
    view: FleetView,
    previous: FleetPlan,
    fleet_file: FleetFile,
    now: datetime,
    unresponsive: Collection[str] = (),
    solution: Solution | None = None,
    *,
    goes_on: bool = False,
) -> FleetPlan:
    """The plan that follows `previous`, given what is known at `now` and, if there is one, the optimiser's solution.

    Without one, `goes_on` says that what the optimiser planned before stands as it is: a planner that has just taken
    over has not asked it yet. Sites that leave commands `unresponsive` take part in no shift.

    Not yet guarded. `epoch`, `sequence` and `revision` are left as they were: numbering is the caller's.
    """
    rejected: list[Rejected] = []
    stale = view.stale_sites(now)
    baselines = pinned_baselines(view, previous, fleet_file, now)
    asked = asked_of(view, baselines, fleet_file, now)
    tracking = track(view, asked, previous, unresponsive, now)
    intent = _planned(asked, solution) if solution is not None else _held(asked, previous, now) if goes_on else None
    split = {} if intent is None else intent.split_watts
    events = event_throttles(view, asked, previous.throttles, fleet_file, rejected, tracking, split)
    dwells = dwells_after(view, previous, fleet_file, now)
    # At a site under an event an economic throttle stands back, and takes over from it: the guard sees to that.
    held = None if intent is None else intent.held_watts
    throttles = [
        *events,
        *economic_throttles(view, previous, dwells, baselines, fleet_file, now, rejected, held),
    ]
    out = {*view.silent_sites(now), *unresponsive}
    if intent is None:
        under_event = {control.site_id for control in events if control.starts_at - RESPONSE <= now < control.ends_at}
        shifts = spread_shifts(view, previous.shifts, fleet_file, now, {*under_event, *out}, rejected)
    else:
        shifts = moved_shifts(view, previous.shifts, intent.moves, fleet_file, now, out)
    mode = _mode(view, stale, now)
    return previous.model_copy(
        update={
            "kind": "plan",
            "issued_at": now,
            "mode": mode,
            "planner": "rules" if intent is None else "optimiser",
            "explanation": _explain(mode, [each for each in throttles if each.ends_at > now], shifts, stale, view),
            "throttles": throttles,
            "shifts": shifts,
            "baselines": baselines,
            "dwells": dwells,
            "schedule": _schedule(solution) if solution is not None else previous.schedule if goes_on else None,
            "strikes": strikes(view, fleet_file),
            "tracking": tracking,
            "rejected": rejected,
            "inputs": _inputs(view, stale, now),
        }
    )


@dataclass(frozen=True, slots=True)
class _Intent:
    """What the optimiser would have: how an event is shared out, who is held for money and at how much, what moves."""

    split_watts: dict[str, dict[str, float]]
    held_watts: dict[str, float]
    moves: dict[Pair, float]


def _planned(asked: list[Asked], solution: Solution) -> _Intent:
    moves = {(move.from_site_id, move.to_site_id, move.service_class): move.share_ratio for move in solution.moves}
    return _Intent(_split(asked, solution), _held_watts(solution), moves)


def _held(asked: list[Asked], previous: FleetPlan, now: datetime) -> _Intent:
    """What is in force, as it is."""
    split = {
        each.event.signal_id: {
            control.site_id: control.target_power_watts
            for control in previous.throttles
            if control.caused_by == [each.event.signal_id]
        }
        for each in asked
    }
    held = {
        control.site_id: control.target_power_watts
        for control in previous.throttles
        if control.reason == "economics" and control.starts_at <= now < control.ends_at
    }
    return _Intent(split, held, shares_given(previous.shifts))


def _split(asked: list[Asked], solution: Solution) -> dict[str, dict[str, float]]:
    """By event and site: the mean power that the optimiser has planned while the event holds, its ramp left out."""
    split = {}
    for each in asked:
        since = (each.event.starts_at - solution.starts_at).total_seconds() + each.event.ramp_seconds
        until = (each.event.ends_at - solution.starts_at).total_seconds()
        steps = solution.power_watts.shape[1]
        first = max(0, int(since // solution.step_seconds))
        last = min(steps, max(first + 1, int(until // solution.step_seconds)))
        if until > 0 and first < last:
            power = dict(zip(solution.site_ids, solution.power_watts[:, first:last].mean(axis=1).tolist(), strict=True))
            split[each.event.signal_id] = {site_id: power[site_id] for site_id in each.base_watts if site_id in power}
    return split


def _held_watts(solution: Solution) -> dict[str, float]:
    """The sites that the optimiser would hold below what they draw by themselves, and at how much."""
    return {
        site_id: float(solution.power_watts[number, 0])
        for number, site_id in enumerate(solution.site_ids)
        if solution.throttled[number, 0]
    }


def _schedule(solution: Solution) -> Schedule:
    return Schedule(
        starts_at=solution.starts_at,
        step_seconds=solution.step_seconds,
        iterations=solution.iterations,
        sites=[
            SiteSchedule(site_id=site_id, power_watts=[round(watts, 1) for watts in row])
            for site_id, row in zip(solution.site_ids, solution.power_watts.tolist(), strict=True)
        ],
    )


def _mode(view: FleetView, stale: list[str], now: datetime) -> Mode:
    if len(stale) == len(view.fleet.sites):
        return "hold"
    if any(view.price_at(site.settlement_point, now) is None for site in view.fleet.sites):
        return "price-blind"
    return "normal"


def _explain(
    mode: Mode, throttles: list[ThrottleControl], shifts: list[ShiftControl], stale: list[str], view: FleetView
) -> str:
    parts = [f"mode {mode}"]
    if throttles:
        parts.append(f"{len(throttles)} throttle(s): " + "; ".join(control.explanation for control in throttles))
    moving = [control for control in shifts if control.phase not in {"done", "aborted"}]
    if moving:
        parts.append(f"{len(moving)} shift(s): " + "; ".join(control.explanation for control in moving))
    if stale:
        parts.append("no recent power from " + ", ".join(stale))
    doubted = [
        site.id
        for site in view.fleet.sites
        if (power := view.sites[site.id].power) is not None and not is_meter_plausible(power, site)
    ]
    if doubted:
        parts.append("meters contradict the GPUs' power, the higher is taken: " + ", ".join(doubted))
    return ". ".join(parts)


def _inputs(view: FleetView, stale: list[str], now: datetime) -> Inputs:
    windows = [site.power.window_end for site in view.sites.values() if site.power]
    forecasts = [site.forecast.issued_at for site in view.sites.values() if site.forecast]
    prices = [view.price_at(site.settlement_point, now) for site in view.fleet.sites]
    signals = {signal.signal_id for signal in (*view.events_ahead(now), *prices) if signal is not None}
    return Inputs(
        newest_power_window_end=max(windows, default=None),
        newest_forecast_issued_at=max(forecasts, default=None),
        signal_ids=sorted(signals),
        stale_site_ids=stale,
    )
