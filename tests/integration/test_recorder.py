"""The history as the recorder's agents see it: handed over, waited for where it must be, told of in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from infra import metrics
from schemas.command import CommandAck
from streams.record.history import WAITING_BYTES, History
from tests.examples import ACK

pytestmark = pytest.mark.database


def acks(first: int, last: int) -> list[CommandAck]:
    return [ACK.model_copy(update={"sequence": number}) for number in range(first, last)]


@asynccontextmanager
async def running(dsn: str) -> AsyncIterator[History]:
    history = History(dsn)
    task = asyncio.create_task(history.run())
    try:
        yield history
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await history.close()


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        (found,) = connection.execute("SELECT count(*) FROM gridtide.command_acks").fetchone() or (0,)
        return int(found)


async def test_history_tells_of_each_in_order_when_it_and_all_before_are_in(any_migrated_dsn: str) -> None:
    told: list[tuple[int, int]] = []
    last = asyncio.Event()
    async with running(any_migrated_dsn) as history:
        for number in range(10):

            def written(number: int = number) -> None:
                told.append((number, count(any_migrated_dsn)))

            # The fourth has nothing to write, and yet must not be told of before those before it.
            records = [] if number == 3 else acks(number * 100, number * 100 + 100)
            await history.put(records, 100, written)
        await history.put([], 0, last.set)
        await last.wait()
    assert [number for number, _ in told] == list(range(10))
    assert all(rows >= 100 * (number + (number < 3)) for number, rows in told)
    assert count(any_migrated_dsn) == 900


async def test_history_makes_who_hands_over_too_much_wait(any_migrated_dsn: str) -> None:
    last = asyncio.Event()
    with psycopg.connect(any_migrated_dsn) as lock:
        lock.execute("LOCK TABLE gridtide.command_acks IN ACCESS EXCLUSIVE MODE")
        async with running(any_migrated_dsn) as history:
            await history.put(acks(0, 1), WAITING_BYTES, lambda: None)  # the transaction that is held up
            await history.put(acks(1, 2), WAITING_BYTES, lambda: None)  # fills what may wait
            third = asyncio.create_task(history.put(acks(2, 3), 1, last.set))
            done, _ = await asyncio.wait([third], timeout=0.5)
            assert not done
            lock.rollback()
            await third
            await last.wait()
    assert count(any_migrated_dsn) == 3


async def test_history_goes_on_when_keys_come_again_and_then_new_ones(any_migrated_dsn: str) -> None:
    before = metrics.ROWS.labels("command_acks")._value.get()
    async with running(any_migrated_dsn) as history:
        for first, end in ((0, 50), (0, 50), (25, 75), (75, 100), (100, 125)):
            written = asyncio.Event()
            await history.put(acks(first, end), 1, written.set)
            await written.wait()
    assert count(any_migrated_dsn) == 125
    assert metrics.ROWS.labels("command_acks")._value.get() - before == 125
