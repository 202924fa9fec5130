"""`gridtide backtest`: how good the forecaster would have been on a file, beside what is simpler."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from infra.settings import ConfigurationError
from streams.collect.cells import TraceError
from streams.command_output import STDOUT, bars, check_outputs, write_json, written
from streams.durations import seconds_of
from streams.one_clear_line import one_clear_line, say

if TYPE_CHECKING:
    from forecasting.backtest import Options
    from forecasting.series import LoadSeries


@one_clear_line
def backtest(
    requests: Annotated[
        Path, typer.Option(help="A raw request trace, or a CSV with a column of times; .csv or .csv.gz.")
    ],
    column: Annotated[
        str | None, typer.Option(help="The column to forecast; default: the first that varies and is no bound.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="The step, such as 60s; default: the file's own; 60s of a raw trace.")
    ] = None,
    missing: Annotated[Literal["gaps", "zeros"], typer.Option(help="What a step without a line is.")] = "gaps",
    horizons: Annotated[
        str | None, typer.Option(help="How far ahead, such as 10m,30m,60m; default: what the file's step and span let.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="How much to learn from before the first forecast, e.g. 3d.")
    ] = None,
    refit: Annotated[str | None, typer.Option(help="How often to learn anew on the way, such as 1d.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the scores there as JSON; - for standard output.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them there, as .png or .svg.")] = None,
) -> None:
    """Forecasts a past load again and again as time goes on, and scores it beside simple methods.

    Learns from the beginning of the file, then steps through the rest: at each step it forecasts from what was known
    then, and learns anew now and then. The simple methods are given the same treatment: the last value, the same time
    yesterday and last week, a moving average, the mean of that time of day.

    \b
    Forecast a week of traffic 10, 30 and 60 minutes ahead, learning from the first three days:
      gridtide backtest --requests traffic.csv.gz --horizons 10m,30m,60m --train 3d --plot traffic.png
    Another column, the scores for a program:
      gridtide backtest --requests traffic.csv.gz --column tokens_per_second --json - | jq .horizons
    A raw request trace in steps of 10 seconds:
      gridtide backtest --requests azure.csv.gz --step 10s
    """
    check_outputs(json_file, plot)
    step_seconds = None if step is None else _seconds("--step", step)
    ahead = None if horizons is None else tuple(_seconds("--horizons", each) for each in horizons.split(","))
    train_seconds = None if train is None else _seconds("--train", train)
    refit_seconds = None if refit is None else _seconds("--refit", refit)

    from forecasting.backtest import backtest as run  # noqa: PLC0415 - scikit-learn takes seconds to import
    from forecasting.summary import summary  # noqa: PLC0415
    from streams.backtest.page import page  # noqa: PLC0415
    from streams.collect.series import read_series  # noqa: PLC0415

    series = read_series(requests, column, step_seconds, missing, lambda note: say.print(note, markup=False))
    options = _options(requests, series, ahead, train_seconds, refit_seconds)
    try:
        with bars() as bar:
            tell = bar("backtest")
            done = run(series, options, lambda done, of: tell(done / of))
    except ValueError as error:
        raise ConfigurationError(f"{requests}: {error}") from None
    figures = summary(done)
    console = say if json_file == STDOUT else Console(highlight=False)
    console.print(page(figures))
    if json_file is not None:
        write_json(json_file, figures)
    if plot is not None:
        from streams.backtest.plot import draw  # noqa: PLC0415

        written(plot, lambda: draw(done, figures, plot))


def _seconds(option: str, text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def _options(
    path: Path,
    series: "LoadSeries",
    horizons_seconds: tuple[float, ...] | None,
    train_seconds: float | None,
    refit_seconds: float | None,
) -> "Options":
    """The backtest's options for the series, with what was asked for, in whole steps."""
    from forecasting.backtest import default_options  # noqa: PLC0415

    step, steps = series.step_seconds, len(series.values)
    for horizon in horizons_seconds or ():
        ratio = horizon / step
        if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6:
            raise ConfigurationError(f"--horizons: {horizon:g} s is no whole multiple of the step, {step:g} s")
    try:
        options = default_options(series, horizons_seconds and tuple(sorted(set(horizons_seconds))))
    except ValueError as error:
        raise TraceError(f"{path}: {error}") from None
    if train_seconds is not None:
        train_steps = round(train_seconds / step)
        most = steps - 1 - round(max(options.horizons_seconds) / step)
        if not 1 < train_steps <= most:
            raise ConfigurationError(
                f"--train: {train_steps} steps of {step:g} s are not between 2 and {most}: the file has {steps} "
                f"and the longest horizon is {max(options.horizons_seconds):g} s"
            )
        options = replace(options, train_steps=train_steps)
    return options if refit_seconds is None else replace(options, refit_seconds=refit_seconds)
