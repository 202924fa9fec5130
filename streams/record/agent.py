"""The record stage: every topic and every dead letter into the history; the position follows the rows."""

from collections.abc import AsyncIterable, Sequence
from functools import partial

import structlog

from schemas.catalog import GPU_TELEMETRY, Topic
from schemas.envelope import Record
from streams.engine import Batch
from streams.record.dead_letter import dead_letter_of, dead_letter_topic
from streams.record.history import History
from streams.record.rows import DeadLetter
from streams.record.sites import described
from streams.stage import Stage

log = structlog.get_logger()


def attach(stage: Stage, topics: tuple[Topic, ...], owned: frozenset[Topic]) -> None:
    """Adds agents that record `topics` and their dead letters; of `owned` ones it reports the rejects as well.

    Of raw telemetry only the dead letters, where the settings say so.
    """
    history = History(stage.settings.database_dsn.get_secret_value())
    for topic in topics:
        # By far the most of the volume, and the states have its sums: an installation may go without.
        if topic != GPU_TELEMETRY or stage.settings.record_telemetry:
            _attach_topic(stage, topic, history, owns_rejects=topic in owned)
        _attach_dead_letters(stage, topic, history)

    async def write() -> None:
        # One after the other: they share a connection.
        try:
            await history.describe(described(stage.fleet_file, stage.clock.now(), stage.settings.run_id))
            await history.run()
        finally:
            await history.close()

    stage.background(write)


def _attach_topic(stage: Stage, topic: Topic, history: History, *, owns_rejects: bool) -> None:
    intake = stage.intake(topic)

    async def record(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            arrived = await stage.read(intake, batch, owns_rejects=owns_rejects)
            await _put(stage, history, batch, [each.record for each in arrived])

    stage.agent(topic.name, record)


def _attach_dead_letters(stage: Stage, topic: Topic, history: History) -> None:
    async def record_dead_letters(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            letters = [
                dead_letter_of(message.headers, message.key, message.value, stage.settings.run_id)
                for message in batch.records
            ]
            if None in letters:
                log.warning("not a dead letter", topic=batch.topic, count=letters.count(None))
            await _put(stage, history, batch, [letter for letter in letters if letter is not None])

    stage.agent(dead_letter_topic(topic.name), record_dead_letters)


async def _put(stage: Stage, history: History, batch: Batch, records: Sequence[Record | DeadLetter]) -> None:
    size_bytes = sum(len(message.value or b"") for message in batch.records)
    await history.put(records, size_bytes, partial(stage.mark_out, batch.without_records()))
