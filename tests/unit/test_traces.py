"""Reading traces: what right files give, and the one line that each wrong file gives."""

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from streams.collect.cells import TraceError
from streams.collect.traces import PriceTrace, RequestTrace, read_price_trace, read_request_trace

DATA = Path(os.environ.get("GRIDTIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; set GRIDTIDE_DATA to its folder")

REQUESTS = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:57.0000000,100,10
2023-11-16 18:16:07.5000000,1,2
"""
PRICES = """interval_start_utc,NYC_usd_mwh,HB_HUBAVG_rt_usd_mwh
2016-01-01T00:00:00Z,58.48,2.31
2016-01-01T00:05:00Z,,-35.5
2016-01-01T00:10:00Z,NaN,3
2016-01-01T00:25:00Z,9,4
2016-01-01T00:30:00Z,10,5
"""


def put(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_read_request_trace_sums_per_step(tmp_path: Path, name: str) -> None:
    trace = read_request_trace(put(tmp_path, REQUESTS, name), step_seconds=10.0)
    assert trace.starts_at == datetime(2023, 11, 16, 18, 15, 46, 680590, tzinfo=UTC)
    assert trace.name == name
    assert trace.requests.tolist() == [2, 1]  # the third step is not full, and left out
    assert trace.prompt_tokens.tolist() == [770, 100]
    assert trace.tokens.tolist() == [153, 10]
    assert trace.span_seconds == 20


def test_read_request_trace_takes_offsets_any_order_and_a_start(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(
        f"2024-05-10 00:00:{second:02d}.009930+00:00,{second},1" for second in (20, 0, 10, 30, 45)
    )
    trace = read_request_trace(put(tmp_path, text), 10.0, start="2024-05-10T00:00:10")
    assert trace.starts_at == datetime(2024, 5, 10, 0, 0, 10, tzinfo=UTC)
    assert trace.prompt_tokens.tolist() == [10, 20, 30]


def test_request_trace_wraps_and_says_how_often(tmp_path: Path) -> None:
    trace = read_request_trace(put(tmp_path, REQUESTS), 10.0)
    assert trace.at(0) == (2, 770, 153)
    assert trace.at(3) == trace.at(1) == (1, 100, 10)
    assert [trace.tiles(seconds) for seconds in (0, 1, 20, 20.1, 60)] == [1, 1, 1, 2, 3]


def test_read_request_trace_one_request_is_one_step(tmp_path: Path) -> None:
    assert read_request_trace(put(tmp_path, "\n".join(REQUESTS.splitlines()[:2]))).steps == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: no column TIMESTAMP"),
        ("ts_utc,code_req_per_min\n2024-05-10 00:00:00,1410\n", ":1: no column TIMESTAMP.*traces in bins are not read"),
        ("TIMESTAMP,ContextTokens\n", ":1: no column GeneratedTokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", ": no requests"),
        (REQUESTS + "2023-11-16 18:17:00.0000000,5\n", ":6: 2 columns, the header has 3"),
        (REQUESTS + "2023-11-16 18:17:00.0000000,5,6,7\n", ":6: 4 columns, the header has 3"),
        (REQUESTS + "yesterday,5,6\n", ":6: TIMESTAMP: .*yesterday"),
        (REQUESTS + "2023-11-16 18:17:00,five,6\n", ":6: ContextTokens: .*'five'"),
        (REQUESTS + "2023-11-16 18:17:00,5,\n", ":6: GeneratedTokens: .*''"),
        (REQUESTS + "2023-11-16 18:17:00,5,-6\n", ":6: GeneratedTokens: must be a count, 0 or more"),
        (REQUESTS + "1203-11-16 18:17:00,5,6\n", ": [0-9]+ steps of 10.0 s from first to last request; at most"),
    ],
)
def test_read_request_trace_says_in_one_line_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = put(tmp_path, text)
    with pytest.raises(TraceError, match=said) as failed:
        read_request_trace(path)
    assert str(failed.value).startswith(str(path))
    assert "\n" not in str(failed.value)


def test_read_request_trace_refuses_a_step_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step_seconds must be positive"):
        read_request_trace(put(tmp_path, REQUESTS), step_seconds=0)


@pytest.mark.parametrize("start", ["2023-11-16 18:00:00", "2023-11-16 19:00:00", "noon"])
def test_read_request_trace_refuses_a_start_outside(tmp_path: Path, start: str) -> None:
    with pytest.raises(TraceError, match="start: "):
        read_request_trace(put(tmp_path, REQUESTS), start=start)


def test_read_traces_refuse_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="can't be read: No such file"):
        read_request_trace(tmp_path / "absent.csv")
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(REQUESTS.encode())[:-8])
    with pytest.raises(TraceError, match="can't be read: Compressed file ended"):
        read_request_trace(tmp_path / "torn.csv.gz")
    put(tmp_path, PRICES, "plain.csv").rename(tmp_path / "plain.csv.gz")
    with pytest.raises(TraceError, match="can't be read: Not a gzipped file"):
        read_price_trace(tmp_path / "plain.csv.gz")
    (tmp_path / "binary.csv").write_bytes(b"TIMESTAMP\xff\xfe\x00")
    with pytest.raises(TraceError, match="not a CSV file in UTF-8"):
        read_price_trace(tmp_path / "binary.csv")


@pytest.mark.parametrize("name", ["prices.csv", "prices.csv.gz"])
def test_read_price_trace_keeps_gaps_and_negatives(tmp_path: Path, name: str) -> None:
    trace = read_price_trace(put(tmp_path, PRICES, name))
    assert trace.zones == ("NYC", "HB_HUBAVG")
    assert trace.step_seconds == 300
    assert trace.starts_at == datetime(2016, 1, 1, tzinfo=UTC)
    # 00:15 and 00:20 are left out of the file.
    assert [trace.at(step, "HB_HUBAVG") for step in range(7)] == [2.31, -35.5, 3, None, None, 4, 5]
    assert [trace.at(step, "NYC") for step in range(3)] == [58.48, None, None]


def test_price_trace_looks_up_by_offset_and_wraps(tmp_path: Path) -> None:
    trace = read_price_trace(put(tmp_path, PRICES))
    assert [trace.step_of(seconds) for seconds in (0, 299.9, 300, 2100)] == [0, 0, 1, 7]
    assert trace.at(7, "NYC") == trace.at(0, "NYC") == 58.48
    assert (trace.tiles(2100), trace.tiles(2101)) == (1, 2)
    with pytest.raises(ValueError, match="WEST"):
        trace.at(0, "WEST")


def test_read_price_trace_starts_in_the_step_that_holds_the_start(tmp_path: Path) -> None:
    trace = read_price_trace(put(tmp_path, PRICES), start="2016-01-01T00:07Z")
    assert trace.starts_at == datetime(2016, 1, 1, 0, 5, tzinfo=UTC)
    assert trace.at(0, "HB_HUBAVG") == -35.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: prices have the columns interval_start_utc and <zone>_usd_mwh"),
        ("interval_start_utc\n", ":1: prices have the columns"),
        ("time,NYC_usd_mwh\n", ":1: prices have the columns"),
        ("interval_start_utc,NYC_eur_mwh\n", ":1: column 'NYC_eur_mwh' must be <zone>_usd_mwh"),
        ("interval_start_utc,NYC_usd_mwh,NYC_rt_usd_mwh\n", "column 'NYC_rt_usd_mwh' must be <zone>_usd_mwh, each"),
        ("interval_start_utc,NYC_usd_mwh\n2016-01-01T00:00:00Z,5\n", ": 1 lines of prices; at least 2"),
        (PRICES + "2016-01-01T00:35:00Z,1\n", ":7: 2 columns, the header has 3"),
        (PRICES + "2016-01-01T00:35:00Z,1,2,3\n", ":7: 4 columns, the header has 3"),
        ("interval_start_utc,NYC_usd_mwh\n" + "2016-01-01T00:00:00Z,5,6\n" * 2, ":2: 3 columns, the header has 2"),
        ("interval_start_utc,NYC_usd_mwh\n" + "2016-01-01T00:00:00Z\n" * 2, ":2: 1 columns, the header has 2"),
        (PRICES + "1 January,1,2\n", ":7: interval_start_utc: .*'1 January'"),
        (PRICES + "2016-01-01T00:35:00Z,1,dear\n", ":7: HB_HUBAVG: .*'dear'"),
        (PRICES + "2016-01-01T00:35:00Z,-inf,2\n", ":7: NYC: must be finite"),
        (PRICES + "2016-01-01T00:30:00Z,1,2\n", ":7: interval_start_utc: not later than the line before"),
        (PRICES + "2016-01-01T00:36:00Z,1,2\n", ":7: interval_start_utc: off the step of 300 s"),
        (PRICES + "9016-01-01T00:30:00Z,1,2\n", ": [0-9]+ steps of 300 s; at most"),
    ],
)
def test_read_price_trace_says_in_one_line_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = put(tmp_path, text)
    with pytest.raises(TraceError, match=said) as failed:
        read_price_trace(path)
    assert str(failed.value).startswith(str(path))
    assert "\n" not in str(failed.value)


def test_traces_are_values_of_numpy() -> None:
    two = np.ones(2)
    assert RequestTrace("x", datetime(2026, 1, 1, tzinfo=UTC), 5.0, two, two, two).span_seconds == 10
    assert PriceTrace("x", datetime(2026, 1, 1, tzinfo=UTC), 5.0, ("Z",), np.ones((3, 1))).span_seconds == 15


@needs_data
@pytest.mark.parametrize(("name", "requests", "per_second"), [("conv", 19366, 5.53), ("code", 8819, 2.57)])
def test_read_request_trace_azure(name: str, requests: int, per_second: float) -> None:
    trace = read_request_trace(DATA / "requests" / f"azure2023_{name}.csv.gz", 10.0)
    assert 0.99 * requests < trace.requests.sum() <= requests
    assert trace.requests.mean() / 10 == pytest.approx(per_second, rel=0.01)


@needs_data
def test_read_price_trace_takes_two_years_of_a_real_market() -> None:
    trace = read_price_trace(DATA / "prices" / "nyiso_rt5min_2016_2017.csv.gz")
    assert (trace.zones, trace.steps) == (("NYC", "LONGIL", "WEST", "NORTH"), 731 * 288)
    assert int(np.isnan(trace.prices_usd_per_mwh).sum()) == 11296
    assert float(np.nanmin(trace.prices_usd_per_mwh)) < -6000
