"""What commands that take minutes put out: how far they are, and their figures."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from infra.settings import ConfigurationError
from streams.one_clear_line import say

STDOUT = Path("-")
PLOT_SUFFIXES = (".png", ".svg")
Tell = Callable[[float], None]


@contextmanager
def bars() -> Iterator[Callable[[str], Tell]]:
    """Bars on standard error, one for each name asked for, told the part done; nothing where nobody looks on."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), TextColumn("{task.percentage:3.0f} %"))
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=say, disable=not say.is_terminal
    ) as progress:

        def of(what: str) -> Tell:
            task = progress.add_task(what, total=1.0)
            return lambda part: progress.update(task, completed=part)

        yield of


def check_outputs(json_file: Path | None, plot: Path | None, *others: Path | None) -> None:
    """Refuses, before minutes are spent, files that can't be written.

    Raises:
        ConfigurationError: a folder is not there, a file is a folder, or a plot is no picture; one line.
    """
    for path in (json_file, plot, *others):
        if path is not None and not path.parent.is_dir():
            raise ConfigurationError(f"{path}: no such folder")
        if path is not None and path.is_dir():
            raise ConfigurationError(f"{path}: is a folder")
    if plot is not None and plot.suffix.lower() not in PLOT_SUFFIXES:
        raise ConfigurationError(f"--plot: {plot}: must end in {' or '.join(PLOT_SUFFIXES)}")


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Writes figures to a file, or to standard output where the path is `-`."""
    text = json.dumps(figures, indent=2, allow_nan=False)
    if path == STDOUT:
        typer.echo(text)
    else:
        written(path, lambda: path.write_text(text + "\n"))


def written(path: Path, write: Callable[[], object]) -> None:
    """Writes; what the disk refuses is one clear line."""
    try:
        write()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from None
