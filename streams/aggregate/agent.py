"""The aggregate stage: batches in, closed windows out, watermark remembered, position released."""

from collections.abc import AsyncIterable
from datetime import datetime, timedelta

from infra import metrics
from schemas.catalog import Rejected, Topic
from streams.aggregate.release import Closing, Release
from streams.aggregate.window import BEGINNING, PartitionWindows, WindowRules
from streams.engine import Batch
from streams.intake import Arrived, Reject, from_the_future
from streams.memory import Memory, opened
from streams.stage import Assigned, Stage

MEMORY = "aggregate.memory.v1"

# Frames are read and folded while they lie in the processor's cache: a whole fetch, as Python's floats, is ten times
# as large, and takes half as long again.
_PART_BYTES = 64 * 1024


def attach(stage: Stage, topics: tuple[Topic, ...]) -> None:
    """Adds an agent for each source topic: each gives its own states, so how two interleave never matters."""
    for topic in topics:
        _attach_source(stage, topic)


def _attach_source(stage: Stage, topic: Topic) -> None:
    intake = stage.intake(topic)
    rules = WindowRules(stage.settings.window_seconds, stage.settings.allowed_lateness_seconds)
    release = Release(stage, topic)

    async def windows_of(batch: Batch) -> tuple[Memory, PartitionWindows]:
        memory = await opened(stage, MEMORY, batch.partition)
        watermark = memory.found.get(topic.name)
        since = datetime.fromisoformat(watermark.decode()) if watermark else BEGINNING
        return memory, PartitionWindows(rules, stage.fleet_file, stage.settings.run_id, since)

    partitions = Assigned(windows_of)

    async def fold(windows: PartitionWindows, part: Batch) -> None:
        # In a function of its own, so that one part's frames are gone before the next one's are made.
        arrived = await _fitting(stage, topic, part, rules, await stage.read(intake, part))
        windows.fold((each.record for each in arrived), part.next_offset)

    async def aggregate(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            memory, windows = await partitions.of(batch)
            late_before = windows.late
            for part in batch.parts(_PART_BYTES):
                await fold(windows, part)
            metrics.LATE.labels(stage.name, topic.name).inc(windows.late - late_before)
            await release.put(Closing(batch.without_records(), memory, windows, windows.due(), windows.watermark))

    stage.agent(topic.name, aggregate)
    stage.background(release.run)


async def _fitting(
    stage: Stage, topic: Topic, batch: Batch, rules: WindowRules, arrived: list[Arrived]
) -> list[Arrived]:
    """Without the records stamped ahead of their arrival or too long for a window: they go to the dead letters."""
    tolerance = stage.settings.future_tolerance_seconds
    # No record of the batch was appended before this: what is not ahead of it need not be looked at one by one.
    earliest = stage.clock.at_timestamp(min((each.timestamp_ms for each in arrived), default=0))
    certain = earliest + timedelta(seconds=tolerance)
    fitting: list[Arrived] = []
    refused: dict[int, Rejected] = {}
    for each in arrived:
        why = rules.refused(each.record)
        if each.record.observed_at > certain:
            appended_at = stage.clock.at_timestamp(each.timestamp_ms)
            why = from_the_future(each.record.observed_at, appended_at, tolerance) or why
        if why is None:
            fitting.append(each)
        else:
            refused[each.offset] = why
    if refused:
        originals = [message for message in batch.records if message.offset in refused]
        rejects = [Reject(m.offset, m.timestamp, m.key, m.value, refused[m.offset]) for m in originals]
        await stage.dead_letter(topic, batch, rejects)
    return fitting
