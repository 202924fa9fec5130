"""What the live load sends is what the contract writes, and the windows it expects are those that aggregate closes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.fleet import Fleet
from benchmarks.frames import check_frame
from benchmarks.live.figures import quantile, slope
from benchmarks.live.frames import LiveFrames
from benchmarks.live.schedule import Schedule, microseconds_of
from infra.bus import partition_of
from infra.settings import load_fleet_file
from schemas.catalog import GPU_TELEMETRY
from schemas.telemetry import TelemetryFrame
from streams.aggregate.window import PartitionWindows, WindowRules

FLEET = Fleet(3, sites=4, collectors=2, partitions=2, fleets=2)
BEGINS = datetime(2026, 3, 1, tzinfo=UTC)


def test_live_frames_are_the_contracts_numbered_and_some_read_the_meter() -> None:
    frames = LiveFrames(FLEET, "bench").next(3 * FLEET.frames_per_second, BEGINS + timedelta(microseconds=5), 0.25)
    records = []
    for frame in frames:
        check_frame(frame, "bench")
        record = GPU_TELEMETRY.decode(frame.key, frame.value, "bench")
        assert isinstance(record, TelemetryFrame)
        assert record.interval_seconds == 0.25
        records.append(record)
    assert len({(record.source, record.sequence) for record in records}) == len(records)
    assert {record.site_id for record in records if record.meter_power_watts} == set(FLEET.site_ids())


def test_schedule_expects_the_windows_that_aggregate_closes_and_names_what_closes_them(tmp_path: Path) -> None:
    fleet_file = load_fleet_file(FLEET.write(tmp_path))
    frames, schedule = LiveFrames(FLEET, "bench"), Schedule(10_000_000, 5_000_000)
    windows = {part: PartitionWindows(WindowRules(10, 5), fleet_file, "bench") for part in range(FLEET.partitions)}
    closed: dict[tuple[str, int], int] = {}
    # Odd steps, and a gap longer than a window.
    for step in [*range(0, 31_000, 700), *range(60_000, 95_000, 900)]:
        at = BEGINS + timedelta(milliseconds=step)
        for frame in frames.next(3, at, 1.0):
            record = GPU_TELEMETRY.decode(frame.key, frame.value, "bench")
            assert isinstance(record, TelemetryFrame)
            schedule.note(frame.partition, [record.site_id], microseconds_of(at))
            windows[frame.partition].fold([record], 1)
            for (start, site), _ in windows[frame.partition].due():
                closed[site, microseconds_of(start) // 10_000_000] = microseconds_of(at)
    assert closed
    assert schedule.closed() == closed


def test_fleet_with_several_fleets_spreads_them_over_the_partitions(tmp_path: Path) -> None:
    fleet = Fleet(8, sites=32, fleets=8)
    places = [partition_of(name.encode(), fleet.partitions) for name in fleet.fleet_ids()]
    assert {places.count(part) for part in range(fleet.partitions)} == {2}
    found = load_fleet_file(fleet.write(tmp_path))
    assert [len(each.sites) for each in found.fleets] == [4] * 8


def test_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert quantile([], 0.5) is None


def test_slope_is_by_unit_of_time() -> None:
    assert abs(slope([0.0, 10.0, 20.0], [1.0, 2.0, 3.0]) - 0.1) < 1e-9
