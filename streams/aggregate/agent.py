"""The aggregate stage: batches in, closed windows out, watermark remembered, position released."""

import json
from collections.abc import AsyncIterable
from datetime import datetime

from infra import metrics
from infra.memory import last_by_key
from schemas.catalog import SITE_STATE, Rejected, Topic, prefixed
from streams.aggregate.window import BEGINNING, PartitionWindows, WindowRules
from streams.engine import Batch
from streams.intake import Arrived, Reject, from_the_future
from streams.stage import Assigned, Stage

MEMORY = "aggregate.memory.v1"


def attach(stage: Stage, topics: tuple[Topic, ...]) -> None:
    """Adds an agent for each source topic: each gives its own states, so how two interleave never matters."""
    for topic in topics:
        _attach_source(stage, topic)


def _attach_source(stage: Stage, topic: Topic) -> None:
    intake = stage.intake(topic)
    rules = WindowRules(stage.settings.window_seconds, stage.settings.allowed_lateness_seconds)

    async def opened(batch: Batch) -> PartitionWindows:
        watermark = await _remembered_watermark(stage, topic, batch.partition)
        return PartitionWindows(rules, stage.fleet_file, stage.settings.run_id, watermark)

    partitions = Assigned(opened)

    async def aggregate(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            windows = await partitions.of(batch)
            arrived = await _fitting(stage, topic, batch, rules, await stage.read(intake, batch))
            late_before = windows.late
            windows.fold((each.record for each in arrived), batch.next_offset)
            metrics.LATE.labels(stage.name, topic.name).inc(windows.late - late_before)
            due = windows.due()
            if due:
                # In this order: what is out, then the watermark that closed it, then the position.
                cause = [("closed-by-timestamp-ms", str(batch.records[-1].timestamp).encode())]
                await stage.send(SITE_STATE, (state for _, state in due), cause)
                metrics.DUPLICATES.labels(stage.name, topic.name).inc(sum(state.duplicates for _, state in due))
                await _remember_watermark(stage, topic, batch.partition, windows.watermark)
            position = windows.settle(place for place, _ in due)
            if position is not None:
                stage.mark_out(batch, position)

    stage.agent(topic.name, aggregate)


async def _fitting(
    stage: Stage, topic: Topic, batch: Batch, rules: WindowRules, arrived: list[Arrived]
) -> list[Arrived]:
    """Without the records stamped ahead of their arrival or too long for a window: they go to the dead letters."""
    tolerance = stage.settings.future_tolerance_seconds
    fitting: list[Arrived] = []
    refused: dict[int, Rejected] = {}
    for each in arrived:
        appended_at = stage.clock.at_timestamp(each.timestamp_ms)
        why = from_the_future(each.record.observed_at, appended_at, tolerance) or rules.refused(each.record)
        if why is None:
            fitting.append(each)
        else:
            refused[each.offset] = why
    if refused:
        originals = [message for message in batch.records if message.offset in refused]
        rejects = [Reject(m.offset, m.timestamp, m.key, m.value, refused[m.offset]) for m in originals]
        await stage.dead_letter(topic, batch, rejects)
    return fitting


async def _remember_watermark(stage: Stage, topic: Topic, partition: int, watermark: datetime) -> None:
    entry = json.dumps({"watermark": watermark.isoformat()}).encode()
    await stage.remember(MEMORY, partition, [(topic.name, entry)])


async def _remembered_watermark(stage: Stage, topic: Topic, partition: int) -> datetime:
    remembered = await last_by_key(stage.settings, prefixed(MEMORY, stage.settings.run_id), partition)
    entry = remembered.get(topic.name.encode())
    return datetime.fromisoformat(json.loads(entry)["watermark"]) if entry else BEGINNING
