"""The limit: aiokafka, the contract's model, the stage's window code, and no framework.

One process reads all partitions, a batch a partition at a time, and commits what is out once a second.
"""

import asyncio
import gc
import signal
from pathlib import Path
from time import monotonic

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS, Task, from_arguments
from infra.bus import partition_of
from infra.settings import load_fleet_file
from schemas.catalog import GPU_TELEMETRY, MAX_MESSAGE_BYTES, SITE_STATE
from streams.aggregate.window import PartitionWindows, WindowRules

_COMMIT_SECONDS = 1.0
_PART_BYTES = 64 * 1024  # what is folded at a time stays in cache, as in the stage


async def run(task: Task) -> None:
    """Folds until told to end."""
    consumer = AIOKafkaConsumer(
        task.source,
        bootstrap_servers=task.servers,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=2000,
        max_partition_fetch_bytes=2 * MAX_MESSAGE_BYTES,
    )
    producer = AIOKafkaProducer(bootstrap_servers=task.servers, acks="all", linger_ms=5, max_batch_size=64 * 1024)
    await consumer.start()
    await producer.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    try:
        await _fold(task, consumer, producer, told)
    finally:
        await producer.stop()
        await consumer.stop()


async def _fold(task: Task, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, told: asyncio.Event) -> None:
    rules, fleet_file = WindowRules(WINDOW_SECONDS, LATENESS_SECONDS), load_fleet_file(Path(task.fleet_file))
    partitions = [PartitionWindows(rules, fleet_file, task.run_id) for _ in range(task.partitions)]
    decode = GPU_TELEMETRY.adapter.validate_json
    positions: dict[TopicPartition, int] = {}
    committed = monotonic()
    while not told.is_set():
        for place, messages in (await consumer.getmany(timeout_ms=200)).items():
            windows = partitions[place.partition]
            step = max(1, _PART_BYTES // len(messages[0].value))
            for first in range(0, len(messages), step):
                part = messages[first : first + step]
                windows.fold((decode(message.value) for message in part), part[-1].offset + 1)
            due = windows.due()
            sent = []
            for _, state in due:
                key = SITE_STATE.key_of(state)
                where = partition_of(key, task.partitions)
                sent.append(await producer.send(task.output, state.to_json(), key=key, partition=where))
            await asyncio.gather(*sent)
            position = windows.settle(place for place, _ in due)
            if position is not None:
                positions[place] = position
        if positions and monotonic() - committed > _COMMIT_SECONDS:
            await consumer.commit(positions)
            positions, committed = {}, monotonic()


if __name__ == "__main__":
    asyncio.run(run(from_arguments()))
