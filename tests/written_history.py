"""A history in a few rows, for tests of what is read from it: written like the recorder writes, with plain values."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from schemas.envelope import LIVE_RUN, Record
from schemas.latency import BUCKETS
from schemas.site import ClassLoad, LoadState, PowerState
from streams.record.rows import Row, rows_of
from streams.record.tables import SERVICE_CLASSES, SITES
from streams.record.writer import write, write_batch

Connection = psycopg.AsyncConnection[Any]
FLEET, HERE, THERE = "texas", "austin-1", "dallas-1"
PUE = 1.25
# Ramp limits of both sites, down and up.
RAMP_WATTS_PER_SECOND = 20.0
# In the middle of the bucket from 1 s to 10 ** (1/6) s: half of those counted there were slower.
OBJECTIVE_SECONDS = (1 + 1.467799) / 2
_BUCKET_OF_THE_OBJECTIVE = 13


async def put(connection: Connection, *records: Record) -> None:
    """Write records as the recorder does."""
    tables: dict[str, list[Row]] = {}
    for record in records:
        for name, row in rows_of(record):
            tables.setdefault(name, []).append(row)
    await write_batch(connection, tables)


async def describe(connection: Connection, known_from: datetime, run_id: str = LIVE_RUN) -> None:
    """Write both sites, on one settlement point, and one service class."""
    limits = (FLEET, "HB_NORTH", PUE, 8, 5000.0, 100.0, 200.0, RAMP_WATTS_PER_SECOND, RAMP_WATTS_PER_SECOND, True)
    await write(connection, SITES.name, [(known_from, site, run_id, *limits) for site in (HERE, THERE)])
    await write(connection, SERVICE_CLASSES.name, [(known_from, "chat", run_id, 1, OBJECTIVE_SECONDS, 0.1)])


def power(
    site_id: str, start: datetime, watts: float | None, seconds: float = 10.0, run_id: str = LIVE_RUN
) -> PowerState:
    """One window: the meter reads `watts`, or is silent while the GPUs draw 800 W."""
    it_watts = 800.0 if watts is None else watts / PUE
    return PowerState(
        run_id=run_id,
        fleet_id=FLEET,
        site_id=site_id,
        window_start=start,
        window_end=start + timedelta(seconds=seconds),
        records=1,
        duplicates=0,
        it_power_watts=it_watts,
        it_energy_joules=it_watts * seconds,
        meter_power_watts=watts,
        utilization_ratio=0.5,
        temperature_celsius_max=50.0,
        gpu_samples=80,
        masked_values=0,
        gpus_reporting=8,
        reporting_ratio=1.0,
    )


def powers(site_id: str, start: datetime, *spans: tuple[float, float], run_id: str = LIVE_RUN) -> list[PowerState]:
    """Windows of 10 s, one after another: (for so many seconds, so many watts) each."""
    states = list[PowerState]()
    for seconds, watts in spans:
        for _ in range(round(seconds / 10)):
            states.append(power(site_id, start + timedelta(seconds=10 * len(states)), watts, run_id=run_id))
    return states


def load(site_id: str, start: datetime, tokens_per_second: float, seconds: float = 10.0) -> LoadState:
    """One window: as many tokens served as arrive; of 10 requests 6 in the bucket of the objective, 3 above it."""
    counts = [0] * BUCKETS
    counts[0], counts[_BUCKET_OF_THE_OBJECTIVE], counts[-1] = 1, 6, 3
    rates: dict[str, Any] = {
        "tokens_arrived_per_second": tokens_per_second,
        "tokens_served_per_second": tokens_per_second,
    }
    chat = ClassLoad(
        service_class="chat",
        requests_per_second=1.0,
        prompt_tokens_per_second=10.0,
        tokens_queued=0,
        ttft_seconds_counts=counts,
        ttft_seconds_p50=None,
        ttft_seconds_p99=None,
        **rates,
    )
    return LoadState(
        fleet_id=FLEET,
        site_id=site_id,
        window_start=start,
        window_end=start + timedelta(seconds=seconds),
        records=1,
        duplicates=0,
        requests_per_second=1.0,
        tokens_queued=0,
        covered_ratio=1.0,
        classes=[chat],
        **rates,
    )


async def rows(connection: Connection, query: str, *arguments: object) -> Sequence[dict[str, Any]]:
    """Return what a query finds, by column."""
    async with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return await (await cursor.execute(query.encode(), arguments)).fetchall()
