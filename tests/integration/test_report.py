"""`gridtide report event` on an hour of history: what the page and its tables say is what the views say."""

import csv
import json
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from infra.database import connect
from streams.cli import app
from tests.examples import EVENT
from tests.history_cases import fill

pytestmark = pytest.mark.database


@pytest.fixture
async def filled_dsn(any_migrated_dsn: str) -> str:
    async with await connect(any_migrated_dsn, "gridtide-test") as connection:
        await fill(connection, "demo")
    return any_migrated_dsn


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_report_event_writes_what_the_views_say(
    filled_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDTIDE_DATABASE_DSN", filled_dsn)
    asked = ["report", "event", EVENT.signal_id, "--run", "demo", "--out", str(tmp_path), "--json"]
    ran = CliRunner().invoke(app, asked)
    assert ran.exit_code == 0, ran.output
    figures = json.loads(ran.stdout)
    with psycopg.connect(filled_dsn) as connection:
        connection.execute("SET gridtide.run_id = 'demo'")
        found = connection.execute(
            "SELECT site_id, delivered_kwh, minutes_over_target FROM gridtide.event_performance ORDER BY site_id"
        ).fetchall()
    assert [(row["site_id"], row["delivered_kwh"], row["minutes_over_target"]) for row in figures["sites"]] == found
    stem = f"event-{EVENT.signal_id}"
    assert [row["site_id"] for row in rows_of(tmp_path / f"{stem}-sites.csv")] == [row[0] for row in found]
    commands = rows_of(tmp_path / f"{stem}-commands.csv")
    assert len(commands) == figures["commands"] > 0
    assert all(EVENT.signal_id in row["caused_by"] for row in commands)
    minutes = rows_of(tmp_path / f"{stem}-minutes.csv")
    assert {row["site_id"] for row in minutes} == {row[0] for row in found}
    assert any(row["target_power_watts"] for row in minutes)
    page = (tmp_path / f"{stem}.html").read_text()
    assert page.count("<svg") == 1 + len(found)
    assert "W; " in page, "what the comments say"


def test_report_event_of_another_run_is_not_found(
    filled_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDTIDE_DATABASE_DSN", filled_dsn)
    ran = CliRunner().invoke(app, ["report", "event", EVENT.signal_id, "--out", str(tmp_path)])
    assert ran.exit_code == 2
    assert f"run live has no event '{EVENT.signal_id}'" in ran.output
    assert list(tmp_path.iterdir()) == []


def test_report_event_in_a_database_without_tables_says_what_to_do(
    any_database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDTIDE_DATABASE_DSN", any_database_dsn)
    ran = CliRunner().invoke(app, ["report", "event", "any", "--out", str(tmp_path)])
    assert ran.exit_code == 2
    assert "does not exist" in ran.output
