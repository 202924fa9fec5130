"""The history as a stage sees it: what is handed over is in when the call returns, however long that takes."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import psycopg
import structlog

from infra import metrics
from infra.database import DatabaseUnavailableError, connect
from schemas.envelope import Record
from streams.record.rows import DeadLetter, Row, row_of
from streams.record.writer import write_batch

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0


class History:
    """One connection, used by one writer at a time, made anew whenever it is lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()

    async def take(self, records: Iterable[Record | DeadLetter]) -> None:
        """Returns when every record is in, each natural key once. Waits while the database is away.

        Raises:
            DatabaseConfigurationError: it will never take them as things are set up.
        """
        rows: dict[str, list[Row]] = defaultdict(list)
        for record in records:
            table, row = row_of(record)
            rows[table].append(row)
        if rows:
            async with self._lock:
                await self._write(rows)

    async def _write(self, rows: dict[str, list[Row]]) -> None:
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                inserted = await write_batch(await self._connected(), rows)
            except DatabaseUnavailableError as error:
                metrics.DATABASE_RETRIES.inc()
                log.warning("waiting for the database", error=str(error), seconds=wait_seconds)
                await self.close()
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)
            else:
                for table, count in inserted.items():
                    metrics.ROWS.labels(table).inc(count)
                return

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            self._connection = await connect(self._dsn, "gridtide record")
        return self._connection

    async def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()
