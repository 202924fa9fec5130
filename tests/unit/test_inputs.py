"""What a replay plays: from files or generated, with notes that say what was made up."""

from datetime import timedelta
from pathlib import Path

import pytest

from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from streams.collect.cells import TraceError
from streams.collect.inputs import ReplayInputs, demo_events, load_inputs
from streams.collect.replay import replay_plan
from tests.examples import NOON, after

FLEETS = load_fleet_file(DEMO_FLEET_FILE)
REQUESTS = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:{minute:02d}:00.0000000,{100 + minute},{10 + minute}\n" for minute in range(10)
)
PRICES = "interval_start_utc,nyc_usd_mwh\n" + "".join(f"2025-06-24T{hour:02d}:00:00Z,{hour}\n" for hour in range(24))


def inputs(requests: Path | None = None, *prices: Path, span: float = 7200.0, seed: int = 1) -> ReplayInputs:
    """Inputs of two hours from noon."""
    return load_inputs(FLEETS, requests, list(prices), NOON, span, 10.0, seed, "replay-1")


def test_without_files_all_is_generated_and_said_so() -> None:
    made = inputs()
    assert made.notes[:2] == ["requests: generated, seed 1", "prices: generated, seed 1"]
    assert set(made.demand.at(0)) == {site.id for _, site in FLEETS.sites()}
    assert set(made.prices) >= {site.settlement_point for _, site in FLEETS.sites()}


def test_a_seed_gives_the_same_inputs_and_another_one_others() -> None:
    first, same, other = inputs(seed=1), inputs(seed=1), inputs(seed=2)
    steps = range(20)
    assert [first.demand.at(step) for step in steps] == [same.demand.at(step) for step in steps]
    assert [first.demand.at(step) for step in steps] != [other.demand.at(step) for step in steps]
    assert first.events == same.events


def test_files_are_named_and_laid_end_to_end(tmp_path: Path) -> None:
    requests, prices = tmp_path / "requests.csv", tmp_path / "prices.csv"
    requests.write_text(REQUESTS)
    prices.write_text(PRICES)
    notes = inputs(requests, prices).notes
    assert notes[0].startswith("requests: requests")
    assert "laid end to end" in notes[0]
    assert notes[1].startswith("prices: prices")
    assert "from 2025-06-24 00:00, played as if now" in notes[1]
    assert len(notes) > 2  # zones of the fleet file that the prices lack


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", PRICES])
def test_a_file_that_is_no_request_trace_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TraceError, match=rf"^{path}.*") as caught:
        inputs(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_beginning_that_is_no_time_or_not_in_the_prices_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(PRICES)
    for start in ("yesterday", "2031-01-01T00:00:00Z"):
        with pytest.raises(TraceError):
            load_inputs(FLEETS, None, [path], NOON, 3600.0, 10.0, 1, "replay-1", price_start=start)


@pytest.mark.parametrize("span", [20.0, 600.0, 7200.0, 90_000.0])
def test_the_demos_event_lies_within_the_span(span: float) -> None:
    (event,) = demo_events(FLEETS, NOON, span, "replay-1")
    assert NOON < event.published_at < event.starts_at < event.ends_at < after(span)
    assert (event.fleet_id, event.run_id, event.reduction_ratio) == ("nyiso", "replay-1", 0.25)
    assert event.ends_at - event.starts_at <= timedelta(hours=1)


def test_replay_plan_begins_on_a_full_minute_and_runs_at_its_rate() -> None:
    plan = replay_plan(60.0, 30.0, 10.0, 5.0)
    anchor = plan.anchor("replay-1")
    assert (plan.starts_at.second, plan.starts_at.microsecond) == (0, 0)
    assert timedelta(0) <= plan.wall_starts_at - plan.starts_at < timedelta(minutes=1)
    assert (plan.span_seconds, anchor.run_id) == (1800.0, "replay-1")
    assert anchor.at(plan.wall_starts_at + timedelta(seconds=60)) == plan.starts_at + timedelta(seconds=1800)
