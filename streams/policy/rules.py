"""The rule-based plan: events at once, then the strike price, then shifts. Pure: the same inputs give the same plan."""

from collections.abc import Collection
from datetime import datetime

from schemas.fleet import FleetFile
from schemas.plan import FleetPlan, Inputs, Mode, Rejected, ShiftControl, ThrottleControl
from streams.policy.baselines import pinned_baselines
from streams.policy.economics import dwells_after, economic_throttles
from streams.policy.events import RESPONSE, event_throttles
from streams.policy.shifts import plan_shifts
from streams.policy.view import FleetView


def plan(
    view: FleetView, previous: FleetPlan, fleet_file: FleetFile, now: datetime, unresponsive: Collection[str] = ()
) -> FleetPlan:
    """The plan that follows `previous`, given what is known at `now`.

    Sites that leave commands `unresponsive` take part in no shift.

    Not yet guarded. `epoch`, `sequence` and `revision` are left as they were: numbering is the caller's.
    """
    rejected: list[Rejected] = []
    stale = view.stale_sites(now)
    baselines = pinned_baselines(view, previous, fleet_file, now)
    events = event_throttles(view, baselines, fleet_file, now, rejected)
    dwells = dwells_after(view, previous, now)
    # At a site under an event an economic throttle stands back, and takes over from it: the guard sees to that.
    throttles = [*events, *economic_throttles(view, previous, dwells, baselines, fleet_file, now, rejected)]
    under_event = {control.site_id for control in events if control.starts_at - RESPONSE <= now < control.ends_at}
    shifts = plan_shifts(view, previous.shifts, fleet_file, now, {*under_event, *stale, *unresponsive}, rejected)
    mode = _mode(view, stale, now)
    return previous.model_copy(
        update={
            "kind": "plan",
            "issued_at": now,
            "mode": mode,
            "explanation": _explain(mode, [each for each in throttles if each.ends_at > now], shifts, stale),
            "throttles": throttles,
            "shifts": shifts,
            "baselines": baselines,
            "dwells": dwells,
            "rejected": rejected,
            "inputs": _inputs(view, stale, now),
        }
    )


def _mode(view: FleetView, stale: list[str], now: datetime) -> Mode:
    if len(stale) == len(view.fleet.sites):
        return "hold"
    if any(view.price_at(site.settlement_point, now) is None for site in view.fleet.sites):
        return "price-blind"
    return "normal"


def _explain(mode: Mode, throttles: list[ThrottleControl], shifts: list[ShiftControl], stale: list[str]) -> str:
    parts = [f"mode {mode}"]
    if throttles:
        parts.append(f"{len(throttles)} throttle(s): " + "; ".join(control.explanation for control in throttles))
    moving = [control for control in shifts if control.phase not in {"done", "aborted"}]
    if moving:
        parts.append(f"{len(moving)} shift(s): " + "; ".join(control.explanation for control in moving))
    if stale:
        parts.append("no recent power from " + ", ".join(stale))
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
