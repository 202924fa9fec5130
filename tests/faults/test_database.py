"""kill -9 of the database under load, a minute away each time: in the end every row is there once."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from infra.clock import wall_now
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.process import free_port
from infra.migrate import migrate
from schemas.catalog import GPU_TELEMETRY
from tests.faults.drill import Broker, feed
from tests.faults.flow import SOURCES, Maker, sites, whole_window
from tests.stream.rig import PATIENCE_SECONDS, Rig, rig_on

pytestmark = [pytest.mark.broker, pytest.mark.database, pytest.mark.drill]

AWAY_SECONDS = 60.0
STEP_SECONDS = 0.1
COLLECTORS = 4
SENDERS = {
    "gpu_telemetry": [f"collector/{number}" for number in range(COLLECTORS)],
    "inference_requests": ["router/0"],
}
Key = tuple[str, str, int]  # site, source, number


class Load:
    """Four frames and a report of every site, about ten times a second, until told to end."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._maker = Maker(whole_window(wall_now() - timedelta(hours=2)), seed=5)
        self._ended = asyncio.Event()
        self.steps = 0

    async def run(self) -> None:
        """Feeds; each step is on the bus before the next one."""
        while not self._ended.is_set():
            at = (self.steps + 1) * STEP_SECONDS
            frames = [self._maker.frame(*site, number, at, at) for site in sites() for number in range(COLLECTORS)]
            await feed(self._rig, frames)
            await feed(self._rig, [self._maker.rates(site, 0, at, at) for site, _ in sites()])
            self.steps += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), STEP_SECONDS)

    def end(self) -> None:
        """The step under way is the last."""
        self._ended.set()

    def keys(self, table: str) -> list[Key]:
        """What has been fed, in order: every source numbers its records."""
        return sorted(
            (site, source, number) for site, _ in sites() for source in SENDERS[table] for number in range(self.steps)
        )


def _keys(dsn: str, table: str) -> list[Key]:
    """What the history has, in order; a row that is there twice stands there twice."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        rows = connection.execute(f"SELECT site_id, source, sequence FROM gridtide.{table}".encode()).fetchall()
        return sorted((str(site), str(source), int(number)) for site, source, number in rows)


def _has(dsn: str, table: str, count: int) -> bool:
    return len(_keys(dsn, table)) >= count


async def _until(holds: Callable[[], Awaitable[bool]], rig: Rig) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():
            async with rig.news:  # at least twice a second
                await rig.news.wait()


async def test_database_killed_twice_under_load_has_every_row_once(kafka: Broker, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gridtide-test-") as folder, ExitStack() as server:
        os.chmod(folder, 0o755)  # noqa: PTH101 - at once; where the server's own user can reach it
        data, port = Path(folder) / "data", free_port()
        postgres = server.enter_context(EmbeddedPostgres(data, port))
        dsn = postgres.dsn
        migrate(dsn)
        async with rig_on(kafka, tmp_path, dsn) as rig:
            (recorder,) = rig.start("record")
            load = Load(rig)
            feeding = asyncio.create_task(load.run())
            for _ in range(2):
                more = len(load.keys("gpu_telemetry")) + 1
                await rig.until("new rows", partial(_has, dsn, "gpu_telemetry", more))
                os.kill(postgres.pid, signal.SIGKILL)
                fed = load.steps
                await asyncio.sleep(AWAY_SECONDS)
                held = await rig.committed("record", GPU_TELEMETRY.name)
                assert load.steps > fed, "the load went on"
                assert sum(held.values()) < len(load.keys("gpu_telemetry")), "and is not committed"
                await asyncio.to_thread(server.close)
                postgres = await asyncio.to_thread(server.enter_context, EmbeddedPostgres(data, port))
            load.end()
            await feeding
            for table in SENDERS:
                await rig.until(f"all of {table}", partial(_has, dsn, table, len(load.keys(table))))
                assert _keys(dsn, table) == load.keys(table)

            async def all_is_committed() -> bool:
                return all([await rig.committed("record", topic.name) == rig.ends(topic) for topic in SOURCES])

            await _until(all_is_committed, rig)
            assert recorder.pid is not None, "the recorder itself went on"
            waits = rig.said("record").count("waiting for the database")
        print(f"{sum(len(load.keys(table)) for table in SENDERS)} rows, {waits} waits for the database")  # noqa: T201
