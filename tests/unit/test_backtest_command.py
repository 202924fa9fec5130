"""`gridtide backtest`: from a file to scores, and the one line where an operator must mend something."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from streams import cli
from streams.durations import seconds_of


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load() -> Path:
    """Two days of a load by half hours."""
    rng = np.random.default_rng(1)
    values = 100 + 40 * np.sin(np.arange(96) / 48 * 2 * np.pi) + rng.normal(0, 5, 96)
    values[80:83] = 220
    path = Path("load.csv")
    path.write_text("t_s,load,load_lo\n" + "".join(f"{i * 1800},{each:.2f},0\n" for i, each in enumerate(values)))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["backtest", *arguments])


def refused(*arguments: str) -> str:
    """The one line with which the command refuses."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("gridtide: ")]
    return line.removeprefix("gridtide: ")


def test_backtest_help_teaches_with_an_example() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "gridtide backtest --requests" in result.stdout


def test_backtest_writes_scores_and_a_picture(load: Path) -> None:
    result = run(
        *("--requests", str(load), "--horizons", "60m,30m", "--train", "1d", "--refit", "30d"),
        *("--json", "scores.json", "--plot", "plot.svg"),
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(Path("scores.json").read_text())
    assert set(figures) == {"series", "horizons", "spikes", "seconds"}
    assert list(figures["horizons"]) == ["30m", "60m"]
    for horizon in figures["horizons"].values():
        assert set(horizon["model"]) >= {"wmape", "pinball", "coverage_90", "width_90", "winkler_90"}
        assert set(horizon["baselines"]) >= {"persistence", "same_time_yesterday"}
        assert horizon["baselines"]["persistence"]["wmape"] > 0
    scored = {"average_precision", "recall_at_10pct_false_alarms", "lead_time_seconds"}
    assert scored <= set(figures["spikes"])
    assert scored == set(figures["spikes"]["baseline"])
    assert set(figures["seconds"]) == {"train", "predict"}
    assert figures["series"]["train_steps"] == 48
    assert "same time yesterday" in result.stdout
    assert Path("plot.svg").read_text().startswith("<?xml")


def test_backtest_json_alone_goes_to_standard_output(load: Path) -> None:
    result = run("--requests", str(load), "--horizons", "30m", "--train", "1d", "--refit", "30d", "--json", "-")
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["horizons"]) == ["30m"]
    assert "persistence" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--requests", "absent.csv"], "absent.csv: can't be read: No such file or directory"),
        (["--json", "absent/scores.json"], "absent/scores.json: no such folder"),
        (["--plot", "absent/plot.png"], "absent/plot.png: no such folder"),
        (["--json", "."], ".: is a folder"),
        (["--plot", "plot.bmp"], "--plot: plot.bmp: must end in .png or .svg"),
        (["--horizons", "soon"], "--horizons: must be a duration such as 30s, 10m, 6h or 3d (got 'soon')"),
        (["--horizons", "10m"], "--horizons: 600 s is no whole multiple of the step, 1800 s"),
        (["--horizons", "30m,"], "--horizons: must be a duration such as 30s, 10m, 6h or 3d (got '')"),
        (["--train", "0"], "--train: must be a duration such as 30s, 10m, 6h or 3d (got '0')"),
        (["--refit", "-1d"], "--refit: must be a duration such as 30s, 10m, 6h or 3d (got '-1d')"),
        (["--step", "10m"], "load.csv: a step of 600 s is no whole multiple of the file's, which is 1800 s"),
        (["--column", "rate"], "load.csv: no column 'rate' of numbers; there are load, load_lo"),
        (
            ["--horizons", "30m", "--train", "3d"],
            "--train: 144 steps of 1800 s are not between 2 and 94: the file has 96 and the longest horizon is 1800 s",
        ),
    ],
)
def test_backtest_says_in_one_line_what_is_wrong(load: Path, arguments: list[str], said: str) -> None:
    requests = [] if "--requests" in arguments else ["--requests", str(load)]
    assert refused(*requests, *arguments) == said


def test_backtest_of_too_short_a_trace_is_one_line() -> None:
    Path("short.csv").write_text("t_s,load\n0,1\n60,2\n120,3\n")
    assert refused("--requests", "short.csv").startswith("short.csv: ")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("10min", 600), ("6h", 21_600), ("3d", 259_200), ("90", 90), (" 1.5 H ", 5400)],
)
def test_seconds_of_reads_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1h", "1w", "nan", "inf", "1e3", "h", "1 2", f"{'9' * 400}s"])
def test_seconds_of_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as"):
        seconds_of(text)
