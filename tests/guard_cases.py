"""Any plan, any plan before it, anything known: what the guard is attacked with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from math import prod
from typing import Any, TypeVar, get_args

from hypothesis import strategies as st

from schemas.command import PRECEDENCE
from schemas.fleet import FleetFile, Link
from schemas.plan import FleetPlan, Mode, ShiftControl, ShiftPhase, ThrottleControl
from schemas.signals import EventSignal
from streams.policy.guard import guard
from streams.policy.view import FleetView
from tests import policy_cases
from tests.policy_cases import FLEET, FLEET_FILE, SITES, at, empty_plan, event, power, price, shift_control

Drawn = TypeVar("Drawn")

LIVING = ("proposed", "reserved", "ramping", "active", "returning")
NOW = at(300)


@dataclass(frozen=True)
class Situation:
    """All that the guard is given."""

    plan: FleetPlan
    before: FleetPlan
    view: FleetView
    fleet_file: FleetFile
    now: datetime = NOW

    def guarded(self, plan: FleetPlan | None = None) -> FleetPlan:
        """The plan, or another in its place, guarded."""
        return guard(plan or self.plan, self.before, self.view, self.fleet_file, self.now)


def one_of_each(build: Callable[..., Drawn], *choices: Sequence[Any]) -> st.SearchStrategy[Drawn]:
    """Builds from one of each of the choices, the first ones the simplest.

    A few numbers are drawn and not a dozen choices: drawing these would take twenty times as long as guarding. Each
    stays below 2^24: hypothesis draws greater ones mostly from among the small.
    """
    groups: list[list[Sequence[Any]]] = [[]]
    for options in choices:
        if prod(map(len, groups[-1])) * len(options) > 2**24:
            groups.append([])
        groups[-1].append(options)

    def built(numbers: tuple[int, ...]) -> Drawn:
        chosen = []
        for drawn, group in zip(numbers, groups, strict=True):
            rest = drawn
            for options in group:
                rest, place = divmod(rest, len(options))
                chosen.append(options[place])
        return build(*chosen)

    return st.tuples(*[st.integers(0, prod(map(len, group)) - 1) for group in groups]).map(built)


# Coarse times: ends that meet, spans that touch, and ones within the stagger of each other must be common.
NEAR = [at(step * 15) for step in sorted(range(-40, 120), key=abs)]
MOMENTS = [*NEAR, *[datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)] * 10]
PLACES = [*SITES, *SITES, *SITES, "delta"]
POWERS = [30_000.0, 0.0, 24_999.0, 26_000.0, 28_000.0, 35_000.0, 40_000.0, 47_000.0, 52_001.0, 1e308]
RESERVES = [2_000.0, 0.0, 6_000.0, 11_000.0, 30_000.0, 1e308]
RAMPS = [150.0, 1.0, 400.0, 750.0, 2_000.0, 1e-300, 1e300]
CAUSES: list[list[str]] = [["e1"], ["e2"], ["e3"], ["e1", "e2"], []]
EXPLANATIONS = ["because"] * 6 + ["", " "]
SHARES = [0.2, 0.0, 0.4, 0.6, 1.0]

throttle_controls = one_of_each(
    lambda name, site, start, end, reason, priority, target, fallback, down, up, causes, why: (
        policy_cases.throttle_control(
            name,
            site,
            starts_at=start,
            ends_at=end,
            reason=reason,
            priority=priority,
            target_power_watts=target,
            fallback_power_watts=fallback,
            ramp_down_watts_per_second=down,
            ramp_up_watts_per_second=up,
            caused_by=causes,
            explanation=why,
        )
    ),
    *("abcdefgh", PLACES, MOMENTS, MOMENTS, [*PRECEDENCE, "event", "economics", "economics"], [0, 1, 2]),
    *(POWERS, POWERS, RAMPS, RAMPS, CAUSES, EXPLANATIONS),
)
shift_controls = one_of_each(
    lambda phase, name, donor, acceptor, service, share, reserved, ramp, since, start, end, why: shift_control(
        phase,
        control_id=name,
        from_site_id=donor,
        to_site_id=acceptor,
        service_class=service,
        share_ratio=share,
        reserved_power_watts=reserved,
        ramp_seconds=ramp,
        phase_since=since,
        starts_at=start,
        ends_at=end,
        explanation=why,
    ),
    *(get_args(ShiftPhase), "stuvwxyz", PLACES, PLACES, ["batch", "chat", "batch", "chat", "interactive", "unknown"]),
    *(SHARES, RESERVES, [0.0, 60.0, 600.0, 1e300], MOMENTS, MOMENTS, MOMENTS, EXPLANATIONS),
)


def _plan(parts: tuple[list[ThrottleControl], list[ShiftControl], Mode]) -> FleetPlan:
    changes: dict[str, Any] = dict(zip(("throttles", "shifts", "mode"), parts, strict=True))
    return empty_plan().model_copy(update=changes)


plans = st.tuples(
    st.lists(throttle_controls, max_size=8), st.lists(shift_controls, max_size=6), st.sampled_from(get_args(Mode))
).map(_plan)

events = one_of_each(
    lambda name, start, lasts, sites, kind, cancelled: event(
        name, start * 15, start * 15 + lasts, site_ids=sites, kind=kind, cancelled=cancelled
    ),
    *(["e1", "e2", "e3"], range(-20, 60), [3600, 60, 600, 10_000_000], [[], [], ["alpha"], ["beta", "gamma"]]),
    *(["event", "emergency"], [False, False, True]),
)


def _view(heard: list[EventSignal], around: list[Any]) -> FleetView:
    limits, latency_seconds, *sites = around
    fleet = FLEET.model_copy(
        update={
            "limits": FLEET.limits.model_copy(update=limits),
            "links": (Link(between=("alpha", "beta"), latency_seconds=latency_seconds),),
        }
    )
    view = FleetView(fleet)
    for site, (age, watts, priced) in zip(SITES, sites, strict=True):
        if age is not None:
            view.observe(power(site, 300 - age, watts))
        if priced:
            view.observe(price(site, 50.0, 0, 900))
    for each in heard:
        view.observe(each)
    return view


LIMITS = [
    {"power_limit_watts": power, "ramp_down_watts_per_second": down, "ramp_up_watts_per_second": up}
    for power in (None, None, 60_000.0, 110_000.0, 145_000.0)
    for down in (None, 500.0, 2000.0)
    for up in (None, 100.0, 300.0)
]
KNOWN = list(product([0, 0, 100, 181, 5000, None], [40_000.0, 30_000.0, 51_000.0], [True, True, False]))
views = st.builds(
    _view,
    st.lists(events, max_size=3),
    one_of_each(lambda *chosen: list(chosen), LIMITS, [0.02, 0.02, 0.2], KNOWN, KNOWN, KNOWN),
)


def _fleet_file(sites: tuple[str, ...]) -> FleetFile:
    classes = [each.model_copy(update={"sites": sites}) if each.id == "chat" else each for each in CLASSES]
    return FLEET_FILE.model_copy(update={"service_classes": tuple(classes)})


CLASSES = FLEET_FILE.service_classes
# Without its most patient class a fleet bears less than its least power.
RIGID = FLEET_FILE.model_copy(update={"service_classes": CLASSES[:2]})
fleet_files = st.sampled_from([FLEET_FILE, _fleet_file(("alpha", "beta")), RIGID])
answers = one_of_each(lambda *chosen: list(chosen), *[[*LIVING, "done", "aborted"]] * 6)


def _situation(
    plan: FleetPlan, earlier: FleetPlan, phases: list[str], view: FleetView, fleet_file: FleetFile, ago: int
) -> Situation:
    """The plan before was guarded in its time, and the sites' answers have moved its shifts on since."""
    then = at(300 - ago)
    before = guard(earlier, empty_plan(), view, fleet_file, then)
    moved = [
        each.model_copy(update={"phase": phase}) if each.phase == "proposed" else each
        for each, phase in zip(before.shifts, phases, strict=False)
    ]
    return Situation(plan, before.model_copy(update={"shifts": moved, "rejected": []}), view, fleet_file)


situations = st.builds(
    _situation, plans, plans, answers, views, fleet_files, st.sampled_from([0, 60, 299, 500, 700, 1300])
)
# Plans with nothing before them, everything known and no event: what a plan alone may be.
calm = st.builds(
    lambda plan: Situation(plan, empty_plan(), _view([], [{}, 0.02, *[(0, 40_000.0, True)] * 3]), FLEET_FILE), plans
)
