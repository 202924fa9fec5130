"""The forecast benchmark's own decisions: what is disturbed, what is asked of the peers, what counts as met."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import forecast
from benchmarks.disturbed import disturbed
from benchmarks.forecast_bars import robust_bars, speed_bars, trace_bars
from benchmarks.rolling import Floats
from forecasting.backtest import Backtest, Options
from forecasting.series import LoadSeries

STEPS = 7 * 144


def series(values: Floats) -> LoadSeries:
    return LoadSeries("a week", datetime(2024, 5, 10, 6, tzinfo=UTC), 600.0, values)


def result(actual: Floats, points: dict[str, Floats]) -> Backtest:
    """One horizon of one step, with the points as all quantiles."""
    origins = np.arange(len(actual), dtype=np.int64)
    quantiles = {name: np.repeat(each[:, None, None], 7, axis=2) for name, each in points.items()}
    options = Options((600.0,), 1)
    return Backtest(series(actual), options, origins, actual[:, None], quantiles, {}, 0.0, 0.0, ())


def scores(wmape: float, score: float = 1.0) -> dict[str, Any]:
    thirds = [{"coverage": 0.9, "interval": [0.8, 1.0]}, {"coverage": None, "interval": None}]
    return {
        "wmape": wmape,
        "pinball": score,
        "winkler_90": score,
        "coverage_90": 0.7,
        "coverage_90_interval": [0.6, 0.8],
        "coverage_90_thirds": thirds,
    }


def test_disturbed_series_leave_the_beginning_as_it_was() -> None:
    values = 10 + np.sin(np.arange(STEPS) / 20)
    for case in disturbed(series(values)):
        if case.begins is not None:
            np.testing.assert_array_equal(case.series.values[: case.begins], values[: case.begins])
            assert case.series.values[case.begins :].tolist() != values[case.begins :].tolist()
        known = case.series.values[~np.isnan(case.series.values)]
        assert (known >= 0).all()
    assert len({case.series.name for case in disturbed(series(values))}) == 9


def test_robust_bars_allow_two_percent_and_nothing_else() -> None:
    actual, persistence = np.full(50, 10.0), np.full(50, 9.0)
    for offset, met in ((1.0, True), (1.019, True), (1.021, False)):
        bars = list(robust_bars("t", result(actual, {"model": actual + offset, "persistence": persistence})))
        assert [bar.met for bar in bars] == [True, met]


def test_robust_bars_hold_where_persistence_makes_no_error() -> None:
    zeros = np.zeros(50)
    assert all(bar.met for bar in robust_bars("t", result(zeros, {"model": zeros, "persistence": zeros})))
    bars = list(robust_bars("t", result(zeros, {"model": zeros + 0.1, "persistence": zeros})))
    assert [bar.met for bar in bars] == [True, False]


def test_robust_bars_refuse_what_is_not_finite() -> None:
    actual = np.full(50, 10.0)
    model = actual.copy()
    model[3] = np.nan
    assert not any(bar.met for bar in robust_bars("t", result(actual, {"model": model, "persistence": actual})))


def test_trace_bars_judge_by_horizon_and_by_who_is_a_peer() -> None:
    actual = np.full(50, 10.0)
    baselines = {"persistence": scores(0.10, 2.0), "ewma": scores(0.12, 1.5), "mstl": scores(0.05, 0.5)}
    spikes = {
        "above_train_p95": {
            "10m": {"onsets": 3, "model": {"average_precision": 0.5}, "persistence": {"average_precision": 0.4}}
        }
    }
    summary = {"horizons": {"10m": {"model": scores(0.08), "baselines": baselines}}, "spikes": {"others": spikes}}
    bars = list(
        trace_bars("azure2024_code", summary, result(actual, {"model": actual, "persistence": actual}), ["mstl"])
    )
    met = {bar.what: bar.met for bar in bars}
    assert met["10m: wMAPE below persistence by 10%"]
    assert met["10m: pinball ahead of every baseline"]
    assert not met["10m: pinball ahead of every peer"]
    assert not met["10m: 90 % interval, all"]
    assert met["10m: 90 % interval, third 1"]
    assert "10m: 90 % interval, third 2" not in met
    assert met["above_train_p95 within 10m: average precision ahead of persistence"]
    assert str(bars[0]).startswith(" yes  azure2024_code, forecasts are finite")


def test_trace_bars_miss_where_the_model_says_nothing() -> None:
    actual = np.full(50, 10.0)
    summary = {"horizons": {"10m": {"model": None, "baselines": {}}}, "spikes": {"others": {}}}
    bars = list(trace_bars("t", summary, result(actual, {"model": actual, "persistence": actual}), []))
    assert [bar.met for bar in bars] == [True, True, False]


def test_speed_bars_name_their_value() -> None:
    assert [str(bar) for bar in speed_bars(61.0, 0.5, 1000, 46)] == [
        " yes  speed, 1,000 sites x 46 horizons on one core in less than 1 s: 0.50 s",
        "  NO  speed, train on the given weeks on two cores in less than 60 s: 61.0 s",
    ]


def test_task_of_asks_for_the_backtests_horizons_and_for_spikes() -> None:
    found = forecast.task_of(result(np.full(50, 10.0), {}))
    assert found.ahead.tolist() == [1, 2, 3]
    assert (found.start_seconds, found.refit_steps) == (6 * 3600.0, 144)


def test_forecast_benchmark_says_in_one_line_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert forecast.main(["--data", str(tmp_path), "--no-peers"]) == 2
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "no such file; say where with --data, or GRIDTIDE_DATA" in said
    with pytest.raises(SystemExit):
        forecast.options_of(["--traces", "nothing"])
