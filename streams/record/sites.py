"""What the fleet file says of sites and service classes, as rows: what the history's views price and judge by. Pure."""

from collections.abc import Sequence
from datetime import datetime

from schemas.fleet import FleetFile
from streams.record.rows import Row
from streams.record.tables import SERVICE_CLASSES, SITES


def described(fleet_file: FleetFile, known_from: datetime, run_id: str) -> dict[str, list[Row]]:
    """A row for each site and each service class, by table."""
    sites, classes = list[Row](), list[Row]()
    for fleet, site in fleet_file.sites():
        values = {**vars(site), "site_id": site.id, "gpus": site.gpus, "fleet_id": fleet.id}
        values |= {"known_from": known_from, "run_id": run_id, "in_service": True}
        sites.append(tuple(map(values.__getitem__, SITES.columns)))
    for service_class in fleet_file.service_classes:
        values = {**vars(service_class), "service_class": service_class.id}
        values |= {"known_from": known_from, "run_id": run_id}
        classes.append(tuple(map(values.__getitem__, SERVICE_CLASSES.columns)))
    return {SITES.name: sites, SERVICE_CLASSES.name: classes}


def otherwise(rows: Sequence[Row], newest: Sequence[Row]) -> list[Row]:
    """The rows that say something else than the newest of theirs: all but the first column, `known_from`, counts."""
    known = {row[1:] for row in newest}
    return [row for row in rows if row[1:] not in known]


def withdrawn(rows: Sequence[Row], newest: Sequence[Row]) -> list[Row]:
    """A last row for each site in service that the fleet file has no longer; `rows` are all of one run and time."""
    if not rows:
        return []
    since, site, run, service = (
        SITES.columns.index(name) for name in ("known_from", "site_id", "run_id", "in_service")
    )
    known_from, run_id = rows[0][since], rows[0][run]
    described_ids = {row[site] for row in rows}
    ended = [row for row in newest if row[service] and row[run] == run_id and row[site] not in described_ids]
    return [(known_from, *row[1:service], False, *row[service + 1 :]) for row in ended]
