"""Sums over stacked columns are those of each value taken by itself, whatever stands in the columns."""

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from schemas.telemetry import TelemetryFrame
from streams.aggregate.columns import _PLAUSIBLE, FrameSums, sums_of
from tests.examples import FRAME

COLUMNS = ("power_watts", "energy_joules", "utilization_ratio", "memory_used_ratio", "temperature_celsius")
BLANK = 9223372036854775794.0
bad = st.sampled_from([None, math.nan, math.inf, -math.inf, BLANK, -1e3])
readings = st.one_of(bad, st.floats(0, 1), st.floats(-50, 6000))


@st.composite
def frames(draw: st.DrawFn) -> TelemetryFrame:
    """A frame of any width with any readings."""
    width = draw(st.integers(1, 9))
    columns = {name: draw(st.lists(readings, min_size=width, max_size=width)) for name in COLUMNS}
    return FRAME.model_copy(update=columns)


def _plausible(values: Sequence[float | None], bounds: tuple[float, float]) -> list[float | None]:
    return [value if value is not None and bounds[0] <= value <= bounds[1] else None for value in values]


def one_by_one(frame: TelemetryFrame) -> FrameSums:
    """The same without numpy."""
    columns = {name: _plausible(getattr(frame, name), bounds) for name, bounds in zip(COLUMNS, _PLAUSIBLE, strict=True)}
    read = {name: [value for value in column if value is not None] for name, column in columns.items()}
    return FrameSums(
        frame=frame,
        masked=sum(column.count(None) for column in columns.values()),
        power_read=sum(1 << place for place, value in enumerate(columns["power_watts"]) if value is not None),
        power_milliwatts=sum(round(value * 1000) for value in read["power_watts"]),
        utilization_millionths=sum(round(value * 1_000_000) for value in read["utilization_ratio"]),
        utilization_samples=len(read["utilization_ratio"]),
        temperature_max_celsius=max(read["temperature_celsius"], default=None),
    )


@given(st.lists(frames(), max_size=12))
def test_sums_of_a_stack_are_those_of_each_value_alone(made: list[TelemetryFrame]) -> None:
    assert sums_of(made) == [one_by_one(frame) for frame in made]


@given(frames(), st.integers(1, 40))
def test_sums_of_many_frames_do_not_depend_on_how_many(frame: TelemetryFrame, copies: int) -> None:
    assert sums_of([frame] * copies) == sums_of([frame]) * copies
