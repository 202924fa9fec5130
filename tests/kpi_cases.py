"""Runs made by hand, for the tests of what a run is judged by: 2 h of `policy_cases`' three sites, a tick each 10 s.

Unless a test says otherwise every site draws 40 kW at 50 USD/MWh and serves what arrives in the tick in which it does.
"""

from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from schemas.catalog import FLEET_PLANS, GRID_SIGNALS, SITE_COMMANDS
from schemas.plan import Baseline, FleetPlan
from schemas.signals import EventSignal
from streams.simulate.kpis import kpis
from streams.simulate.log import Entry, Outcome, Trajectory
from tests.policy_cases import FLEET_FILE, NOON, SITES, at, empty_plan, event

STEP = 10.0
TICKS = 720
POWER = 40_000.0
CLASSES = ("interactive", "chat", "batch")
# Of each class, in each tick, at each site.
TOKENS, REQUESTS = 1000.0, 10.0
Figures = dict[str, Any]
# Heard at 20 min, to be reached within 2 min of 30 min, over at 60 min: 28 whole minutes.
EVENT = event(start=1800, end=3600, published_at=at(1200), ramp_seconds=120.0)
TARGET = 0.75 * 3 * POWER


def a_trajectory() -> Trajectory:
    """The two hours from noon on as they are unless a test says otherwise."""
    sites, shape = len(SITES), (len(SITES), TICKS)
    by_class = (*shape, len(CLASSES))
    return Trajectory(
        site_ids=SITES,
        class_ids=CLASSES,
        starts_at=NOON,
        step_seconds=STEP,
        meter_power_watts=np.full(shape, POWER),
        read_power_watts=np.full(shape, POWER),
        it_power_watts=np.full(shape, POWER / 1.25),
        limit_watts=np.full(shape, np.nan),
        price_usd_per_mwh=np.full((sites, TICKS), 50.0),
        tokens_arrived=np.full(by_class, TOKENS),
        tokens_served=np.full(by_class, TOKENS),
        work_queued=np.zeros(by_class),
        requests_arrived=np.full(by_class, REQUESTS),
        requests_late=np.zeros(by_class),
        mode=np.full(TICKS, "normal", dtype="<U16"),
    )


def an_outcome(trajectory: Trajectory, *log: Entry, warm_up_seconds: float = 0.0, **bars: float) -> Outcome:
    """A run of a scenario called `test`."""
    scenario = SimpleNamespace(name="test", about="does it hold?", warm_up_seconds=warm_up_seconds, bars=bars)
    ordered = sorted(log, key=lambda entry: entry.at)
    return Outcome(scenario=cast(Any, scenario), policy="planner", seed=1, log=ordered, trajectory=trajectory)


def ticks(start: float, end: float) -> slice:
    """The ticks of the seconds [start, end) after noon."""
    return slice(int(start / STEP), int(end / STEP))


def said(seconds: float, signal: EventSignal) -> Entry:
    """A signal as it is appended so many seconds after noon."""
    return Entry(at(seconds), GRID_SIGNALS.name, signal)


def sent(seconds: float, command: Any) -> Entry:
    """A command as it is appended so many seconds after noon."""
    return Entry(at(seconds), SITE_COMMANDS.name, command)


def planned(seconds: float, **more: Any) -> Entry:
    """A plan as it is appended so many seconds after noon."""
    return Entry(at(seconds), FLEET_PLANS.name, _plan(at(seconds), **more))


def _plan(issued_at: datetime, **more: Any) -> FleetPlan:
    return empty_plan().model_copy(update={"kind": "plan", "mode": "normal", "issued_at": issued_at, **more})


def pinned(watts: float, signal_id: str = "e1") -> list[Baseline]:
    """The baseline of each site for an event."""
    return [Baseline(signal_id=signal_id, site_id=site, power_watts=watts) for site in SITES]


def judged(trajectory: Trajectory, *log: Entry, **more: float) -> Figures:
    return kpis(an_outcome(trajectory, *log, **more), FLEET_FILE, None, None)


def held(watts: float, start: float = 1800, end: float = 3600) -> Trajectory:
    """Every site at so many watts over the seconds [start, end)."""
    trajectory = a_trajectory()
    trajectory.meter_power_watts[:, ticks(start, end)] = watts
    return trajectory


def the_event(trajectory: Trajectory, *log: Entry, signal: EventSignal = EVENT, base: float = POWER) -> Figures:
    """The KPIs of the one event, its baseline pinned when it was heard of."""
    said_at = (signal.published_at - at(0)).total_seconds()
    plan = planned(said_at, baselines=pinned(base))
    (only,) = judged(trajectory, said(said_at, signal), plan, *log)["events"]
    return dict(only)
