"""The load of the past, read from the history in equal steps: what a forecaster is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from infra.database import connect_blocking, faults_told_apart
from infra.settings import ConfigurationError

QUANTITIES: Final = ("requests", "prompt_tokens", "tokens")

# As forecasting/history.py counts a step of the stream.
_LEAST_COVERED_RATIO = 0.5

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS_AT_A_TIME = 20_000

_SITES = """
SELECT DISTINCT site_id FROM {sites}
WHERE run_id = %(run_id)s AND bucket_start >= %(starts_at)s AND bucket_start < %(ends_at)s
ORDER BY site_id
"""
_STEPS = """
SELECT
    site_id,
    floor(extract(EPOCH FROM bucket_start - %(starts_at)s) / %(step_seconds)s)::bigint AS step,
    sum(covered_seconds) AS covered_seconds
FROM {sites}
WHERE
    run_id = %(run_id)s AND site_id = ANY(%(site_ids)s)
    AND bucket_start >= %(starts_at)s AND bucket_start < %(ends_at)s
GROUP BY site_id, step
"""
_CLASSES = """
SELECT
    site_id,
    service_class,
    floor(extract(EPOCH FROM bucket_start - %(starts_at)s) / %(step_seconds)s)::bigint AS step,
    sum(requests),
    sum(prompt_tokens),
    sum(tokens_arrived)
FROM {classes}
WHERE
    run_id = %(run_id)s AND site_id = ANY(%(site_ids)s)
    AND bucket_start >= %(starts_at)s AND bucket_start < %(ends_at)s
GROUP BY site_id, service_class, step
"""
# Forecasts of the model before are still scored for a day after a switch.
_DRIFT = """
SELECT EXISTS (SELECT FROM forecast_scores WHERE run_id = %s AND model = %s AND is_drifting AND scored_at > %s)
"""


@dataclass(frozen=True, slots=True, eq=False)
class SiteLoad:
    """One quantity of the load of a site, or of one service class there."""

    site_id: str
    service_class: str | None  # None: all of them together
    quantity: str  # one of QUANTITIES
    starts_at: datetime  # aware UTC: beginning of the first step
    per_second: NDArray[np.float64]  # (n,) mean of each step, 1/s; NaN where less than half of it was observed


def read_load(
    dsn: str, run_id: str, step_seconds: float, ends_at: datetime, span: timedelta, most_sites: int
) -> list[SiteLoad]:
    """The load of a run's sites over the whole steps of the `span` that ends at `ends_at`.

    Of more than `most_sites` sites those are taken that lie evenly in the alphabet. A class that was not heard of in
    an observed step is zero there.

    Raises:
        ConfigurationError: the step is no multiple of a minute, in which the history is summed.
        DatabaseUnavailableError, DatabaseConfigurationError: the history can't be read.
    """
    asked = _asked(run_id, step_seconds, ends_at, span)
    source = _source(step_seconds)
    with connect_blocking(dsn, "gridtide-train") as connection, faults_told_apart(), connection.transaction():
        # The analyst's minute is for people's queries.
        connection.execute("SET LOCAL statement_timeout = 0")
        sites = [str(site) for (site,) in connection.execute(_SITES.format(**source), asked).fetchall()]
        asked["site_ids"] = evenly(sites, most_sites)
        covered = _covered_seconds(connection, source, asked)
        return _loads(connection, source, asked, covered)


def drifted_since(dsn: str, run_id: str, model: str, since: datetime) -> bool:
    """Whether the score of a forecast of that model was called a drift after `since`; False where none are kept.

    Raises:
        DatabaseUnavailableError, DatabaseConfigurationError: the history can't be read.
    """
    with connect_blocking(dsn, "gridtide-train") as connection, faults_told_apart():
        row = connection.execute("SELECT to_regclass('forecast_scores')").fetchone()
        if row is None or row[0] is None:
            return False
        found = connection.execute(_DRIFT, (run_id, model, since)).fetchone()
        return bool(found and found[0])


def evenly(names: Sequence[str], most: int) -> list[str]:
    """At most so many of them, spread evenly over their order; always the same."""
    if len(names) <= most:
        return list(names)
    return [names[place * len(names) // most] for place in range(most)]


def _asked(run_id: str, step_seconds: float, ends_at: datetime, span: timedelta) -> dict[str, Any]:
    steps = int(span.total_seconds() // step_seconds)
    whole = (ends_at - _EPOCH).total_seconds() // step_seconds * step_seconds
    end = _EPOCH + timedelta(seconds=whole)
    return {
        "run_id": run_id,
        "step_seconds": step_seconds,
        "steps": steps,
        "starts_at": end - timedelta(seconds=steps * step_seconds),
        "ends_at": end,
    }


def _source(step_seconds: float) -> dict[str, str]:
    """The coarsest sums of the history that fit into a step: they are the fewest rows."""
    for bucket_seconds, suffix in ((300, "5m"), (60, "1m")):
        if step_seconds % bucket_seconds == 0:
            return {"sites": f"site_load_{suffix}", "classes": f"site_class_load_{suffix}"}
    raise ConfigurationError(
        f"GRIDTIDE_FORECAST_STEP_SECONDS: to train from the history it must be whole minutes (got {step_seconds:g})"
    )


def _covered_seconds(
    connection: psycopg.Connection[Any], source: dict[str, str], asked: dict[str, Any]
) -> dict[str, NDArray[np.float64]]:
    """By site, the seconds of each step that were observed; NaN where too few."""
    covered: dict[str, NDArray[np.float64]] = {
        site_id: np.full(asked["steps"], np.nan) for site_id in asked["site_ids"]
    }
    with connection.cursor(name="steps") as cursor:
        cursor.itersize = _ROWS_AT_A_TIME
        for site_id, step, seconds in cursor.execute(_STEPS.format(**source), asked):
            if seconds >= _LEAST_COVERED_RATIO * asked["step_seconds"]:
                covered[site_id][step] = seconds
    return covered


def _loads(
    connection: psycopg.Connection[Any],
    source: dict[str, str],
    asked: dict[str, Any],
    covered: dict[str, NDArray[np.float64]],
) -> list[SiteLoad]:
    counts: dict[tuple[str, str], NDArray[np.float64]] = {}
    with connection.cursor(name="classes") as cursor:
        cursor.itersize = _ROWS_AT_A_TIME
        for site_id, service_class, step, *sums in cursor.execute(_CLASSES.format(**source), asked):
            key = (site_id, service_class)
            if key not in counts:
                counts[key] = np.zeros((len(QUANTITIES), asked["steps"]))
            counts[key][:, step] = sums
    loads = []
    for site_id, seconds in covered.items():
        classes = {name: found for (site, name), found in sorted(counts.items()) if site == site_id}
        totals = sum(classes.values(), start=np.zeros((len(QUANTITIES), asked["steps"])))
        everything: list[tuple[str | None, NDArray[np.float64]]] = [(None, totals), *classes.items()]
        for name, found in everything:
            rates = found / seconds
            loads += [
                SiteLoad(site_id, name, quantity, asked["starts_at"], rates[place])
                for place, quantity in enumerate(QUANTITIES)
            ]
    return loads
