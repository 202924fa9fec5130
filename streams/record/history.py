"""The history as a stage sees it: what is handed over is in when the call returns, however long that takes."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg
import structlog

from infra import metrics
from infra.database import DatabaseConfigurationError, DatabaseUnavailableError, connect
from schemas.envelope import Record
from streams.record.rows import DeadLetter, Row, rows_of
from streams.record.writer import write_batch, write_descriptions

Connection = psycopg.AsyncConnection[Any]

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0


class History:
    """One connection, and one transaction at a time, into which goes all that was handed over during the one before.

    So many small batches of many topics cost few transactions, and a large one never waits for company.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._waiting: dict[str, list[Row]] = defaultdict(list)
        self._writing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def take(self, records: Iterable[Record | DeadLetter]) -> None:
        """Returns when every record is in, each natural key once. Waits while the database does not take them."""
        found = False
        for record in records:
            for table, row in rows_of(record):
                self._waiting[table].append(row)
                found = True
        if not found:
            return
        if self._next is None:
            self._next = asyncio.create_task(self._write_after(self._writing))
        await asyncio.shield(self._next)

    async def _write_after(self, before: asyncio.Task[None] | None) -> None:
        """One transaction: waits for the one before, then writes all that is waiting."""
        if before is not None:
            await asyncio.wait([before])
        self._writing, self._next = self._next, None
        rows, self._waiting = self._waiting, defaultdict(list)
        await self._write(rows)

    async def describe(self, rows_by_table: Mapping[str, Sequence[Row]]) -> None:
        """Returns when the history says of sites and service classes what `rows_by_table` does, and since when."""
        await self._patiently(lambda connection: write_descriptions(connection, rows_by_table))

    async def _write(self, rows: dict[str, list[Row]]) -> None:
        inserted = await self._patiently(lambda connection: write_batch(connection, rows))
        for table, count in inserted.items():
            metrics.ROWS.labels(table).inc(count)

    async def _patiently(self, write: Callable[[Connection], Awaitable[dict[str, int]]]) -> dict[str, int]:
        """Writes, and tries again for as long as it takes: a disk is cleared, a right is granted, a server comes back.

        Whether things were set up at all is asked before the stage starts (`streams.worker`).
        """
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await write(await self._connected())
            except (DatabaseUnavailableError, DatabaseConfigurationError) as error:
                metrics.DATABASE_RETRIES.inc()
                log.warning("waiting for the database", error=str(error), seconds=wait_seconds)
                await self.close()
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await connect(self._dsn, "gridtide record")
        return self._connection

    async def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()
