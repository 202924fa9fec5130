"""The power limit: its ramps, and how the meter trims it; against the plant with what the fleet file does not know."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import pytest

from schemas.command import Command
from streams.dispatch.controller import ControllerState, Surroundings, accept, resumed
from streams.dispatch.limit import MARGIN_RATIO, MOST_TRIM_RATIO, aim_watts, trim_ratio
from streams.dispatch.state import Trim
from streams.dispatch.tick import Ticked, tick
from streams.simulate.demand import ClassDemand
from streams.simulate.plant import PlantTruth, SitePlant
from tests.policy_cases import ALPHA, FLEET_FILE, FULL, IMPORT_LIMIT, LEAST, RAMP_DOWN, RAMP_UP, at, release, throttle

START = ControllerState(site_id="alpha")
SILENT = Surroundings(ALPHA)
LOCKED = Surroundings(ALPHA, locked_out=True)
AIM = 30_000 * (1 - MARGIN_RATIO)


def after(*commands: Command) -> ControllerState:
    state = START
    for command in commands:
        state, _ = accept(state, command, SILENT, at(0))
    return state


def test_limit_goes_down_from_what_is_drawn_and_up_again_at_its_own_speed() -> None:
    state, limits = after(throttle(end=100)), []
    for seconds in range(0, 300, 10):
        ticked = tick(state, Surroundings(ALPHA, 40_000.0 if seconds == 0 else None), FULL, at(seconds))
        state = ticked.state
        limits.append(ticked.limit_watts)
    assert limits[:4] == [40_000, 32_500, AIM, AIM]
    assert limits[9:13] == [AIM, AIM, AIM + 1500, AIM + 3000]
    assert limits[-1] is None
    assert state.ramp_up_watts_per_second is None


def test_limit_of_a_site_below_its_target_leaves_it_that_room() -> None:
    assert tick(after(throttle()), Surroundings(ALPHA, 12_000.0), FULL, at(0)).limit_watts == AIM


def test_limit_without_a_meter_starts_at_full_power() -> None:
    assert tick(after(throttle()), SILENT, FULL, at(0)).limit_watts == FULL


def test_limit_does_not_jump_after_a_lock_out_or_a_standstill() -> None:
    state = after(throttle(end=100)).model_copy(update={"limit_watts": 30_000.0, "moved_at": at(0)})
    locked = tick(state, LOCKED, FULL, at(50))
    assert locked.limit_watts == 30_000
    assert tick(locked.state, LOCKED, FULL, at(1000)).limit_watts == 30_000
    assert tick(locked.state, SILENT, FULL, at(1000)).limit_watts == 30_000
    still = tick(resumed(state), SILENT, FULL, at(2000))
    assert still.limit_watts == 30_000
    assert tick(still.state, SILENT, FULL, at(2010)).limit_watts == 31_500


def test_limit_of_a_free_site_is_its_import_limit_where_its_gpus_could_pass_it() -> None:
    assert tick(START, SILENT, FULL, at(0)).limit_watts is None
    assert tick(START, SILENT, IMPORT_LIMIT, at(0)).limit_watts == IMPORT_LIMIT


def test_trim_is_a_margin_at_least_and_a_tenth_at_most() -> None:
    assert trim_ratio(Trim()) == MARGIN_RATIO
    assert trim_ratio(Trim(excess_ratio=9.0)) == MOST_TRIM_RATIO
    (control,) = after(throttle(target_power_watts=LEAST)).controls
    assert aim_watts(control, Trim(), Surroundings(ALPHA, least_power_watts=LEAST)) == LEAST


@dataclass
class Run:
    """A site whose load fills it to 85 %, throttled to 37 kW from the first minute on, tick by tick."""

    truth: PlantTruth
    tick_seconds: float = 1.0
    hours: float = 0.5
    load_at: Callable[[float], float] = lambda seconds: 0.85
    meter_at: Callable[[float, float | None], float | None] = lambda seconds, read: read
    seed: int = 3
    target: float = 37_000.0

    def __post_init__(self) -> None:
        plant = SitePlant.start(ALPHA, FLEET_FILE.gpu_models, FLEET_FILE.service_classes, self.seed, self.truth)
        end = 60 + self.hours * 3600
        around = Surroundings(ALPHA, least_power_watts=LEAST)
        command = throttle(start=60, end=end, lease=2 * end, target_power_watts=self.target)
        state, _ = accept(START, command, around, at(0))
        self.ticked: list[Ticked] = []
        self.power: list[float] = []
        for number in range(int((end + 300) / self.tick_seconds)):
            seconds = number * self.tick_seconds
            self.ticked.append(tick(state, around, FULL, at(seconds)))
            state = self.ticked[-1].state
            plant.set_power_cap(self.ticked[-1].limit_watts)
            plant.set_admission(self.ticked[-1].admission_ratio)
            tokens = self.load_at(seconds) * 10_000 * self.tick_seconds
            demand = {
                each.id: ClassDemand(tokens=int(tokens * each.traffic_ratio)) for each in FLEET_FILE.service_classes
            }
            self.power.append(plant.tick(demand, self.tick_seconds).meter_power_watts)
            around = around.with_meter(self.meter_at(seconds, plant.meter_power_watts))
        self.end = end

    def minutes(self, start: float, end: float) -> list[float]:
        """Mean power of each whole minute, as the meter would say it without noise."""
        each = max(1, int(60 / self.tick_seconds))
        first, last = int(start / self.tick_seconds), int(end / self.tick_seconds)
        return [fmean(self.power[place : place + each]) for place in range(first, last - each + 1, each)]


TRUTHS = [
    PlantTruth(),
    PlantTruth(pue=1.30),  # the fleet file says 1.25
    PlantTruth(curve_error_ratio=0.03),
    PlantTruth(pue=1.28, actuator_lag_seconds=10.0),
]


@pytest.mark.parametrize("tick_seconds", [1.0, 10.0])
@pytest.mark.parametrize("truth", TRUTHS, ids=str)
def test_trim_puts_every_minute_after_the_ramp_below_the_target_and_hardly_more(
    truth: PlantTruth, tick_seconds: float
) -> None:
    run = Run(truth, tick_seconds, hours=0.2 if tick_seconds == 1 else 0.5)
    minutes = run.minutes(120, run.end)
    assert max(minutes) <= run.target
    reduction = run.minutes(0, 60)[0] - run.target
    assert run.target - fmean(minutes) <= 0.05 * reduction


@pytest.mark.parametrize("tick_seconds", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("lag_seconds", [2.0, 10.0])
def test_trim_settles_at_any_tick_and_lag(tick_seconds: float, lag_seconds: float) -> None:
    run = Run(
        PlantTruth(pue=1.31, actuator_lag_seconds=lag_seconds), tick_seconds, hours=0.4 if tick_seconds == 1 else 1
    )
    settled = run.minutes(900, run.end)
    assert max(settled) <= run.target
    assert (max(settled) - min(settled)) / run.target < 0.01


def test_trim_of_a_lower_pue_never_lifts_the_limit_above_the_target() -> None:
    run = Run(PlantTruth(pue=1.20), 10.0)
    held = [each.limit_watts for each in run.ticked[12 : int(run.end / 10)]]
    assert all(limit is not None and limit <= run.target for limit in held)


def test_trim_is_held_without_a_meter_and_with_one_that_can_not_be_right() -> None:
    for wrong in (None, -5.0, float("nan"), 200_000.0):

        def read_at(seconds: float, read: float | None, wrong: float | None = wrong) -> float | None:
            return read if seconds < 600 else wrong

        run = Run(PlantTruth(pue=1.3), 10.0, meter_at=read_at)
        trims = [each.state.trim.excess_ratio for each in run.ticked[62:180]]
        assert max(trims) == min(trims) > 0.03
        assert all(each.meter_power_watts is None for each in run.ticked[62:180])


def test_trim_is_still_there_when_load_comes_back() -> None:
    run = Run(PlantTruth(pue=1.3), 10.0, hours=1.5, load_at=lambda seconds: 0.05 if 1200 <= seconds < 3600 else 0.85)
    assert max(run.minutes(1260, 3600)) < 0.9 * run.target
    assert max(run.minutes(3600, run.end)) <= run.target


def test_limit_rises_at_the_ramp_when_it_is_over_though_the_meter_shows_more_than_the_limit() -> None:
    run = Run(PlantTruth(pue=1.35), 1.0, hours=0.1)
    rises = [b - a for a, b in pairwise(run.power[int(run.end) - 10 :])]
    assert 0.9 * RAMP_UP < max(rises) <= RAMP_UP * 1.01
    assert run.ticked[-1].limit_watts is None
    falls = [a - b for a, b in pairwise(run.power[: int(run.end)])]
    assert max(falls) <= RAMP_DOWN * 1.09  # how much more than said the meter moves is not known before the first


@pytest.mark.parametrize("let_go", ["released", "over", "raised"])
def test_limit_begins_to_rise_with_the_tick_that_finds_it_let_go(let_go: str) -> None:
    # A minute between two ticks, and the end in its last second: no rise for the 59 s in which it was held.
    state = tick(
        after(throttle(end=119 if let_go == "over" else 3600)), Surroundings(ALPHA, 40_000.0), FULL, at(0)
    ).state
    state = tick(state, SILENT, FULL, at(60)).state
    if let_go == "released":
        state, _ = accept(state, release(issued=119), SILENT, at(119))
    if let_go == "raised":
        state, _ = accept(state, throttle((1, 3), issued=119, target_power_watts=38_000.0), SILENT, at(119))
    found = tick(state, SILENT, FULL, at(120))
    assert found.limit_watts == AIM
    assert tick(found.state, SILENT, FULL, at(130)).limit_watts == pytest.approx(AIM + 10 * RAMP_UP, rel=0.01)


def test_trim_is_forgotten_slowly_and_does_not_outlast_a_release_at_once() -> None:
    state = after(throttle()).model_copy(update={"trim": Trim(excess_ratio=0.04), "limit_watts": 29_000.0})
    state = tick(state, SILENT, FULL, at(0)).state
    state, _ = accept(state, release(issued=0), SILENT, at(0))
    before = state.limit_watts
    ticked = tick(tick(state, SILENT, FULL, at(1)).state, SILENT, FULL, at(2))
    assert before is not None
    assert ticked.limit_watts is not None
    assert 0 < ticked.limit_watts - before <= RAMP_UP
    for hours in (1, 2, 10):
        ticked = tick(ticked.state, SILENT, FULL, at(3600 * hours))
    assert ticked.state.trim.excess_ratio < 1e-5
