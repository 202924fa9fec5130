"""The history as a stage sees it: what is handed over goes in behind the stream's back, in order, at its own pace.

While one transaction is under way, what is handed over meanwhile waits and makes the next one: so many small batches
of many topics cost few transactions, and a large one never waits for company.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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

# As they came from the bus; the round under way holds as many at most. As Python's objects they are several times that.
WAITING_BYTES = 4 * 1024 * 1024
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Handed:
    """Rows that wait, by table, with how large they were and whom to tell."""

    rows: Mapping[str, Sequence[Row]]
    size_bytes: int
    written: Callable[[], None]


class History:
    """One connection, one transaction at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._waiting: deque[_Handed] = deque()
        self._waiting_bytes = 0
        self._moved = asyncio.Condition()
        # Where the last transaction met keys again. After a restart the tail of a topic is read once more, all of it.
        self._repeating: set[str] = set()

    async def put(self, records: Iterable[Record | DeadLetter], size_bytes: int, written: Callable[[], None]) -> None:
        """Hands records over, `size_bytes` on the bus; waits while too much is on its way.

        `written` is called when they are in, each natural key once, and all that was handed over before them too.
        """
        # The transaction under way goes first: records become rows while the server is at work, not before.
        await asyncio.sleep(0)
        rows = defaultdict[str, list[Row]](list)
        for record in records:
            for table, row in rows_of(record):
                rows[table].append(row)
        async with self._moved:
            await self._moved.wait_for(lambda: not self._waiting or self._waiting_bytes + size_bytes <= WAITING_BYTES)
            self._waiting.append(_Handed(rows, size_bytes, written))
            self._waiting_bytes += size_bytes
            self._moved.notify_all()

    async def run(self) -> None:
        """Writes, transaction after transaction, until cancelled. Waits while the database does not take them."""
        while True:
            async with self._moved:
                await self._moved.wait_for(lambda: bool(self._waiting))
                handed, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
                self._moved.notify_all()
            rows = defaultdict[str, list[Row]](list)
            for each in handed:
                for table, part in each.rows.items():
                    rows[table] += part
            inserted = await self._patiently(partial(write_batch, rows_by_table=rows, repeating=self._repeating))
            self._repeating = {table for table, count in inserted.items() if count < len(rows[table])}
            for table, count in inserted.items():
                metrics.ROWS.labels(table).inc(count)
            for each in handed:
                each.written()

    async def describe(self, rows_by_table: Mapping[str, Sequence[Row]]) -> None:
        """Returns when the history says of sites and service classes what `rows_by_table` does, and since when."""
        await self._patiently(partial(write_descriptions, rows_by_table=rows_by_table))

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
