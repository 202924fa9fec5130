"""The tables of the history: their columns in the order of a row, those of the primary key first. Pure.

A table that a topic fills has the topic's natural key, and columns named like the record's fields. The SQL that makes
them is in infra/sql; a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from schemas import catalog


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
    tokens_arrived_per_second float8, tokens_served_per_second float8, tokens_queued int8, covered_ratio float8
    """,
)
SITE_CLASS_LOAD: Final = _table(
    "site_class_load",
    ("window_start", "site_id", "service_class", "run_id"),
    """
    window_start timestamptz, site_id text, service_class text, run_id text, fleet_id text, window_end timestamptz,
    requests_per_second float8, prompt_tokens_per_second float8, tokens_arrived_per_second float8,
    tokens_served_per_second float8, tokens_queued int8, ttft_seconds_counts int8[], ttft_seconds_p50 float8,
    ttft_seconds_p99 float8
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
    history_steps int8, horizons jsonb, spikes jsonb, flags text[], classes jsonb
    """,
)
FORECAST_SCORES: Final = _table(
    "forecast_scores",
    catalog.FORECAST_SCORES.natural_key,
    """
    scored_at timestamptz, site_id text, horizon_seconds int8, run_id text, schema_version int2, fleet_id text,
    issued_at timestamptz, model text, tokens_per_second float8, forecast_tokens_per_second float8,
    lower_tokens_per_second float8, upper_tokens_per_second float8, persistence_tokens_per_second float8,
    pinball_loss_tokens_per_second float8, wmape_ratio float8, persistence_wmape_ratio float8, coverage_ratio float8,
    is_drifting bool
    """,
)
FLEET_PLANS: Final = _table(
    "fleet_plans",
    catalog.FLEET_PLANS.natural_key,
    """
    issued_at timestamptz, fleet_id text, epoch int8, revision int8, owner text, kind text, run_id text,
    schema_version int2, sequence int8, mode text, explanation text, throttles jsonb, shifts jsonb, baselines jsonb,
    dwells jsonb, rejected jsonb, inputs jsonb, planner text, schedule jsonb, strikes jsonb, tracking jsonb
    """,
)
FLEXIBILITY_OFFERS: Final = _table(
    "flexibility_offers",
    catalog.FLEXIBILITY_OFFERS.natural_key,
    """
    issued_at timestamptz, site_id text, run_id text, schema_version int2, fleet_id text, valid_until timestamptz,
    expected_power_watts float8, offers jsonb
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
    releases_control_id text, ramp_seconds float8
    """,
)
COMMAND_ACKS: Final = _table(
    "command_acks",
    catalog.COMMAND_ACKS.natural_key,
    """
    observed_at timestamptz, site_id text, epoch int8, sequence int8, status text, run_id text, schema_version int2,
    fleet_id text, control_id text, detail text, meter_power_watts float8, highest_epoch int8, highest_sequence int8,
    share_ratio float8, knob text
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
SITES: Final = _table(
    "sites",
    ("known_from", "site_id", "run_id"),
    """
    known_from timestamptz, site_id text, run_id text, fleet_id text, settlement_point text, pue float8, gpus int8,
    import_limit_watts float8, minimum_on_watts float8, failsafe_watts float8, ramp_down_watts_per_second float8,
    ramp_up_watts_per_second float8, in_service bool
    """,
)
SERVICE_CLASSES: Final = _table(
    "service_classes",
    ("known_from", "service_class", "run_id"),
    """
    known_from timestamptz, service_class text, run_id text, flex int2, ttft_objective_seconds float8,
    itl_objective_seconds float8
    """,
)

TABLES: Final = (
    GPU_TELEMETRY,
    INFERENCE_REQUESTS,
    GRID_SIGNALS,
    SITE_POWER,
    SITE_LOAD,
    SITE_CLASS_LOAD,
    SITE_FORECASTS,
    FORECAST_SCORES,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    SITE_COMMANDS,
    COMMAND_ACKS,
    SITE_HEARTBEATS,
    CLOCK_ANCHORS,
    DEAD_LETTERS,
    SITES,
    SERVICE_CLASSES,
)
BY_NAME: Final = {table.name: table for table in TABLES}
