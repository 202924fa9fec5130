"""A history that takes nothing for a while: the recorder holds no more than its buffers, and nobody else waits."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from infra.bus import client_options, partition_of
from infra.clock import wall_now
from infra.migrate import migrate
from schemas.catalog import GPU_TELEMETRY, MAX_MESSAGE_BYTES, SITE_STATE
from schemas.telemetry import TelemetryFrame
from streams.engine import BUFFERED_BATCHES
from streams.record.history import WAITING_BYTES
from tests.faults.drill import Broker, states_out
from tests.faults.flow import sites, whole_window
from tests.stream.rig import PARTITIONS, Rig, rig_on

pytestmark = [pytest.mark.broker, pytest.mark.database, pytest.mark.drill]

GPUS = 256
FRAMES = 18_000
POLL_RECORDS = 100  # GRIDTIDE_MAX_POLL_RECORDS
MEBIBYTE = 2**20


def _frames(rig: Rig, starts_at: datetime, numbers: range) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of frames of 256 GPUs, one site after the other, a second between two of a site.

    Made by replacing a number and a time in the same bytes: to make so many honestly takes longer than the drill.
    """

    def column(scale: float) -> list[float | None]:
        return [round((300 + place * 1.001) * scale, 5) for place in range(GPUS)]

    places = sites()
    templates = [
        TelemetryFrame(
            run_id=rig.run_id,
            site_id=site_id,
            pool_id=pool_id,
            source="collector/0",
            sequence=987654321,
            observed_at=starts_at,
            interval_seconds=1.0,
            power_watts=column(1),
            energy_joules=column(1000),
            utilization_ratio=column(0.001),
            memory_used_ratio=column(0.001),
            temperature_celsius=column(0.1),
        ).to_json()
        for site_id, pool_id in places
    ]
    then = b'"observed_at":"' + starts_at.isoformat().replace("+00:00", "Z").encode()
    for number in numbers:
        second, place = divmod(number, len(places))
        now = (starts_at + timedelta(seconds=second)).isoformat().replace("+00:00", "Z").encode()
        value = templates[place].replace(b"987654321", str(second).encode(), 1)
        assert then in value
        yield places[place][0].encode(), value.replace(then, b'"observed_at":"' + now, 1)


async def _fill(rig: Rig, starts_at: datetime, numbers: range) -> int:
    """Puts a backlog on the bus; returns its bytes."""
    size, name = 0, GPU_TELEMETRY.on_bus(rig.run_id)
    options = {"max_batch_size": MEBIBYTE, "linger_ms": 20, "max_request_size": MAX_MESSAGE_BYTES}
    async with AIOKafkaProducer(**client_options(rig.settings), acks="all", **options) as producer:
        sent: list[asyncio.Future[object]] = []
        for key, value in _frames(rig, starts_at, numbers):
            size += len(value)
            sent.append(await producer.send(name, value, key=key, partition=partition_of(key, PARTITIONS)))
        await asyncio.gather(*sent)
    return size


@contextmanager
def _locked(dsn: str, table: str) -> Iterator[None]:
    """Holds a table so that nobody else can read or write it."""
    with psycopg.connect(dsn) as connection:
        connection.execute(f"LOCK TABLE gridtide.{table} IN ACCESS EXCLUSIVE MODE")
        yield


def _resident_bytes(pid: int | None) -> int:
    """What a process holds in memory now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def _rows(dsn: str) -> tuple[int, int]:
    """How many frames the history has, and how many different ones."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        query = "SELECT count(*), count(DISTINCT (observed_at, site_id, source, sequence)) FROM gridtide.gpu_telemetry"
        counted = connection.execute(query).fetchone()
        assert counted is not None
        return int(counted[0]), int(counted[1])


async def test_recorder_shut_out_of_its_table_holds_its_buffers_and_no_more(
    kafka: Broker, tmp_path: Path, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDTIDE_MAX_POLL_RECORDS", str(POLL_RECORDS))
    migrate(database_dsn)
    async with rig_on(kafka, tmp_path, database_dsn) as rig:
        (recorder,) = rig.start("record")
        warm = len(sites()) * 10
        starts_at = whole_window(wall_now() - timedelta(hours=2))
        frame_bytes = await _fill(rig, starts_at, range(warm)) // warm
        await rig.until("the first rows", lambda: _rows(database_dsn)[0] == warm)
        idle_bytes = _resident_bytes(recorder.pid)
        with _locked(database_dsn, "gpu_telemetry"):
            backlog_bytes = await _fill(rig, starts_at, range(warm, FRAMES))
            # Raw: what the agent's stream buffers, what the client has fetched ahead of each partition, the batch in
            # hand. As rows, where a number of eight digits is an object and its place in a list: what waits for the
            # next transaction, what is in this one, and the batch in hand, that as records too.
            batches = BUFFERED_BATCHES + 1 + PARTITIONS
            fetched_ahead = PARTITIONS * MAX_MESSAGE_BYTES
            in_hand = POLL_RECORDS * frame_bytes
            bound_bytes = batches * in_hand + fetched_ahead + 10 * in_hand + 5 * 2 * WAITING_BYTES
            assert backlog_bytes > 2 * bound_bytes, "more than may be buffered"
            (aggregate,) = rig.start("aggregate")
            windows = len(sites()) * (FRAMES // len(sites()) // 10 - 2)
            peak_bytes = 0

            def all_states_are_out() -> bool:
                nonlocal peak_bytes
                peak_bytes = max(peak_bytes, _resident_bytes(recorder.pid) - idle_bytes)
                return states_out(rig) >= windows

            await rig.until("the states of the whole backlog", all_states_are_out, seconds=180)
            aggregate.terminate()
            held = await rig.committed("record", GPU_TELEMETRY.name)
            assert sum(held.values()) <= warm, "nothing is committed that is not in"
        print(  # noqa: T201
            f"backlog {backlog_bytes / MEBIBYTE:.0f} MiB, bound {bound_bytes / MEBIBYTE:.0f} MiB,"
            f" held {peak_bytes / MEBIBYTE:.0f} MiB above {idle_bytes / MEBIBYTE:.0f} MiB,"
            f" {len(rig.seen[SITE_STATE.name])} states meanwhile"
        )
        assert peak_bytes < bound_bytes
        await rig.until("every row", lambda: _rows(database_dsn)[0] >= FRAMES, seconds=300)
        assert _rows(database_dsn) == (FRAMES, FRAMES)
        assert recorder.pid is not None, "the recorder itself went on"
