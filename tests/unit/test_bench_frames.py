"""What the benchmarks send is what the contract writes, and all who fold it come to the totals that are expected."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contenders import sums
from benchmarks.fleet import Fleet
from benchmarks.frames import Feed, Frame, check_frame, long_ago
from benchmarks.totals import WrongTotalsError, check
from infra.bus import partition_of
from infra.settings import load_fleet_file
from schemas.telemetry import TelemetryFrame
from streams.aggregate.window import PartitionWindows, WindowRules

RUN, WINDOW, LATENESS = "bench", 10, 5
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


def _sent(gpus: int) -> tuple[Fleet, Feed, list[Frame]]:
    fleet = Fleet(gpus, sites=4, collectors=3, partitions=2)
    feed = Feed(fleet, RUN, BEGINS, WINDOW)
    return fleet, feed, [frame for _ in range(26) for frame in feed.second()]


@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_frames_are_the_contracts_bytes_in_their_partitions(gpus: int) -> None:
    fleet, _, frames = _sent(gpus)
    assert len(frames) == 26 * fleet.frames_per_second
    for frame in frames:
        check_frame(frame, RUN)
        assert frame.partition == partition_of(frame.key, fleet.partitions)
    sent = [sum(frame.partition == place for frame in frames) for place in range(fleet.partitions)]
    assert len(set(sent)) == 1


@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_window_code_comes_to_the_expected_totals(gpus: int, tmp_path: Path) -> None:
    fleet, feed, frames = _sent(gpus)
    fleet_file = load_fleet_file(fleet.write(tmp_path))
    states: list[dict[str, Any]] = []
    for place in range(fleet.partitions):
        windows = PartitionWindows(WindowRules(WINDOW, LATENESS), fleet_file, RUN)
        here = [frame for frame in frames if frame.partition == place]
        windows.fold((TelemetryFrame.model_validate_json(frame.value) for frame in here), len(here))
        states += [json.loads(state.to_json()) for _, state in windows.due()]
    expected = feed.expected(LATENESS)
    assert len(states) == len(expected) == 2 * fleet.sites
    check("window code", states, expected)


@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_sums_of_the_peers_come_to_the_expected_totals(gpus: int) -> None:
    feed, states = _states_of_sums(gpus)
    expected = feed.expected(LATENESS)
    assert len(states) == len(expected)
    check("sums", states, expected)


@pytest.mark.parametrize("field", ["gpu_samples", "masked_values", "it_energy_joules", "temperature_celsius_max"])
def test_check_refuses_other_work(field: str) -> None:
    feed, states = _states_of_sums(2)
    states[3][field] += 1
    with pytest.raises(WrongTotalsError, match="must be"):
        check("other", states, feed.expected(LATENESS))


def test_check_refuses_what_is_left_out() -> None:
    feed, states = _states_of_sums(2)
    first = min(state["window_start"] for state in states)
    left_out = next(state for state in states if state["window_start"] == first)
    with pytest.raises(WrongTotalsError, match="left out"):
        check("other", [state for state in states if state is not left_out], feed.expected(LATENESS))


def _states_of_sums(gpus: int) -> tuple[Feed, list[dict[str, Any]]]:
    _, feed, frames = _sent(gpus)
    kept: dict[tuple[str, int], sums.Sums] = {}
    for frame in frames:
        record = TelemetryFrame.model_validate_json(frame.value)
        start = int(record.observed_at.timestamp()) // WINDOW * WINDOW
        sums.add(kept.setdefault((record.site_id, start), sums.empty()), record)
    closed = {start.timestamp() for _, start in feed.expected(LATENESS)}
    return feed, [sums.state(added, site, start, WINDOW) for (site, start), added in kept.items() if start in closed]


def test_event_time_ends_before_now() -> None:
    now = datetime(2026, 5, 3, 0, 30, tzinfo=UTC)
    assert long_ago(7200, now) == datetime(2026, 5, 1, tzinfo=UTC)
