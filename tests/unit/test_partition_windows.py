"""When windows open and close, what is late, what is refused, and which position may be committed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.requests import RequestRates
from schemas.telemetry import TelemetryFrame
from streams.aggregate.window import BEGINNING, PartitionWindows, WindowRules
from tests.examples import FRAME, NOON, REQUESTS, after

FLEETS = load_fleet_file(DEMO_FLEET_FILE)
RULES = WindowRules(window_seconds=10.0, allowed_lateness_seconds=5.0)
NYC, WEST, DALLAS = "nyiso-nyc", "nyiso-west", "ercot-dallas"


def frame(at: float, site: str = NYC, **fields: Any) -> TelemetryFrame:
    """A frame observed `at` seconds after noon."""
    own = {"observed_at": after(at), "site_id": site, "sequence": round(at * 100)}
    return FRAME.model_copy(update={**own, **fields})


def rates(at: float, interval: float = 10.0, site: str = NYC, **fields: Any) -> RequestRates:
    """A report whose interval ends `at` seconds after noon."""
    own = {"observed_at": after(at), "site_id": site, "interval_seconds": interval, "sequence": round(at * 100)}
    return REQUESTS.model_copy(update={**own, **fields})


def windows(rules: WindowRules = RULES, watermark: datetime = BEGINNING) -> PartitionWindows:
    """An empty partition."""
    return PartitionWindows(rules, FLEETS, watermark=watermark)


@pytest.mark.parametrize(("at", "start"), [(0, 0), (0.000001, 0), (9.999999, 0), (10, 10), (-0.000001, -10)])
def test_a_frame_lies_in_the_window_of_its_instant(at: float, start: float) -> None:
    assert RULES.start_of(frame(at)) == after(start)


@pytest.mark.parametrize(("at", "start"), [(10, 0), (10.000001, 10), (0.000001, 0), (0, -10), (20, 10)])
def test_a_report_lies_in_the_window_of_its_last_instant(at: float, start: float) -> None:
    assert RULES.start_of(rates(at)) == after(start)
    assert RULES.start_of(rates(at, interval=1.0)) == after(start)


def test_edges_are_exact_for_windows_that_binary_fractions_miss() -> None:
    rules = WindowRules(0.1, 0.1)
    for tenth in range(1000):
        at = NOON + tenth * timedelta(milliseconds=100)
        assert rules.start_of(frame(0, observed_at=at)) == at


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    state = windows()
    state.fold([frame(3)], 1)
    state.fold([frame(14.999999)], 2)
    assert state.due() == []
    state.fold([frame(15)], 3)
    ((place, closed),) = state.due()
    assert place == (NOON, NYC)
    assert (closed.window_start, closed.window_end, closed.fleet_id, closed.records) == (NOON, after(10), "nyiso", 1)


def test_due_is_oldest_first_and_holds_the_position_until_settled() -> None:
    state = windows()
    state.fold([frame(13, WEST), frame(12, NYC), frame(1, NYC), frame(2, DALLAS), frame(60, DALLAS)], 5)
    due = [place for place, _ in state.due()]
    assert due == [(NOON, DALLAS), (NOON, NYC), (after(10), NYC), (after(10), WEST)]
    assert state.due() == []
    assert state.settle(due) is None  # the batch feeds the last one's window too


def test_one_site_moves_the_watermark_of_all() -> None:
    state = windows()
    state.fold([frame(1, NYC), frame(100, DALLAS), frame(5, WEST)], 3)
    assert state.late == 1
    assert [place for place, _ in state.due()] == [(NOON, NYC)]


def test_a_late_record_is_counted_and_opens_nothing() -> None:
    state = windows(watermark=after(10))
    state.fold([frame(9.9), rates(10)], 1)
    assert (state.late, state.open, state.watermark) == (2, {}, after(10))
    assert state.settle([]) == 1


def test_in_order_reports_of_sources_out_of_phase_are_never_late() -> None:
    state = windows()
    for number, at in enumerate([20, 24.8, 24.9, 29.8, 29.9, 34.9, 39.7, 39.9]):
        state.fold([rates(at, site=(NYC, WEST)[number % 2])], number + 1)
        state.settle(place for place, _ in state.due())
    assert state.late == 0


def test_a_position_waits_for_every_window_before_it() -> None:
    state = windows()
    state.fold([frame(1)], 10)
    state.fold([frame(12)], 20)
    state.fold([], 25)  # nothing but rejects
    assert state.settle([]) is None
    state.fold([frame(16)], 30)
    assert state.settle(place for place, _ in state.due()) == 10
    state.fold([frame(31)], 40)
    assert state.settle(place for place, _ in state.due()) == 30


def test_a_remembered_watermark_keeps_closed_what_was_closed() -> None:
    state = windows(watermark=after(15))
    state.fold([frame(1), frame(12), frame(26)], 3)
    (((start, _), closed),) = state.due()
    assert (start, closed.records, state.late) == (after(10), 1, 1)


@pytest.mark.parametrize("year", [1, 1969])
def test_a_record_from_before_the_beginning_is_late_and_no_fault(year: int) -> None:
    ancient = datetime(year, 1, 1, tzinfo=UTC)
    state = windows(WindowRules(7.0, 5.0))
    state.fold([frame(0, observed_at=ancient), rates(0, observed_at=ancient)], 2)
    assert (state.late, state.open, state.watermark) == (2, {}, BEGINNING)


@pytest.mark.parametrize("interval", [15.1, 60.0, 1e308])
def test_a_report_too_long_for_a_window_is_refused(interval: float) -> None:
    why = RULES.refused(rates(10, interval))
    assert why is not None
    assert why.reason == "long_interval"
    assert "a window has 10" in why.detail


@pytest.mark.parametrize("record", [rates(10, 10.02), rates(10, 1e-9), frame(0, interval_seconds=300.0)])
def test_a_report_of_about_a_window_and_any_frame_are_taken(record: TelemetryFrame | RequestRates) -> None:
    assert RULES.refused(record) is None
