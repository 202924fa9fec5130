"""The demo's summary: figures, what went wrong, and a page that any name can stand on."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas import catalog
from schemas.catalog import TOPICS
from schemas.signals import EventSignal
from streams.demo.summary import page, problems, summarise
from streams.demo.tally import Tally
from tests.examples import EVENT, after

FLEETS = load_fleet_file(DEMO_FLEET_FILE)
SITES = ("ercot-dallas", "ercot-houston")
TABLES_OF: dict[str, tuple[str, ...]] = {topic.name: (topic.name,) for topic in TOPICS}
CALL = EVENT.model_copy(update={"fleet_id": "ercot", "site_ids": [], "published_at": after(300), "ramp_seconds": 120.0})


def meters(tally: Tally, held_watts: float = 750.0) -> None:
    """Both sites at 1 kW, at `held_watts` from the event's start to its end."""
    at: datetime = after(0)
    while at < after(14_000):
        watts = held_watts if CALL.starts_at <= at < CALL.ends_at else 1000.0
        for site in SITES:
            tally.meter[site][at] = (watts, 60.0)
        at += timedelta(seconds=60)


def summary_of(tally: Tally, *events: EventSignal, rows: dict[str, int] | None = None) -> dict[str, Any]:
    """The summary of a run of four hours."""
    for event in events:
        tally.take(catalog.GRID_SIGNALS.name, event.to_json(), 0, ())
    rows = tally.distinct() if rows is None else rows
    return summarise(tally, FLEETS, rows, 14_000.0, 60.0, ["requests: generated"])


def found_in(tally: Tally, summary: dict[str, Any]) -> list[str]:
    """What went wrong, apart from there being no traffic in these tests."""
    return [each for each in problems(summary, tally, TABLES_OF) if not each.startswith("no ")]


def test_an_event_is_judged_by_the_meters() -> None:
    meters(tally := Tally())
    summary = summary_of(tally, CALL)
    assert summary["events"] == [
        {
            "signal_id": "event-17",
            "before_watts": 2000.0,
            "target_watts": 1500.0,
            "settled_watts": 1500.0,
            "after_watts": 2000.0,
        }
    ]
    assert found_in(tally, summary) == []


def test_power_that_did_not_come_down_is_a_problem() -> None:
    meters(tally := Tally(), held_watts=800.0)
    assert found_in(tally, summary_of(tally, CALL)) == ["event-17: power did not come down to the target"]


def test_an_event_of_some_sites_is_judged_by_theirs() -> None:
    meters(tally := Tally())
    (event,) = summary_of(tally, CALL.model_copy(update={"site_ids": [SITES[0]]}))["events"]
    assert (event["before_watts"], event["target_watts"]) == (1000.0, 750.0)


def test_an_event_whose_meters_are_silent_is_a_problem_and_no_fault() -> None:
    tally = Tally()
    assert found_in(tally, summary_of(tally, CALL)) == ["event-17: the meters are silent before or during it"]
    meters(later := Tally())
    for site in SITES:
        later.meter[site] = {at: value for at, value in later.meter[site].items() if at >= CALL.published_at}
    assert found_in(later, summary_of(later, CALL)) == ["event-17: the meters are silent before or during it"]


def test_a_cancelled_event_is_not_judged() -> None:
    tally = Tally()
    assert summary_of(tally, CALL.model_copy(update={"cancelled": True}))["events"] == []


def test_rows_that_are_missing_or_too_many_are_a_problem() -> None:
    tally = Tally()
    rows = {**tally.distinct(), "site.state.v1": 3}
    assert found_in(tally, summary_of(tally, rows=rows)) == [
        "site.state.v1: 0 distinct keys on the bus, 3 rows in the database"
    ]


def test_a_run_in_which_nothing_happened_is_a_problem() -> None:
    tally = Tally()
    found = problems(summary_of(tally, rows={}), tally, TABLES_OF)
    assert found == [
        f"no {name}" for name in ("frames_in", "states_out", "forecasts_out", "commands_out", "acks_in", "rows")
    ]


def test_summarise_is_ready_for_json() -> None:
    meters(tally := Tally())
    tally.take_dead_letter("gpu.telemetry.v1", [("reason", b"future")])
    tally.telemetry_to_state_seconds = [0.1, 0.3]
    summary = json.loads(json.dumps(summary_of(tally, CALL)))
    assert summary["dead_letters"] == {"gpu.telemetry.v1": {"future": 1}}
    assert summary["telemetry_to_state_seconds"] == {"p50": 0.2, "p99": 0.298}
    assert summary["signal_to_command_seconds"] == {"p50": None, "p99": None}
    assert summary["usd_per_million_tokens"] is None


@pytest.mark.parametrize("name", ["event-17", "event/[/red]", "[bold]"])
def test_page_shows_any_name_as_it_is(name: str) -> None:
    meters(tally := Tally(), held_watts=1000.0)
    summary = summary_of(tally, CALL.model_copy(update={"signal_id": name}))
    summary["notes"] = [f"requests: {name}.csv"]
    console = Console(width=160)
    with console.capture() as captured:
        console.print(page(summary, found_in(tally, summary)))
    text = captured.get()
    assert f"{name}: power did not come down" in text
    assert f"requests: {name}.csv" in text
