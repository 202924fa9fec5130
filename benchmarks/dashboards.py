"""How fast the history answers a dashboard, on a month of states that stand for 100 million telemetry records.

    GRIDTIDE_TEST_TIMESCALE_DSN=postgresql://... python -m benchmarks.dashboards [--json FILE] [--sites N] [--days N]

Made on the server, in a database of its own that is dropped at the end: a window of power every ten seconds from each
site for a month, and a window of load of each service class for a week. With one collector a site that sends a frame
of its GPUs every second, a window of power stands for ten telemetry records: 40 sites over 30 days are 10,368,000
windows, and 103,680,000 records of gpu.telemetry.v1. Then the aggregates are refreshed as their policies would, so
that their newest buckets come from the real-time part, and each query is asked 20 times, in turn. The bar is 100 ms
for the slowest answer.

Only TimescaleDB's community edition has continuous aggregates. Elsewhere the views go through the windows each time,
which is not what is measured here.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.cores import cpu_model
from benchmarks.live.rig import end_on_sigterm
from infra.database import DatabaseConfigurationError, DatabaseUnavailableError, connect_blocking, place_of
from infra.migrate import migrate

_DSN: Final = "GRIDTIDE_TEST_TIMESCALE_DSN"
_BAR_SECONDS: Final = 0.1
_TIMES: Final = 20
_RECORDS_A_WINDOW: Final = 10
_LOAD_DAYS: Final = 7

Connection = psycopg.Connection[Any]

_SITES: Final[LiteralString] = """
INSERT INTO gridtide.sites
SELECT %(since)s, 'site-' || number, 'live', 'fleet', 'HB_NORTH', 1.2, 256, 250000, 50000, 100000, 1000, 500, true
FROM generate_series(1, %(sites)s) AS number
"""
# The meters of one site in ten are silent, so that PUE is needed.
_POWER: Final[LiteralString] = """
INSERT INTO gridtide.site_power
SELECT
    starts_at, 'site-' || number, 'power', 'live', 1, 'fleet', starts_at + INTERVAL '10 seconds', 10, 0,
    watts, watts * 10, CASE WHEN number %% 10 > 0 THEN watts * 1.2 END, watts / 180000, 40 + watts / 6000,
    2560, 0, 256, 1.0
FROM generate_series(%(start)s, %(end)s - INTERVAL '10 seconds', INTERVAL '10 seconds') AS starts_at
CROSS JOIN generate_series(1, %(sites)s) AS number
CROSS JOIN LATERAL (
    SELECT 100000 + 30000 * sin(extract(epoch FROM starts_at)::float8 / 13751 + number) + 5000 * random() AS watts
) AS drawn
ORDER BY 1, 2
"""
_CLASS_LOAD: Final[LiteralString] = """
INSERT INTO gridtide.site_class_load
SELECT
    starts_at, 'site-' || number, class, 'live', 'fleet', starts_at + INTERVAL '10 seconds',
    rate, rate * 400, rate * 300, rate * 300, (rate * 10)::bigint,
    ARRAY[0, 0, 0, 0, 1, 3, 8, 20, rate, rate * 2, rate, 12, 9, 7, 5, 4, 3, 2, 1, 1, 0, 0, 0, 0, 0, 0]::bigint [],
    0.2, 4.0
FROM generate_series(%(start)s, %(end)s - INTERVAL '10 seconds', INTERVAL '10 seconds') AS starts_at
CROSS JOIN generate_series(1, %(sites)s) AS number
CROSS JOIN unnest(ARRAY['batch', 'chat']) AS class
CROSS JOIN LATERAL (SELECT 20 + 20 * random() + number AS rate) AS arrived
ORDER BY 1, 2, 3
"""

QUERIES: Final[dict[str, LiteralString]] = {
    "power of the fleet, last 24 h by 5 min": """
        SELECT bucket_start, sum(it_energy_joules / seconds) AS it_power_watts
        FROM gridtide.site_power_5m
        WHERE fleet_id = 'fleet' AND run_id = 'live' AND bucket_start >= now() - INTERVAL '24 hours'
        GROUP BY bucket_start ORDER BY bucket_start
    """,
    "one site, 30 days by 1 h": """
        SELECT bucket_start, it_energy_joules / seconds AS it_power_watts, meter_power_watts_max, reporting_ratio_min
        FROM gridtide.site_power_1h
        WHERE site_id = 'site-7' AND run_id = 'live' AND bucket_start >= now() - INTERVAL '30 days'
        ORDER BY bucket_start
    """,
    "p99 TTFT of a class, a week by 1 h": """
        SELECT bucket_start, gridtide.quantile_seconds(gridtide.sum_counts(ttft_seconds_counts), 0.99) AS p99_seconds
        FROM gridtide.site_class_load_1h
        WHERE service_class = 'chat' AND run_id = 'live' AND bucket_start >= now() - INTERVAL '7 days'
        GROUP BY bucket_start ORDER BY bucket_start
    """,
    "energy of all sites, yesterday by 1 h": """
        SELECT
            bucket_start,
            site_id,
            coalesce(meter_energy_joules * seconds / nullif(metered_seconds, 0), it_energy_joules * pue) / 3.6e6 AS kwh
        FROM gridtide.site_power_1h AS power
        INNER JOIN gridtide.site_spans AS span USING (site_id, run_id)
        WHERE
            run_id = 'live' AND holds_from <= bucket_start AND bucket_start < holds_until
            AND bucket_start >= date_trunc('day', now()) - INTERVAL '1 day' AND bucket_start < date_trunc('day', now())
        ORDER BY bucket_start, site_id
    """,
}


@dataclass(frozen=True, slots=True)
class Answered:
    """One query's answers."""

    query: str
    rows: int
    seconds: list[float]

    @property
    def median_seconds(self) -> float:
        """How long an answer took, with all its rows at the client: the median."""
        return statistics.median(self.seconds)

    @property
    def worst_seconds(self) -> float:
        """The slowest."""
        return max(self.seconds)

    @property
    def verdict(self) -> str:
        """met or MISSED."""
        return "met" if self.worst_seconds < _BAR_SECONDS else "MISSED"


def why_left_out(connection: Connection) -> str | None:
    """Why this server can't be measured; None if it can."""
    # The setting is asked after the extension: only then has its library been loaded.
    if connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is None:
        return "new databases there have no TimescaleDB, so no continuous aggregates"
    if connection.execute("SELECT current_setting('timescaledb.license', true)").fetchone() != ("timescale",):
        return "it runs TimescaleDB's Apache edition, which has no continuous aggregates"
    return None


@contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"gridtide_bench_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _fill(connection: Connection, sites: int, days: int, end: datetime, advance: Callable[[str], None]) -> None:
    connection.execute(_SITES, {"since": end - timedelta(days=days), "sites": sites})
    for day in range(days, 0, -1):
        since = end - timedelta(days=day)
        span = {"start": since, "end": since + timedelta(days=1), "sites": sites}
        connection.execute(_POWER, span)
        if day <= _LOAD_DAYS:
            connection.execute(_CLASS_LOAD, span)
        advance("states")


def _refresh(connection: Connection, days: int, end: datetime, advance: Callable[[str], None]) -> float:
    """Refreshes to where the policies would have come; returns how long it took, in seconds."""
    began = perf_counter()
    for suffix in ("1m", "5m", "1h"):
        for family in ("site_power", "site_class_load"):
            name = f"gridtide.{family}_{suffix}"
            found = connection.execute(
                "SELECT (config->>'end_offset')::interval FROM timescaledb_information.jobs"
                " WHERE hypertable_schema || '.' || hypertable_name = %s AND config ? 'end_offset'",
                [name],
            ).fetchone()
            assert found is not None, f"{name} has no policy"
            connection.execute(
                "CALL refresh_continuous_aggregate(%s::regclass, %s::timestamptz, %s::timestamptz)",
                [name, end - timedelta(days=days + 1), end - found[0]],
            )
            advance(f"{family}_{suffix}")
    return perf_counter() - began


def _ask(connection: Connection, advance: Callable[[str], None]) -> list[Answered]:
    answered = {name: Answered(name, len(connection.execute(query).fetchall()), []) for name, query in QUERIES.items()}
    for _ in range(_TIMES):
        for name, query in QUERIES.items():
            began = perf_counter()
            connection.execute(query).fetchall()
            answered[name].seconds.append(perf_counter() - began)
        advance("queries")
    return list(answered.values())


def _measure(dsn: str, sites: int, days: int, progress: Progress) -> dict[str, Any]:
    migrate(dsn)
    task = progress.add_task("", total=days + 6 + _TIMES)

    def advance(what: str) -> None:
        progress.update(task, description=what, advance=1)

    with connect_blocking(dsn, "gridtide-bench") as connection:
        connection.execute(
            "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
            " WHERE hypertable_schema = 'gridtide'"
        )
        # A whole ten seconds, and the present, so that the real-time part is what it would be.
        end = datetime.fromtimestamp(datetime.now(UTC).timestamp() // 10 * 10, UTC)
        began = perf_counter()
        _fill(connection, sites, days, end, advance)
        fill_seconds = perf_counter() - began
        refresh_seconds = _refresh(connection, days, end, advance)
        connection.execute("ANALYZE")
        answered = _ask(connection, advance)
        versions = connection.execute(
            "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone() or ("", "")
        (size_bytes,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    windows = sites * days * 8640
    return {
        "cpu": cpu_model(),
        "postgresql": versions[0],
        "timescaledb": versions[1],
        "windows": windows,
        "telemetry_records": windows * _RECORDS_A_WINDOW,
        "class_windows": sites * min(days, _LOAD_DAYS) * 8640 * 2,
        "fill_seconds": fill_seconds,
        "refresh_seconds": refresh_seconds,
        "database_bytes": size_bytes,
        "answered": answered,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints. 0: the bar is met; 1: it is missed; 2: there is no server to measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dashboards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--sites", type=int, default=40)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    server = os.environ.get(_DSN)
    if not server:
        console.print(f"benchmarks.dashboards: left out: {_DSN} is not set", markup=False, soft_wrap=True)
        return 2
    end_on_sigterm()
    try:
        with _database(server) as dsn:
            with connect_blocking(dsn, "gridtide-bench") as connection:
                reason = why_left_out(connection)
            if reason:
                console.print(f"benchmarks.dashboards: left out on {place_of(server)}: {reason}", soft_wrap=True)
                return 2
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                figures = _measure(dsn, options.sites, options.days, progress)
    except (DatabaseUnavailableError, DatabaseConfigurationError, psycopg.OperationalError) as error:
        console.print(f"benchmarks.dashboards: {error}", markup=False, soft_wrap=True)
        return 2
    answered: list[Answered] = figures.pop("answered")
    table = Table("query", "rows", "median ms", "worst ms", "bar 100 ms", title=f"dashboards, {_TIMES} times each")
    for one in answered:
        table.add_row(
            one.query,
            f"{one.rows:,}",
            f"{one.median_seconds * 1000:.1f}",
            f"{one.worst_seconds * 1000:.1f}",
            one.verdict,
        )
    console.print(
        f"{figures['cpu']}, TimescaleDB {figures['timescaledb']} on PostgreSQL {figures['postgresql']};"
        f" {options.sites} sites, {options.days} days: {figures['windows']:,} windows of power, which stand for"
        f" {figures['telemetry_records']:,} telemetry records; {figures['class_windows']:,} windows of class load;"
        f" {figures['database_bytes'] / 1e9:.1f} GB; made in {figures['fill_seconds']:.0f} s, aggregates refreshed in"
        f" {figures['refresh_seconds']:.0f} s",
        soft_wrap=True,
    )
    console.print(table)
    if options.json:
        written = {**figures, "queries": [asdict(one) for one in answered]}
        options.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return int(any(one.verdict != "met" for one in answered))


if __name__ == "__main__":
    sys.exit(main())
