"""Records as rows: which table a record goes to, and its values in the order of the table's columns.

Pure. A column is named like the record's field, so that no field is lost and none is translated: text, numbers and
times as they are, lists of names and of readings as arrays, nested values as JSON. The first columns are the
topic's natural key, which is the table's primary key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from schemas import catalog
from schemas.clock import ClockAnchor
from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.envelope import Record, Value
from schemas.forecast import SiteForecast
from schemas.plan import FleetPlan
from schemas.requests import RequestRates
from schemas.signals import CarbonSignal, EventSignal, PriceSignal
from schemas.site import ControllerHeartbeat, LoadState, PowerState
from schemas.telemetry import TelemetryFrame

Row = tuple[Any, ...]


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be read: its position on the source topic, why, and its bytes.

    `arrived_at` (aware UTC) is the message's own timestamp there, not the time of rejection: it is part of the key,
    and the same message must have the same key however often it is rejected.
    """

    arrived_at: datetime
    topic: str  # as in the catalog, without the run's prefix
    partition_id: int
    message_offset: int
    run_id: str
    reason: str
    detail: str
    message_key: bytes | None
    message: bytes | None


@dataclass(frozen=True)
class Table:
    """A table of the history: its columns in the order of a row, each with its PostgreSQL type."""

    name: str
    key_length: int
    types: Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, those of the primary key first."""
        return tuple(self.types)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key, in order."""
        return tuple(islice(self.types, self.key_length))


def row_of(record: Record | DeadLetter) -> tuple[str, Row]:
    """Return the name of the record's table and its values in the order of that table's columns.

    Columns of a field that the record's kind does not have are None.

    Raises:
        TypeError: no table holds records of this type.
    """
    layout = _LAYOUT_OF.get(type(record))
    if layout is None:
        raise TypeError(f"no table holds a {type(record).__name__}")
    name, columns, conversions = layout
    values = list(map(vars(record).get, columns))
    for place, convert in conversions:
        if values[place] is not None:
            values[place] = convert(values[place])
    return name, tuple(values)


def _text(value: str) -> str:
    return value.replace("\0", "\N{SYMBOL FOR NULL}")


def _json(value: Value | Sequence[Value]) -> str:
    if isinstance(value, Value):
        return value.model_dump_json()
    return f"[{','.join([item.model_dump_json() for item in value])}]"


def _table(name: str, key: tuple[str, ...], columns: str) -> Table:
    types = dict(column.split() for column in columns.split(","))
    assert tuple(types)[: len(key)] == key, f"{name} must begin with its key"
    return Table(name, len(key), types)


GPU_TELEMETRY: Final = _table(
    "gpu_telemetry",
    catalog.GPU_TELEMETRY.natural_key,
    """
    observed_at timestamptz, site_id text, source text, sequence int8, run_id text, schema_version int2, pool_id text,
    interval_seconds float8, first_gpu int8, power_watts float8[], energy_joules float8[], utilization_ratio float8[],
    memory_used_ratio float8[], temperature_celsius float8[], meter_power_watts float8
    """,
)
INFERENCE_REQUESTS: Final = _table(
    "inference_requests",
    catalog.INFERENCE_REQUESTS.natural_key,
    """
    observed_at timestamptz, site_id text, source text, sequence int8, run_id text, schema_version int2,
    interval_seconds float8, classes jsonb
    """,
)
SITE_POWER: Final = _table(
    "site_power",
    catalog.SITE_STATE.natural_key,
    """
    window_start timestamptz, site_id text, kind text, run_id text, schema_version int2, fleet_id text,
    window_end timestamptz, records int8, duplicates int8, it_power_watts float8, it_energy_joules float8,
    meter_power_watts float8, utilization_ratio float8, temperature_celsius_max float8, gpu_samples int8,
    masked_values int8, gpus_reporting int8, reporting_ratio float8
    """,
)
SITE_LOAD: Final = _table(
    "site_load",
    catalog.SITE_STATE.natural_key,
    """
    window_start timestamptz, site_id text, kind text, run_id text, schema_version int2, fleet_id text,
    window_end timestamptz, records int8, duplicates int8, requests_per_second float8,
    tokens_arrived_per_second float8, tokens_served_per_second float8, tokens_queued int8, covered_ratio float8,
    classes jsonb
    """,
)
GRID_SIGNALS: Final = _table(
    "grid_signals",
    catalog.GRID_SIGNALS.natural_key,
    """
    published_at timestamptz, fleet_id text, signal_id text, run_id text, schema_version int2, kind text, source text,
    starts_at timestamptz, ends_at timestamptz, market text, settlement_point text, price_usd_per_mwh float8,
    intensity_grams_co2_per_kwh float8, site_ids text[], reduction_ratio float8, target_power_watts float8,
    ramp_seconds float8, cancelled bool
    """,
)
SITE_FORECASTS: Final = _table(
    "site_forecasts",
    catalog.SITE_FORECASTS.natural_key,
    """
    issued_at timestamptz, site_id text, run_id text, schema_version int2, fleet_id text, model text,
    history_steps int8, horizons jsonb, spikes jsonb, flags text[]
    """,
)
FLEET_PLANS: Final = _table(
    "fleet_plans",
    catalog.FLEET_PLANS.natural_key,
    """
    issued_at timestamptz, fleet_id text, epoch int8, revision int8, owner text, kind text, run_id text,
    schema_version int2, sequence int8, mode text, explanation text, throttles jsonb, shifts jsonb, baselines jsonb,
    dwells jsonb, rejected jsonb, inputs jsonb
    """,
)
SITE_COMMANDS: Final = _table(
    "site_commands",
    catalog.SITE_COMMANDS.natural_key,
    """
    issued_at timestamptz, site_id text, epoch int8, sequence int8, run_id text, schema_version int2, fleet_id text,
    control_id text, kind text, starts_at timestamptz, ends_at timestamptz, lease_expires_at timestamptz, reason text,
    priority int8, renewal bool, caused_by text[], explanation text, target_power_watts float8,
    ramp_down_watts_per_second float8, ramp_up_watts_per_second float8, fallback_power_watts float8, role text,
    from_site_id text, to_site_id text, service_class text, share_ratio float8, reserved_power_watts float8,
    releases_control_id text
    """,
)
COMMAND_ACKS: Final = _table(
    "command_acks",
    catalog.COMMAND_ACKS.natural_key,
    """
    observed_at timestamptz, site_id text, epoch int8, sequence int8, status text, run_id text, schema_version int2,
    fleet_id text, control_id text, detail text, meter_power_watts float8, highest_epoch int8, highest_sequence int8
    """,
)
SITE_HEARTBEATS: Final = _table(
    "site_heartbeats",
    catalog.SITE_HEARTBEATS.natural_key,
    """
    observed_at timestamptz, site_id text, run_id text, schema_version int2, fleet_id text, epoch int8, sequence int8,
    target_power_watts float8, meter_power_watts float8, locked_out bool
    """,
)
CLOCK_ANCHORS: Final = _table(
    "clock_anchors",
    catalog.CLOCK.natural_key,
    """
    wall_anchor timestamptz, replay_anchor timestamptz, run_id text, schema_version int2, rate float8
    """,
)
DEAD_LETTERS: Final = _table(
    "dead_letters",
    ("arrived_at", "topic", "partition_id", "message_offset", "run_id"),
    """
    arrived_at timestamptz, topic text, partition_id int4, message_offset int8, run_id text, reason text, detail text,
    message_key bytea, message bytea
    """,
)

TABLES: Final = (
    GPU_TELEMETRY,
    INFERENCE_REQUESTS,
    GRID_SIGNALS,
    SITE_POWER,
    SITE_LOAD,
    SITE_FORECASTS,
    FLEET_PLANS,
    SITE_COMMANDS,
    COMMAND_ACKS,
    SITE_HEARTBEATS,
    CLOCK_ANCHORS,
    DEAD_LETTERS,
)
BY_NAME: Final = {table.name: table for table in TABLES}
TABLE_OF: Final[Mapping[type, Table]] = {
    TelemetryFrame: GPU_TELEMETRY,
    RequestRates: INFERENCE_REQUESTS,
    PriceSignal: GRID_SIGNALS,
    CarbonSignal: GRID_SIGNALS,
    EventSignal: GRID_SIGNALS,
    PowerState: SITE_POWER,
    LoadState: SITE_LOAD,
    SiteForecast: SITE_FORECASTS,
    FleetPlan: FLEET_PLANS,
    Throttle: SITE_COMMANDS,
    Shift: SITE_COMMANDS,
    Release: SITE_COMMANDS,
    CommandAck: COMMAND_ACKS,
    ControllerHeartbeat: SITE_HEARTBEATS,
    ClockAnchor: CLOCK_ANCHORS,
    DeadLetter: DEAD_LETTERS,
}


def _layout(kind: type, table: Table) -> tuple[str, tuple[str, ...], list[tuple[int, Callable[[Any], Any]]]]:
    # PostgreSQL holds no NUL in text. Records have none, by their contracts; a dead letter may quote anything.
    conversions = {"text": _text} if kind is DeadLetter else {"jsonb": _json}
    places = enumerate(table.types.values())
    return table.name, table.columns, [(place, conversions[type_]) for place, type_ in places if type_ in conversions]


# What `row_of` needs of each type at hand: table, columns, and which places of the row are converted, and how.
_LAYOUT_OF: Final = {kind: _layout(kind, table) for kind, table in TABLE_OF.items()}
