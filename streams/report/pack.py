"""The evidence as files: a page that needs nothing beside it, and the tables as CSV."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from infra.settings import ConfigurationError
from streams.report.evidence import Answer, Evidence
from streams.report.plots import fleet_plot, site_plots

# What a reader looks for first; the CSV holds every column.
_SHOWN_DECISIONS = ("issued_at", "site_id", "kind", "reason", "target_power_watts", "starts_at", "ends_at")


def write_pack(evidence: Evidence, folder: Path, stem: str) -> list[Path]:
    """Writes STEM.html and STEM-….csv into the folder, which is made if need be; returns what was written.

    Raises:
        ConfigurationError: the folder can't be written to.
    """
    tables = {
        "sites": evidence.sites,
        "fleet": evidence.fleet,
        "minutes": evidence.minutes,
        "commands": evidence.decisions,
        "prices": evidence.prices,
    }
    page = folder / f"{stem}.html"
    written = [page]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page.write_text(page_of(evidence, [f"{stem}-{name}.csv" for name in tables]), encoding="utf-8")
        for name, answer in tables.items():
            written.append(folder / f"{stem}-{name}.csv")
            _write_csv(written[-1], answer)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder}: {error.strerror}") from error
    return written


def page_of(evidence: Evidence, files: Sequence[str]) -> str:
    """The page as HTML."""
    environment = Environment(loader=PackageLoader("streams.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["shown"] = shown
    return environment.get_template("page.html.j2").render(
        signal_id=evidence.signal_id,
        run_id=evidence.run_id,
        event=evidence.event,
        fleet=evidence.fleet,
        sites=evidence.sites,
        decisions=_narrowed(evidence.decisions, _SHOWN_DECISIONS),
        meanings=_explained(evidence),
        fleet_plot=fleet_plot(evidence) if evidence.minutes.rows else "",
        site_plots=site_plots(evidence),
        site_count=len({row["site_id"] for row in evidence.minutes.records()}),
        files=files,
    )


def shown(value: Any) -> str:
    """A value for reading: times to the second in UTC, numbers with as many digits as matter."""
    match value:
        case None:
            text = "–"
        case bool():
            text = "yes" if value else "no"
        case datetime():
            text = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        case float():
            text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
        case list() | tuple():
            text = ", ".join(shown(each) for each in value) or "–"
        case _:
            text = str(value)
    return text


def _explained(evidence: Evidence) -> list[tuple[str, str]]:
    """Each column that is shown, once for each meaning that it has."""
    answers = (evidence.event, evidence.fleet, evidence.sites)
    said = ((name, answer.comments[name]) for answer in answers for name in answer.columns if name in answer.comments)
    return list(dict.fromkeys(said))


def _narrowed(answer: Answer, wanted: Sequence[str]) -> Answer:
    places = [answer.columns.index(name) for name in wanted if name in answer.columns]
    rows = [tuple(row[place] for place in places) for row in answer.rows]
    return Answer([answer.columns[place] for place in places], answer.comments, rows)


def _write_csv(path: Path, answer: Answer) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(answer.columns)
        for row in answer.rows:
            writer.writerow([value.isoformat() if isinstance(value, datetime) else value for value in row])
