"""How a site tells how it goes: each change once, a breach only after time for meter and actuator to follow."""

from dataclasses import dataclass, field

from schemas.command import CommandAck
from streams.dispatch.controller import ControllerState, Surroundings, accept
from streams.dispatch.progress import progress
from streams.dispatch.state import KnobState, MovedShare
from tests.policy_cases import ALPHA, at, shift, throttle

START = ControllerState(site_id="alpha")
HELD, _ = accept(START, throttle(), Surroundings(ALPHA), at(0))


@dataclass
class Told:
    """A site with one throttle; what it says at a time, empty for nothing."""

    state: ControllerState = field(default_factory=lambda: HELD)

    def at(
        self, seconds: float, limit: float | None, meter: float | None, target: float = 30_000.0, knob: str = "cap"
    ) -> str:
        taken, _ = accept(HELD, throttle((1, 2), target_power_watts=target), Surroundings(ALPHA), at(0))
        update = {"controls": taken.controls, "limit_watts": limit, "knob": KnobState(knob=knob)}
        said = self.said(self.state.model_copy(update=update), meter, seconds)
        assert len(said) <= 1
        return said[0].status if said else ""

    def said(self, state: ControllerState, meter: float | None, seconds: float) -> list[CommandAck]:
        self.state, acks = progress(state, Surroundings(ALPHA, meter), at(seconds))
        self.state = ControllerState.model_validate_json(self.state.model_dump_json())  # a restart at any time
        return acks


def test_progress_tells_each_change_once() -> None:
    told = Told()
    assert told.at(0, 40_000, 40_000) == "ramping"
    assert told.at(10, 33_000, 33_000) == ""
    assert told.at(20, 30_000, 30_500) == "compliant"
    assert told.at(30, 30_000, 30_100) == ""


def test_progress_says_breach_only_when_the_limit_has_stood_at_the_target_for_a_minute() -> None:
    told = Told()
    assert told.at(0, 40_000, 40_000) == "ramping"
    # A long ramp: the limit is down only after two minutes, the meter lags.
    assert told.at(120, 30_000, 32_000) == ""
    assert told.at(180, 30_000, 32_000) == ""
    assert told.at(181, 30_000, 32_000) == "breach"
    assert told.at(190, 30_000, 30_000) == "compliant"


def test_progress_gives_a_lower_target_time_again() -> None:
    told = Told()
    told.at(0, 30_000, 30_000)
    assert told.at(1000, 30_000, 30_000, target=26_000.0) == "ramping"
    assert told.at(1010, 26_000, 27_000, target=26_000.0) == ""
    assert told.at(1060, 26_000, 27_000, target=26_000.0) == ""
    assert told.at(1071, 26_000, 27_000, target=26_000.0) == "breach"


def test_progress_bears_meter_noise() -> None:
    told = Told()
    assert told.at(0, 30_000, 30_599) == "compliant"
    assert told.at(10, 30_000, 30_601) == "ramping"


def test_progress_names_the_knob_and_tells_when_it_is_another() -> None:
    told = Told()
    assert told.at(0, 30_000, 29_000, knob="none") == "compliant"
    assert told.at(10, 30_000, 29_900, knob="cap") == "compliant"
    state = told.state.model_copy(update={"knob": KnobState(knob="admission", admission_ratio=0.5)})
    (ack,) = told.said(state, 30_000, 20)
    assert (ack.status, ack.knob, ack.meter_power_watts) == ("compliant", "admission", 30_000)


def test_progress_is_silent_without_a_meter_or_a_throttle() -> None:
    told = Told()
    assert told.at(0, 30_000, None) == ""
    assert progress(START, Surroundings(ALPHA, 1.0), at(0)) == (START, [])
    future, _ = accept(START, throttle(start=100), Surroundings(ALPHA), at(0))
    assert progress(future, Surroundings(ALPHA, 1.0), at(99))[1] == []


def test_progress_forgets_controls_that_are_gone() -> None:
    told = Told()
    told.at(0, 30_000, 30_000)
    told.said(told.state.model_copy(update={"controls": ()}), 1.0, 10)
    assert (told.state.told, told.state.at_target_since) == ({}, {})
    assert told.at(20, 30_000, 30_000) == "compliant"


def test_progress_tells_of_a_share_under_way_and_of_one_that_has_moved() -> None:
    told, statuses = Told(), []
    state, _ = accept(START, shift(), Surroundings(ALPHA), at(0))
    for seconds, share in ((0, 0.0), (30, 0.1), (60, 0.2), (90, 0.2)):
        moved = MovedShare(control_id="s", service_class="batch", to_site_id="beta", share_ratio=share, goal_ratio=0.2)
        update = {"shares": (moved,), "told": told.state.told}
        said = told.said(state.model_copy(update=update), None, seconds)
        statuses.append([(ack.status, ack.share_ratio) for ack in said])
    assert statuses == [[("ramping", 0.0)], [], [("compliant", 0.2)], []]
    # A new planner has issued it again under its own number, and waits to hear.
    renewed, _ = accept(told.state, shift((2, 1)), Surroundings(ALPHA), at(100))
    (ack,) = told.said(renewed, None, 100)
    assert (ack.status, ack.epoch) == ("compliant", 2)
    # Locked out, its share stands still: it is not where a lower one would have it.
    lowered, _ = accept(told.state, shift((2, 2), share_ratio=0.1), Surroundings(ALPHA), at(110))
    (ack,) = told.said(lowered, None, 110)
    assert (ack.status, ack.share_ratio) == ("ramping", 0.2)
