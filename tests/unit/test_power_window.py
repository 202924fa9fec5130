"""Power over one window: integers inside, so that neither order nor duplicates nor bad readings shift a sum."""

import itertools
import math
from typing import Any

import pytest

from schemas.site import PowerState
from schemas.telemetry import TelemetryFrame
from streams.aggregate.columns import sums_of
from streams.aggregate.power import PowerWindow
from tests.examples import FLEET, FRAME, NOON, SITE, after

BLANK = 9223372036854775794.0
COLUMNS = ("power_watts", "energy_joules", "utilization_ratio", "memory_used_ratio", "temperature_celsius")


def frame(sequence: int = 0, watts: list[float | None] | None = None, **fields: Any) -> TelemetryFrame:
    """A plausible frame, `watts` of each GPU."""
    watts = [100.0, 200.0] if watts is None else watts
    same: dict[str, Any] = {
        "energy_joules": [5.0] * len(watts),
        "utilization_ratio": [0.5] * len(watts),
        "memory_used_ratio": [0.25] * len(watts),
        "temperature_celsius": [60.0] * len(watts),
        "meter_power_watts": None,
        "first_gpu": 0,
    }
    return FRAME.model_copy(update={**same, "sequence": sequence, "power_watts": watts, **fields})


def closed(*frames: TelemetryFrame, gpus_expected: int = 4) -> PowerState:
    """The state of a window of 10 s that holds these frames."""
    window = PowerWindow()
    for sums in sums_of(frames):
        window.fold(sums)
    return window.close(FLEET, SITE, NOON, after(10), gpus_expected)


def test_close_gives_means_over_the_window() -> None:
    state = closed(
        frame(0, [100.0, 200.0], utilization_ratio=[0.2, 0.4], meter_power_watts=400.0),
        frame(1, [300.0, 400.0], utilization_ratio=[0.6, 0.8], meter_power_watts=500.5, temperature_celsius=[71, -3]),
    )
    assert state.it_power_watts == 500.0  # (100 + 300) / 2 + (200 + 400) / 2
    assert state.it_energy_joules == 5000.0
    assert state.meter_power_watts == 450.25
    assert state.utilization_ratio == 0.5
    assert state.temperature_celsius_max == 71.0
    assert (state.records, state.duplicates, state.gpu_samples, state.masked_values) == (2, 0, 4, 0)
    assert (state.gpus_reporting, state.reporting_ratio) == (2, 0.5)
    assert (state.window_start, state.window_end, state.fleet_id, state.site_id) == (NOON, after(10), FLEET, SITE)


def test_close_of_an_empty_window_is_a_record_without_readings() -> None:
    state = closed()
    assert (state.it_power_watts, state.meter_power_watts, state.utilization_ratio) == (0.0, None, None)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf, BLANK, -41.0, 1e16], ids=str)
def test_fold_masks_what_is_not_plausible_and_counts_it(column: str, bad: float | None) -> None:
    plain = frame()
    state = closed(plain.model_copy(update={column: [getattr(plain, column)[0], bad]}))
    assert state.masked_values == 1
    assert state.it_power_watts == (200.0 if column == "power_watts" else 300.0)
    assert state.utilization_ratio == 0.5
    assert state.temperature_celsius_max == 60.0
    assert state.gpus_reporting == (1 if column == "power_watts" else 2)


def test_fold_masks_a_meter_that_is_not_plausible() -> None:
    state = closed(
        frame(0, meter_power_watts=BLANK), frame(1, meter_power_watts=1e308), frame(2, meter_power_watts=7.0)
    )
    assert (state.meter_power_watts, state.masked_values) == (7.0, 2)


def test_fold_counts_a_gpu_never_read_at_the_mean_of_the_others() -> None:
    state = closed(frame(0, [100.0, None, 200.0]), frame(1, [100.0, None, 200.0]))
    assert state.it_power_watts == 450.0
    assert state.gpus_reporting == 2


def test_fold_takes_a_source_and_sequence_once() -> None:
    once = closed(frame(0), frame(1))
    twice = closed(frame(0), frame(0), frame(1), frame(0))
    assert twice == once.model_copy(update={"duplicates": 2})
    assert closed(frame(0), frame(0, source="exporter-2", first_gpu=2)).duplicates == 0


def test_fold_takes_frames_in_any_order() -> None:
    frames = [
        frame(0, [0.1, 0.2], meter_power_watts=0.1),
        frame(1, [0.3, None], meter_power_watts=0.2),
        frame(2, [700.3], utilization_ratio=[1 / 3]),  # a GPU fewer
        frame(3, [1.0, 2.0, 3.0]),  # and one more
        frame(4, [512.7, 0.7], source="exporter-2", first_gpu=3, utilization_ratio=[1 / 7, 0.1]),
    ]
    states = {closed(*order).to_json() for order in itertools.permutations(frames)}
    assert len(states) == 1


def test_fold_of_frames_of_changing_length_keeps_what_was_read() -> None:
    state = closed(frame(0, [100.0, 100.0]), frame(1, [100.0, 100.0, 100.0]), frame(2, [100.0]))
    assert (state.it_power_watts, state.gpus_reporting) == (300.0, 3)


def test_a_gpu_read_by_two_collectors_counts_once() -> None:
    state = closed(frame(0, source="pod-x"), frame(0, source="pod-y"), frame(1, source="pod-y"))
    assert (state.it_power_watts, state.gpus_reporting, state.records) == (300.0, 2, 3)


def test_pools_and_frame_positions_add_up() -> None:
    state = closed(frame(0), frame(1, first_gpu=2), frame(2, pool_id="a100"))
    assert (state.it_power_watts, state.gpus_reporting) == (900.0, 6)
    assert state.reporting_ratio == 1.0  # more than the fleet file has is no more than all
