"""A site's load as equal steps: what is taken, what is a gap, what survives a restart."""

import json
import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from forecasting.forecaster import live_layout
from forecasting.history import DECODE, PREFILL, QUANTITIES, REQUESTS, SITE, LoadPart, SiteHistory, history_for
from forecasting.online import SCORED_SECONDS
from forecasting.state import Track
from schemas.catalog import MAX_MESSAGE_BYTES
from schemas.site import ClassLoad, LoadState
from tests.examples import LOAD, NOON, after


def state(start: float, tokens: float = 100.0, covered: float = 1.0, **fields: Any) -> LoadState:
    """The load over the ten seconds that begin `start` seconds after noon."""
    own = {"window_start": after(start), "window_end": after(start + 10)}
    return LOAD.model_copy(
        update={**own, "tokens_arrived_per_second": tokens, "covered_ratio": covered, **fields},
    )


def folded(*states: LoadState, keep_steps: int = 100) -> SiteHistory:
    """A history of 30 s steps that took these states."""
    history = SiteHistory(30.0, keep_steps, keep_steps)
    for each in states:
        history.fold(each)
    return history


def steps(history: SiteHistory, part: str = SITE, row: int = DECODE) -> list[float | None]:
    """One series' steps, None for a gap."""
    return [None if math.isnan(value) else value for value in history.parts[part].steps[row].tolist()]


def of_class(name: str, rate: float) -> ClassLoad:
    """A class's load: so many requests, twice the tokens, three times the prompt."""
    return LOAD.classes[0].model_copy(
        update={
            "service_class": name,
            "requests_per_second": rate,
            "prompt_tokens_per_second": 3 * rate,
            "tokens_arrived_per_second": 2 * rate,
        }
    )


def test_a_step_closes_with_the_first_window_of_the_next() -> None:
    history = SiteHistory(30.0, 100, 100)
    said = [history.fold(state(at, at)) for at in (0, 10, 20, 30)]
    assert said[:3] == [None] * 3
    assert said[3] is not None
    assert (said[3].ended_at, history.end) == (after(30), after(30))
    assert steps(history) == [10.0]


def test_a_step_that_began_before_the_first_window_counts_what_was_seen() -> None:
    assert steps(folded(state(10, 50.0), state(20, 70.0), state(30))) == [60.0]


def test_a_step_seen_for_less_than_half_is_a_gap() -> None:
    assert steps(folded(state(20), state(30))) == [None]
    assert steps(folded(state(0, covered=0.5), state(10, covered=0.9), state(20, covered=0.1), state(30))) == [200.0]
    assert steps(folded(state(0, covered=0.4), state(10, covered=0.9), state(20, covered=0.1), state(30))) == [None]


def test_steps_without_any_window_are_gaps() -> None:
    history = folded(state(0), state(10), state(130))
    assert (steps(history), history.end) == ([100.0, None, None, None], after(120))


def test_a_closing_says_how_many_gaps_came_with_it() -> None:
    history = folded(state(0), state(10))
    assert [closing.gaps for at in (30, 40, 130) if (closing := history.fold(state(at)))] == [0, 2]


def test_a_window_not_newer_than_the_newest_changes_nothing() -> None:
    history = folded(state(0), state(10))
    before = history.to_json()
    assert not history.closes(state(10, 9e9))
    assert history.fold(state(10, 9e9)) is None
    assert history.fold(state(0, 9e9)) is None
    assert history.to_json() == before


def test_closes_says_beforehand_what_fold_does() -> None:
    history = SiteHistory(30.0, 100, 100)
    for at in (0, 10, 20, 30, 40, 30, 70, 200):
        closes = history.closes(state(at))
        assert closes == (history.fold(state(at)) is not None)


def test_only_so_many_steps_are_kept() -> None:
    assert len(steps(folded(*(state(step * 30, step) for step in range(10)), keep_steps=3))) == 3


def test_a_jump_of_the_clock_is_said_for_a_day_and_costs_nothing() -> None:
    century = 100 * 365 * 86_400
    history = folded(state(0), state(10), state(century), keep_steps=3)
    assert (steps(history), history.end) == ([None] * 3, NOON + timedelta(seconds=century))
    assert history.flags() == ["clock-jump"]
    history.fold(state(century + 86_400 - 30))
    assert history.flags() == ["clock-jump"]
    history.fold(state(century + 86_400))
    assert history.flags() == []
    assert folded(state(0), state(86_400)).flags() == []


@pytest.mark.parametrize("fields", [{"tokens": 1e300}, {"tokens": 1e13}, {"window_end": NOON}], ids=str)
def test_an_implausible_state_is_taken_as_not_observed(fields: dict[str, Any]) -> None:
    good = [state(at, 80.0) for at in (0, 10, 30)]
    assert steps(folded(good[0], good[1], state(20, **fields), good[2])) == [80.0]


def test_an_implausible_class_takes_the_state_with_it() -> None:
    bad = state(20, 80.0, classes=[of_class("chat", 1e13)])
    assert steps(folded(state(0, 80.0), state(10, 80.0), bad, state(30))) == [80.0]


def test_each_part_has_requests_prefill_and_decode() -> None:
    both = [of_class("chat", 10.0), of_class("code", 5.0)]
    history = folded(*(state(at, 30.0, requests_per_second=15.0, classes=both) for at in (0, 10, 20, 30)))
    assert [steps(history, SITE, row) for row in (REQUESTS, PREFILL, DECODE)] == [[15.0], [45.0], [30.0]]
    assert [steps(history, "chat", row) for row in (REQUESTS, PREFILL, DECODE)] == [[10.0], [30.0], [20.0]]
    assert [name for name, _ in history.classes()] == ["chat", "code"]


def test_a_class_not_heard_of_had_no_load_where_the_site_was_observed() -> None:
    chat = [of_class("chat", 10.0)]
    seen = [state(at, classes=chat) for at in (0, 10, 20)] + [state(at, classes=[]) for at in (30, 40, 50, 60)]
    gone = [state(90, covered=0.0, classes=[]), *(state(at, classes=[]) for at in (120, 130, 150))]
    history = folded(*seen, *gone)
    assert steps(history) == [100.0, 100.0, None, None, 100.0]
    assert steps(history, "chat") == [20.0, 0.0, None, None, 0.0]


def test_a_class_long_silent_is_forgotten_and_a_ninth_never_known() -> None:
    many = [of_class(f"class-{number}", 1.0) for number in range(12)]
    history = folded(*(state(at, classes=many) for at in (0, 10, 20, 30, 40, 50)), keep_steps=3)
    assert len(list(history.classes())) == 8
    for at in range(60, 300, 10):
        history.fold(state(at, classes=[of_class("class-11", 1.0)]))
    assert [name for name, _ in history.classes()] == ["class-11"]


@pytest.mark.parametrize("taken", range(7))
def test_a_history_read_back_goes_on_as_if_nothing_had_been(taken: int) -> None:
    states = [state(at, 1 / (at + 3), covered=0.7) for at in (0, 10, 20, 30, 70, 80, 170)]
    history = SiteHistory.from_json(folded(*states[:taken]).to_json())
    for each in states[taken:]:
        history.fold(each)
    assert history.to_json() == folded(*states).to_json()


FIRST_FORM = (
    b'{"step_seconds":300.0,"keep_steps":4032,"end":null,"steps":[1.0,null],"open_tokens":0.0,"open_seconds":0.0}'
)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"step_seconds": "x", "keep_steps": 1}', FIRST_FORM])
def test_from_json_of_other_bytes_is_a_validation_error(value: bytes) -> None:
    with pytest.raises(ValidationError):
        SiteHistory.from_json(value)


@pytest.mark.parametrize("steps", ["AAA", "AAAA", 7, None, "é"])
def test_from_json_of_steps_that_are_none_is_a_validation_error(steps: object) -> None:
    document = json.loads(folded(state(0), state(30)).to_json())
    document["parts"][SITE]["steps"] = steps
    with pytest.raises(ValidationError):
        SiteHistory.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("tracks", [["no track"] * 3, [], "none"])
def test_what_another_forecaster_had_learnt_is_dropped_and_the_steps_kept(tracks: object) -> None:
    history = folded(state(0), state(10), state(30))
    document = json.loads(history.to_json())
    document["parts"][SITE]["tracks"] = tracks
    read = SiteHistory.from_json(json.dumps(document).encode())
    assert (steps(read), len(read.site.tracks)) == (steps(history), 3)


@pytest.mark.parametrize("step_seconds", [10.0, 15.0, 20.0, 60.0, 120.0, 200.0, 299.0, 300.0, 3600.0])
def test_a_full_history_is_far_smaller_than_a_message_may_be(step_seconds: float) -> None:
    def full(keep_steps: int) -> LoadPart:
        tracks = [Track(np.ones(live_layout(step_seconds).size, dtype=np.float32)) for _ in QUANTITIES]
        return LoadPart(np.ones((len(QUANTITIES), keep_steps), dtype=np.float32), tracks, [1 / 3] * 3)

    many = [of_class(f"class-{number}", 1.0) for number in range(12)]
    history = history_for(step_seconds)
    history.fold(state(0, classes=many))
    for name in history.parts:
        history.parts[name] = full(history.keep_steps if name == SITE else history.keep_class_steps)
    history.scores.issue(1, dict.fromkeys(SCORED_SECONDS, np.ones(7)), "m" * 40, step_seconds)
    assert len(history.parts) == 1 + 8
    assert len(history.to_json()) < 0.75 * MAX_MESSAGE_BYTES


def test_history_for_keeps_two_weeks_and_of_short_steps_fewer() -> None:
    assert (history_for(300.0).keep_steps, history_for(300.0).keep_class_steps) == (14 * 288, 8 * 288)
    assert (history_for(10.0).keep_steps, history_for(10.0).keep_class_steps) == (8_064, 2_880)
