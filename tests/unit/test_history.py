"""A site's load as equal steps: what is taken, what is a gap, what survives a restart."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from forecasting.history import SiteHistory
from schemas.site import LoadState
from tests.examples import LOAD, NOON, after


def state(start: float, tokens: float = 100.0, covered: float = 1.0, **fields: Any) -> LoadState:
    """The load over the ten seconds that begin `start` seconds after noon."""
    own = {"window_start": after(start), "window_end": after(start + 10)}
    return LOAD.model_copy(
        update={**own, "tokens_arrived_per_second": tokens, "covered_ratio": covered, **fields},
    )


def folded(*states: LoadState, keep_steps: int = 100) -> SiteHistory:
    """A history of 30 s steps that took these states."""
    history = SiteHistory(30.0, keep_steps)
    for each in states:
        history.fold(each)
    return history


def test_a_step_closes_with_the_first_window_of_the_next() -> None:
    history = SiteHistory(30.0, 100)
    assert [history.fold(state(at, at)) for at in (0, 10, 20, 30)] == [False, False, False, True]
    assert (history.steps, history.end) == ([10.0], after(30))


def test_a_step_that_began_before_the_first_window_counts_what_was_seen() -> None:
    assert folded(state(10, 50.0), state(20, 70.0), state(30)).steps == [60.0]


def test_a_step_seen_for_less_than_half_is_a_gap() -> None:
    assert folded(state(20), state(30)).steps == [None]
    assert folded(state(0, covered=0.5), state(10, covered=0.9), state(20, covered=0.1), state(30)).steps == [200.0]
    assert folded(state(0, covered=0.4), state(10, covered=0.9), state(20, covered=0.1), state(30)).steps == [None]


def test_steps_without_any_window_are_gaps() -> None:
    history = folded(state(0), state(10), state(130))
    assert (history.steps, history.end) == ([100.0, None, None, None], after(120))


def test_a_window_not_newer_than_the_newest_changes_nothing() -> None:
    history = folded(state(0), state(10))
    before = history.to_json()
    assert not history.fold(state(10, 9e9))
    assert not history.fold(state(0, 9e9))
    assert history.to_json() == before


def test_only_so_many_steps_are_kept() -> None:
    history = folded(*(state(step * 30, step) for step in range(10)), keep_steps=3)
    assert len(history.steps) == 3
    silent = folded(state(0), state(10), state(30 * 10_000), keep_steps=3)
    assert (silent.steps, silent.end) == ([None] * 3, NOON + timedelta(seconds=300_000))


@pytest.mark.parametrize("fields", [{"tokens": 1e300}, {"tokens": 1e13}, {"window_end": NOON}], ids=str)
def test_an_implausible_state_is_taken_as_not_observed(fields: dict[str, Any]) -> None:
    good = [state(at, 80.0) for at in (0, 10, 30)]
    assert folded(good[0], good[1], state(20, **fields), good[2]).steps == [80.0]


@pytest.mark.parametrize("taken", range(7))
def test_a_history_read_back_goes_on_as_if_nothing_had_been(taken: int) -> None:
    states = [state(at, 1 / (at + 3), covered=0.7) for at in (0, 10, 20, 30, 70, 80, 170)]
    history = SiteHistory.from_json(folded(*states[:taken]).to_json().replace(b"\n", b""))
    history.step_seconds, history.keep_steps = 30.0, 100
    for each in states[taken:]:
        history.fold(each)
    assert history == folded(*states)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"step_seconds": "x", "keep_steps": 1}'])
def test_from_json_of_other_bytes_is_a_validation_error(value: bytes) -> None:
    with pytest.raises(ValidationError):
        SiteHistory.from_json(value)
