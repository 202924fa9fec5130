"""site.state.v1, site.heartbeats.v1: what is known of a site over one window, and what its controller says."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.envelope import Record, Value
from schemas.latency import LatencyCounts
from schemas.units import (
    Celsius,
    Count,
    FleetId,
    Joules,
    Many,
    PerSecond,
    Ratio,
    Seconds,
    ServiceClassId,
    SiteId,
    TokensPerSecond,
    UtcTime,
    Watts,
)


class _State(Record):
    """One site over the event-time window [window_start, window_end), from one source topic."""

    fleet_id: FleetId
    site_id: SiteId
    window_start: UtcTime
    window_end: UtcTime
    records: Count = Field(description="distinct records of the source topic that the window holds")
    duplicates: Count = Field(description="records dropped because their (source, sequence) was already in the window")


class PowerState(_State):
    """Power of a site, from gpu.telemetry.v1. IT power is the GPUs'; meter power includes cooling and losses."""

    kind: Literal["power"] = "power"
    it_power_watts: Watts = Field(description="mean over the window, masked readings replaced by their pool's mean")
    it_energy_joules: Joules
    meter_power_watts: Watts | None = Field(description="mean of the meter's readings; null where there were none")
    utilization_ratio: Ratio | None
    temperature_celsius_max: Celsius | None
    gpu_samples: Count
    masked_values: Count = Field(description="readings that were null or implausible")
    gpus_reporting: Count
    reporting_ratio: Ratio = Field(description="GPUs heard of in the window, of those in the fleet file")


class ClassLoad(Value):
    """One service class over the window; tokens are generated tokens unless `prompt` is said."""

    service_class: ServiceClassId
    requests_per_second: PerSecond
    prompt_tokens_per_second: TokensPerSecond
    tokens_arrived_per_second: TokensPerSecond
    tokens_served_per_second: TokensPerSecond
    tokens_queued: Count
    ttft_seconds_counts: LatencyCounts
    ttft_seconds_p50: Seconds | None
    ttft_seconds_p99: Seconds | None


class LoadState(_State):
    """Inference load of a site, from inference.requests.v1. The totals are the sums of the classes."""

    kind: Literal["load"] = "load"
    requests_per_second: PerSecond
    tokens_arrived_per_second: TokensPerSecond
    tokens_served_per_second: TokensPerSecond
    tokens_queued: Count
    covered_ratio: Ratio = Field(description="part of the window that the records' intervals cover")
    classes: Many[ClassLoad]


SiteState = Annotated[PowerState | LoadState, Field(discriminator="kind")]


class ControllerHeartbeat(Record):
    """What a site controller says of itself at regular times, command or none."""

    fleet_id: FleetId
    site_id: SiteId
    observed_at: UtcTime
    epoch: Count = Field(description="highest command epoch seen")
    sequence: Count = Field(description="highest command sequence seen at that epoch")
    target_power_watts: Watts | None = Field(description="power target in force; null when free")
    meter_power_watts: Watts | None
    locked_out: bool = Field(description="the local lock-out is set: no command is acted on")
