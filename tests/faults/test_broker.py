"""kill -9 of the broker while data flows, and its restart: what it acknowledged is there, and nothing is twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from infra.bus import client_options
from infra.kafka.local import LocalKafka
from tests.faults.drill import Outcome, assert_same, feed, finish, repeated_states, until_states
from tests.faults.flow import Flow, Item
from tests.stream.rig import Rig, rig_on

pytestmark = [pytest.mark.broker, pytest.mark.drill]


@asynccontextmanager
async def _patient_producer(rig: Rig) -> AsyncIterator[AIOKafkaProducer]:
    """One that sends again after a crash, and whose records the broker takes once: the input must stay the same."""
    async with AIOKafkaProducer(**client_options(rig.settings), enable_idempotence=True) as producer:
        yield producer


async def _feed_slowly(rig: Rig, slices: Sequence[Sequence[Item]], producer: AIOKafkaProducer) -> None:
    for part in slices:
        await feed(rig, part, producer)


async def test_broker_killed_twice_while_data_flows_loses_nothing(
    tmp_path: Path, flow: Flow, undisturbed: Outcome
) -> None:
    with LocalKafka() as kafka:
        async with rig_on(("apache-kafka", kafka.bootstrap_servers), tmp_path) as rig:
            async with _patient_producer(rig) as producer:
                (worker,) = rig.start("aggregate", supervised=True)
                fed = 0
                for until in (4, 8):
                    await feed(rig, chain(*flow.slices[fed : until - 2]), producer)
                    await until_states(rig, flow.closed(until - 2) - 3)
                    feeding = asyncio.create_task(_feed_slowly(rig, flow.slices[until - 2 : until], producer))
                    kafka.kill()
                    await asyncio.to_thread(kafka.start)
                    await feeding
                    fed = until
                    await until_states(rig, flow.closed(until))
                await feed(rig, chain(*flow.slices[fed:]), producer)
                found = await finish(rig, flow, undisturbed.committed)
            print(f"{repeated_states(rig)} states repeated; it said: {rig.said('aggregate')[-2000:]}")  # noqa: T201
            assert_same(found, undisturbed)
            assert worker.pid is not None, "the supervisor itself went on"
