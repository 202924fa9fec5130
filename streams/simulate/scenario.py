"""A scenario (TOML): a fleet, its traffic, prices, grid events and faults, and for how long. A wrong one is one line.

Seconds count from `starts_at`. What goes wrong is part of a scenario, and what the fleet file does not know as well.
"""

from datetime import UTC
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from schemas.fleet import Fleet, GpuModel, ServiceClass
from schemas.units import FleetId, PositiveSeconds, Ratio, Seconds, SettlementPoint, SignalId, SiteId, Watts
from streams.simulate.demand import PEAK_LOAD_RATIO

CONSTANT = "constant"
# What site states are windows of, live and here; longer ticks are their own windows.
WINDOW_SECONDS = 10.0

Positive = Annotated[float, Field(gt=0)]
Utc = Annotated[AwareDatetime, AfterValidator(lambda at: at.astimezone(UTC))]
Sites = Annotated[tuple[SiteId, ...], Field(description="empty means all")]
FaultKind = Literal[
    "loss",
    "duplication",
    "reordering",
    "delay",
    "bus-lost",
    "site-silent",
    "lying-meter",
    "dead-meter",
    "command-refused",
    "planner-crash",
    "controller-restart",
    "price-gap",
    "forged-command",
]
# Beside kind, from, until and sites: what a fault of a kind must say of itself.
_SAYS = {
    "loss": {"ratio"},
    "duplication": {"ratio"},
    "reordering": {"ratio"},
    "delay": {"seconds"},
    "command-refused": {"by"},
}
_WHOLE_FLEET = frozenset({"planner-crash"})


class _Entry(BaseModel):
    # A misspelt key in a file that people write is an error, not a default silently taken.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrafficSpec(_Entry):
    """What arrives at the sites: always the same, or a trace that every site sees rotated and scaled to its size."""

    requests: str = Field(CONSTANT, description="`constant`, or a file: its name in the data folder, or its path")
    load_ratio: Annotated[float, Field(gt=0, le=3)] | None = Field(
        None, description="of `constant`: share of each site's uncapped capacity"
    )
    site_load_ratio: dict[SiteId, Annotated[float, Field(gt=0, le=3)]] = Field(
        default_factory=dict, description="in place of load_ratio or peak_load_ratio at some sites"
    )
    peak_load_ratio: Annotated[float, Field(gt=0, le=3)] = Field(
        PEAK_LOAD_RATIO, description="share of a site's uncapped capacity that its busiest minute of a trace asks for"
    )
    start_seconds: Seconds = Field(0.0, description="where in the trace the scenario starts")
    start_jitter_seconds: Seconds = Field(0.0, description="it starts up to so much later, by seed")
    rotation_seconds: Seconds | None = Field(
        None, description="by how much each site sees the trace later than the one before; default: its span over them"
    )
    jitter_ratio: Ratio = Field(0.0, description="gamma noise on the traffic of each tick and site, by seed")
    history_seconds: Seconds = Field(0.0, description="of the traffic before the start that the forecaster has seen")
    requests_column: str | None = None
    prompt_tokens_column: str | None = None
    tokens_column: str | None = None
    # Where the source says nothing of lengths: the means of Azure's conversation trace of 2023.
    prompt_tokens_per_request: Positive = 1155.0
    tokens_per_request: Positive = 211.0

    @model_validator(mode="after")
    def _one_level(self) -> Self:
        if (self.requests == CONSTANT) != (self.load_ratio is not None):
            raise ValueError("load_ratio goes with requests = 'constant', peak_load_ratio with a trace")
        return self


class PriceSpec(_Entry):
    """Prices of settlement points, from a file."""

    file: str = Field(description="its name in the data folder, or its path")
    market: Literal["real-time", "day-ahead"] = "real-time"
    zones: dict[SettlementPoint, str] = Field(
        default_factory=dict, description="the file's zone of a settlement point; default: the zone of the same name"
    )
    file_starts_at: Utc | None = Field(None, description="what the scenario's start is in the file; default: itself")
    published_seconds: float | None = Field(
        None, description="after its interval's start; default: 15, and of day-ahead 16:00 UTC on the day before"
    )


class Revision(_Entry):
    """What a later record of the same event says anew."""

    at: Seconds
    starts: Seconds | None = None
    ends: Seconds | None = None
    reduction_ratio: Ratio | None = None
    target_power_watts: Watts | None = None
    ramp_seconds: Seconds | None = None


class EventSpec(_Entry):
    """A grid event, as the utility announces it, revises it, and withdraws it."""

    id: SignalId | None = Field(None, description="default: its kind and place in the file, such as event/1")
    kind: Literal["event", "emergency"] = "event"
    sites: Sites = ()
    announced: Seconds
    starts: Seconds
    ends: Seconds
    reduction_ratio: Ratio | None = None
    target_power_watts: Watts | None = None
    ramp_seconds: Seconds = 0.0
    cancelled_at: Seconds | None = None
    revised: tuple[Revision, ...] = ()

    @model_validator(mode="after")
    def _is_one_event(self) -> Self:
        if self.ends <= self.starts:
            raise ValueError("ends must be after starts")
        if (self.reduction_ratio is None) == (self.target_power_watts is None):
            raise ValueError("exactly one of reduction_ratio and target_power_watts must be given")
        starts, ends = self.starts, self.ends
        for revision in sorted(self.revised, key=lambda each: each.at):
            starts = starts if revision.starts is None else revision.starts
            ends = ends if revision.ends is None else revision.ends
            if ends <= starts or (revision.reduction_ratio is not None and revision.target_power_watts is not None):
                raise ValueError(f"revised: what is said at {revision.at:g} s is no event: its end, or two targets")
        return self


class RandomTargets(_Entry):
    """Events drawn by seed, each within the flexibility offers that were made before it was announced."""

    count: Annotated[int, Field(gt=0)]
    first: Seconds | None = Field(None, description="when the first is announced; default: when the warm-up is over")
    spacing_seconds: PositiveSeconds
    notice_seconds: Seconds = 0.0
    scope: Literal["fleet", "site"] = Field("fleet", description="of the whole fleet, or of one site drawn by seed")
    depth_ratio: tuple[Ratio, Ratio] = Field((0.2, 1.0), description="least and most of the offer's P90")
    duration_seconds: tuple[PositiveSeconds, PositiveSeconds] = Field(
        (600.0, 3600.0), description="least and most that it is held, once the time to respond is over"
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name in ("depth_ratio", "duration_seconds"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name}: [least, most] must rise")
        if self.notice_seconds + self.duration_seconds[1] >= self.spacing_seconds:
            raise ValueError("spacing_seconds must exceed notice_seconds + the longest duration_seconds")
        return self


class PlantSpec(_Entry):
    """What of the plants the fleet file does not know; the fields of `plant.PlantTruth`, its defaults unless given."""

    pue: Annotated[float, Field(ge=1, le=3)] | None = None
    actuator_lag_seconds: Seconds | None = None
    meter_noise_ratio: Ratio | None = None
    curve_error_ratio: Annotated[float, Field(gt=-1, lt=1)] | None = None
    meter_factor: Positive | None = None


class PlantsSpec(PlantSpec):
    """The same for all sites, and for some of them."""

    sites: dict[SiteId, PlantSpec] = {}


class Network(_Entry):
    """The way between a site and the bus.

    A message that is lost never reaches the bus, or never the site: what the bus has, its readers inside get once
    and in order. `delay_seconds`: the most by which a message that is reordered, or a second copy, comes late.
    """

    latency_seconds: Seconds = 0.2
    loss_ratio: Ratio = 0.0
    duplicate_ratio: Ratio = 0.0
    reorder_ratio: Ratio = 0.0
    delay_seconds: Seconds = 5.0


class Fault(_Entry):
    """Something that goes wrong from one time until another, at all sites or some.

    loss, duplication, reordering: `ratio` of the messages between site and bus; delay: all come `seconds` later.
    bus-lost: the sites neither hear nor are heard, and hear all that was sent afterwards; with no `sites` the planner
    is cut off too. site-silent: nothing is heard of the sites. lying-meter: reads `factor` times the truth, or is
    `stuck` at what it read last; dead-meter: reads nothing. command-refused: `by` the equipment, which does not take
    the power cap, or by the controller, which is locked out. planner-crash: a successor takes over when it ends.
    controller-restart: it is down until then. price-gap: nobody publishes prices of the sites' settlement points.
    forged-command: one a minute, unsigned.
    """

    kind: FaultKind
    from_seconds: Seconds = Field(alias="from")
    until_seconds: Seconds = Field(alias="until")
    sites: Sites = ()
    ratio: Ratio | None = None
    seconds: PositiveSeconds | None = None
    factor: Positive | None = None
    stuck: bool = False
    by: Literal["equipment", "controller"] | None = None

    @model_validator(mode="after")
    def _says_what_it_must(self) -> Self:
        if self.until_seconds <= self.from_seconds:
            raise ValueError("until must be after from")
        if (self.factor is not None) + self.stuck != (self.kind == "lying-meter"):
            raise ValueError("kind = 'lying-meter', and no other, needs either factor or stuck = true")
        for name in ("ratio", "seconds", "by"):
            must = name in _SAYS.get(self.kind, set())
            if must != (getattr(self, name) is not None):
                raise ValueError(f"{name} {'is missing' if must else 'has no meaning'} for kind = {self.kind!r}")
        if self.sites and self.kind in _WHOLE_FLEET:
            raise ValueError(f"sites has no meaning for kind = {self.kind!r}")
        return self


class Scenario(_Entry):
    """What is simulated. The fleet is `fleet_file` (relative to the scenario), or written in the scenario itself."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,38}$")]
    about: str = Field("", description="what it asks")
    starts_at: Utc
    duration_seconds: PositiveSeconds = Field(description="the warm-up included")
    step_seconds: PositiveSeconds = Field(10.0, description="a tick of plants and controllers")
    warm_up_seconds: Seconds = Field(3600.0, description="of the beginning that no figure counts")
    seed: Annotated[int, Field(ge=0)] = 1
    forecast: Literal["live", "persistence", "none"] = "live"
    forecast_step_seconds: PositiveSeconds = 300.0
    shift: bool = Field(True, description="traffic may be moved between sites")
    fleet_file: str | None = None
    fleet: FleetId | None = Field(None, description="which one, of a fleet file of several")
    gpu_models: tuple[GpuModel, ...] = ()
    service_classes: tuple[ServiceClass, ...] = ()
    fleets: tuple[Fleet, ...] = ()
    traffic: TrafficSpec
    prices: tuple[PriceSpec, ...] = ()
    events: tuple[EventSpec, ...] = ()
    random_targets: RandomTargets | None = None
    plant: PlantsSpec = PlantsSpec()
    network: Network = Network()
    faults: tuple[Fault, ...] = ()
    bars: dict[str, float] = Field(default_factory=dict, description="what its figures must reach")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.warm_up_seconds >= self.duration_seconds:
            raise ValueError("warm_up_seconds must be less than duration_seconds")
        if abs(self.duration_seconds / self.step_seconds - self.ticks) > 1e-6:
            raise ValueError("duration_seconds must be a whole number of step_seconds")
        in_window = WINDOW_SECONDS / self.step_seconds
        if self.step_seconds < WINDOW_SECONDS and abs(in_window - round(in_window)) > 1e-6:
            raise ValueError(f"step_seconds: {WINDOW_SECONDS:g} s must be a whole number of them, or they be longer")
        in_forecast = self.forecast_step_seconds / self.step_seconds
        if in_forecast < 1 or abs(in_forecast - round(in_forecast)) > 1e-6:
            raise ValueError("forecast_step_seconds must be a whole number of step_seconds")
        if (self.fleet_file is None) != bool(self.fleets):
            raise ValueError("need either fleet_file or fleets")
        if self.fleet_file is not None and (self.gpu_models or self.service_classes):
            raise ValueError("gpu_models and service_classes go with fleets, not with fleet_file")
        markets = [price.market for price in self.prices]
        if markets.count("real-time") > 1 or markets.count("day-ahead") > 1:
            raise ValueError("prices: at most one file a market")
        return self

    @property
    def ticks(self) -> int:
        """How many ticks it lasts."""
        return round(self.duration_seconds / self.step_seconds)

    @property
    def window_ticks(self) -> int:
        """How many ticks a window of the site states has."""
        return max(1, round(WINDOW_SECONDS / self.step_seconds))
