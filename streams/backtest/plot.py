"""A backtest as a picture: the load with its forecast, the errors by method, and how far the quantiles are right."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from numpy.typing import NDArray

from forecasting.backtest import Backtest
from forecasting.summary import MODEL, horizon_name
from schemas.forecast import QUANTILE_LEVELS

# More would be a smear; the last ones are shown.
_MOST_STEPS = 2000
_SHOWN_HORIZON_SECONDS = 1800.0
_ACTUAL, _FORECAST = "#3a3a3a", "#1f5fa8"


def draw(backtest: Backtest, figures: dict[str, Any], path: Path) -> None:
    """Writes the picture of a backtest and its `summary` to `path`, as PNG or SVG by its suffix; the same each time.

    Raises:
        OSError: the file can't be written.
    """
    ahead = np.abs(np.array(backtest.options.horizons_seconds) - _SHOWN_HORIZON_SECONDS)
    shown = int(np.argmin(ahead))
    with mpl.rc_context({"svg.hashsalt": "gridtide", "timezone": "UTC", "text.parse_math": False}):
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        axes = figure.subplot_mosaic([["load", "load"], ["errors", "reliability"]], height_ratios=[1.15, 1])
        _load(axes["load"], backtest, shown)
        _errors(axes["errors"], figures)
        _reliability(axes["reliability"], backtest, shown)
        figure.suptitle(backtest.series.name)
        svg = path.suffix.lower() == ".svg"
        figure.savefig(path, dpi=130, metadata={"Date": None} if svg else None)


def _load(axes: Axes, backtest: Backtest, shown: int) -> None:
    series, seconds = backtest.series, backtest.options.horizons_seconds[shown]
    last = slice(-_MOST_STEPS, None)
    steps_ahead = round(seconds / series.step_seconds)
    places = backtest.origins[last] + steps_ahead
    times = date2num([series.starts_at + timedelta(seconds=float(place) * series.step_seconds) for place in places])
    of_model = backtest.quantiles[MODEL][last, shown]
    axes.fill_between(times, of_model[:, 0], of_model[:, -1], color=_FORECAST, alpha=0.2, lw=0, label="90 % interval")
    axes.plot(times, of_model[:, QUANTILE_LEVELS.index(0.5)], color=_FORECAST, lw=1.1, label="forecast (median)")
    axes.plot(times, backtest.actual[last, shown], color=_ACTUAL, lw=0.9, label="load")
    axes.set_title(f"{horizon_name(seconds)} ahead", loc="left", fontsize="medium")
    axes.legend(loc="upper left", fontsize="small", ncols=3, frameon=False)
    axes.set_ylim(bottom=0)
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
    axes.spines[["top", "right"]].set_visible(False)


def _errors(axes: Axes, figures: dict[str, Any]) -> None:
    horizons = list(figures["horizons"])
    methods = [MODEL, *dict.fromkeys(name for of in figures["horizons"].values() for name in of["baselines"])]
    thickness = 0.8 / len(methods)
    for number, method in enumerate(methods):
        heights = [_wmape(figures["horizons"][horizon], method) * 100 for horizon in horizons]
        color = _FORECAST if method == MODEL else f"{0.35 + 0.5 * number / len(methods):.2f}"
        left = np.arange(len(horizons)) - 0.4 + (number + 0.5) * thickness
        axes.bar(left, heights, thickness * 0.9, color=color, label=method.replace("_", " "))
    axes.set_xticks(range(len(horizons)), horizons)
    axes.set_ylabel("wMAPE, %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="x-small", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _wmape(of: dict[str, Any], method: str) -> float:
    scored = of[MODEL] if method == MODEL else of["baselines"].get(method)
    return float("nan") if scored is None or scored["wmape"] is None else float(scored["wmape"])


def _reliability(axes: Axes, backtest: Backtest, shown: int) -> None:
    """The share of steps below each quantile beside its level: on the diagonal where the forecast is calibrated."""
    axes.plot([0, 1], [0, 1], color="0.7", lw=1, ls="--")
    ahead = backtest.options.horizons_seconds
    for place, seconds in enumerate(ahead):
        below = _below(backtest.actual[:, place], backtest.quantiles[MODEL][:, place])
        grey = f"{0.3 + 0.4 * place / len(ahead):.2f}"
        color, thickness = (_FORECAST, 1.8) if place == shown else (grey, 1.0)
        axes.plot(
            QUANTILE_LEVELS,
            below,
            color=color,
            lw=thickness,
            marker="osv^D"[place % 5],
            ms=3,
            label=horizon_name(seconds),
        )
    axes.set(xlabel="quantile", ylabel="share of steps below it", xlim=(0, 1), ylim=(0, 1))
    axes.legend(title="ahead", loc="upper left", fontsize="x-small", title_fontsize="x-small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _below(actual: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(actual) & ~np.isnan(quantiles).any(axis=1)
    if not known.any():
        return np.full(len(QUANTILE_LEVELS), np.nan)
    share: NDArray[np.float64] = (actual[known, None] <= quantiles[known]).mean(axis=0)
    return share
