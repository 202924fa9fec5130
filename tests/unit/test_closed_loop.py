"""Planner, controllers and plants in virtual time: what the grid sees of an event, a dear hour, a lost planner."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest

from schemas.command import Command, Release, Shift, Throttle
from schemas.envelope import Record
from streams.capacity import full_power_watts
from streams.dispatch.controller import ControllerState, Surroundings, accept, target_in_force
from streams.dispatch.tick import tick
from streams.simulate.demand import ClassDemand, route
from streams.simulate.plant import SitePlant
from tests.policy_cases import FLEET, FLEET_FILE, RAMP_UP, a_desk, at, event, load, power, price

STEP, HOURS = 10, 3
NOISE = 1.02
STAGGER = FLEET.limits.stagger_seconds


@dataclass
class Loop:
    """A fleet's three hours, ten seconds a step."""

    signals: Iterable[Record]
    mean_load_ratio: float = 0.7
    lost_planner_at: float = math.inf
    deaf: str = ""  # a site that gets no command
    hours: float = HOURS
    commands: list[tuple[float, Command]] = field(default_factory=list)
    meters: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    limits: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    targets: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    silent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.desk = a_desk()
        self.controllers = {site.id: ControllerState(site_id=site.id) for site in FLEET.sites}
        self.around = {site.id: Surroundings(site) for site in FLEET.sites}
        self.plants = {
            site.id: SitePlant.start(site, FLEET_FILE.gpu_models, FLEET_FILE.service_classes, 7) for site in FLEET.sites
        }
        self.ahead = sorted(self.signals, key=lambda signal: signal.published_at)  # type: ignore[attr-defined]
        self.run()

    def run(self) -> None:
        for seconds in range(0, int(self.hours * 3600), STEP):
            urgent = self._hear(seconds)
            if seconds < self.lost_planner_at and (urgent or seconds % 60 == 0):
                self._plan(seconds)
            self._control(seconds)
            self._draw(seconds)

    def _hear(self, seconds: float) -> bool:
        urgent = False
        while self.ahead and self.ahead[0].published_at <= at(seconds):  # type: ignore[attr-defined]
            urgent |= self.desk.take(self.ahead.pop(0), at(seconds))
        return urgent

    def _plan(self, seconds: float) -> None:
        plan, commands = self.desk.decide(at(seconds))
        self.silent |= {each.alternative for each in plan.rejected if "unanswered" in each.why}
        for command in commands:
            self.commands.append((seconds, command))
            if command.site_id != self.deaf:
                state, answer = accept(
                    self.controllers[command.site_id], command, self.around[command.site_id], at(seconds)
                )
                self.controllers[command.site_id] = state
                if self.desk.take(answer, at(seconds)):
                    self._plan(seconds)

    def _control(self, seconds: float) -> None:
        for site in FLEET.sites:
            around = self.around[site.id]
            ticked = tick(self.controllers[site.id], around, full_power_watts(site, FLEET_FILE), at(seconds))
            self.controllers[site.id] = ticked.state
            self.limits[site.id].append(ticked.limit_watts)
            self.targets[site.id].append(target_in_force(ticked.state, at(seconds)))
            self.plants[site.id].set_power_cap(ticked.limit_watts)
            self.plants[site.id].set_admission(ticked.admission_ratio)
            self.plants[site.id].shifts = {}
            for (service, to), share in ticked.shares.items():
                self.plants[site.id].set_shift(service, to, share)

    def _draw(self, seconds: float) -> None:
        # It swings a little over the hour. Counted in tokens alone: latencies do not matter here, and cost time.
        tokens = self.mean_load_ratio * (1 + 0.03 * math.sin(seconds / 600)) * 100 * 100 * STEP
        arriving = {
            service.id: ClassDemand(tokens=int(tokens * service.traffic_ratio))
            for service in FLEET_FILE.service_classes
        }
        shifts = {site_id: plant.shifts for site_id, plant in self.plants.items()}
        demands = route(dict.fromkeys(self.plants, arriving), shifts)
        for site_id, plant in self.plants.items():
            flow = plant.tick(demands[site_id], STEP)
            meter = plant.meter_power_watts
            assert meter is not None
            self.meters[site_id].append(meter)
            self.around[site_id] = Surroundings(self.around[site_id].site, meter)
            self.desk.take(power(site_id, seconds + STEP, meter), at(seconds + STEP))
            arrived = sum(each.arrived.tokens for each in flow.classes.values()) / STEP
            self.desk.take(load(site_id, seconds + STEP, arrived), at(seconds + STEP))

    def minute_means(self, site_id: str, start: float, end: float) -> list[float]:
        """Mean meter power of each whole minute in [start, end)."""
        meters = self.meters[site_id]
        return [fmean(meters[first : first + 6]) for first in range(int(start) // STEP, int(end) // STEP - 5, 6)]

    def rises_at(self, site_id: str, after: float) -> float:
        """When the site's limit first rises by more than a trim does, or is lifted, after a time."""
        limits = self.limits[site_id]
        for step in range(int(after) // STEP, len(limits)):
            before, now = limits[step - 1], limits[step]
            if before is not None and (now is None or now > 1.01 * before):
                return step * STEP
        return math.inf

    def of_kind(self, kind: type[Any]) -> list[tuple[float, Any]]:
        """When each command of the kind was sent, and the command."""
        return [(seconds, command) for seconds, command in self.commands if isinstance(command, kind)]


def apart(times: list[float]) -> bool:
    """Whether each time lies at least the stagger after the one before."""
    return all(b - a >= STAGGER for a, b in pairwise(times))


def prices(usd: Callable[[float], float], late: float = 0.0) -> list[Record]:
    """Five-minute prices, the same at every site."""
    return [
        price(site.id, usd(start), start, start + 300, published_at=at(start + late))
        for start in range(0, HOURS * 3600, 300)
        for site in FLEET.sites
    ]


AN_EVENT = event(start=3600, end=7200, published_at=at(1800), ramp_seconds=120.0)
CHEAP = prices(lambda _: 30.0)


@pytest.fixture(scope="module")
def an_hour() -> Loop:
    return Loop([AN_EVENT, *CHEAP])


def base_watts(loop: Loop, site_id: str, before: float) -> float:
    return fmean(loop.meters[site_id][int(before) // STEP - 30 : int(before) // STEP])


def test_event_is_met_in_every_minute_after_the_ramp(an_hour: Loop) -> None:
    for site in FLEET.sites:
        target = 0.75 * base_watts(an_hour, site.id, 1800)
        minutes = an_hour.minute_means(site.id, 3720, 7200)
        assert len(minutes) == 58
        assert max(minutes) <= target * NOISE
        assert fmean(minutes) >= target * 0.95  # and no deeper than asked


def test_event_moves_the_limit_within_the_ramps_down_and_up(an_hour: Loop) -> None:
    for site in FLEET.sites:
        limits, meters = an_hour.limits[site.id], an_hour.meters[site.id]
        for step in range(1, len(limits)):
            before, now = limits[step - 1], limits[step]
            if before is not None and now is not None:
                assert -site.ramp_down_watts_per_second * STEP - 1 <= now - before
                assert now - before <= site.ramp_up_watts_per_second * STEP + 1
            if before is not None:
                assert meters[step] - meters[step - 1] <= RAMP_UP * STEP + 0.015 * 50_000  # noise of both readings


def test_event_restores_one_site_after_the_other_and_back_to_normal(an_hour: Loop) -> None:
    rises = sorted(an_hour.rises_at(site.id, 7000) for site in FLEET.sites)
    assert rises[0] >= 7200
    assert apart(rises)
    for site in FLEET.sites:
        assert an_hour.limits[site.id][-1] is None
        assert an_hour.minute_means(site.id, 9000, 10_800) == pytest.approx(
            [base_watts(an_hour, site.id, 3600)] * 30, rel=0.05
        )
    assert not an_hour.desk.plan.throttles
    assert not an_hour.desk.dispatch.sent


def test_event_costs_no_more_commands_than_renewals(an_hour: Loop) -> None:
    # Heard at 1800, over at 7200: 18 renewals at most, of 300 s each; no release, it ends by itself.
    assert not an_hour.of_kind(Release)
    assert len(an_hour.commands) <= 3 * 19


def test_lost_planner_never_lets_load_rise_before_the_end() -> None:
    loop = Loop([AN_EVENT, *CHEAP], lost_planner_at=4000)
    for site in FLEET.sites:
        target = 0.75 * base_watts(loop, site.id, 1800)
        assert max(loop.minute_means(site.id, 3720, 7200)) <= target * NOISE
        held = [each for each in loop.targets[site.id][3720 // STEP : 7200 // STEP] if each is not None]
        assert len(held) == (7200 - 3720) // STEP
        assert held == sorted(held, reverse=True)
        assert loop.limits[site.id][-1] is None
    rises = sorted(loop.rises_at(site.id, 7000) for site in FLEET.sites)
    assert apart(rises)


def test_cancelled_event_lets_sites_go_one_after_the_other() -> None:
    withdrawn = AN_EVENT.model_copy(update={"cancelled": True, "published_at": at(5000)})
    loop = Loop([AN_EVENT, withdrawn, *CHEAP], hours=1.5)
    rises = sorted(loop.rises_at(site.id, 4900) for site in FLEET.sites)
    assert rises[0] >= 5000
    assert rises[-1] <= 5100
    assert apart(rises)
    assert len(loop.of_kind(Release)) == 3


def test_price_above_the_strike_throttles_after_the_dwell_without_chatter() -> None:
    # Dear from 3600 to 7200, and nervous: it crosses the strike of 100 for single intervals, and dips within it.
    def usd(start: float) -> float:
        if 3600 <= start < 7200:
            return 95.0 if start % 900 == 0 and start > 4500 else 180.0
        return 120.0 if start % 1500 == 0 else 40.0

    loop = Loop(prices(usd, late=15.0))
    throttles = [(seconds, each) for seconds, each in loop.of_kind(Throttle) if not each.renewal]
    assert {each.site_id for _, each in throttles} == {site.id for site in FLEET.sites}
    assert len(throttles) == 3
    assert all(4200 <= seconds <= 4300 for seconds, _ in throttles)
    releases = loop.of_kind(Release)
    assert len(releases) == 3
    assert all(7200 <= seconds <= 7300 for seconds, _ in releases)
    rises = sorted(loop.rises_at(site.id, 4500) for site in FLEET.sites)
    assert rises[0] >= 7200
    assert apart(rises)
    for site in FLEET.sites:
        assert max(loop.minute_means(site.id, 4500, 7200)) <= 0.75 * base_watts(loop, site.id, 3600) * NOISE


def test_event_within_a_dear_time_takes_over_and_hands_back_without_a_rise() -> None:
    loop = Loop(
        [AN_EVENT.model_copy(update={"reduction_ratio": 0.4}), *prices(lambda start: 180.0 if start < 9000 else 40.0)]
    )
    for site in FLEET.sites:
        free = base_watts(loop, site.id, 600)
        held = loop.targets[site.id]
        assert all(target is not None for target in held[700 // STEP : 9000 // STEP])
        assert held[3000 // STEP] == pytest.approx(0.75 * free, rel=0.02)
        assert held[5000 // STEP] == pytest.approx(0.6 * free, rel=0.02)
        assert held[8000 // STEP] == pytest.approx(0.75 * free, rel=0.02)
        limits = [limit for limit in loop.limits[site.id][4000 // STEP : 9000 // STEP] if limit is not None]
        assert max(limits) <= 0.75 * free * 1.02


def test_deaf_site_is_told_again_and_named_while_the_others_go_on() -> None:
    loop = Loop([AN_EVENT, *CHEAP], deaf="beta", hours=2)
    told = [seconds for seconds, each in loop.commands if each.site_id == "beta"]
    assert told[:3] == [1800, 1860, 1920]
    # Until the event: at renewals. During it beta's share falls on the others, who are asked for more; then no more.
    gaps = [b - a for a, b in pairwise([seconds for seconds in told[2:] if seconds < 3600])]
    assert all(300 <= gap <= 360 for gap in gaps)
    assert len(told) < 60
    assert loop.silent == {"rely on beta"}
    for site_id in ("alpha", "gamma"):
        target = 0.75 * base_watts(loop, site_id, 1800)
        assert max(loop.minute_means(site_id, 3720, 7200)) <= target * NOISE


def test_price_spread_moves_traffic_there_and_back() -> None:
    def signals() -> list[Record]:
        dear = {"alpha": 60.0, "beta": 20.0, "gamma": 40.0}
        return [
            price(site, usd if 1200 <= start < 4800 else 30.0, start, start + 300)
            for start in range(0, HOURS * 3600, 300)
            for site, usd in dear.items()
        ]

    loop = Loop(signals(), 0.5)
    shifts = [command for _, command in loop.of_kind(Shift)]
    assert {each.role for each in shifts} == {"reserve", "drain"}
    first = {role: min(s for s, c in loop.of_kind(Shift) if c.role == role) for role in ("reserve", "drain")}
    assert first["reserve"] <= first["drain"]
    moved = loop.meters["beta"][2400 // STEP] - loop.meters["alpha"][2400 // STEP]
    assert moved > 500
    assert not any(plant.shifts for plant in loop.plants.values())
    assert [each.phase for each in loop.desk.plan.shifts if each.phase not in {"done", "aborted"}] == []
