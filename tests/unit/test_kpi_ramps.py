"""When a ramp counts as broken: by a limit, by a meter, by the fleet."""

import numpy as np

from streams.simulate.kpis import kpis
from streams.simulate.log import Trajectory
from tests.kpi_cases import (
    POWER,
    a_trajectory,
    an_outcome,
    judged,
    ticks,
)
from tests.policy_cases import FLEET_FILE


def ramped(*points: tuple[float, float | None], site: int = 0) -> Trajectory:
    """A site whose limit changes at the seconds given, and whose meter, wanting 40 kW, follows it."""
    trajectory = a_trajectory()
    for seconds, watts in points:
        trajectory.limit_watts[site, ticks(seconds, 7200)] = np.nan if watts is None else watts
    trajectory.meter_power_watts[site] = np.fmin(POWER, trajectory.limit_watts[site])
    return trajectory


def broken(trajectory: Trajectory) -> tuple[int, int, int]:
    """At alpha by its limit and by its meter, and at the fleet."""
    by = judged(trajectory)["ramp_violations_by"]
    alpha = by["sites"]["alpha"]
    return alpha["limit"], alpha["meter"], by["fleets"]["trio"]


def test_ramps_that_are_kept_count_nothing() -> None:
    # 750 W/s down: 7.5 kW a tick. 150 W/s up: 1.5 kW a tick.
    up = [(3600 + 10 * tick, 30_000.0 + 1_500.0 * tick) for tick in range(1, 8)]
    trajectory = ramped((1800, 33_000.0), (1810, 30_000.0), *up, (3680, None))
    assert broken(trajectory) == (0, 0, 0)
    assert judged(trajectory)["ramp_violations"] == 0


def test_ramps_are_not_broken_by_demand() -> None:
    trajectory = a_trajectory()
    trajectory.meter_power_watts[:, ticks(1800, 3600)] = 10_000.0  # free, and falls and rises by itself
    assert broken(trajectory) == (0, 0, 0)
    below = ramped((1800, 45_000.0), (1900, 52_000.0), (2000, 35_000.0 + POWER))  # a limit that binds nobody
    assert broken(below) == (0, 0, 0)
    burst = ramped((1800, 35_000.0))
    burst.meter_power_watts[0, ticks(2400, 3000)] = 10_000.0  # demand goes and comes back below an even limit
    assert broken(burst) == (0, 0, 0)


def test_ramps_count_limits_that_step_down_or_up_or_let_go_at_once() -> None:
    # Down by 10 kW in a tick; up by 5 kW in a tick; let go 5 kW below what the site wants.
    assert broken(ramped((1800, 30_000.0)))[0] == 1
    assert broken(ramped((1800, 35_000.0), (1810, 30_000.0), (3600, 35_000.0)))[0] == 1
    assert broken(ramped((1800, 35_000.0), (3600, None)))[0] == 1


def test_ramps_count_minutes_in_which_a_meter_outruns_them() -> None:
    # Up 1.5 kW a tick would be 9 kW a minute; the site, let go, jumps by 15 kW within ten ticks and stays.
    trajectory = ramped((1800, 33_000.0), (1810, 26_000.0), (1820, 25_000.0), (3600, None))
    assert broken(trajectory) == (1, 1, 0)
    assert judged(trajectory)["sites"]["alpha"]["ramp_violations"] == 2


def test_ramps_of_the_fleet_hold_for_its_sites_together() -> None:
    limits = FLEET_FILE.fleets[0].limits.model_copy(update={"ramp_up_watts_per_second": 200.0})
    file = FLEET_FILE.model_copy(update={"fleets": (FLEET_FILE.fleets[0].model_copy(update={"limits": limits}),)})
    up = [(3600 + 10 * tick, 30_000.0 + 1_500.0 * tick) for tick in range(7)]
    one, all_three = a_trajectory(), a_trajectory()
    alone = ramped((1800, 33_000.0), (1810, 30_000.0), *up)
    one.limit_watts[0], one.meter_power_watts[0] = alone.limit_watts[0], alone.meter_power_watts[0]
    all_three.limit_watts[:], all_three.meter_power_watts[:] = alone.limit_watts[0], alone.meter_power_watts[0]
    # Each rises by no more than 9 kW a minute; the fleet may by 12 kW.
    for trajectory, expected in ((one, 0), (all_three, 1)):
        found = kpis(an_outcome(trajectory), file, None, None)["ramp_violations_by"]
        assert found["fleets"]["trio"] == expected
        assert not any(sum(each.values()) for each in found["sites"].values())
