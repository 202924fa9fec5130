"""gpu.telemetry.v1: columnar frames of GPU readings."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.envelope import Record
from schemas.units import Count, Many, PoolId, PositiveSeconds, Reading, SiteId, SourceId, UtcTime, Watts

MAX_GPUS_PER_FRAME = 4096

Column = Annotated[Many[Reading], Field(min_length=1, max_length=MAX_GPUS_PER_FRAME)]


class TelemetryFrame(Record):
    """Many GPUs of one pool at one instant: one list per field, one place per GPU, null where nothing was read.

    A sample is one GPU at one instant. `sequence` rises by one with each frame of a `source`; the pair is what a
    duplicate is recognised by.
    """

    site_id: SiteId
    pool_id: PoolId
    source: SourceId = Field(description="the collector that made the frame")
    sequence: Count
    observed_at: UtcTime
    interval_seconds: PositiveSeconds = Field(description="time between two frames of this source")
    first_gpu: Count = Field(0, description="index in the pool of the first GPU of the lists")
    power_watts: Column
    energy_joules: Column = Field(description="each GPU's cumulative energy counter")
    utilization_ratio: Column
    memory_used_ratio: Column
    temperature_celsius: Column
    meter_power_watts: Watts | None = Field(
        None, description="the site's meter at this instant, cooling included, in the frame that carries it"
    )

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        gpus = len(self.power_watts)
        if not (
            len(self.energy_joules)
            == len(self.utilization_ratio)
            == len(self.memory_used_ratio)
            == len(self.temperature_celsius)
            == gpus
        ):
            raise ValueError(f"every column must have the {gpus} places of power_watts")
        return self

    @property
    def gpus(self) -> int:
        """How many GPUs the frame speaks of."""
        return len(self.power_watts)
