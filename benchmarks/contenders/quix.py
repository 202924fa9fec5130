"""Quix Streams' own way: a tumbling window by key, reduced into the state store, final results to a topic.

It runs in an environment of its own (requirements-bench.txt), as its bounds and ours do not meet.
"""

import pickle
from typing import Any

from quixstreams import Application
from quixstreams.models import Deserializer
from quixstreams.state.rocksdb.options import RocksDBOptions

from benchmarks.contenders import sums
from benchmarks.contenders.task import LATENESS_SECONDS, WINDOW_SECONDS, Task, from_arguments
from schemas.telemetry import TelemetryFrame


class Frames(Deserializer):
    """The value as a validated frame."""

    def __call__(self, value: bytes, ctx: Any) -> TelemetryFrame:
        """The frame, or pydantic's error."""
        return TelemetryFrame.model_validate_json(value)


def _observed_ms(frame: TelemetryFrame, headers: Any, timestamp_ms: float, timestamp_type: Any) -> int:
    return int(frame.observed_at.timestamp() * 1000)


def build(task: Task) -> Application:
    """The application, its dataframe attached."""
    app = Application(
        broker_address=task.servers,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        state_dir=task.folder,
        # Its JSON can't write a whole number beyond 64 bits, which the set of GPUs seen is; pickle is as fast.
        rocksdb_options=RocksDBOptions(dumps=pickle.dumps, loads=pickle.loads),
        consumer_extra_config={
            "fetch.max.bytes": 64 * 1024 * 1024,
            "max.partition.fetch.bytes": 4 * 1024 * 1024,
            "queued.max.messages.kbytes": 32 * 1024,
            "fetch.wait.max.ms": 50,
            "check.crcs": False,
        },
        producer_extra_config={"linger.ms": 5},
        broker_availability_timeout=0,
        loglevel="WARNING",
    )
    source = app.topic(
        task.source, key_deserializer="bytes", value_deserializer=Frames(), timestamp_extractor=_observed_ms
    )
    output = app.topic(task.output, key_serializer="bytes", value_serializer="json")
    windows = app.dataframe(source).tumbling_window(WINDOW_SECONDS * 1000, LATENESS_SECONDS * 1000, name="power")
    # By partition, as the stage closes them; by key, the default, looks into the store with every record.
    closed = windows.reduce(sums.add, lambda frame: sums.add(sums.empty(), frame)).final("partition")
    closed.apply(_state, metadata=True).to_topic(output)
    return app


def _state(window: dict[str, Any], key: bytes, timestamp_ms: int, headers: Any) -> dict[str, Any]:
    return sums.state(window["value"], key.decode(), window["start"] // 1000, WINDOW_SECONDS)


if __name__ == "__main__":
    build(from_arguments()).run()
