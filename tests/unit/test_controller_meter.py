"""Which readings a controller believes."""

from collections.abc import Sequence

import pytest

from streams.dispatch.controller import ControllerState, Surroundings
from streams.dispatch.meter import believed
from tests.policy_cases import ALPHA, IMPORT_LIMIT, at


def heard(readings: Sequence[tuple[float, float | None, float | None]]) -> list[float | None]:
    """What is believed of (time, reading, limit)."""
    state, out = ControllerState(site_id="alpha"), []
    for seconds, watts, limit in readings:
        state = state.model_copy(update={"limit_watts": limit})
        state, around = believed(state, Surroundings(ALPHA, watts), at(seconds))
        out.append(around.meter_power_watts)
    return out


@pytest.mark.parametrize("watts", [-1.0, float("nan"), float("inf"), 2 * IMPORT_LIMIT + 1, None])
def test_reading_that_can_not_be_is_none(watts: float | None) -> None:
    assert heard([(0, watts, None)]) == [None]


def test_reading_that_stays_the_same_while_nothing_moves_is_believed() -> None:
    assert heard([(seconds, 40_000.0, 39_000.0) for seconds in range(0, 3600, 10)]) == [40_000.0] * 360


def test_reading_that_hangs_while_the_limit_goes_through_it_is_not_believed_for_long() -> None:
    readings = [(0, 40_000.0, None), *((seconds, 40_000.0, 30_000.0) for seconds in range(10, 200, 10))]
    believes = heard(readings)
    assert believes[:12] == [40_000.0] * 12
    assert set(believes[12:]) == {None}
    assert heard([*readings, (210, 30_100.0, 30_000.0)])[-1] == 30_100.0


def test_reading_below_a_limit_that_moves_above_it_is_believed() -> None:
    assert heard([(seconds, 20_000.0, 50_000.0 - 100 * seconds) for seconds in range(0, 200, 10)])[-1] == 20_000.0
