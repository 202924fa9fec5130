"""What a site is held with: nothing while it draws less, the cap while it binds, and admission when that is spent."""

from collections.abc import Callable
from itertools import pairwise

from schemas.command import CommandAck
from streams.dispatch.controller import ControllerState, Surroundings, accept
from streams.dispatch.tick import Ticked, tick
from streams.simulate.demand import ClassDemand
from streams.simulate.plant import SitePlant
from tests.policy_cases import ALPHA, FLEET_FILE, FULL, LEAST, RAMP_UP, at, throttle

STEP = 5.0
EVENT_ENDS = 1800.0


class Site:
    """A plant and its controller over time, the cap refused where `refused` says so."""

    def __init__(self, target: float, load: float, refused: Callable[[float], bool] = lambda _: False) -> None:
        plant = SitePlant.start(ALPHA, FLEET_FILE.gpu_models, FLEET_FILE.service_classes, 5)
        command = throttle(end=EVENT_ENDS, lease=3600, target_power_watts=target)
        around = Surroundings(ALPHA, least_power_watts=LEAST)
        state, _ = accept(ControllerState(site_id="alpha"), command, around, at(0))
        self.ticked: list[Ticked] = []
        self.power: list[float] = []
        self.acks: list[CommandAck] = []
        self.refused_of: dict[str, int] = {each.id: 0 for each in FLEET_FILE.service_classes}
        for number in range(int((EVENT_ENDS + 1200) / STEP)):
            seconds = number * STEP
            around = Surroundings(ALPHA, plant.meter_power_watts, least_power_watts=LEAST, cap_refused=refused(seconds))
            ticked = tick(state, around, FULL, at(seconds))
            state = ticked.state
            self.ticked.append(ticked)
            self.acks += ticked.acks
            if not refused(seconds):
                plant.set_power_cap(ticked.limit_watts)
            plant.set_admission(ticked.admission_ratio)
            tokens = int(load * 10_000 * STEP)
            demand = {
                each.id: ClassDemand(10, 0, int(tokens * each.traffic_ratio)) for each in FLEET_FILE.service_classes
            }
            flow = plant.tick(demand, STEP)
            self.power.append(flow.meter_power_watts)
            for name, each in flow.classes.items():
                self.refused_of[name] += each.refused.tokens

    def knobs(self) -> set[str]:
        return {each.state.knob.knob for each in self.ticked if each.state.moved_at and each.state.controls}


def test_knob_is_none_while_the_site_draws_less_and_the_limit_stands_as_a_ceiling() -> None:
    site = Site(target=48_000.0, load=0.3)
    assert site.knobs() == {"none"}
    assert site.ticked[10].limit_watts is not None
    assert {ack.knob for ack in site.acks if ack.status == "compliant"} == {"none"}


def test_knob_is_the_cap_while_it_binds() -> None:
    site = Site(target=35_000.0, load=0.85)
    assert {each.state.knob.knob for each in site.ticked[2 : int(EVENT_ENDS / STEP) - 1]} == {"cap"}
    assert site.refused_of == {"interactive": 0, "chat": 0, "batch": 0}
    assert {ack.knob for ack in site.acks if ack.status == "compliant"} == {"cap"}


def test_knob_is_admission_where_the_equipment_refuses_the_cap() -> None:
    site = Site(target=46_000.0, load=0.85, refused=lambda _: True)
    late = slice(int(1200 / STEP), int(EVENT_ENDS / STEP))
    assert {each.state.knob.knob for each in site.ticked[late]} == {"admission"}
    assert max(site.power[late]) <= 46_000.0 * 1.005
    assert min(site.power[late]) >= 46_000.0 * 0.98
    assert site.refused_of["interactive"] == 0
    assert site.refused_of["batch"] > 0
    assert "admission" in {ack.knob for ack in site.acks}


def test_admission_waits_for_the_cap_and_gives_way_to_it() -> None:
    site = Site(target=46_000.0, load=0.85, refused=lambda seconds: seconds < 900)
    assert all(each.admission_ratio == 1 for each in site.ticked[: int(30 / STEP)])
    assert site.ticked[int(890 / STEP)].admission_ratio < 1
    assert site.ticked[int(1700 / STEP)].admission_ratio == 1
    assert site.ticked[int(1700 / STEP)].state.knob.knob == "cap"


def test_admission_of_an_emergency_at_the_least_power_sheds_all_that_is_flexible_and_no_more() -> None:
    # Even with nothing flexible let in, Flex 0 alone draws more than this: the plant can't be brought there.
    site = Site(target=LEAST, load=0.95, refused=lambda _: True)
    assert site.ticked[int(EVENT_ENDS / STEP) - 1].admission_ratio == 0
    assert site.refused_of["interactive"] == 0


def test_admission_is_let_in_again_no_faster_than_power_may_rise() -> None:
    site = Site(target=42_000.0, load=0.85, refused=lambda _: True)
    ratios = [each.admission_ratio for each in site.ticked]
    assert min(ratios) < 0.8
    assert max(b - a for a, b in pairwise(ratios)) <= RAMP_UP * STEP / FULL + 1e-9
    assert ratios[-1] == 1
