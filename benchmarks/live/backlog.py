"""Frames a second that aggregate takes from a backlog, the other stages running beside it on the same cores."""

import asyncio
import json
import math
from typing import Any

from aiokafka import TopicPartition

from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS
from benchmarks.drain import PATIENCE_SECONDS, ContenderError
from benchmarks.fleet import Fleet
from benchmarks.frames import Feed, fill, long_ago
from benchmarks.run import RUN_ID
from benchmarks.totals import check
from infra.bus import start_consumer
from infra.settings import Settings
from schemas.catalog import SITE_STATE

_FRAMES = 80_000  # ten seconds' work or so
_LEAST_WINDOWS = 4


async def fill_backlog(settings: Settings, fleet: Fleet) -> Feed:
    """Puts whole windows of yesterday on the telemetry topic, and as much more as closes the last of them."""
    windows = max(_LEAST_WINDOWS, math.ceil(_FRAMES / fleet.frames_per_second / WINDOW_SECONDS))
    seconds = windows * WINDOW_SECONDS + LATENESS_SECONDS + 1
    feed = Feed(fleet, RUN_ID, long_ago(seconds), WINDOW_SECONDS)
    await fill(settings, feed, seconds)
    return feed


async def drained_per_second(settings: Settings, feed: Feed) -> float:
    """Frames a second in the windows closed between the first state and the last, but for each site's first window.

    By the broker's time stamps, as `benchmarks.drain` has it: what a stage takes to start is no part of it.

    Raises:
        ContenderError: a window was not closed in time.
        WrongTotalsError: a state is not what its frames come to.
    """
    expected = feed.expected(LATENESS_SECONDS)
    name, states, stamps = SITE_STATE.on_bus(settings.run_id), list[dict[str, Any]](), list[int]()
    consumer = await start_consumer(settings, fetch_max_wait_ms=100)
    try:
        consumer.assign([TopicPartition(name, part) for part in range(settings.partitions)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(states) < len(expected):
                for messages in (await consumer.getmany(timeout_ms=100)).values():
                    states.extend(json.loads(message.value) for message in messages)
                    stamps.extend(message.timestamp for message in messages)
    except TimeoutError:
        why = f"aggregate closed {len(states)} of {len(expected)} windows of the backlog in {PATIENCE_SECONDS:g} s"
        raise ContenderError(why) from None
    finally:
        await consumer.stop()
    check("aggregate", states, expected)
    sites = feed.fleet.sites
    frames = (len(expected) // sites - 1) * WINDOW_SECONDS * feed.fleet.frames_per_second
    return frames / ((max(stamps) - min(stamps)) / 1000)
