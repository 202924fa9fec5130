"""The load that a forecaster learns from is what the recorder wrote, in steps; drift is what the scores say."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

from infra.database import connect
from infra.load_history import drifted_since, read_load
from infra.settings import ConfigurationError, Settings
from streams import cli
from streams.record.writer import write_batch
from streams.train import command
from streams.train.material import from_history
from tests.examples import NOON, OTHER_SITE, SITE, after
from tests.history_cases import HOUR_SECONDS, fill, load, rows_by_table, site_rows

pytestmark = pytest.mark.database

HOURS = timedelta(hours=2)


@pytest.fixture
async def filled_dsn(any_migrated_dsn: str) -> str:
    async with await connect(any_migrated_dsn, "gridtide-test") as connection:
        await fill(connection, "demo")
    return any_migrated_dsn


@pytest.mark.parametrize("step_seconds", [60.0, 300.0, 600.0])
async def test_read_load_gives_the_windows_in_steps(filled_dsn: str, step_seconds: float) -> None:
    # Half a minute past the hour: the last step is one that is whole.
    ends_at = after(HOUR_SECONDS) + timedelta(seconds=30)
    loads = read_load(filled_dsn, "demo", step_seconds, ends_at, HOURS, 100)
    by_name = {(load.site_id, load.service_class, load.quantity): load for load in loads}
    assert set(by_name) == {
        (site, name, quantity)
        for site in (SITE, OTHER_SITE)
        for name in (None, "chat")
        for quantity in ("requests", "prompt_tokens", "tokens")
    }
    tokens = by_name[(SITE, None, "tokens")]
    steps = round(HOUR_SECONDS / step_seconds)
    assert tokens.starts_at == NOON - timedelta(hours=1)
    assert np.isnan(tokens.per_second[:steps]).all(), "nothing was observed before noon"
    # Each window's load is 3,000 and a tenth of its seconds after noon; windows are 10 s long.
    covered = by_name[(SITE, "chat", "tokens")].per_second[steps:]
    expected = 3000 + (np.arange(steps) * step_seconds + (step_seconds - 10) / 2) / 10
    np.testing.assert_allclose(tokens.per_second[steps:], covered)
    np.testing.assert_allclose(covered * _covered_ratio(filled_dsn), expected)


def _covered_ratio(dsn: str) -> float:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT min(covered_ratio), max(covered_ratio) FROM gridtide.site_load").fetchone()
    assert row is not None
    assert row[0] == row[1]
    return float(row[0])


async def test_read_load_takes_no_more_sites_than_asked_and_only_the_run_asked(filled_dsn: str) -> None:
    ends_at = after(HOUR_SECONDS)
    assert {load.site_id for load in read_load(filled_dsn, "demo", 300.0, ends_at, HOURS, 1)} == {min(SITE, OTHER_SITE)}
    assert read_load(filled_dsn, "live", 300.0, ends_at, HOURS, 100) == []


async def test_read_load_in_steps_that_the_history_has_no_sums_for_is_refused(filled_dsn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^GRIDTIDE_FORECAST_STEP_SECONDS: .*\(got 90\)$"):
        read_load(filled_dsn, "demo", 90.0, after(HOUR_SECONDS), HOURS, 100)


async def test_from_history_makes_series_of_what_says_something(filled_dsn: str) -> None:
    settings = Settings.model_validate({"database_dsn": filled_dsn, "run_id": "demo"})
    material = from_history(settings, after(HOUR_SECONDS), HOURS)
    assert material.sources == sorted([SITE, OTHER_SITE])
    assert {one.step_seconds for one in material.series} == {300.0}
    assert f"{SITE}/chat/tokens" in {one.name for one in material.series}
    with pytest.raises(ConfigurationError, match="the history has no load of run live in the 2 days before now"):
        from_history(Settings.model_validate({"database_dsn": filled_dsn}), NOON, timedelta(days=2))


@pytest.fixture
async def two_days_dsn(any_migrated_dsn: str) -> str:
    """A database in which a site has two days of a load that comes and goes."""
    seconds = range(0, 48 * HOUR_SECONDS, 300)
    tokens = 3000 + 2000 * np.sin(np.arange(len(seconds)) / 20)
    windows = [
        load(SITE, start, float(level), window_end=after(start + 300))
        for start, level in zip(seconds, tokens, strict=True)
    ]
    async with await connect(any_migrated_dsn, "gridtide-test") as connection:
        await write_batch(connection, site_rows(run_id="demo"))
        await write_batch(connection, rows_by_table(windows, "demo"))
    return any_migrated_dsn


def test_train_learns_from_the_history_and_keeps_a_model(
    two_days_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "wall_now", lambda: after(48 * HOUR_SECONDS + 30))
    environment = {
        "GRIDTIDE_DATABASE_DSN": two_days_dsn,
        "GRIDTIDE_RUN_ID": "demo",
        "GRIDTIDE_MODEL_DIR": str(tmp_path),
        "GRIDTIDE_FORECAST_STEP_SECONDS": "1800",
    }
    ran = CliRunner(env=environment).invoke(cli.app, ["train"])
    assert ran.exit_code == 0, ran.output
    (model,) = json.loads(CliRunner(env=environment).invoke(cli.app, ["models", "--json"]).stdout)
    assert model["refused"] is None
    assert model["is_current"] == model["card"]["promoted"]
    assert (model["card"]["run_id"], model["card"]["sites"], model["card"]["series"]) == ("demo", [SITE], 6)
    assert None not in [model["card"]["losses"][name] for name in ("candidate", "baseline")]


async def test_drifted_since_is_what_the_scores_say(any_migrated_dsn: str) -> None:
    with psycopg.connect(any_migrated_dsn) as connection:
        # As much of the table as is asked for, in the place of the one that the migrations make.
        connection.execute("DROP TABLE IF EXISTS gridtide.forecast_scores CASCADE")
    assert not drifted_since(any_migrated_dsn, "live", "gbm-1", NOON)
    with psycopg.connect(any_migrated_dsn) as connection:
        connection.execute(
            "CREATE TABLE gridtide.forecast_scores (scored_at timestamptz, run_id text, model text,"
            " is_drifting boolean)"
        )
        connection.execute(
            "INSERT INTO gridtide.forecast_scores VALUES (%s, 'live', 'gbm-1', true),"
            " (%s, 'live', 'gbm-1', false), (%s, 'demo', 'gbm-1', true)",
            (NOON, after(60), after(60)),
        )
    assert not drifted_since(any_migrated_dsn, "live", "gbm-1", NOON)
    assert drifted_since(any_migrated_dsn, "live", "gbm-1", after(-1))
    assert not drifted_since(any_migrated_dsn, "live", "gbm-2", after(-1)), "what another model said is past"
    assert drifted_since(any_migrated_dsn, "demo", "gbm-1", NOON)
