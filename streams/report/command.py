"""`gridtide report`: evidence for people outside, from the history alone."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from infra.settings import load_settings
from schemas.envelope import LIVE_RUN
from streams.one_clear_line import one_clear_line, say

report = typer.Typer(help="Writes evidence for people outside, from the history alone.", no_args_is_help=True)


@report.callback()
def group() -> None:
    """Writes evidence for people outside, from the history alone."""


@report.command()
@one_clear_line
def event(
    signal_id: Annotated[str, typer.Argument(help="The event's signal_id, as in gridtide.grid_events.")],
    out: Annotated[Path, typer.Option(help="The folder for the page and its tables.")] = Path(),
    run: Annotated[str, typer.Option(help="The run that the event belongs to.")] = LIVE_RUN,
    fleet: Annotated[
        str | None, typer.Option(help="The fleet; only needed where the event was told to several.")
    ] = None,
    machine: Annotated[bool, typer.Option("--json", help="Print the figures as JSON as well.")] = False,
) -> None:
    """Writes an evidence pack for one grid event: a page with plots, and beside it the tables as CSV.

    What was asked, what each site drew minute by minute against its baseline and target, every command with its reason
    and outcome, and what it came to. All of it is read with SQL from the database of GRIDTIDE_DATABASE_DSN; a reader
    with the role gridtide_analyst can do the same.
    """
    from streams.report.evidence import gather  # noqa: PLC0415 - plots take a second to import
    from streams.report.pack import write_pack  # noqa: PLC0415

    evidence = gather(load_settings().database_dsn.get_secret_value(), signal_id, run, fleet)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", signal_id).strip("-.") or "event"
    for path in write_pack(evidence, out, f"event-{stem}"):
        say.print(str(path), markup=False)
    if machine:
        typer.echo(json.dumps(evidence.figures(), default=str, indent=2))
