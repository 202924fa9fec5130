"""What the history holds of one grid event, read with SQL in one transaction: the same page every time it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from infra.database import SCHEMA, connect_blocking, faults_told_apart
from infra.settings import ConfigurationError

_EVENT = "SELECT * FROM grid_events WHERE signal_id = %(signal_id)s"
_PERFORMANCE = "SELECT * FROM event_performance WHERE signal_id = %(signal_id)s ORDER BY site_id"
_FLEET = "SELECT * FROM event_performance_fleet WHERE signal_id = %(signal_id)s"
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
WHERE target.signal_id = %(signal_id)s
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
WHERE event.signal_id = %(signal_id)s
ORDER BY decision.issued_at, decision.site_id, decision.epoch, decision.sequence
"""
_PRICES = """
SELECT DISTINCT ON (price.settlement_point, price.starts_at)
    price.settlement_point,
    price.starts_at,
    price.ends_at,
    price.price_usd_per_mwh
FROM grid_events AS event
INNER JOIN grid_signals AS price
    ON
        price.run_id = event.run_id AND price.fleet_id = event.fleet_id
        AND price.kind = 'price' AND price.market = 'real-time'
        AND price.starts_at < event.ends_at + INTERVAL '1 hour'
        AND price.ends_at > event.starts_at - INTERVAL '1 hour'
        AND price.published_at > event.starts_at - INTERVAL '2 days'
WHERE event.signal_id = %(signal_id)s
ORDER BY price.settlement_point, price.starts_at, price.published_at DESC
"""

_VIEWS = ("decisions", "event_targets", "event_performance_fleet", "event_performance", "grid_events")


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


def gather(dsn: str, signal_id: str, run_id: str) -> Evidence:
    """Reads the evidence.

    Raises:
        ConfigurationError: the run has no such event.
        DatabaseUnavailableError, DatabaseConfigurationError: see infra.database.
    """
    with connect_blocking(dsn, "gridtide report") as connection, faults_told_apart(), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute("SELECT set_config('gridtide.run_id', %s, true)", [run_id])
        comments = _comments(connection)

        def ask(query: str) -> Answer:
            found = connection.execute(query.encode(), {"signal_id": signal_id})
            columns = [column.name for column in found.description or ()]
            return Answer(columns, comments, found.fetchall())

        event = ask(_EVENT)
        if not event.rows:
            raise ConfigurationError(f"run {run_id} has no event {signal_id!r}: see gridtide.grid_events")
        return Evidence(
            signal_id=signal_id,
            run_id=run_id,
            event=event,
            fleet=ask(_FLEET),
            sites=ask(_PERFORMANCE),
            minutes=ask(_MINUTES),
            decisions=ask(_COMMANDS),
            prices=ask(_PRICES),
        )


def _comments(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """What the comments of the views that are shown say of their columns."""
    query = (
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE attnum > 0 AND attrelid = ANY(%s::text[]::regclass[])"
    )
    found = connection.execute(query, [[f"{SCHEMA}.{view}" for view in _VIEWS]])
    return {name: comment for name, comment in found if comment}
