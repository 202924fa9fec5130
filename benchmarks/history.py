"""How fast the recorder writes, beside a bare COPY BINARY of the same rows into the same table.

    python -m benchmarks.history [--json FILE] [--rows N] [--rounds N] [--tables NAME,NAME]

`copy` is psycopg's COPY in binary form, the rows made beforehand, ten thousand a transaction: what the database and
the driver allow. `recorder` is what the stage does with what it has read: records become rows and are handed over a
fetch at a time. `repeated` is the same when every row is in already, as after a restart. The three take turns on one
server, the table emptied in between. Measured on the embedded PostgreSQL, and on TimescaleDB where
GRIDTIDE_TEST_TIMESCALE_DSN names a server.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.cores import cpu_model
from benchmarks.records import MAKERS
from infra.database import SCHEMA, connect, connect_blocking
from infra.embedded.errors import EmbeddedError
from infra.embedded.postgres import EmbeddedPostgres
from infra.migrate import migrate
from infra.settings import Settings
from schemas.envelope import Record
from streams.record.history import History
from streams.record.rows import Row, rows_of
from streams.record.writer import copy_rows
from streams.worker import spare_the_collector

_TIMESCALE = "GRIDTIDE_TEST_TIMESCALE_DSN"
_COPY_ROWS = 10_000
_FETCH_ROWS = Settings.model_fields["max_poll_records"].default


@dataclass(slots=True)
class Measured:
    """One way of writing one table on one server, over all rounds."""

    server: str
    table: str
    way: str
    rows: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """The median round."""
        return self.rows / statistics.median(self.seconds)

    @property
    def cpu_seconds_per_million(self) -> float:
        """Processor time of the client for a million rows: the median round."""
        return statistics.median(self.cpu_seconds) / self.rows * 1e6

    def as_json(self) -> dict[str, Any]:
        """The figure with all its rounds."""
        return {
            "server": self.server,
            "table": self.table,
            "way": self.way,
            "rows": self.rows,
            "rows_per_second": self.rows_per_second,
            "client_cpu_seconds_per_million_rows": self.cpu_seconds_per_million,
            "seconds": self.seconds,
        }


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    with EmbeddedPostgres() as postgres:
        found = {"PostgreSQL": postgres.dsn}
        if given := os.environ.get(_TIMESCALE):
            found["TimescaleDB"] = given
        yield found


@contextmanager
def _database(server_dsn: str) -> Iterator[str]:
    """A database of our own, migrated, dropped at the end."""
    name = sql.Identifier(f"bench_{uuid4().hex}")
    with psycopg.connect(server_dsn, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            dsn = make_conninfo(server_dsn, dbname=name.as_string(None).strip('"'))
            migrate(dsn)
            yield dsn
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


async def _copy(dsn: str, rows_by_table: Mapping[str, Sequence[Row]]) -> None:
    async with await connect(dsn, "gridtide bench") as connection:
        for table, rows in rows_by_table.items():
            for first in range(0, len(rows), _COPY_ROWS):
                async with connection.transaction():
                    await copy_rows(connection, table, rows[first : first + _COPY_ROWS])


async def _record(dsn: str, records: Sequence[Record], size_bytes: int) -> None:
    history, all_in = History(dsn), asyncio.Event()
    writing = asyncio.create_task(history.run())
    try:
        for first in range(0, len(records), _FETCH_ROWS):
            part = records[first : first + _FETCH_ROWS]
            last = first + len(part) == len(records)
            await history.put(part, size_bytes * len(part), all_in.set if last else _nothing)
        await all_in.wait()
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await history.close()


def _nothing() -> None:
    pass


def _timed(measured: Measured, writing: Awaitable[None]) -> None:
    async def write() -> None:
        await writing

    wall, cpu = perf_counter(), process_time()
    asyncio.run(write())
    measured.seconds.append(perf_counter() - wall)
    measured.cpu_seconds.append(process_time() - cpu)


def _compared(server: str, dsn: str, table: str, count: int, rounds: int, told: Callable[[], None]) -> list[Measured]:
    make, size_bytes = MAKERS[table]
    records = list(make(count))
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for record in records:
        for name, row in rows_of(record):
            rows[name].append(row)
    ways = [Measured(server, table, way, sum(map(len, rows.values()))) for way in ("copy", "recorder", "repeated")]
    copied, recorded, repeated = ways
    for number in range(rounds + 1):
        _empty(dsn, rows)
        _timed(copied, _copy(dsn, rows))
        told()
        _empty(dsn, rows)
        _timed(recorded, _record(dsn, records, size_bytes))
        told()
        _timed(repeated, _record(dsn, records, size_bytes))
        told()
        _count(dsn, rows)
        if number == 0:  # the first round warms the server's files up
            for each in ways:
                each.seconds.clear()
                each.cpu_seconds.clear()
    return ways


def _empty(dsn: str, tables: Iterable[str]) -> None:
    with connect_blocking(dsn) as connection:
        for table in tables:
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(SCHEMA, table)))
        connection.execute("CHECKPOINT")


def _count(dsn: str, rows: Mapping[str, Sequence[Row]]) -> None:
    """Makes sure that every row is there once."""
    with connect_blocking(dsn) as connection:
        for table, wanted in rows.items():
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(SCHEMA, table))
            (found,) = connection.execute(query).fetchone() or (None,)
            assert found == len(wanted), f"{table}: {found} rows of {len(wanted)}"


def _table(measured: Sequence[Measured]) -> Table:
    table = Table("server", "table", "way", "rows/s", "of copy", "client CPU s a million rows")
    copied = 0.0
    for each in measured:
        copied = each.rows_per_second if each.way == "copy" else copied
        table.add_row(
            each.server,
            each.table,
            each.way,
            f"{each.rows_per_second:,.0f}",
            f"{each.rows_per_second / copied:.0%}",
            f"{each.cpu_seconds_per_million:.1f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints. 0: measured; 2: something is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.history", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rows", type=int, default=100_000, help="records to write each time; a fifth as many frames")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tables", default=",".join(MAKERS), help=f"of {', '.join(MAKERS)}")
    options = parser.parse_args(arguments)
    tables = options.tables.split(",")
    if unknown := set(tables) - set(MAKERS):
        parser.error(f"no such table to fill: {', '.join(sorted(unknown))}")
    console = Console(highlight=False)
    measured: list[Measured] = []
    spare_the_collector()  # as the stage does
    try:
        with _servers() as servers, Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("writing", total=len(servers) * len(tables) * 3 * (options.rounds + 1))
            for server, server_dsn in servers.items():
                with _database(server_dsn) as dsn:
                    for table in tables:
                        count = options.rows // (5 if table == "gpu_telemetry" else 1)
                        bar.update(task, description=f"{server}: {table}")
                        told = partial(bar.advance, task)
                        measured += _compared(server, dsn, table, count, options.rounds, told)
    except (EmbeddedError, psycopg.OperationalError) as error:
        console.print(f"benchmarks.history: {error}", markup=False, soft_wrap=True)
        return 2
    about = f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores shared with the server; {options.rounds} rounds"
    console.print(about)
    console.print(_table(measured))
    if _TIMESCALE not in os.environ:
        console.print(f"TimescaleDB left out: {_TIMESCALE} names no server")
    if options.json:
        written = {"about": about, "measured": [each.as_json() for each in measured]}
        options.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
