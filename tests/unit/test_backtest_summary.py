"""The summary of a backtest: every documented key, valid JSON, honest where nothing can be said."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from forecasting.summary import horizon_name, summary
from streams.backtest.page import page
from streams.backtest.plot import draw
from tests.backtested import made_backtest

SCORES = {"wmape", "pinball", "coverage_90", "width_90", "winkler_90", "coverage_90_interval", "coverage_90_thirds"}
SPIKES = {"average_precision", "recall_at_10pct_false_alarms", "lead_time_seconds"}


def shown(figures: dict[str, object]) -> str:
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115 - closed with the test
    with console.file:
        console.print(page(figures))
        return console.export_text()


def test_summary_has_every_documented_key() -> None:
    figures = json.loads(json.dumps(summary(made_backtest()), allow_nan=False))
    assert set(figures) == {"series", "horizons", "spikes", "seconds"}
    assert list(figures["horizons"]) == ["10m", "30m"]
    for horizon in figures["horizons"].values():
        assert set(horizon) == {"model", "baselines", "best_baseline"}
        assert set(horizon["baselines"]) == {"persistence", "same_time_yesterday", "ewma", "seasonal_mean"}
        for scored in (horizon["model"], *horizon["baselines"].values()):
            assert set(scored) >= SCORES
            assert [set(each) for each in scored["coverage_90_thirds"]] == [{"coverage", "interval"}] * 3
    spikes = figures["spikes"]
    assert set(spikes) >= {*SPIKES, "baseline", "definition", "within_seconds", "others"}
    assert set(spikes["baseline"]) == SPIKES
    assert (spikes["definition"], spikes["within_seconds"]) == ("above_train_p95", 1800)
    assert {name: set(of) for name, of in spikes["others"].items()} == {
        "above_train_p95": {"10m", "30m"},
        "above_twice_median": {"10m", "30m"},
    }
    assert figures["seconds"] == {"train": 1.5, "predict": 0.25}
    series = figures["series"]
    assert (series["name"], series["steps"], series["step_seconds"]) == ("made.csv load", 96, 600)
    assert (series["train_steps"], series["origins"], series["gaps"], series["flags"]) == (64, 32, 1, ["gaps"])


def test_summary_says_what_the_forecasts_were() -> None:
    horizon = summary(made_backtest())["horizons"]["30m"]
    assert horizon["model"]["wmape"] == 0.1
    assert horizon["model"]["coverage_90"] == 1
    assert horizon["model"]["coverage_90_interval"] == [1, 1]
    assert horizon["model"]["scored"] == 30
    assert horizon["best_baseline"] == "persistence"
    assert horizon["baselines"]["persistence"]["wmape"] == 0.15


def test_summary_leaves_out_a_baseline_that_speaks_for_few_steps_as_the_best() -> None:
    made = made_backtest()
    lucky = made.actual[:, :, None] * np.ones(7)
    lucky[8:] = np.nan
    horizon = summary(replace(made, quantiles={**made.quantiles, "same_time_last_week": lucky}))["horizons"]["10m"]
    assert horizon["baselines"]["same_time_last_week"]["wmape"] == 0
    assert horizon["baselines"]["same_time_last_week"]["scored"] == 8
    assert horizon["best_baseline"] == "persistence"


def test_summary_without_spikes_has_nulls() -> None:
    made = made_backtest()
    figures = summary(replace(made, spikes={"above_train_p95": made.spikes["above_twice_median"]}))
    assert all(figures["spikes"][name] is None for name in SPIKES)
    assert set(figures["spikes"]["baseline"].values()) == {None}
    assert figures["spikes"]["within_seconds"] is None
    assert "none came" in shown(figures)


def test_summary_of_what_nobody_can_say_is_valid_json(tmp_path: Path) -> None:
    made = made_backtest()
    silent = {method: np.full_like(values, np.nan) for method, values in made.quantiles.items()}
    idle = replace(made, actual=np.zeros_like(made.actual))
    unknown = replace(made, actual=np.full_like(made.actual, np.nan))
    for each in (replace(made, quantiles=silent), idle, unknown):
        figures = summary(each)
        json.dumps(figures, allow_nan=False)
        assert "made.csv load" in shown(figures)
    draw(unknown, summary(unknown), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert summary(idle)["horizons"]["10m"]["model"]["wmape"] is None
    assert summary(unknown)["horizons"] == {}


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(600, "10m"), (60, "1m"), (7200, "120m"), (10_800, "3h"), (86_400, "24h"), (30, "30s"), (9000, "9000s")],
)
def test_horizon_name_is_the_plainest_unit(seconds: float, name: str) -> None:
    assert horizon_name(seconds) == name


def test_page_marks_the_best_and_fits_a_terminal() -> None:
    text = shown(summary(made_backtest()))
    assert "persistence" in text
    assert "10.0 %" in text
    assert "100.0 % (100-100)" in text
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_draw_writes_the_same_picture_each_time(tmp_path: Path) -> None:
    made = made_backtest()
    first, second = tmp_path / "a.svg", tmp_path / "b.SVG"
    for path in (first, second):
        draw(made, summary(made), path)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"<?xml")
