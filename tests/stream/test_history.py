"""The recorder on a real broker and database: killed, and with a database that is away or refuses; every key once."""

import asyncio
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.process import free_port
from infra.migrate import migrate
from infra.roles import RECORDER, let_in
from schemas.catalog import GPU_TELEMETRY, INFERENCE_REQUESTS
from tests.stream.inputs import readings
from tests.stream.rig import PATIENCE_SECONDS, Rig, on_one_broker, rig_on

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
    broker: tuple[str, str], tmp_path: Path, migrated_dsn: str
) -> None:
    async with rig_on(broker, tmp_path, migrated_dsn, commit_interval_seconds=60.0) as rig:
        (first,) = rig.start("record")
        await _feed(rig, 0, 30)
        await rig.until("the first rows", lambda: _rows(migrated_dsn, "gpu_telemetry") == 30 * FRAMES_A_STEP)
        committed = await rig.committed("record", GPU_TELEMETRY.name)
        assert not any(committed.values()), "rows are in, positions are not committed"
        first.kill()
        await _feed(rig, 30, STEPS)
        rig.start("record")
        await rig.until("every frame", lambda: _rows(migrated_dsn, "gpu_telemetry") == STEPS * FRAMES_A_STEP)
        await rig.until("every report", lambda: _rows(migrated_dsn, "inference_requests") == STEPS * SITES)


@on_one_broker
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


def _execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _recorder_dsn(dsn: str) -> str:
    """The address by which the recorder logs in, with the rights that it has and no more."""
    password = uuid4().hex
    let_in(dsn, {RECORDER: SecretStr(password)})
    return make_conninfo(dsn, user=RECORDER, password=password)


async def _until_all_is_committed(rig: Rig) -> dict[int, int]:
    """Waits until the recorder's positions in the telemetry are where it ends, and returns them."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(rig.ends(GPU_TELEMETRY).values()) or (
            await rig.committed("record", GPU_TELEMETRY.name) != rig.ends(GPU_TELEMETRY)
        ):
            async with rig.news:  # at least twice a second
                await rig.news.wait()
    return rig.ends(GPU_TELEMETRY)


async def _assert_waits(rig: Rig, dsn: str, reason: str, held: dict[int, int], rows: int = 20 * FRAMES_A_STEP) -> None:
    """The recorder says in one line why it waits, and neither rows nor positions have moved."""

    def warnings() -> list[str]:
        return [line for line in rig.said("record").splitlines() if "waiting for the database" in line]

    # From one to the next it waits longer than from one commit to the next.
    await rig.until("several tries", lambda: len(warnings()) >= 4)
    assert all(re.search(reason, line) for line in warnings()), warnings()
    assert "Traceback" not in rig.said("record")
    assert _rows(dsn, "gpu_telemetry") == rows, "nothing of a batch is in"
    assert await rig.committed("record", GPU_TELEMETRY.name) == held


@on_one_broker
async def test_recorder_that_lost_a_right_waits_until_it_has_it_again(
    broker: tuple[str, str], tmp_path: Path, migrated_dsn: str
) -> None:
    async with rig_on(broker, tmp_path, _recorder_dsn(migrated_dsn)) as rig:
        (recorder,) = rig.start("record")
        await _feed(rig, 0, 20)
        await rig.until("the first rows", lambda: _rows(migrated_dsn, "gpu_telemetry") == 20 * FRAMES_A_STEP)
        held = await _until_all_is_committed(rig)
        _execute(migrated_dsn, f"REVOKE INSERT ON gridtide.gpu_telemetry FROM {RECORDER}")
        await _feed(rig, 20, STEPS)
        reason = r"the database refuses: permission denied for table gpu_telemetry \(SQLSTATE 42501\)"
        await _assert_waits(rig, migrated_dsn, reason, held)
        _execute(migrated_dsn, f"GRANT INSERT ON gridtide.gpu_telemetry TO {RECORDER}")
        await rig.until("every frame", lambda: _rows(migrated_dsn, "gpu_telemetry") == STEPS * FRAMES_A_STEP)
        await rig.until("every report", lambda: _rows(migrated_dsn, "inference_requests") == STEPS * SITES)
        await _until_all_is_committed(rig)
        assert recorder.pid is not None, "the recorder itself went on"


@contextmanager
def _small_disk(dsn: str) -> Iterator[Path]:
    """A disk of 16 MB that the server of `dsn` may write to. Skips, by name, where none can be made."""
    if os.geteuid() != 0:
        pytest.skip("a small disk: only root can mount one")
    with psycopg.connect(dsn) as connection:
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    owner = Path(data).stat()
    with tempfile.TemporaryDirectory(prefix="gridtide-disk-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - where the server's own user can reach it
        disk = Path(folder) / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size=16m,mode=0700,uid={owner.st_uid}", "tmpfs", str(disk)]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"a small disk: {mounted.stderr.strip()}")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def _table_on(disk: Path, dsn: str, table: str) -> Iterator[None]:
    """Keeps a table on a disk of its own."""
    place = disk / "tables"
    place.mkdir()
    os.chown(place, disk.stat().st_uid, -1)
    space = f"small_{uuid4().hex}"
    _execute(
        dsn, f"CREATE TABLESPACE {space} LOCATION '{place}'", f"ALTER TABLE gridtide.{table} SET TABLESPACE {space}"
    )
    yield
    _execute(dsn, f"ALTER TABLE gridtide.{table} SET TABLESPACE pg_default", f"DROP TABLESPACE {space}")


def _fill(disk: Path) -> Path:
    """Fills a disk to the last byte; returns the file that does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return filler


def _fill_pages(dsn: str) -> int:
    """Uses up the room in the table's pages, where a batch of few frames would still fit; returns the rows it took."""
    smallest = "FROM gridtide.gpu_telemetry AS frame ORDER BY pg_column_size(frame) LIMIT 1"
    changed = "jsonb_populate_record(frame, jsonb_build_object('run_id', 'x', 'sequence', %s::bigint))"
    copy = f"INSERT INTO gridtide.gpu_telemetry SELECT ({changed}).* {smallest}"
    rows = 0
    with psycopg.connect(dsn, autocommit=True) as connection, suppress(psycopg.errors.DiskFull):
        while True:
            connection.execute(copy.encode(), [rows])
            rows += 1
    return rows


@on_one_broker
async def test_recorder_waits_while_the_disk_is_full(
    broker: tuple[str, str], tmp_path: Path, migrated_dsn: str
) -> None:
    with _small_disk(migrated_dsn) as disk, _table_on(disk, migrated_dsn, "gpu_telemetry"):
        async with rig_on(broker, tmp_path, _recorder_dsn(migrated_dsn)) as rig:
            (recorder,) = rig.start("record")
            await _feed(rig, 0, 20)
            await rig.until("the first rows", lambda: _rows(migrated_dsn, "gpu_telemetry") == 20 * FRAMES_A_STEP)
            held = await _until_all_is_committed(rig)
            filler = _fill(disk)
            more = _fill_pages(migrated_dsn)
            await _feed(rig, 20, STEPS)
            reason = r"take this now: could not extend file .*No space left on device \(SQLSTATE 53100\)"
            await _assert_waits(rig, migrated_dsn, reason, held, 20 * FRAMES_A_STEP + more)
            filler.unlink()
            await rig.until("every frame", lambda: _rows(migrated_dsn, "gpu_telemetry") == STEPS * FRAMES_A_STEP + more)
            await _until_all_is_committed(rig)
            assert recorder.pid is not None, "the recorder itself went on"


@on_one_broker
async def test_recorder_leaves_raw_telemetry_out_where_it_is_told_to(
    broker: tuple[str, str], tmp_path: Path, migrated_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDTIDE_RECORD_TELEMETRY", "false")
    async with rig_on(broker, tmp_path, migrated_dsn) as rig:
        rig.start("aggregate", "record")
        await rig.put(GPU_TELEMETRY.name, b"nyiso-nyc", b"{not json", 0)
        await _feed(rig, 0, STEPS)
        await rig.until("every report", lambda: _rows(migrated_dsn, "inference_requests") == STEPS * SITES)
        await rig.until("its dead letter", lambda: _rows(migrated_dsn, "dead_letters") == 1)
        # What is made of the telemetry is in: so the recorder had time enough for the telemetry.
        await rig.until("states of power", lambda: _rows(migrated_dsn, "site_power") >= (STEPS - 10) * SITES)
        assert _rows(migrated_dsn, "gpu_telemetry") == 0
        assert not any((await rig.committed("record", GPU_TELEMETRY.name)).values())
