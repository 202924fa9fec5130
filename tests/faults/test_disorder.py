"""Input that comes twice, out of order and too late: the first two change no value, the third nothing closed."""

import asyncio
import json
import re
from collections import Counter
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import urlopen

import pytest

from infra.embedded.process import free_port
from tests.faults.drill import Broker, Outcome, feed, finish
from tests.faults.flow import FIRST_LATE, LATENESS_SECONDS, SOURCES, Flow, Item, Maker, late_items
from tests.stream.rig import rig_on

pytestmark = [pytest.mark.broker, pytest.mark.drill]

Key = tuple[Any, ...]


def _shuffled(items: list[Item], rng: Random) -> list[Item]:
    """In another order, none so late that its window might be closed."""
    return sorted(items, key=lambda item: (item.observed_seconds or 0.0) + rng.uniform(0.0, LATENESS_SECONDS - 0.1))


def _split(states: dict[Key, bytes]) -> tuple[dict[Key, dict[str, Any]], Counter[Key]]:
    """The states without their count of duplicates, and those counts."""
    plain, counts = {}, Counter[Key]()
    for key, value in states.items():
        state = json.loads(value)
        counts[key] = state.pop("duplicates")
        plain[key] = state
    return plain, counts


async def test_aggregate_of_duplicated_and_shuffled_input_differs_in_the_count_of_duplicates_alone(
    kafka: Broker, tmp_path: Path, flow: Flow, undisturbed: Outcome
) -> None:
    rng = Random(5)
    items = list(chain(*flow.slices))
    fed = [item for item in items if item.window is not None]
    again = rng.sample(fed, len(fed) // 4)
    # Late ones stay away: shuffled, they might come in time.
    shuffled = _shuffled([*fed, *again], rng)
    assert shuffled != sorted(shuffled, key=lambda item: item.observed_seconds or 0.0)
    async with rig_on(kafka, tmp_path) as rig:
        rig.start("aggregate")
        size = len(shuffled) // 8
        for first in range(0, len(shuffled), size):
            await feed(rig, shuffled[first : first + size])
        found = await finish(rig, flow)
    states, duplicates = _split(found.states)
    expected, none = _split(undisturbed.states)
    assert not any(none.values())
    assert states == expected
    sent_twice = Counter(flow.key_of(item.window) for item in again if item.window is not None)
    assert +duplicates == sent_twice


async def test_aggregate_counts_what_comes_too_late_and_changes_nothing_closed(
    kafka: Broker, tmp_path: Path, flow: Flow, undisturbed: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("GRIDTIDE_METRICS_PORT", str(port))
    maker = Maker(flow.starts_at, seed=12)
    fed: list[Item] = []
    async with rig_on(kafka, tmp_path) as rig:
        rig.start("aggregate")
        for number, part in enumerate(flow.slices):
            late = late_items(maker, number) if number >= FIRST_LATE else []
            await feed(rig, [*part, *late, *late])
            fed += [*part, *late, *late]
        found = await finish(rig, flow)
        for topic in SOURCES:
            too_late = [item for item in fed if item.topic == topic and item.window is None and item.observed_seconds]
            assert await asyncio.to_thread(_counted_late, port, topic.name) == len(too_late)
    assert found.states == undisturbed.states
    assert sorted(found.letters.values()) == sorted(undisturbed.letters.values())


def _counted_late(port: int, topic: str) -> int:
    """What the stage's metrics say of a topic."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    name = re.escape(f'gridtide_late_records_total{{stage="aggregate",topic="{topic}"}}')
    found = re.search(rf"^{name} (\S+)$", page, re.MULTILINE)
    assert found is not None, page
    return int(float(found[1]))
