"""How a site tells how it goes: each change once, a breach only after time for meter and actuator to follow."""

from streams.dispatch.controller import ControllerState, Surroundings, accept
from streams.dispatch.progress import Progress
from tests.policy_cases import ALPHA, at, throttle

HELD, _ = accept(ControllerState(site_id="alpha"), throttle(), Surroundings(ALPHA), at(0))


def told(progress: Progress, seconds: float, limit: float | None, meter: float | None, target: float = 30_000.0) -> str:
    """What is said at a time; empty for nothing."""
    state, _ = accept(HELD, throttle((1, 2), target_power_watts=target), Surroundings(ALPHA), at(0))
    state = state.model_copy(update={"limit_watts": limit})
    found = progress.changes(state, Surroundings(ALPHA, meter), at(seconds))
    assert len(found) <= 1
    return found[0].status if found else ""


def test_progress_tells_each_change_once() -> None:
    progress = Progress()
    assert told(progress, 0, 40_000, 40_000) == "ramping"
    assert told(progress, 10, 33_000, 33_000) == ""
    assert told(progress, 20, 30_000, 30_500) == "compliant"
    assert told(progress, 30, 30_000, 30_100) == ""


def test_progress_says_breach_only_when_the_limit_has_stood_at_the_target_for_a_minute() -> None:
    progress = Progress()
    assert told(progress, 0, 40_000, 40_000) == "ramping"
    # A long ramp: the limit is down only after two minutes, the meter lags.
    assert told(progress, 120, 30_000, 32_000) == ""
    assert told(progress, 180, 30_000, 32_000) == ""
    assert told(progress, 181, 30_000, 32_000) == "breach"
    assert told(progress, 190, 30_000, 30_000) == "compliant"


def test_progress_gives_a_lower_target_time_again() -> None:
    progress = Progress()
    told(progress, 0, 30_000, 30_000)
    assert told(progress, 1000, 30_000, 30_000, target=26_000.0) == "ramping"
    assert told(progress, 1010, 26_000, 27_000, target=26_000.0) == ""
    assert told(progress, 1060, 26_000, 27_000, target=26_000.0) == ""
    assert told(progress, 1071, 26_000, 27_000, target=26_000.0) == "breach"


def test_progress_bears_meter_noise() -> None:
    progress = Progress()
    assert told(progress, 0, 30_000, 30_599) == "compliant"
    assert told(progress, 10, 30_000, 30_601) == "ramping"


def test_progress_is_silent_without_a_meter_or_a_throttle() -> None:
    progress = Progress()
    assert told(progress, 0, 30_000, None) == ""
    assert progress.changes(ControllerState(site_id="alpha"), Surroundings(ALPHA, 1.0), at(0)) == []
    future, _ = accept(ControllerState(site_id="alpha"), throttle(start=100), Surroundings(ALPHA), at(0))
    assert progress.changes(future, Surroundings(ALPHA, 1.0), at(99)) == []


def test_progress_forgets_controls_that_are_gone() -> None:
    progress = Progress()
    told(progress, 0, 30_000, 30_000)
    progress.changes(ControllerState(site_id="alpha"), Surroundings(ALPHA, 1.0), at(10))
    assert (progress.told, progress.at_target_since) == ({}, {})
    assert told(progress, 20, 30_000, 30_000) == "compliant"
