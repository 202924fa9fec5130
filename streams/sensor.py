"""Faust's sensor interface, told to Prometheus by its own naming rules."""

from time import monotonic
from typing import Any

import faust
from faust.types import TP

from infra import metrics


class StreamSensor(faust.Sensor):
    """Counts what a stage reads, writes and commits."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._stage = stage

    def on_message_in(self, tp: TP, offset: int, message: Any) -> None:
        """A batch was delivered to the stage."""
        batch = message.value
        metrics.CONSUMED.labels(self._stage, tp.topic).inc(len(batch.records))
        highwater = self._app.consumer.highwater(tp) if self._app else None
        if highwater is not None:
            lag = metrics.LAG.labels(self._stage, tp.topic, tp.partition)
            lag.set(max(0, highwater - batch.next_offset))

    def on_commit_initiated(self, consumer: Any) -> float:
        """A commit begins; what is returned comes back in on_commit_completed."""
        return monotonic()

    def on_commit_completed(self, consumer: Any, state: float) -> None:
        """A commit ended."""
        metrics.COMMITTED.labels(self._stage).inc()
        metrics.COMMIT_SECONDS.labels(self._stage).observe(monotonic() - state)

    def on_rebalance_start(self, app: Any) -> dict[str, Any]:
        """The group is rebalancing."""
        metrics.REBALANCES.labels(self._stage).inc()
        return {}

    _app: Any = None

    def watch(self, app: Any) -> "StreamSensor":
        """Adds itself to an app."""
        self._app = app
        app.sensors.add(self)
        return self
