"""The catalog: every topic with its model, key, natural key, retention; and how bytes become records or rejects."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from schemas.clock import ClockAnchor
from schemas.command import Command, CommandAck
from schemas.envelope import LIVE_RUN, Record
from schemas.forecast import SiteForecast
from schemas.offer import FlexibilityOffer
from schemas.plan import FleetPlan
from schemas.requests import RequestRates
from schemas.score import ForecastScore
from schemas.signals import GridSignal
from schemas.site import ControllerHeartbeat, SiteState
from schemas.telemetry import TelemetryFrame

MAX_RECORD_BYTES: Final = 1024 * 1024  # what we read; the broker takes a little more, so that excess is seen and said
MAX_MESSAGE_BYTES: Final = 2 * MAX_RECORD_BYTES
DLQ_SUFFIX: Final = ".dlq"

_HOUR = 3600
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that can't be taken: a short machine-readable reason, and a detail for people."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the bus.

    `key` is the field whose UTF-8 bytes are the record's key; `natural_key` the fields (time first) that make a
    record the same record wherever it is seen: readers and tables take such a key once.
    """

    name: str
    model: Any
    key: str
    natural_key: tuple[str, ...]
    retention_seconds: int
    compacted: bool
    about: str
    adapter: TypeAdapter[Any]

    @property
    def dlq(self) -> str:
        """Where what can't be read of this topic goes."""
        return self.name + DLQ_SUFFIX

    def on_bus(self, run_id: str) -> str:
        """The topic's name on the bus: prefixed by the run, unless it is the live one."""
        return prefixed(self.name, run_id)

    def decode(self, key: bytes | None, value: bytes | None, run_id: str) -> Record | Rejected:
        """The record that the bytes hold, or why they hold none."""
        if value is None:
            return Rejected("empty", "a record without a value")
        if len(value) > MAX_RECORD_BYTES:
            return Rejected("oversized", f"{len(value)} bytes, at most {MAX_RECORD_BYTES}")
        try:
            record: Record = self.adapter.validator.validate_json(value)
        except ValidationError as error:
            return _why(error)
        if key != getattr(record, self.key).encode():
            return Rejected("wrong_key", f"key must be the {self.key}")
        if record.run_id != run_id:
            return Rejected("wrong_run", f"run {record.run_id!r} on a topic of run {run_id!r}")
        return record

    def key_of(self, record: Record) -> bytes:
        """The record's key on the bus."""
        key: str = getattr(record, self.key)
        return key.encode()

    def natural_key_of(self, record: Record) -> tuple[Any, ...]:
        """The values of the record's natural key, in the order of `natural_key`."""
        return tuple(getattr(record, field) for field in self.natural_key)


def _why(error: ValidationError) -> Rejected:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return Rejected("not_json", problems[0]["msg"])
    reason = "wrong_version" if any("schema_version" in p["loc"] for p in problems) else "invalid"
    said = "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    # A message may quote the sender, and goes to logs and to a table, which don't take every character.
    detail = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in (said + more)[:500])
    return Rejected(reason, detail)


def prefixed(name: str, run_id: str) -> str:
    """A topic's or group's name as it stands on the bus for a run."""
    return name if run_id == LIVE_RUN else f"{run_id}.{name}"


def _topic(
    name: str,
    model: Any,
    key: str,
    natural_key: tuple[str, ...],
    retention_seconds: int,
    about: str,
    compacted: bool = False,
) -> Topic:
    return Topic(name, model, key, (*natural_key, "run_id"), retention_seconds, compacted, about, TypeAdapter(model))


GPU_TELEMETRY: Final = _topic(
    "gpu.telemetry.v1",
    TelemetryFrame,
    "site_id",
    ("observed_at", "site_id", "source", "sequence"),
    6 * _HOUR,
    "columnar frames of GPU readings, from GPU exporters",
)
INFERENCE_REQUESTS: Final = _topic(
    "inference.requests.v1",
    RequestRates,
    "site_id",
    ("observed_at", "site_id", "source", "sequence"),
    6 * _HOUR,
    "inference load by service class, from inference servers",
)
GRID_SIGNALS: Final = _topic(
    "grid.signals.v1",
    GridSignal,
    "fleet_id",
    ("published_at", "fleet_id", "signal_id"),
    7 * _DAY,
    "prices, events, emergencies and carbon intensity, from markets and utilities",
)
SITE_STATE: Final = _topic(
    "site.state.v1",
    SiteState,
    "fleet_id",
    ("window_start", "site_id", "kind"),
    _DAY,
    "power and load of a site over one window, from aggregate",
)
SITE_FORECASTS: Final = _topic(
    "site.forecasts.v1",
    SiteForecast,
    "fleet_id",
    ("issued_at", "site_id"),
    _DAY,
    "load ahead as quantiles, and spikes, from forecast",
)
FORECAST_SCORES: Final = _topic(
    "site.forecast-scores.v1",
    ForecastScore,
    "fleet_id",
    ("scored_at", "site_id", "horizon_seconds"),
    _DAY,
    "how good each forecast was, once its time has come, from forecast",
)
FLEET_PLANS: Final = _topic(
    "fleet.plans.v1",
    FleetPlan,
    "fleet_id",
    ("issued_at", "fleet_id", "epoch", "revision", "owner", "kind"),
    7 * _DAY,
    "what the policy decided and why; its memory, from policy",
    compacted=True,
)
FLEXIBILITY_OFFERS: Final = _topic(
    "site.flexibility-offers.v1",
    FlexibilityOffer,
    "fleet_id",
    ("issued_at", "site_id"),
    7 * _DAY,
    "how much power each site can give up now, how fast and for how long, from policy",
)
SITE_COMMANDS: Final = _topic(
    "site.commands.v1",
    Command,
    "site_id",
    ("issued_at", "site_id", "epoch", "sequence"),
    7 * _DAY,
    "throttles, shifts and releases, from policy to site controllers",
)
COMMAND_ACKS: Final = _topic(
    "site.command-acks.v1",
    CommandAck,
    "fleet_id",
    ("observed_at", "site_id", "epoch", "sequence", "status"),
    7 * _DAY,
    "what became of each command, from site controllers",
)
SITE_HEARTBEATS: Final = _topic(
    "site.heartbeats.v1",
    ControllerHeartbeat,
    "fleet_id",
    ("observed_at", "site_id"),
    _DAY,
    "what a site controller says of itself, from site controllers",
)
CLOCK: Final = _topic(
    "control.clock.v1",
    ClockAnchor,
    "run_id",
    ("wall_anchor", "replay_anchor"),
    7 * _DAY,
    "the one clock of a run: anchors and rate, from replay",
    compacted=True,
)

# In the order in which the data goes.
TOPICS: Final = (
    GPU_TELEMETRY,
    INFERENCE_REQUESTS,
    GRID_SIGNALS,
    SITE_STATE,
    SITE_FORECASTS,
    FORECAST_SCORES,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    SITE_COMMANDS,
    COMMAND_ACKS,
    SITE_HEARTBEATS,
    CLOCK,
)
BY_NAME: Final = {topic.name: topic for topic in TOPICS}
