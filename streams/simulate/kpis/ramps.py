"""Where power rose or fell faster than the declared ramps, and it was our doing. Pure.

Demand moves a meter too, and that is not ours: what counts is how far a limit pushed a site down from where its meter
stood, and how far a site rose that a limit had held down. Once tick by tick, from the limits, and once minute by minute
at the meters, of each site and of the sites of a fleet together while any of their limits moves.

Tolerances: 1 W between two limits; where a limit is compared with a meter, or meters with one another, 0.5 % of the
sites' full power (actuators lag, a limit starts from a noisy reading).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import Fleet, FleetFile, Site
from streams.capacity import full_power_watts
from streams.simulate.kpis.span import Floats, counted_ticks, minute_seconds, minutes_of
from streams.simulate.log import Outcome, Trajectory

_LIMIT_TOLERANCE_WATTS = 1.0
_METER_TOLERANCE_RATIO = 0.005
# A meter this near to its limit, or above it, is held down by it.
_BINDS_RATIO = 0.95

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Moved:
    """By minute (M - 1): how far our limit pushed a site down or let it up since the minute before, W."""

    down_watts: Floats
    up_watts: Floats


def ramp_violations(outcome: Outcome, fleet_file: FleetFile) -> dict[str, Any]:
    """Counts: `limit` ticks and `meter` minutes by site, `fleet` minutes by fleet, and all of them together."""
    trajectory, counted = outcome.trajectory, counted_ticks(outcome)
    by_site: dict[str, dict[str, int]] = {}
    by_fleet: dict[str, int] = {}
    for fleet in fleet_file.fleets:
        moved, tolerance = [], 0.0
        for site in fleet.sites:
            if site.id not in trajectory.site_ids:
                continue
            row = trajectory.site_ids.index(site.id)
            limit, meter = trajectory.limit_watts[row, counted], trajectory.meter_power_watts[row, counted]
            slack = _METER_TOLERANCE_RATIO * full_power_watts(site, fleet_file)
            tolerance += slack
            moved.append(_moved(trajectory, limit, meter))
            by_site[site.id] = {
                "limit": _limit_steps(site, limit, meter, trajectory.step_seconds, slack),
                "meter": _meter_minutes(site, moved[-1], minute_seconds(trajectory), slack),
            }
        if moved:
            by_fleet[fleet.id] = _fleet_minutes(fleet, moved, minute_seconds(trajectory), tolerance)
    total = sum(sum(each.values()) for each in by_site.values()) + sum(by_fleet.values())
    return {"total": total, "sites": by_site, "fleets": by_fleet}


def _limit_steps(site: Site, limit: Floats, meter: Floats, step_seconds: float, slack: float) -> int:
    """Ticks in which the limit itself moved the site faster than its ramp."""
    before, now, drawn, draws = limit[:-1], limit[1:], meter[:-1], meter[1:]
    # Set where there was none, a limit pushes down from what the site drew.
    pushed = np.where(np.isnan(before), drawn - slack, np.minimum(before, drawn)) - now
    down = pushed > site.ramp_down_watts_per_second * step_seconds + _LIMIT_TOLERANCE_WATTS
    # Lifted, it lets up as far as the site then rises; raised, as far as it is raised.
    raised = np.where(np.isnan(now), draws - slack - np.maximum(before, drawn), now - before)
    up = raised > site.ramp_up_watts_per_second * step_seconds + _LIMIT_TOLERANCE_WATTS
    return int((down | (up & (drawn >= _BINDS_RATIO * before))).sum())


def _moved(trajectory: Trajectory, limit: Floats, meter: Floats) -> _Moved:
    changed = np.concatenate([[False], ~_same(limit[:-1], limit[1:])])
    limits, meters = minutes_of(trajectory, limit), minutes_of(trajectory, meter)
    moves: Bools = np.asarray(minutes_of(trajectory, changed).any(axis=-1))
    # An actuator lags: what a limit does at the end of a minute the meter shows in the next.
    ours = moves[1:] | moves[:-1]
    limit_last, meter_last = limits[..., -1], meters[..., -1]
    bound = np.greater_equal(meter_last, _BINDS_RATIO * limit_last)  # False where there is no limit: NaN compares so
    stood = np.fmax(limit_last, meter_last)
    pushed = np.where(ours & bound[1:], meter_last[:-1] - stood[1:], 0.0)
    rose = np.where(ours & bound[:-1], meter_last[1:] - stood[:-1], 0.0)
    return _Moved(np.maximum(0.0, pushed), np.maximum(0.0, rose))


def _same(a: Floats, b: Floats) -> Bools:
    same: Bools = (a == b) | (np.isnan(a) & np.isnan(b))
    return same


def _meter_minutes(site: Site, moved: _Moved, seconds: float, slack: float) -> int:
    down = moved.down_watts > site.ramp_down_watts_per_second * seconds + slack
    up = moved.up_watts > site.ramp_up_watts_per_second * seconds + slack
    return int((down | up).sum())


def _fleet_minutes(fleet: Fleet, moved: list[_Moved], seconds: float, slack: float) -> int:
    down, up = (fleet.limits.ramp_down_watts_per_second, fleet.limits.ramp_up_watts_per_second)
    pushed, rose = sum(each.down_watts for each in moved), sum(each.up_watts for each in moved)
    broken = np.zeros(len(moved[0].up_watts), dtype=np.bool_)
    if down is not None:
        broken |= pushed > down * seconds + slack
    if up is not None:
        broken |= rose > up * seconds + slack
    return int(broken.sum())
