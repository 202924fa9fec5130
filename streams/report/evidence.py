"""What the history holds of one grid event, read with SQL in one transaction: the same page every time it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from infra.database import SCHEMA, connect_blocking, faults_told_apart
from infra.settings import ConfigurationError

_EVENT = "SELECT * FROM grid_events WHERE signal_id = %(signal_id)s ORDER BY fleet_id"
_PERFORMANCE = (
    "SELECT * FROM event_performance WHERE signal_id = %(signal_id)s AND fleet_id = %(fleet_id)s ORDER BY site_id"
)
_FLEET = "SELECT * FROM event_performance_fleet WHERE signal_id = %(signal_id)s AND fleet_id = %(fleet_id)s"
# An hour before and after, so that the baseline and the restore can be seen.
_MINUTES = """
SELECT
    date_bin('1 minute', meter.window_start, 'epoch') AS minute,
    meter.site_id,
    sum(meter.power_watts * meter.seconds) / sum(meter.seconds) AS meter_power_watts,
    min(target.baseline_power_watts) AS baseline_power_watts,
    CASE
        WHEN min(target.held_from) <= date_bin('1 minute', meter.window_start, 'epoch')
            AND date_bin('1 minute', meter.window_start, 'epoch') < min(target.ends_at)
            THEN min(target.target_power_watts)
    END AS target_power_watts
FROM event_targets AS target
CROSS JOIN LATERAL meter_windows(
    target.run_id, ARRAY[target.site_id], target.starts_at - INTERVAL '1 hour', target.ends_at + INTERVAL '1 hour'
) AS meter
WHERE target.signal_id = %(signal_id)s AND target.fleet_id = %(fleet_id)s
GROUP BY minute, meter.site_id
ORDER BY minute, meter.site_id
"""
_COMMANDS = """
SELECT decision.*
FROM grid_events AS event
INNER JOIN decisions AS decision
    ON
        decision.fleet_id = event.fleet_id AND event.signal_id = ANY(decision.caused_by)
        AND decision.issued_at >= event.first_published_at
        AND decision.issued_at < event.ends_at + INTERVAL '1 hour'
WHERE event.signal_id = %(signal_id)s AND event.fleet_id = %(fleet_id)s
ORDER BY decision.issued_at, decision.site_id, decision.epoch, decision.sequence
"""
_PRICES = """
SELECT DISTINCT
    span.settlement_point,
    span.holds_from AS starts_at,
    span.holds_until AS ends_at,
    span.price_usd_per_mwh
FROM event_targets AS target
INNER JOIN site_spans AS site
    ON
        site.run_id = target.run_id AND site.site_id = target.site_id
        AND site.holds_from <= target.starts_at AND target.starts_at < site.holds_until
INNER JOIN price_spans AS span
    ON
        span.run_id = target.run_id AND span.fleet_id = target.fleet_id
        AND span.settlement_point = site.settlement_point
        AND tstzrange(span.starts_at, span.ends_at)
        && tstzrange(target.starts_at - INTERVAL '1 hour', target.ends_at + INTERVAL '1 hour')
WHERE target.signal_id = %(signal_id)s AND target.fleet_id = %(fleet_id)s
ORDER BY span.settlement_point, starts_at
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave: its columns, with what the database's comments say of them, and its rows."""

    columns: Sequence[str]
    comments: dict[str, str]
    rows: Sequence[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        """The rows by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the pack says of one event. Times are UTC; units stand in the columns' names."""

    signal_id: str
    run_id: str
    event: Answer
    fleet: Answer
    sites: Answer
    minutes: Answer
    decisions: Answer
    prices: Answer

    def figures(self) -> dict[str, Any]:
        """What was asked and what it came to, for machines."""
        return {
            "event": self.event.records()[0],
            "fleet": self.fleet.records(),
            "sites": self.sites.records(),
            "commands": len(self.decisions.rows),
        }


def gather(dsn: str, signal_id: str, run_id: str, fleet_id: str | None = None) -> Evidence:
    """Reads the evidence; `fleet_id` may be left out where the event was told to one fleet only.

    Raises:
        ConfigurationError: the run has no such event, or several fleets have it and none is named.
        DatabaseUnavailableError, DatabaseConfigurationError: see infra.database.
    """
    with connect_blocking(dsn, "gridtide report") as connection, faults_told_apart(), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute("SELECT set_config('gridtide.run_id', %s, true)", [run_id])
        # The views are large queries over few rows: compiling them takes longer than running them.
        connection.execute("SET LOCAL jit = off")

        def ask(query: str, view: str = "") -> Answer:
            found = connection.execute(query.encode(), {"signal_id": signal_id, "fleet_id": fleet_id})
            columns = [column.name for column in found.description or ()]
            return Answer(columns, _comments(connection, view), found.fetchall())

        event = ask(_EVENT, "grid_events")
        fleets = [str(record["fleet_id"]) for record in event.records()]
        if not fleets:
            raise ConfigurationError(f"run {run_id} has no event {signal_id!r}: see gridtide.grid_events")
        if fleet_id is None and len(fleets) > 1:
            raise ConfigurationError(f"event {signal_id!r} was told to several fleets, say which: {', '.join(fleets)}")
        if fleet_id is not None and fleet_id not in fleets:
            raise ConfigurationError(
                f"event {signal_id!r} was not told to fleet {fleet_id!r}, but: {', '.join(fleets)}"
            )
        fleet_id = fleet_id or fleets[0]
        return Evidence(
            signal_id=signal_id,
            run_id=run_id,
            event=Answer(event.columns, event.comments, [event.rows[fleets.index(fleet_id)]]),
            fleet=ask(_FLEET, "event_performance_fleet"),
            sites=ask(_PERFORMANCE, "event_performance"),
            minutes=ask(_MINUTES),
            decisions=ask(_COMMANDS, "decisions"),
            prices=ask(_PRICES, "price_spans"),
        )


def _comments(connection: psycopg.Connection[Any], view: str) -> dict[str, str]:
    """What the comments of a view say of its columns."""
    if not view:
        return {}
    query = (
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE attnum > 0 AND attrelid = to_regclass(%s)"
    )
    found = connection.execute(query, [f"{SCHEMA}.{view}"])
    return {name: comment for name, comment in found if comment}
