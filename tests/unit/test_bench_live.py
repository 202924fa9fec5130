"""What the live load sends is what the contract writes, and the windows it expects are those that aggregate closes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from benchmarks.fleet import Fleet
from benchmarks.frames import check_frame
from benchmarks.live.figures import quantile, slope
from benchmarks.live.frames import LiveFrames
from benchmarks.live.load import Paced
from benchmarks.live.rig import Rig
from benchmarks.live.samples import Sample
from benchmarks.live.schedule import Schedule, Window, microseconds_of
from benchmarks.live.verdicts import verdicts
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


def a_sample(seconds: float, **rss_megabytes: float) -> Sample:
    """One look at processes of these sizes, with nothing amiss."""
    return Sample(seconds, rss_megabytes, dict.fromkeys(rss_megabytes, 0), {}, 0, 0, 0)


def verdicts_on(taken: list[Sample], expected: dict[Window, int]) -> set[str]:
    """What does not hold after such a soak, in which all that was expected was seen once."""
    once = SimpleNamespace(times=1)
    rig = SimpleNamespace(
        load=SimpleNamespace(
            powers=SimpleNamespace(closed=lambda: expected), loads=SimpleNamespace(closed=lambda: expected)
        ),
        watch=SimpleNamespace(
            powers=dict.fromkeys(expected, once), loads=dict.fromkeys(expected, once), events={}, event_seconds=list
        ),
    )
    paced = SimpleNamespace(asked_per_second=10.0, reached_per_second=10.0, kept_up=True)
    found = verdicts(cast("Rig", rig), taken, cast("Paced", paced), ["aggregate", "policy"])
    return {each.what for each in found if not each.holds}


def test_verdicts_hold_after_a_soak_in_which_nothing_went_wrong() -> None:
    taken = [a_sample(float(second), aggregate=100.0, policy=50.0) for second in range(8)]
    assert verdicts_on(taken, {("site", 0): 1}) == set()


def test_verdicts_miss_a_stage_that_is_gone_and_states_that_nobody_was_to_send() -> None:
    taken = [a_sample(float(second), aggregate=100.0, policy=50.0) for second in range(7)] + [
        a_sample(7.0, policy=50.0)
    ]
    once = {f"{kind} states, exactly one a site and window" for kind in ("power", "load")}
    assert verdicts_on(taken, {}) == {"every stage there at the end", *once}
