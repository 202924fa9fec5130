"""`gridtide train` and `gridtide models`: a model's life, from a command line of its own process."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from infra.clock import wall_now
from infra.log import configure_logging
from infra.model_store import ModelStore
from infra.settings import ConfigurationError, Settings, load_settings
from streams.durations import seconds_of
from streams.one_clear_line import one_clear_line, say

if TYPE_CHECKING:  # learning takes seconds to import, and every command reads this module
    from streams.train.material import Material
    from streams.train.run import Trained

_PHASES = ("reading", "training", "judging", "keeping")


@one_clear_line
def train(
    requests: Annotated[
        list[Path] | None,
        typer.Option(help="Learn from a request trace or a table of load (CSV, also .gz), not from the history."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="The column of the files; default: the first of numbers.")] = None,
    days: Annotated[float, typer.Option(help="How much of the history to learn from.", min=1, max=400)] = 28.0,
    held_out_days: Annotated[float, typer.Option(help="How much of its end judges.", min=0.25, max=30)] = 1.0,
    every: Annotated[
        str | None, typer.Option(help="Go on: train on this schedule, such as 24h, and whenever forecasts drift.")
    ] = None,
    keep: Annotated[int, typer.Option(help="Models to keep of those promoted, and of those not.", min=1)] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and judge, and write nothing.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the card there as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn by lot.", min=0)] = 1,
) -> None:
    """Trains a forecaster, and lets it serve if it is better than what serves now.

    Learns from the run's load in the database of GRIDTIDE_DATABASE_DSN, or from files. The end of it is held out: on
    it the new model is held against the statistical baseline and against the model that serves. It is kept with a
    card in GRIDTIDE_MODEL_DIR, and the forecast stage takes it up within seconds if it is better than both.

    gridtide train --dry-run

    gridtide train --every 24h
    """
    settings = load_settings()
    if json_file and not json_file.absolute().parent.is_dir():
        raise ConfigurationError(f"{json_file}: no such folder")
    if every and (requests or dry_run or json_file):
        raise ConfigurationError("--every learns from the history, and goes without --requests, --dry-run and --json")

    def once() -> None:
        with _phases() as tell:
            tell("reading")
            material = _material(settings, requests or [], column, timedelta(days=days))
            trained = _trained(settings, material, timedelta(days=held_out_days), seed, keep, dry_run, tell)
        _show(trained, dry_run)
        if json_file:
            _write_card(json_file, trained)

    if every is None:
        once()
        return
    _go_on(settings, _span("--every", every), once)


def _write_card(path: Path, trained: "Trained") -> None:
    try:
        path.write_text(trained.card.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise ConfigurationError(f"{path}: the card can't be written there: {error.strerror}") from error


def _material(settings: Settings, requests: list[Path], column: str | None, span: timedelta) -> "Material":
    from streams.train.material import from_files, from_history  # noqa: PLC0415

    if requests:
        return from_files(requests, column, settings.forecast_step_seconds)
    if column:
        raise ConfigurationError("--column is one of a file's: name it with --requests")
    return from_history(settings, wall_now(), span)


def _trained(
    settings: Settings,
    material: "Material",
    held_out: timedelta,
    seed: int,
    most: int,
    dry_run: bool,
    tell: Callable[[str], None],
) -> "Trained":
    from dataclasses import replace  # noqa: PLC0415

    from streams.train.run import keep, train_once  # noqa: PLC0415

    store = ModelStore(settings.run_model_dir)
    trained = train_once(material, store, settings.run_id, wall_now(), held_out, seed, tell)
    if dry_run:
        return trained
    tell("keeping")
    return replace(trained, card=keep(trained, store, most))


def _show(trained: "Trained", dry_run: bool) -> None:
    from streams.train.page import verdict_of  # noqa: PLC0415

    if trained.serving_refused:
        say.print(f"the model in place took no part: {trained.serving_refused}", markup=False)
    Console(highlight=False, soft_wrap=True).print(verdict_of(trained.card))
    if dry_run:
        say.print("a dry run: nothing is written")
    elif trained.card.promoted:
        say.print(f"{trained.card.name} serves now")


def _go_on(settings: Settings, every: timedelta, once: Callable[[], None]) -> None:
    """Trains for ever. What may be otherwise the next time, such as a database that is away, is said and waited out."""
    from infra.metrics import serve_metrics  # noqa: PLC0415
    from streams.train.service import TrainingService  # noqa: PLC0415

    configure_logging(settings, "train")
    # The stream comes first where they share a machine.
    os.nice(10)
    serve_metrics(settings.metrics_port)
    TrainingService(settings, every, once).run()


def _span(option: str, text: str) -> timedelta:
    try:
        return timedelta(seconds=seconds_of(text))
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


@contextmanager
def _phases() -> Iterator[Callable[[str], None]]:
    """A bar that goes from phase to phase; nothing where nobody looks."""
    columns = (TextColumn("{task.description:<9}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=say, transient=True, disable=not say.is_terminal) as bar:
        task = bar.add_task(_PHASES[0], total=len(_PHASES))

        def tell(phase: str) -> None:
            bar.update(task, description=phase, completed=_PHASES.index(phase))

        yield tell


models = typer.Typer(help="Lists the models there are, and lets one serve.", invoke_without_command=True)


@models.callback()
@one_clear_line
def list_models(
    context: typer.Context,
    machine: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """Lists the run's models: what each was trained on, how it did, which one serves, which are refused and why."""
    if context.invoked_subcommand:
        return
    from forecasting.artifact import versions_here  # noqa: PLC0415
    from streams.forecast.models import listed  # noqa: PLC0415
    from streams.train.page import list_of  # noqa: PLC0415

    settings = load_settings()
    store = ModelStore(settings.run_model_dir)
    current = store.current()
    found = listed(store, versions_here(), settings.forecast_step_seconds)
    if machine:
        shown: list[dict[str, Any]] = [
            {
                "name": each.name,
                "is_current": each.name == current,
                "refused": each.refused,
                "card": each.card.model_dump(mode="json") if each.card else None,
            }
            for each in found
        ]
        typer.echo(json.dumps(shown, indent=2))
        return
    if found:
        Console(highlight=False, soft_wrap=True).print(list_of(found, current))
    if current not in {each.name for each in found if not each.refused}:
        say.print("the statistical baseline serves" + (f": {current} is refused" if current else ""), markup=False)


@models.command("use")
@one_clear_line
def use_model(name: Annotated[str, typer.Argument(help="The model, as `gridtide models` names it.")]) -> None:
    """Lets a model serve from now on, whatever its losses: the way back to an earlier one."""
    from forecasting.artifact import versions_here  # noqa: PLC0415
    from streams.forecast.models import load  # noqa: PLC0415

    settings = load_settings()
    store = ModelStore(settings.run_model_dir)
    load(store, name, versions_here(), settings.forecast_step_seconds)
    with store.locked():
        if name not in store.names():
            raise ConfigurationError(f"{name}: a training has deleted it meanwhile")
        store.point_to(name)
    say.print(f"{name} serves now", markup=False)
