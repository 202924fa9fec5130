"""Faust as its guide writes it: one record an event, a schema that validates, a table updated by every event.

Tuned where Faust has a setting for it; the store is in memory, with its changelog. Windows close by event time, as the
stage's do: Faust's own windowed tables expire by the wall clock.
"""

import sys
from collections.abc import AsyncIterable
from typing import Any

import faust

from benchmarks.contenders import sums
from benchmarks.contenders.task import FAUST_TABLE, LATENESS_SECONDS, WINDOW_SECONDS, Task, from_arguments
from schemas.telemetry import TelemetryFrame


class FrameSchema(faust.Schema):
    """The value is a frame or an error; the key stays bytes."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """The key as it came."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The frame, validated."""
        return TelemetryFrame.model_validate_json(message.value)


def build(task: Task) -> faust.App:
    """The app with its one agent."""
    app = faust.App(
        task.group,
        broker=f"kafka://{task.servers}",
        store="memory://",
        topic_partitions=task.partitions,
        topic_disable_leader=True,
        web_enabled=False,
        broker_max_poll_records=2000,
        broker_commit_interval=1.0,
        producer_linger=0.005,
        producer_max_batch_size=64 * 1024,
        stream_wait_empty=False,
        datadir=task.folder,
    )
    source = app.topic(task.source, schema=FrameSchema())
    output = app.topic(task.output, value_serializer="json", key_serializer="raw")
    table = app.Table(FAUST_TABLE, partitions=task.partitions)
    newest = [0.0] * task.partitions
    open_windows: list[set[tuple[int, str]]] = [set() for _ in range(task.partitions)]

    @app.agent(source)
    async def aggregate(frames: Any) -> None:
        await _fold(frames.events(), table, output, newest, open_windows)

    return app


async def _fold(
    events: AsyncIterable[Any], table: Any, output: Any, newest: list[float], open_windows: list[set[tuple[int, str]]]
) -> None:
    async for event in events:
        frame, partition = event.value, event.message.partition
        seconds = frame.observed_at.timestamp()
        start = int(seconds // WINDOW_SECONDS) * WINDOW_SECONDS
        key = f"{frame.site_id}|{start}"
        # Set, not only changed: a table writes its changelog when a key is set.
        table[key] = sums.add(table.get(key) or sums.empty(), frame)
        opened = open_windows[partition]
        opened.add((start, frame.site_id))
        if seconds <= newest[partition]:
            continue
        newest[partition] = seconds
        closed = seconds - LATENESS_SECONDS - WINDOW_SECONDS
        if min(opened)[0] <= closed:
            for place in sorted(place for place in opened if place[0] <= closed):
                began, site_id = place
                window = sums.state(table.pop(f"{site_id}|{began}"), site_id, began, WINDOW_SECONDS)
                await output.send(key=site_id.encode(), value=window)
                opened.discard(place)


def main() -> None:
    """Runs the app as `faust worker` does."""
    app = build(from_arguments())
    sys.argv = sys.argv[:1]  # Faust would read it
    # Warnings would be one an event: that the producer's buffer is full, as it is while there is a backlog.
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


if __name__ == "__main__":
    main()
