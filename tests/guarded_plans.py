"""A plan, what is known of three sites, and what the guard makes of it."""

from functools import partial
from typing import Any

from schemas.fleet import Fleet, FleetFile
from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from schemas.signals import EventSignal
from streams.policy.guard import guard
from streams.policy.view import FleetView
from tests import policy_cases
from tests.policy_cases import (
    FLEET,
    FLEET_FILE,
    SITES,
    at,
    empty_plan,
    power,
    price,
)

throttle_control = partial(policy_cases.throttle_control, explanation="a case")


shift_control = partial(policy_cases.shift_control, explanation="a case")


def guarded(
    *throttles: ThrottleControl,
    shifts: tuple[ShiftControl, ...] = (),
    now: float = 0,
    before: FleetPlan | None = None,
    view: FleetView | None = None,
    fleet_file: FleetFile = FLEET_FILE,
) -> FleetPlan:
    """The plan of these controls, guarded; where nothing else is said the plan before had the same shifts."""
    plan = a_plan(*throttles, shifts=shifts)
    before = a_plan(shifts=shifts) if before is None else before
    return guard(plan, before, a_seeing_view(now) if view is None else view, fleet_file, at(now))


def a_plan(*throttles: ThrottleControl, shifts: tuple[ShiftControl, ...] = (), **more: Any) -> FleetPlan:
    return empty_plan().model_copy(
        update={"throttles": list(throttles), "shifts": list(shifts), "mode": "normal"} | more
    )


def a_seeing_view(now: float = 0, *events: EventSignal, fleet: Fleet = FLEET) -> FleetView:
    """Power and price are known of every site."""
    view = FleetView(fleet)
    for site in SITES:
        view.observe(power(site, now, 40_000.0))
        view.observe(price(site, 50.0, now - 10, now + 300))
    for each in events:
        view.observe(each)
    return view
