"""The forecast stage's state: who gets a forecast, who must be remembered, what holds the position."""

import pytest

from forecasting.forecaster import statistical
from forecasting.history import history_for
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.site import LoadState, PowerState
from streams.forecast import partition as partitions
from streams.forecast.partition import Made, PartitionHistories, histories_of
from streams.intake import Arrived
from tests.examples import FLEET, LOAD, POWER, after
from tests.forecasters import Counting, Fixed, Plain

DEMO = load_fleet_file(DEMO_FLEET_FILE)
NOTHING = Made([], [])


def load(site: str, start: float) -> LoadState:
    """The site's load over ten seconds."""
    window = {"window_start": after(start), "window_end": after(start + 10)}
    return LOAD.model_copy(update={**window, "site_id": site})


def arrived(*states: LoadState | PowerState) -> list[Arrived]:
    """The states as a batch brings them."""
    return [Arrived(offset, 0, state) for offset, state in enumerate(states)]


def partition() -> PartitionHistories:
    """A partition with steps of 20 s that has seen nothing."""
    return PartitionHistories(20.0, "live", DEMO, Fixed(statistical(20.0)))


def test_fold_forecasts_when_a_site_closes_a_step() -> None:
    state = partition()
    assert state.fold(arrived(load("a", 0), load("b", 0), load("a", 10)), 3) == NOTHING
    made = state.fold(arrived(load("a", 20)), 4)
    (forecast,) = made.forecasts
    assert (forecast.site_id, forecast.fleet_id, forecast.issued_at) == ("a", FLEET, after(20))
    assert state.to_remember(made) == {"a"}


def test_fold_gives_every_step_that_a_batch_closes() -> None:
    made = partition().fold(arrived(*(load("a", at) for at in range(0, 70, 10))), 7)
    assert [each.issued_at for each in made.forecasts] == [after(20), after(40), after(60)]
    assert [each.history_steps for each in made.forecasts] == [1, 2, 3]


def test_fold_forecasts_sites_together_and_only_as_of_their_steps() -> None:
    state = partition()
    state.fold(arrived(*(load(site, 0) for site in "abc")), 3)
    calls: list[int] = []
    advance = state.serving.current().advance
    forecaster = Counting(calls, advance)
    state.serving = Fixed(forecaster)
    made = state.fold(arrived(load("a", 20), load("b", 20), load("a", 40), load("c", 20)), 7)
    assert [(each.site_id, each.issued_at) for each in made.forecasts] == [
        ("a", after(20)),
        ("b", after(20)),
        ("a", after(40)),
        ("c", after(20)),
    ]
    assert calls == [2 * 6, 2 * 6]  # two sites, each with its total and one class


def test_fold_scores_what_was_forecast() -> None:
    state = partition()
    state.serving = Fixed(Plain(horizons_seconds=(600,)))
    made = state.fold(arrived(*(load("a", at) for at in range(0, 660, 10))), 66)
    (first, *_) = made.scores
    assert (first.site_id, first.horizon_seconds, first.scored_at, first.issued_at) == ("a", 600, after(620), after(20))
    assert first.model == state.serving.current().name


def test_fold_learns_of_a_site_that_is_silent_every_second_step() -> None:
    forecaster = statistical(300.0)
    state = PartitionHistories(300.0, "live", DEMO, Fixed(forecaster))
    heard = [load("a", at).model_copy(update={"window_end": after(at + 300)}) for at in range(0, 4800, 600)]
    state.fold(arrived(*heard), len(heard))
    for track in (track for part in state.histories["a"].parts.values() for track in part.tracks):
        # Seven steps have closed; the last six were forecast ten minutes before.
        assert forecaster.plan.layout.fields(track.state[None])["scored"][0, 1] == 6


def test_fold_says_what_the_forecaster_is_a_fallback_for() -> None:
    state = partition()
    state.serving = Fixed(statistical(20.0), ("fallback:artefact-refused",))
    (forecast,) = state.fold(arrived(load("a", 0), load("a", 10), load("a", 20)), 3).forecasts
    assert "fallback:artefact-refused" in forecast.flags


def test_power_states_feed_nothing() -> None:
    state = partition()
    assert state.fold(arrived(POWER, POWER), 2) == NOTHING
    assert state.histories == {}
    assert state.held.release(()) == 2


def test_the_position_waits_for_each_site_that_was_fed() -> None:
    state = partition()
    state.fold(arrived(load("a", 0), load("b", 0)), 2)
    made = state.fold(arrived(load("a", 20)), 3)
    assert state.written(["a"]) == [("a", state.histories["a"].to_json())]
    assert state.held.release(state.to_remember(made)) is None
    made = state.fold(arrived(load("b", 30)), 4)
    assert state.held.release(state.to_remember(made)) == 4


def test_a_silent_site_is_remembered_as_it_stands_when_it_has_held_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "_PATIENCE_BATCHES", 3)
    state = partition()
    state.fold(arrived(load("silent", 0)), 1)
    for number in (2, 3):
        state.fold(arrived(POWER), number)
        assert state.to_remember(NOTHING) == set()
    state.fold(arrived(POWER), 4)
    assert state.to_remember(NOTHING) == {"silent"}
    assert state.held.release({"silent"}) == 4


def test_a_step_of_gaps_only_is_no_forecast_and_goes_on_holding() -> None:
    state = partition()
    state.fold(arrived(load("a", 0).model_copy(update={"covered_ratio": 0.0})), 1)
    assert state.fold(arrived(load("a", 20)), 2) == NOTHING
    assert state.held.release(state.to_remember(NOTHING)) is None


def test_histories_that_can_not_be_used_are_absent_and_said_so() -> None:
    good, other = history_for(20.0), history_for(30.0)
    lost: list[tuple[str, str]] = []
    found = {"a": good.to_json(), "b": b'{"step_seconds":20.0,"keep_steps":9,"steps":[1.0]}', "c": other.to_json()}
    histories = histories_of(found, 20.0, lambda site_id, why: lost.append((site_id, why)))
    assert list(histories) == ["a"]
    assert lost == [("b", "written by another version"), ("c", "its steps are of 30 s")]
