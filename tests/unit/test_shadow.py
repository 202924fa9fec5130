"""A log as a file, and another policy on it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from streams.policy.desk import PolicyName
from streams.simulate.log import Entry, Heading, LogError, LogFile, read_log
from streams.simulate.loop import simulate
from streams.simulate.shadow import PlannedCost, replayed
from tests.simulations import event, fault, read, text


def logged(folder: Path, written: str, name: str = "log.jsonl") -> tuple[Path, list[Entry]]:
    """The log of a run under the rules, as a file and as it was."""
    scenario, fleet_file, world = read(folder, written)
    path, entries = folder / name, list[Entry]()
    file = LogFile(path, Heading(scenario=scenario, fleet_file=fleet_file, policy="rules", seed=world.seed))

    def note(entry: Entry) -> None:
        entries.append(entry)
        file.write(entry)

    simulate(world, "rules", note=note)
    file.close()
    return path, entries


def replay(path: Path, policy: PolicyName = "rules") -> dict[str, Any]:
    return replayed(lambda: read_log(path), policy)


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_log_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    more = event(800) + fault("forged-command", 300, 400)
    path, entries = logged(tmp_path, text(duration=900, more=more, forecast="persistence"), name)
    log = read_log(path)
    assert list(log.entries()) == entries
    assert log.heading.scenario.name == "pair"
    assert log.heading.fleet_file.site("beta") is not None


def test_log_of_the_same_run_is_the_same_bytes(tmp_path: Path) -> None:
    written = text(duration=300)
    first, second = (logged(tmp_path, written, f"{name}.gz")[0].read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{}"], "not a log of gridtide simulate: scenario: Field required"),
        ([], "not a log of gridtide simulate"),
        (["", '{"topic": "x", "at": "2026-11-01T12:00:00Z", "headers": {}, "record": {}}'], ":2: no topic 'x'"),
        (["", '{"topic": "site.state.v1"}'], ":2: at: Field required"),
        (["", '{"topic": "site.state.v1", "at": "2026-11-01T12:00:00Z", "headers": {}, "record": {}}'], ":2: "),
    ],
)
def test_log_that_is_none_is_one_line(tmp_path: Path, lines: list[str], said: str) -> None:
    scenario, fleet_file, _ = read(tmp_path, text())
    heading = Heading(scenario=scenario, fleet_file=fleet_file, policy="rules", seed=1).model_dump_json(by_alias=True)
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(line or heading for line in lines))
    with pytest.raises(LogError) as error:
        list(read_log(path).entries())
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_log_that_is_not_there_or_broken_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="No such file"):
        read_log(tmp_path / "nowhere.jsonl")
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(LogError, match="can't be read"):
        read_log(tmp_path / "broken.gz")


@pytest.mark.parametrize("more", [event(), event() + fault("planner-crash", 700, 1000)])
def test_shadow_of_the_same_policy_commands_the_same(tmp_path: Path, more: str) -> None:
    path, _ = logged(tmp_path, text(more=more))
    figures = replay(path)
    assert figures["given"]["commands"] > 0
    assert figures["would_be"]["by_kind_and_reason"] == figures["given"]["by_kind_and_reason"]
    assert (figures["only_given"], figures["only_would_be"], figures["differing"]) == (0, 0, [])


def test_shadow_does_not_hear_forged_commands(tmp_path: Path) -> None:
    path, _ = logged(tmp_path, text(duration=900, more=fault("forged-command", 100, 600)))
    assert replay(path)["given"]["commands"] == 0


def test_shadow_of_another_policy_says_what_differs(tmp_path: Path) -> None:
    rows = [f"2026-11-01T12:{minute:02}:00Z,200,-20" for minute in range(0, 60, 5)]
    (tmp_path / "prices.csv").write_text("\n".join(["interval_start_utc,NYC_usd_mwh,WEST_usd_mwh", *rows]))
    prices = '\n[[prices]]\nfile = "prices.csv"\nzones = { ALPHA = "NYC", BETA = "WEST" }\n'
    path, _ = logged(tmp_path, text(duration=1200, more=prices, forecast="persistence"))
    figures = replay(path, "price-blind")
    given = [each for each in figures["differing"] if each["side"] == "given"]
    assert figures["only_given"] == len(given) > 0
    assert {each["kind"] for each in given} >= {"shift"}
    assert figures["given"]["planned_energy_usd"] is None  # the rules plan no power
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_planned_cost_of_rules_is_not_known(tmp_path: Path) -> None:
    _, fleet_file, _ = read(tmp_path, text())
    assert PlannedCost(fleet_file.fleets[0]).figures() == {"planned_energy_usd": None, "planned_seconds": 0.0}
