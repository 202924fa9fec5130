"""The forecast stage's state: who gets a forecast, who must be remembered, what holds the position."""

import pytest

from schemas.site import LoadState, PowerState
from streams.forecast import agent
from streams.forecast.agent import PartitionHistories
from streams.intake import Arrived
from tests.examples import FLEET, LOAD, POWER, after


def load(site: str, start: float) -> LoadState:
    """The site's load over ten seconds."""
    window = {"window_start": after(start), "window_end": after(start + 10)}
    return LOAD.model_copy(update={**window, "site_id": site})


def arrived(*states: LoadState | PowerState) -> list[Arrived]:
    """The states as a batch brings them."""
    return [Arrived(offset, 0, state) for offset, state in enumerate(states)]


def partition() -> PartitionHistories:
    """A partition with steps of 20 s that has seen nothing."""
    return PartitionHistories(20.0, "live")


def test_fold_forecasts_when_a_site_closes_a_step() -> None:
    state = partition()
    assert state.fold(arrived(load("a", 0), load("b", 0), load("a", 10)), 3) == []
    (forecast,) = state.fold(arrived(load("a", 20)), 4)
    assert (forecast.site_id, forecast.fleet_id, forecast.issued_at) == ("a", FLEET, after(20))
    assert state.to_remember([forecast]) == {"a"}


def test_fold_gives_every_step_that_a_batch_closes() -> None:
    forecasts = partition().fold(arrived(*(load("a", at) for at in range(0, 70, 10))), 7)
    assert [each.issued_at for each in forecasts] == [after(20), after(40), after(60)]


def test_power_states_feed_nothing() -> None:
    state = partition()
    assert state.fold(arrived(POWER, POWER), 2) == []
    assert state.histories == {}
    assert state.held.release(()) == 2


def test_the_position_waits_for_each_site_that_was_fed() -> None:
    state = partition()
    state.fold(arrived(load("a", 0), load("b", 0)), 2)
    (forecast,) = state.fold(arrived(load("a", 20)), 3)
    assert state.held.release(state.to_remember([forecast])) is None
    (forecast,) = state.fold(arrived(load("b", 30)), 4)
    assert state.held.release(state.to_remember([forecast])) == 4


def test_a_silent_site_is_remembered_as_it_stands_when_it_has_held_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent, "_PATIENCE_BATCHES", 3)
    state = partition()
    state.fold(arrived(load("silent", 0)), 1)
    for number in (2, 3):
        state.fold(arrived(POWER), number)
        assert state.to_remember([]) == set()
    state.fold(arrived(POWER), 4)
    assert state.to_remember([]) == {"silent"}
    assert state.held.release({"silent"}) == 4


def test_a_step_of_gaps_only_is_no_forecast_and_goes_on_holding() -> None:
    state = partition()
    state.fold(arrived(load("a", 0).model_copy(update={"covered_ratio": 0.0})), 1)
    assert state.fold(arrived(load("a", 20)), 2) == []
    assert state.held.release(state.to_remember([])) is None
