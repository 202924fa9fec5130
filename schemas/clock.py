"""control.clock.v1: the one clock of a run."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from schemas.envelope import Record
from schemas.units import UtcTime


class ClockAnchor(Record):
    """At wall time `wall_anchor` the run's clock shows `replay_anchor` and goes at `rate` seconds a second."""

    wall_anchor: UtcTime
    replay_anchor: UtcTime
    rate: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]

    def at(self, wall: datetime) -> datetime:
        """What the run's clock shows at the wall time `wall` (aware UTC)."""
        return self.replay_anchor + (wall - self.wall_anchor) * self.rate

    def wall_at(self, run_time: datetime) -> datetime:
        """The wall time at which the run's clock shows `run_time` (aware UTC)."""
        return self.wall_anchor + (run_time - self.replay_anchor) / self.rate
