"""What the drills on the aggregate stage share: feeding, waiting, and comparing with an undisturbed run."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from infra.bus import client_options
from schemas.catalog import SITE_STATE, prefixed
from tests.faults.flow import MADE, SOURCES, Flow, Item
from tests.stream.rig import PATIENCE_SECONDS, Rig

Broker = tuple[str, str]
Committed = dict[str, dict[int, int]]

_RUN = f'"run_id":"{MADE}"'.encode()


@dataclass(frozen=True)
class Outcome:
    """What a run left behind: states by natural key, dead letters by place, committed positions."""

    states: dict[tuple[Any, ...], bytes]
    letters: dict[tuple[bytes, ...], tuple[bytes, bytes | None]]
    committed: Committed


async def feed(rig: Rig, items: Iterable[Item], producer: AIOKafkaProducer | None = None) -> None:
    """Puts items on the bus, in order, and returns when the broker has all."""
    producer = producer or rig.producer
    ours = f'"run_id":"{rig.run_id}"'.encode()
    sent = []
    for item in items:
        value = item.value.replace(_RUN, ours)
        name = item.topic.on_bus(rig.run_id)
        sent.append(await producer.send(name, value, key=item.key, partition=item.partition))
    await asyncio.gather(*sent)


def states_out(rig: Rig) -> int:
    """How many different states are out."""
    return len({(message.key, message.value) for message in rig.seen[SITE_STATE.name]})


def repeated_states(rig: Rig) -> int:
    """How many states are out more than once: allowed, since readers take a key once, but worth knowing."""
    return len(rig.seen[SITE_STATE.name]) - states_out(rig)


async def until_states(rig: Rig, count: int, seconds: float = PATIENCE_SECONDS) -> None:
    """Waits until so many different states are out."""
    await rig.until(f"{count} states, not {states_out(rig)}", lambda: states_out(rig) >= count, seconds)


async def committed(rig: Rig, stage: str = "aggregate") -> Committed:
    """The stage's committed positions in the source topics."""
    return {topic.name: await rig.committed(stage, topic.name) for topic in SOURCES}


async def assert_not_wholly_committed(rig: Rig, flow: Flow, fed: Iterable[Item]) -> None:
    """A fault proves something only while windows are open and positions uncommitted."""
    fed = list(fed)
    ends = {(item.topic.name, item.partition): 0 for item in fed}
    for item in fed:
        ends[item.topic.name, item.partition] += 1
    held = await committed(rig)
    for (topic, partition), end in ends.items():
        assert held[topic][partition] < end, f"{topic} {partition} is wholly committed: {held} of {ends}"
    assert states_out(rig) < len(flow.windows), "no window is open"


def letters(rig: Rig) -> dict[tuple[bytes, ...], tuple[bytes, bytes | None]]:
    """The dead letters of the source topics by the place of the message; fails if one has two reasons."""
    found: dict[tuple[bytes, ...], tuple[bytes, bytes | None]] = {}
    for topic in SOURCES:
        for message in rig.seen[topic.dlq]:
            headers = dict(message.headers)
            value = message.value.replace(rig.run_id.encode(), b"RUN") if message.value else message.value
            place = (topic.name.encode(), headers["partition"], headers["offset"])
            letter = (headers["reason"], value)
            assert found.setdefault(place, letter) == letter, f"two dead letters for {place}"
    return found


async def finish(rig: Rig, flow: Flow, positions: Committed | None = None) -> Outcome:
    """Closes the last windows and waits until all is out, and committed up to `positions` where they are known.

    The tail is fed when all before it has been read, so that it is a batch of its own wherever batches were cut:
    the positions end before it. So no fault may come between the last slice and this.
    """
    await feed(rig, flow.closers)
    await until_states(rig, len(flow.windows) - len(flow.closers))
    await feed(rig, flow.tail)
    await until_states(rig, len(flow.windows))
    expected = positions or tail_positions(rig)
    found: Committed = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await committed(rig)) != expected:
                async with rig.news:  # at least twice a second
                    await rig.news.wait()
    except TimeoutError:
        raise AssertionError(f"committed {found}, not {expected}") from None
    return Outcome(rig.by_key(SITE_STATE), letters(rig), found)


def tail_positions(rig: Rig) -> Committed:
    """Where the positions end: before the tail, one record in each partition, whose window stays open."""
    return {topic.name: {place: end - 1 for place, end in rig.ends(topic).items()} for topic in SOURCES}


def assert_same(found: Outcome, undisturbed: Outcome) -> None:
    """Nothing missing, nothing extra, byte for byte."""
    missing, extra = undisturbed.states.keys() - found.states.keys(), found.states.keys() - undisturbed.states.keys()
    assert not missing, f"{len(missing)} states missing: {sorted(missing)[:5]}"
    assert not extra, f"{len(extra)} states too many: {sorted(extra)[:5]}"
    different = [key for key, value in undisturbed.states.items() if found.states[key] != value]
    assert not different, f"{len(different)} states differ: {sorted(different)[:5]}"
    assert found.letters == undisturbed.letters
    assert found.committed == undisturbed.committed


async def members(rig: Rig, stage: str = "aggregate") -> int:
    """How many members the stage's group has; 0 while it rebalances."""
    admin = AIOKafkaAdminClient(**client_options(rig.settings))
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([prefixed(f"gridtide.{stage}", rig.run_id)])
        _, _, state, _, _, present, *_ = answer.groups[0]
        return len(present) if state == "Stable" else 0
    finally:
        await admin.close()


async def until_members(rig: Rig, count: int, stage: str = "aggregate") -> None:
    """Waits until the stage's group has settled with so many members."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await members(rig, stage) != count:
            async with rig.news:
                await rig.news.wait()
