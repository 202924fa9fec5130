"""Metrics, named by Prometheus' rules: unit in the name, counters end in _total."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from infra.settings import ConfigurationError

CONSUMED = Counter("gridtide_records_consumed", "records read", ["stage", "topic"])
PRODUCED = Counter("gridtide_records_produced", "records handed to the producer", ["stage", "topic"])
DEAD_LETTERS = Counter("gridtide_dead_letters", "messages that could not be taken", ["stage", "topic", "reason"])
LATE = Counter("gridtide_late_records", "records for a window already closed", ["stage", "topic"])
DUPLICATES = Counter("gridtide_duplicate_records", "records seen before", ["stage", "topic"])
OFFSETS_SKIPPED = Counter(
    "gridtide_offsets_skipped", "offsets that the broker no longer had when they were due", ["stage", "topic"]
)
LAG = Gauge("gridtide_consumer_lag_records", "records not yet read", ["stage", "topic", "partition"])
COMMITTED = Counter("gridtide_commits", "position commits", ["stage"])
COMMIT_SECONDS = Histogram("gridtide_commit_seconds", "time a position commit took", ["stage"])
REBALANCES = Counter("gridtide_rebalances", "group rebalances", ["stage"])
COMMANDS = Counter("gridtide_commands_sent", "commands sent", ["kind", "reason"])
ACKS = Counter("gridtide_acks", "acks read", ["status"])
SIGNATURES_REFUSED = Counter(
    "gridtide_signatures_refused", "commands, acks and plans refused for their signature", ["topic", "reason"]
)
PLAN_MODE = Gauge("gridtide_plan_mode", "1 for the mode a fleet is planned in", ["fleet_id", "mode"])
OPTIMISER_SECONDS = Histogram("gridtide_optimiser_seconds", "time the optimiser took for a fleet's plan")
OPTIMISER_FAILED = Counter("gridtide_optimiser_failures", "plans that were made without the optimiser's answer")
EVENTS_ESCALATED = Gauge(
    "gridtide_events_escalated", "grid events missed by over a fifth of what was asked", ["fleet_id"]
)
EVENT_SHORTFALL_WATTS = Gauge("gridtide_event_shortfall_watts", "power above the targets of grid events", ["fleet_id"])
STATE_AGE_SECONDS = Gauge("gridtide_site_state_age_seconds", "age of a site's newest state", ["site_id", "kind"])
_OF_SCORES = ["site_id", "horizon_seconds"]
FORECAST_WMAPE_RATIO = Gauge(
    "gridtide_forecast_wmape_ratio", "absolute errors of the median by the load, over about a day", _OF_SCORES
)
FORECAST_PERSISTENCE_WMAPE_RATIO = Gauge(
    "gridtide_forecast_persistence_wmape_ratio", "the same, had the last step stood for the forecast", _OF_SCORES
)
FORECAST_COVERAGE_RATIO = Gauge(
    "gridtide_forecast_coverage_ratio", "part of the loads within the 5 % and 95 % quantiles", _OF_SCORES
)
FORECAST_DRIFTING = Gauge("gridtide_forecast_drifting", "1 where forecasts are worse than they may be", _OF_SCORES)
ROWS = Counter("gridtide_rows_written", "rows inserted", ["table"])
DATABASE_RETRIES = Counter("gridtide_database_retries", "batches kept back because the database was not there")
FORECAST_MODEL = Gauge("gridtide_forecast_model_info", "1 for the model that forecasts here", ["model"])
FORECAST_MODEL_REFUSED = Counter("gridtide_forecast_model_refused", "models that were refused when they were to serve")
TRAININGS = Counter("gridtide_trainings", "attempts to train a model", ["outcome"])
STAGE_INFO = Gauge("gridtide_stage_info", "1 for each stage that runs here", ["stage", "run_id"])


def forget_forecast_scores() -> None:
    """Drops what was said of any site's forecasts."""
    for gauge in (
        FORECAST_WMAPE_RATIO,
        FORECAST_PERSISTENCE_WMAPE_RATIO,
        FORECAST_COVERAGE_RATIO,
        FORECAST_DRIFTING,
    ):
        gauge.clear()


def serve_metrics(port: int) -> None:
    """Serves /metrics on a port; 0 serves nothing.

    Raises:
        ConfigurationError: the port can't be bound.
    """
    if port == 0:
        return
    try:
        start_http_server(port)
    except OSError as error:
        raise ConfigurationError(f"GRIDTIDE_METRICS_PORT {port}: {error.strerror}") from error
