"""The recorder on a real broker and database: killed, and with the database away; every key once in the end."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path

import psycopg

from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.process import free_port
from infra.migrate import migrate
from schemas.catalog import GPU_TELEMETRY, INFERENCE_REQUESTS
from tests.stream.inputs import readings
from tests.stream.rig import Rig, rig_on

STEPS = 60
FRAMES_A_STEP = 10
SITES = 7


async def _feed(rig: Rig, first: int, last: int) -> None:
    frames, rates = readings(STEPS).of_run(rig.run_id, first, last)
    await rig.send(GPU_TELEMETRY, frames)
    await rig.send(INFERENCE_REQUESTS, rates)


def _rows(dsn: str, table: str) -> int:
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        counted = connection.execute(f"SELECT count(*) FROM gridtide.{table}").fetchone()
        assert counted is not None
        return int(counted[0])


async def test_recorder_killed_with_uncommitted_positions_writes_every_key_once(
    broker: tuple[str, str], tmp_path: Path, database_dsn: str
) -> None:
    migrate(database_dsn)
    async with rig_on(broker, tmp_path, database_dsn, commit_interval_seconds=60.0) as rig:
        (first,) = rig.start("record")
        await _feed(rig, 0, 30)
        await rig.until("the first rows", lambda: _rows(database_dsn, "gpu_telemetry") == 30 * FRAMES_A_STEP)
        committed = await rig.committed("record", GPU_TELEMETRY.name)
        assert not any(committed.values()), "rows are in, positions are not committed"
        first.kill()
        await _feed(rig, 30, STEPS)
        rig.start("record")
        await rig.until("every frame", lambda: _rows(database_dsn, "gpu_telemetry") == STEPS * FRAMES_A_STEP)
        await rig.until("every report", lambda: _rows(database_dsn, "inference_requests") == STEPS * SITES)


async def test_recorder_waits_for_a_database_that_is_killed_and_loses_nothing(
    broker: tuple[str, str], tmp_path: Path
) -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="gridtide-test-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - at once; where the server's own user can reach it
        data = Path(folder) / "data"
        with EmbeddedPostgres(data, port) as postgres:
            dsn = postgres.dsn
            migrate(dsn)
            async with rig_on(broker, tmp_path, dsn) as rig:
                rig.start("record")
                await _feed(rig, 0, 20)
                await rig.until("the first rows", lambda: _rows(dsn, "gpu_telemetry") == 20 * FRAMES_A_STEP)
                os.kill(postgres.pid, signal.SIGKILL)
                await _feed(rig, 20, STEPS)
                await rig.until("the recorder to notice", lambda: "waiting for the database" in rig.said("record"))
                await asyncio.to_thread(postgres.__exit__)
                with EmbeddedPostgres(data, port):
                    await rig.until("every frame", lambda: _rows(dsn, "gpu_telemetry") == STEPS * FRAMES_A_STEP)
                    assert rig.children[0].pid is not None, "the recorder itself went on"
