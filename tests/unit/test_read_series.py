"""Reading load from files in any state: what comes out, what is noted, and the one line where nothing can."""

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.series import LoadSeries
from streams.collect.cells import TraceError
from streams.collect.series import REQUESTS, Missing, read_series

DATA = Path(os.environ.get("GRIDTIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; set GRIDTIDE_DATA to its folder")
START = datetime(2024, 5, 10, tzinfo=UTC)


def put(folder: Path, text: str, name: str = "load.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(
    folder: Path,
    text: str,
    column: str | None = None,
    step_seconds: float | None = None,
    missing: Missing = "gaps",
) -> tuple[LoadSeries, list[str]]:
    """The series of a file with this text, and what was noted."""
    notes: list[str] = []
    return read_series(put(folder, text), column, step_seconds, missing, notes.append), notes


def rows(*pairs: tuple[object, object], header: str = "t_s,load") -> str:
    return "\n".join([header, *(f"{time},{value}" for time, value in pairs)]) + "\n"


def requests(*seconds: float) -> str:
    lines = [f"{START + timedelta(seconds=each):%Y-%m-%d %H:%M:%S.%f}0,100,10" for each in seconds]
    return "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n"


@pytest.mark.parametrize("name", ["load.csv", "load.csv.gz"])
@pytest.mark.parametrize("time_column", ["ts_utc", "timestamp", "Time", "interval_start_utc", "when_it_was"])
def test_read_series_takes_iso_times(tmp_path: Path, name: str, time_column: str) -> None:
    text = f"pool,{time_column},load\na,2024-05-10 00:00:00,1\na,2024-05-10 00:10:00,2\na,2024-05-10T00:20:00Z,3\n"
    series = read_series(put(tmp_path, text, name))
    assert (series.starts_at, series.step_seconds, series.values.tolist()) == (START, 600.0, [1, 2, 3])
    assert series.name == f"{name} load"
    assert series.clients is None
    assert series.dispersion is None


@pytest.mark.parametrize("zero", [0, 86_400, -600, 1_715_299_200])
def test_read_series_takes_seconds_from_any_zero(tmp_path: Path, zero: int) -> None:
    series, _ = read(tmp_path, rows((zero, 1), (zero + 60, 2), (zero + 120, 3)))
    assert series.step_seconds == 60
    assert series.starts_at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=zero)


def test_read_series_knows_milliseconds_by_their_size(tmp_path: Path) -> None:
    series, _ = read(tmp_path, rows((1_715_299_200_000, 1), (1_715_299_260_000, 2), header="ts,load"))
    assert (series.starts_at, series.step_seconds) == (START, 60.0)


def test_read_series_takes_the_first_column_that_varies_and_is_no_bound(tmp_path: Path) -> None:
    text = "load_before,t_s,load_lo,active_clients,flat,load,tokens\n" + "".join(
        f"{i},{i * 60},{i},{i + 1},7,{i * 2},{i * 3}\n" for i in range(4)
    )
    series, notes = read(tmp_path, text)
    assert series.values.tolist() == [0, 2, 4, 6]
    assert series.clients is not None
    assert series.clients.tolist() == [1, 2, 3, 4]
    assert notes == [
        "load.csv: takes the column load; there are also tokens, load_before, flat, active_clients, load_lo (--column)"
    ]
    chosen, silent = read(tmp_path, text, "flat")
    assert chosen.values.tolist() == [7] * 4
    assert silent == []


def test_read_series_missing_steps_are_gaps_or_zeros(tmp_path: Path) -> None:
    text = rows((0, 1), (60, 2), (120, ""), (180, "NaN"), (360, 3), (420, 4))
    assert np.isnan(read(tmp_path, text)[0].values).tolist() == [False, False, True, True, True, True, False, False]
    assert read(tmp_path, text, missing="zeros")[0].values.tolist() == [1, 2, 0, 0, 0, 0, 3, 4]


def test_read_series_sorts_and_averages_and_says_so(tmp_path: Path) -> None:
    series, notes = read(tmp_path, rows((0, 1), (60, 2), (120, 4), (60, 6), (180, 5), (240, 5)))
    assert series.values.tolist() == [1, 4, 4, 5, 5]
    assert [note.split("load.csv")[1] for note in notes] == [
        ":5: t_s: earlier than the line before (1 such); sorted by time",
        ":5: t_s: a second line of the same step (1 such); averaged",
    ]


def test_read_series_takes_stamps_beside_the_grid_for_the_nearest_step(tmp_path: Path) -> None:
    series, notes = read(tmp_path, rows((57, 0), (120, 1), (180, 2), (245, 3), (300, 4), (360, 5)))
    assert series.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert series.starts_at.timestamp() == 60
    assert notes == [f"{tmp_path}/load.csv:2: t_s: off the step of 60 s (2 such); nearest taken"]


@pytest.mark.parametrize("wrong", ["-1", "inf", "-inf"])
def test_read_series_takes_what_no_load_can_be_as_not_observed(tmp_path: Path, wrong: str) -> None:
    series, notes = read(tmp_path, rows((0, 1), (60, wrong), (120, 2)))
    assert np.isnan(series.values).tolist() == [False, True, False]
    assert notes == [f"{tmp_path}/load.csv:3: load: negative or not finite (1 such); taken as not observed"]


def test_read_series_leaves_out_what_a_leap_of_the_clock_parted(tmp_path: Path) -> None:
    steps = [(i * 600, i) for i in range(20)]
    series, notes = read(tmp_path, rows(*steps[:10], (9_000_000_000, 5), *steps[10:], (-900_000, 1)))
    assert series.values.tolist() == [value for _, value in steps]
    assert any("the clock leaps" in note and "2 lines left out" in note for note in notes)


def test_read_series_keeps_a_leap_of_hours_as_a_gap(tmp_path: Path) -> None:
    series, _ = read(tmp_path, rows(*((i * 600, 1) for i in range(5)), *((36_000 + i * 600, 1) for i in range(5))))
    assert (len(series.values), int(np.isnan(series.values).sum())) == (65, 55)


def test_read_series_coarsens_to_the_step_asked_for(tmp_path: Path) -> None:
    text = rows(*((i * 60, i) for i in (0, 1, 2, 3, 5, 9, 10)))
    assert read(tmp_path, text, step_seconds=120.0)[0].values.tolist()[:3] == [0.5, 2.5, 5]
    coarse, _ = read(tmp_path, text, step_seconds=300.0)
    assert coarse.values.tolist()[0] == 1.5
    assert np.isnan(coarse.values[1])  # two of five known


def test_read_series_counts_a_raw_trace(tmp_path: Path) -> None:
    series, notes = read(tmp_path, requests(0, 1, 2, 59.5, 130, 60, 185), step_seconds=60.0)
    assert series.values.tolist() == pytest.approx([4 / 60, 1 / 60, 1 / 60])
    assert (series.starts_at, series.step_seconds) == (START, 60.0)
    assert series.dispersion is not None
    assert series.dispersion.tolist() == pytest.approx([np.var([3, 0, 0, 0, 0, 0, 0, 0, 0, 1]) / 0.4, 0.9, 0.9])
    assert notes == [f"load.csv: 7 requests in 3 steps of 60 s, as {REQUESTS}"]


def test_read_series_of_a_raw_trace_gives_tokens_and_empty_steps(tmp_path: Path) -> None:
    series, _ = read(tmp_path, requests(0, 1, 200, 260), "ContextTokens", 60.0)
    assert series.values.tolist() == pytest.approx([200 / 60, 0, 0, 100 / 60])
    assert series.dispersion is not None
    assert np.isnan(series.dispersion).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("span_seconds", "step_seconds"), [(30, 1), (600, 10), (57 * 60, 60), (86_400 * 7, 60), (86_400 * 40, 300)]
)
def test_read_series_of_a_raw_trace_has_a_usual_number_of_steps(
    tmp_path: Path, span_seconds: float, step_seconds: float
) -> None:
    series, _ = read(tmp_path, requests(*np.linspace(0, span_seconds, 60)))
    assert series.step_seconds == step_seconds
    assert len(series.values) == span_seconds // step_seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": empty"),
        ("t_s,load\n", ": no lines after the header"),
        ("0,1\n60,2\n", ":1: no header: the first line must name the columns"),
        ("a,b\nx,y\n", ":1: no column of times among a, b; call it timestamp, ts_utc, or t_s if it holds seconds"),
        ("t_s\n0\n60\n", ": no column of numbers beside t_s"),
        (rows((0, "x"), (60, "y")), ": no column of numbers beside t_s"),
        (rows((0, ""), (60, "")), ": no column of numbers beside t_s"),
        (rows((0, 1), (60, "dear")), ":3: load: not a number (got 'dear')"),
        (rows((0, 1), ("noon", 2)), ":3: t_s: Invalid isoformat string: 'noon' (got 'noon')"),
        (rows((0, 1), ("", 2)), ":3: t_s: Invalid isoformat string: '' (got '')"),
        (rows((0, 1), ("nan", 2)), ":3: t_s: must be a time (got 'nan')"),
        (rows((0, 1), (60, "2,3")), ":3: 3 columns, the header has 2"),
        (rows((0, 1)), ": lines of one time only; at least 2 times are needed to know their step"),
        (rows((0, 1), (0, 2)), ": lines of one time only; at least 2 times are needed to know their step"),
        (rows((0, -1), (60, -2)), ": load: no whole step with numbers of 0 or more"),
        (
            rows(*((i * 0.0001 + 4_000 * (i % 2), 1) for i in range(100))),
            ": 20000051 steps of 0.0002 s from first to last line; at most 20000000",
        ),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", ": no requests"),
        (requests(0, 1) + "2024-05-10 00:00:02,many,1\n", ":4: ContextTokens: invalid literal"),
    ],
)
def test_read_series_says_in_one_line_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = put(tmp_path, text)
    with pytest.raises(TraceError) as failed:
        read_series(path)
    assert str(failed.value).startswith(f"{path}{said}")
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("text", "there"),
    [(rows((0, 1), (60, 2)), "load"), (requests(0, 1), f"{REQUESTS}, ContextTokens, GeneratedTokens")],
)
def test_read_series_names_the_columns_there_are(tmp_path: Path, text: str, there: str) -> None:
    with pytest.raises(TraceError, match=f"no column 'rate' of numbers; there are {there}$"):
        read(tmp_path, text, "rate")


def test_read_series_refuses_a_step_that_the_file_does_not_make_up(tmp_path: Path) -> None:
    text = rows((0, 1), (60, 2), (120, 3))
    for step_seconds in (30.0, 90.0):
        with pytest.raises(TraceError, match=f"a step of {step_seconds:g} s is no whole multiple of the file's"):
            read(tmp_path, text, step_seconds=step_seconds)
    with pytest.raises(ValueError, match="step_seconds must be positive"):
        read(tmp_path, text, step_seconds=0)


@needs_data
@pytest.mark.parametrize(
    ("name", "column", "steps", "step_seconds", "mean"),
    [
        ("azure2024_code_10min", "code_req_per_min", 1008, 600, 1667.9),
        ("servegen_m_large_10min", "rate_rps", 2016, 600, 195.8),
        ("servegen_deepseek_r1_10min", "rate_rps", 144, 600, 16.0),
        ("azure2023_conv", REQUESTS, 58, 60, 5.55),
        ("azure2023_code", REQUESTS, 57, 60, 2.52),
    ],
)
def test_read_series_takes_real_traces(name: str, column: str, steps: int, step_seconds: float, mean: float) -> None:
    series = read_series(DATA / "requests" / f"{name}.csv.gz")
    assert series.name.endswith(f" {column}")
    assert (len(series.values), series.step_seconds) == (steps, step_seconds)
    assert series.values.mean() == pytest.approx(mean, rel=0.002)
    assert (series.clients is not None) == name.startswith("servegen")
    assert (series.dispersion is not None) == name.startswith("azure2023")


@given(
    times=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=30),
    values=st.lists(st.floats(-5, 1e9) | st.just(float("nan")), min_size=30, max_size=30),
)
def test_read_series_of_any_clock_is_a_series_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], values: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        series, _ = read(folder, rows(*zip(times, values, strict=False)))
    except TraceError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
    else:
        known = series.values[~np.isnan(series.values)]
        assert known.size
        assert (known >= 0).all()
        assert known.max() <= max(value for value in values[: len(times)] if value == value) + 1e-6
