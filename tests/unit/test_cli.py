"""The command line: what an operator must mend is one clear line and exit code 2, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.embedded.process import free_port
from infra.settings import DEMO_FLEET_FILE
from streams import cli

COMMANDS = (
    "demo",
    "worker",
    "stage",
    "controller",
    "lock-out",
    "replay",
    "topics",
    "migrate",
    "backtest",
    "train",
    "models",
    "keys",
    "simulate",
    "replay-decisions",
)
REPLAY = {"GRIDTIDE_RUN_ID": "replay-1"}


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command sets up the logging of its process; here that is the tests' own. Files go to a folder of the test."""
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **environment: str) -> Result:
    """Runs a command in this process."""
    return CliRunner(env=environment).invoke(cli.app, list(arguments))


def refused(*arguments: str, **environment: str) -> str:
    """The one line with which a command refuses."""
    result = run(*arguments, **environment)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("gridtide: ")]
    assert result.stderr.splitlines()[-1] == line
    assert result.stdout == ""
    return line.removeprefix("gridtide: ")


@pytest.fixture
def closed_port() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert len(result.stdout.split("\n\n")[1]) > 20  # what it does


def test_help_lists_what_people_use() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert (f"  {command} " in result.stdout) == (command != "stage")
    assert run().stdout + run().stderr == result.stdout  # without arguments the same


@pytest.mark.parametrize("arguments", [["replay"], ["demo"]])
@pytest.mark.parametrize("option", ["--requests", "--prices"])
def test_a_missing_file_is_named(arguments: list[str], option: str) -> None:
    assert (
        refused(*arguments, option, "missing.csv", **REPLAY) == "missing.csv: can't be read: No such file or directory"
    )


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    assert refused("replay", "--requests", str(path), **REPLAY).startswith(f"{path}:1: no column ")


@pytest.mark.parametrize("arguments", [["replay"], ["controller", "--site", "nyiso-nyc"], ["lock-out", "nyiso-nyc"]])
def test_a_missing_fleet_file_is_named(arguments: list[str]) -> None:
    said = refused(*arguments, **REPLAY, GRIDTIDE_FLEET_FILE="missing.toml")
    assert said == "missing.toml: No such file or directory"


@pytest.mark.parametrize("arguments", [["stage", "record"], ["replay"], ["demo", "--fleet", "fleet.toml"]])
def test_a_wrong_fleet_file_is_named_with_its_key(arguments: list[str]) -> None:
    Path("fleet.toml").write_text(DEMO_FLEET_FILE.read_text().replace("pue = 1.25", "pue = 0.5"))
    said = refused(*arguments, **REPLAY, GRIDTIDE_FLEET_FILE="fleet.toml")
    assert said.startswith("fleet.toml: fleets[0].sites[0].pue: ")


@pytest.mark.parametrize(
    "command",
    sorted({*COMMANDS} - {"controller", "lock-out", "stage", "backtest", "keys", "simulate", "replay-decisions"}),
)
def test_a_wrong_setting_is_named(command: str) -> None:
    said = refused(command, GRIDTIDE_PARTITIONS="many")
    assert said.startswith("GRIDTIDE_PARTITIONS: ")
    assert said.endswith("(got 'many')")


@pytest.mark.parametrize(
    "arguments",
    [["topics"], ["replay", "--duration", "1"], ["stage", "aggregate"], ["controller", "--site", "nyiso-nyc"]],
)
def test_an_unreachable_broker_is_named(arguments: list[str], closed_port: str) -> None:
    port = ["--plant-port", str(free_port())] if arguments[0] == "replay" else []
    said = refused(*arguments, *port, **REPLAY, GRIDTIDE_BOOTSTRAP_SERVERS=closed_port)
    assert said == f"no Kafka broker answers at {closed_port}"


@pytest.mark.parametrize("arguments", [["migrate"], ["migrate", "--status"]])
def test_an_unreachable_database_is_named(arguments: list[str], closed_port: str) -> None:
    said = refused(*arguments, GRIDTIDE_DATABASE_DSN=f"postgresql://gridtide:s3cret@{closed_port}/gridtide")
    assert closed_port.rpartition(":")[2] in said
    assert "s3cret" not in said


def test_a_database_address_that_is_none_is_refused() -> None:
    assert refused("migrate", GRIDTIDE_DATABASE_DSN="no such thing")


@pytest.mark.parametrize("arguments", [["controller", "--site", "nowhere"], ["lock-out", "nowhere"]])
def test_an_unknown_site_is_named(arguments: list[str]) -> None:
    assert refused(*arguments) == "site 'nowhere' is not in the fleet file"


def test_replay_of_the_live_run_is_refused() -> None:
    assert "can't be the live run" in refused("replay")


def test_a_plant_port_that_is_taken_is_named() -> None:
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("replay", "--plant-port", str(port), **REPLAY)
    assert said.startswith(f"the plant can't serve on 127.0.0.1:{port}: ")


def test_a_folder_for_the_summary_that_is_not_there_is_named_before_the_demo() -> None:
    assert refused("demo", "--json", "missing/summary.json") == "missing/summary.json: no such folder"


@pytest.mark.parametrize(
    "arguments",
    [
        ["stage", "forcast"],
        ["worker", "forcast"],
        ["demo", "--duration", "1"],
        ["controller"],
        ["replay", "--speed", "x"],
    ],
)
def test_wrong_arguments_are_a_usage_error(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.output


def test_lock_out_is_set_and_lifted() -> None:
    assert run("lock-out", "nyiso-nyc").stderr == "nyiso-nyc is locked out\n"
    assert run("lock-out", "nyiso-nyc", "--lift").stderr == "nyiso-nyc is free again\n"


def test_a_worker_without_a_broker_starts_nothing_and_says_so_as_a_process_too(closed_port: str) -> None:
    environment = {**os.environ, "GRIDTIDE_BOOTSTRAP_SERVERS": closed_port, "GRIDTIDE_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "streams.cli", "worker", "aggregate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"gridtide: no Kafka broker answers at {closed_port}"
    assert "Traceback" not in done.stderr
