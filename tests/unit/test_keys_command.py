"""`gridtide keys`: a planner and a site that come to trust each other, a rotation, and nothing secret on the screen."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.key_folder import KeyFolder
from streams import cli
from tests.examples import ACK
from tests.signers import NYC, trusted

PUBLIC = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="  # of the private key 0101…
SOON, LATER = "2099-12-01T00:00:00Z", "2099-12-31T00:00:00Z"


def run(machine: Path, *arguments: str) -> Result:
    """Runs `gridtide keys` on a machine, which is a folder here; it shows no private key, whatever it does."""
    result = CliRunner(env={"GRIDTIDE_KEYS_DIR": str(machine)}).invoke(cli.app, ["keys", *arguments])
    assert "Traceback" not in result.output
    for file in machine.rglob("*.pem"):
        secret = file.read_text().splitlines()[1]
        assert secret not in result.output
        assert secret[-20:] not in result.output
    return result


def done(machine: Path, *arguments: str) -> str:
    """What it prints where it succeeds."""
    result = run(machine, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(machine: Path, *arguments: str) -> str:
    """The one line with which it refuses."""
    result = run(machine, *arguments)
    assert result.exit_code == 2, result.output
    return result.stderr.removeprefix("gridtide: ").strip()


def listed(machine: Path) -> list[dict[str, Any]]:
    """What `show --json` lists."""
    keys: list[dict[str, Any]] = json.loads(done(machine, "show", "--json"))["keys"]
    return keys


@pytest.mark.parametrize("command", [[], ["create"], ["show"], ["trust"], ["retire"]])
def test_keys_commands_explain_themselves(command: list[str], tmp_path: Path) -> None:
    said = done(tmp_path, *command, "--help")
    assert "Usage:" in said
    assert len(said.split("\n\n")[1]) > 40


def test_a_planner_and_a_site_come_to_trust_each_other(tmp_path: Path) -> None:
    planner, site = tmp_path / "planner", tmp_path / "site"
    of_planner = json.loads(done(planner, "create", "--every-fleet", "--json"))
    of_site = json.loads(done(site, "create", "--site", "nyiso-nyc", "--json"))
    assert Path(of_planner["private_key_file"]).is_file()
    done(site, "trust", of_planner["public_key"], "--every-fleet")
    done(planner, "trust", of_site["public_key"], "--site", "nyiso-nyc")
    assert [(key["id"], key["state"], key["signs"]) for key in listed(planner)] == [
        (of_planner["id"], "counts", True),
        (of_site["id"], "counts", False),
    ]
    assert [(key["fleet"] if "fleet" in key else key["site"], key["signs"]) for key in listed(site)] == [
        ("nyiso-nyc", True),
        ("*", False),
    ]
    assert of_planner["public_key"] in done(planner, "show")


def test_create_says_what_to_run_where_the_signatures_are_to_count(tmp_path: Path) -> None:
    result = run(tmp_path, "create", "--fleet", "ercot", "--not-before", SOON)
    (key,) = listed(tmp_path)
    assert f"gridtide keys trust {key['public_key']} --fleet ercot --not-before {SOON}" in result.stderr
    assert (key["state"], key["signs"], key["not_before"]) == ("not yet", False, SOON)


def test_create_once_makes_one_key_and_leaves_it(tmp_path: Path) -> None:
    for _ in range(2):
        done(tmp_path, "create", "--every-fleet", "--once")
    done(tmp_path, "create", "--fleet", "nyiso", "--once")  # whose planner has a key of every fleet
    assert len(listed(tmp_path)) == 1
    done(tmp_path, "create", "--every-fleet")
    assert len(listed(tmp_path)) == 2


def test_retire_ends_a_key_or_takes_it_out(tmp_path: Path) -> None:
    key_id = trusted(1, NYC).id
    done(tmp_path, "trust", PUBLIC, "--site", "nyiso-nyc")
    done(tmp_path, "retire", key_id, "--at", LATER)
    assert [(key["id"], key["not_after"]) for key in listed(tmp_path)] == [(key_id, LATER)]
    done(tmp_path, "retire", key_id)
    assert listed(tmp_path) == []
    assert refused(tmp_path, "retire", key_id) == f"{tmp_path / 'live' / 'trust.toml'} has no key '{key_id}'"


def test_show_lists_private_keys_that_sign_nothing(tmp_path: Path) -> None:
    made = json.loads(done(tmp_path, "create", "--every-fleet", "--json"))
    done(tmp_path, "retire", made["id"])
    assert json.loads(done(tmp_path, "show", "--json")) == {"keys": [], "private_keys_not_trusted": [made["id"]]}
    assert f"{made['id']}  a private key here" in done(tmp_path, "show")


@pytest.mark.parametrize("arguments", [[], ["--site", "nyiso-nyc", "--every-fleet"], ["--site", "a", "--fleet", "b"]])
def test_a_key_is_bound_to_one_owner(arguments: list[str], tmp_path: Path) -> None:
    for command in (["create"], ["trust", PUBLIC]):
        assert refused(tmp_path, *command, *arguments).startswith("say what the key is bound to: one of ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--site", "nowhere"], "site 'nowhere' is not in the fleet file"),
        (["create", "--fleet", "nowhere"], "fleet 'nowhere' is not in the fleet file"),
        (["trust", "AAAA", "--every-fleet"], "a public key is 32 bytes in base64, as `gridtide keys show` prints it"),
        (["create", "--every-fleet", "--not-before", LATER, "--not-after", SOON], "not_after must be after not_before"),
        (
            ["create", "--every-fleet", "--not-after", "2099-12-01T00:00:00"],
            "--not-after: must be a time with its zone, such as 2026-12-01T00:00:00Z (got '2099-12-01T00:00:00')",
        ),
        (
            ["trust", PUBLIC, "--every-fleet", "--not-before", "soon"],
            "--not-before: must be a time with its zone, such as 2026-12-01T00:00:00Z (got 'soon')",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    assert refused(tmp_path, *arguments) == said
    assert not [*tmp_path.rglob("*.pem"), *tmp_path.rglob("*.toml")]


@pytest.mark.parametrize("command", [["stage", "policy"], ["worker"], ["controller", "--site", "nyiso-nyc"]])
def test_the_live_run_does_not_start_without_keys(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    owner = "site nyiso-nyc" if "controller" in command else "fleet nyiso"
    assert result.stderr.strip() == (
        f"gridtide: no private key in .gridtide/keys/live to sign for {owner}: run `gridtide keys create --{owner}` "
        "(docs/how-to/keys.md)"
    )


def test_the_live_recorder_does_not_start_without_a_trust_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "configure_logging", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["stage", "record"])
    assert result.exit_code == 2
    assert ".gridtide/keys/live/trust.toml trusts no key of fleet nyiso: run `gridtide keys trust " in result.stderr


def test_keys_lie_in_a_folder_of_the_run(tmp_path: Path) -> None:
    done(tmp_path, "create", "--site", "nyiso-nyc")
    assert [key.owner for key in KeyFolder(tmp_path / ACK.run_id).trusted().values()] == [NYC]
