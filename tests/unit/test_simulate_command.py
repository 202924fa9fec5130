"""`gridtide simulate` and `gridtide replay-decisions` as people call them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streams import cli
from streams.simulate.command import simulate_scenario
from tests.simulations import event, text

TWO = text(duration=900, more=event(800))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, [*arguments])


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "pair.toml"
    path.write_text(TWO)
    return path


def simulated(path: Path, *more: str) -> Result:
    result = call("simulate", str(path), "--policy", "rules", *more)
    assert result.exit_code == 0, result.output
    return result


def test_simulate_prints_a_page_and_writes_figures_log_and_plot(scenario: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "log.jsonl.gz", "out.svg")]
    result = simulated(scenario, "--json", str(files[0]), "--log", str(files[1]), "--plot", str(files[2]))
    assert "pair" in result.stdout
    assert all(file.stat().st_size > 100 for file in files)
    figures = json.loads(files[0].read_text())
    assert (figures["scenario"], figures["policy"], figures["seed"]) == ("pair", "rules", 1)
    again = call("replay-decisions", str(files[1]), "--json", str(tmp_path / "shadow.json"))
    assert again.exit_code == 0, again.output
    assert "0 commands only given, 0 only would be" in again.stdout
    assert json.loads((tmp_path / "shadow.json").read_text())["differing"] == []


@pytest.mark.parametrize("json_option", [["--json"], ["--json", "-"], ["--json", "--no-compare"]])
def test_simulate_json_alone_or_dash_is_standard_output_and_nothing_else_there(
    scenario: Path, json_option: list[str]
) -> None:
    result = simulated(scenario, *json_option)
    assert json.loads(result.stdout)["scenario"] == "pair"


def test_simulate_json_before_the_scenario_does_not_swallow_it(scenario: Path) -> None:
    result = call("simulate", "--json", str(scenario), "--policy", "none")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["policy"] == "none"


def test_simulate_seeds_says_the_mean_the_worst_and_every_violation(scenario: Path) -> None:
    summary = json.loads(simulated(scenario, "--seeds", "2", "--seed", "5", "--json").stdout)
    assert summary["seeds"] == [5, 6]
    assert len(summary["runs"]) == 2
    power = [run["fleet"]["energy_kwh"] for run in summary["runs"]]
    assert summary["figures"]["fleet"]["energy_kwh"] == {"mean": sum(power) / 2, "worst": max(power)}
    assert isinstance(summary["safety_violations"], int)
    assert "2 seeds" in simulated(scenario, "--seeds", "2").stdout


@pytest.mark.parametrize(
    ("written", "options", "said"),
    [
        (TWO.replace("seconds", "second", 1), [], "pair.toml: duration_seconds: Field required"),
        (TWO, ["--plot", "x.gif"], "--plot: x.gif: must end in .png or .svg"),
        (TWO, ["--json", "nowhere/x.json"], "nowhere/x.json: no such folder"),
        (TWO, ["--seeds", "2", "--log", "x"], "--plot and --log are of one run: leave out --seeds"),
        (TWO + "[bars]\nhappiness = 1\n", [], "pair.toml: bars: no such KPI: 'happiness'"),
        (
            text(traffic='[traffic]\nrequests = "azure"\n'),
            ["--data", "nowhere"],
            "name it with --data or GRIDTIDE_DATA",
        ),
    ],
)
def test_simulate_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pair.toml").write_text(written)
    result = call("simulate", "pair.toml", *options)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("gridtide: ")
    assert said in lines[0]


def test_replay_decisions_refuses_what_is_no_log_in_one_line(scenario: Path) -> None:
    result = call("replay-decisions", str(scenario))
    assert result.exit_code == 2
    assert "not a log of gridtide simulate" in result.stderr


def test_simulate_scenario_compares_where_there_are_prices_and_takes_overrides(tmp_path: Path) -> None:
    rows = [f"2026-11-01T12:{minute:02}:00Z,20,30" for minute in range(0, 30, 5)]
    (tmp_path / "prices.csv").write_text("\n".join(["interval_start_utc,NYC_usd_mwh,WEST_usd_mwh", *rows]))
    prices = '\n[[prices]]\nfile = "prices.csv"\nzones = { ALPHA = "NYC", BETA = "WEST" }\n'
    path = tmp_path / "pair.toml"
    path.write_text(text(duration=600, more=prices))
    overrides: dict[str, Any] = {"shift": False}
    alone = simulate_scenario(path, "rules", 1, None, compare=False, overrides=overrides)
    beside = simulate_scenario(path, "rules", 1, None, compare=True, overrides=overrides)
    assert alone["compared_with"] == {"price-blind": None, "oracle": None}
    assert all(beside["compared_with"].values())
    assert beside["fleet"]["saving_vs_price_blind_ratio"] is not None
