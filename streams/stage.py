"""What every stage's agents use: reading batches, sending records, dead letters, memory, positions."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar

from infra import metrics
from infra.bus import partition_of
from infra.clock import Clock
from infra.keys import Keys
from infra.settings import Settings
from infra.signing import SIGNED_BY
from schemas.catalog import MAX_RECORD_BYTES, Topic, prefixed
from schemas.envelope import Record
from schemas.fleet import FleetFile
from streams.engine import Batch, StageApp
from streams.intake import Arrived, Intake, Reject, dead_letter_headers

State = TypeVar("State")
Headers = list[tuple[str, bytes]]


@dataclass(slots=True)
class Stage:
    """One running stage."""

    name: str
    app: StageApp
    settings: Settings
    clock: Clock
    fleet_file: FleetFile
    keys: Keys = field(init=False)
    failed: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _agents: set[str] = field(default_factory=set)
    _idle: set[str] = field(default_factory=set)  # topics whose agents wait for the next batch

    def __post_init__(self) -> None:
        self.keys = Keys(self.settings)

    def agent(self, topic: str, consume: Callable[[AsyncIterable[Batch]], Awaitable[None]]) -> None:
        """Runs `consume` over the batches of a topic (named without the run's prefix)."""
        on_bus = prefixed(topic, self.settings.run_id)
        self._agents.add(on_bus)

        async def batches(stream: AsyncIterable[Batch]) -> AsyncIterator[Batch]:
            self._idle.add(on_bus)
            async for batch in stream:
                self._idle.discard(on_bus)
                if self.is_current(batch):
                    yield batch
                self._idle.add(on_bus)

        async def agent(stream: Any) -> None:
            await self._or_fail(consume(batches(stream.noack())))

        self.app.agent(self.app.source(topic), name=f"{self.name}.{topic}")(agent)

    def background(self, run: Callable[[], Awaitable[None]]) -> None:
        """Runs `run` beside the agents for as long as the stage lives."""

        async def task() -> None:
            await self._or_fail(run())

        self.app.task(task)

    async def _or_fail(self, running: Awaitable[None]) -> None:
        """A bug ends the worker, and its supervisor starts it again: what was not marked out is then read once more."""
        try:
            await running
        except Exception as error:
            if not self.failed.done():
                self.failed.set_exception(error)
            raise

    def is_idle(self) -> bool:
        """Whether every agent waits for its next batch."""
        return self._idle == self._agents

    def is_current(self, batch: Batch) -> bool:
        """Whether the batch's partition is still this worker's, without a break since it was read."""
        return bool(batch.assignment == self.app.consumer.assignment_number)

    def intake(self, topic: Topic) -> Intake:
        """How this stage reads a topic."""
        # A key's partition never changes and there are few keys: murmur2 costs more than reading a small record.
        partition = lru_cache(maxsize=65536)(partial(partition_of, partitions=self.settings.partitions))
        refusal = partial(self.keys.refusal, topic) if topic.name in SIGNED_BY else None
        return Intake(topic, self.settings.run_id, partition, self.fleet_file, refusal)

    async def read(self, intake: Intake, batch: Batch, *, owns_rejects: bool = True) -> list[Arrived]:
        """The batch's records; its rejects are on the dead-letter topic when this returns.

        Each topic's rejects are one stage's to report (`topology`); the others leave them out in silence.
        """
        arrived, rejects = intake.read(batch.records, batch.partition)
        if owns_rejects:
            await self.dead_letter(intake.topic, batch, rejects)
        return arrived

    async def dead_letter(self, topic: Topic, batch: Batch, rejects: Iterable[Reject]) -> None:
        """Puts rejects on the dead-letter topic: the original bytes, with reason and position in the headers."""
        rejects = list(rejects)
        await self._all_sent(
            self._send(
                prefixed(topic.dlq, self.settings.run_id),
                reject.key,
                reject.value[:MAX_RECORD_BYTES] if reject.value else reject.value,
                partition=batch.partition,
                headers=dead_letter_headers(reject, batch.topic, batch.partition),
            )
            for reject in rejects
        )
        for reject in rejects:
            metrics.DEAD_LETTERS.labels(self.name, topic.name, reject.rejected.reason).inc()

    async def send(self, topic: Topic, records: Iterable[Record], headers: Headers | None = None) -> None:
        """Sends records, in order, and returns when the brokers have acknowledged every one."""
        await asyncio.gather(*await self.hand_over(topic, records, headers))

    async def hand_over(
        self, topic: Topic, records: Iterable[Record], headers: Headers | None = None
    ) -> list[Awaitable[Any]]:
        """Hands records to the producer, in order, signed where their topic's are; returns the acknowledgements to
        wait for.

        Raises:
            NoKeyError: no key may sign one of them.
        """
        name, acknowledgements = topic.on_bus(self.settings.run_id), []
        for record in records:
            value = record.to_json()
            signed = [*(headers or ()), *self.keys.sign(topic, record, value)]
            acknowledgements.append(await self._send(name, topic.key_of(record), value, headers=signed or None))
        return acknowledgements

    async def write(
        self,
        name: str,
        partition: int,
        entries: Iterable[tuple[bytes, bytes | None, Headers]],
    ) -> None:
        """Writes entries into a partition of a topic of the stage's own and returns when they are durable."""
        on_bus = prefixed(name, self.settings.run_id)
        await self._all_sent(
            self._send(on_bus, key, value, partition=partition, headers=headers) for key, value, headers in entries
        )

    def mark_out(self, batch: Batch, position: int | None = None) -> None:
        """All before `position` (the batch's end by default) is out and may be committed."""
        self.app.consumer.mark_out(batch, batch.next_offset if position is None else position)

    async def _all_sent(self, sends: Iterable[Awaitable[Awaitable[Any]]]) -> None:
        # Handed over one after the other, so that order is kept; awaited together, so that they share requests.
        await asyncio.gather(*[await send for send in sends])

    async def _send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> Awaitable[Any]:
        if partition is None:
            partition = partition_of(key or b"", self.settings.partitions)
        sent: Awaitable[Any] = await self.app.producer.send(topic, key, value, partition, None, headers)
        metrics.PRODUCED.labels(self.name, topic).inc()
        return sent


@dataclass(slots=True)
class Assigned(Generic[State]):
    """A state for each partition of the current assignment, opened anew after every rebalance.

    After a rebalance a partition is read again from its committed position, so that state from before it is void.
    """

    opened: Callable[[Batch], Awaitable[State]]
    _states: dict[tuple[str, int], State] = field(default_factory=dict)
    _assignment: int = -1

    async def of(self, batch: Batch) -> State:
        """The state of the batch's partition."""
        if batch.assignment != self._assignment:
            self._states.clear()
            self._assignment = batch.assignment
        place = (batch.topic, batch.partition)
        if place not in self._states:
            self._states[place] = await self.opened(batch)
        return self._states[place]
