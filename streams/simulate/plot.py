"""A simulated run as a picture: power against what was asked, prices, and the tokens that came and were served."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from numpy.typing import NDArray

from schemas.fleet import FleetFile
from streams.simulate.kpis.asked import all_asked
from streams.simulate.kpis.span import Floats, counted_from, time_of
from streams.simulate.log import Outcome, Trajectory

# A longer run is drawn by the means of as many equal parts: more would be a smear.
_MOST_POINTS = 2000
_MOST_SITES = 8
_POWER, _TARGET, _ARRIVED, _SERVED = "#1f5fa8", "#b03a2e", "#8a8a8a", "#2e7d4f"


def plot(outcome: Outcome, fleet_file: FleetFile, path: Path) -> None:
    """Writes the picture of a run to `path`, as PNG or SVG by its suffix; the same each time.

    Raises:
        OSError: the file can't be written.
    """
    trajectory = outcome.trajectory
    with mpl.rc_context({"svg.hashsalt": "gridtide", "timezone": "UTC", "text.parse_math": False}):
        figure = Figure(figsize=(11, 8), layout="constrained")
        power, prices, tokens = figure.subplots(3, 1, sharex=True, height_ratios=[1.6, 0.8, 1])
        _power(power, outcome, fleet_file)
        _prices(prices, trajectory)
        _tokens(tokens, trajectory)
        for axes in (power, prices, tokens):
            axes.axvspan(date2num(trajectory.starts_at), date2num(counted_from(outcome)), color="0.5", alpha=0.12, lw=0)
            axes.spines[["top", "right"]].set_visible(False)
        tokens.xaxis_date()
        tokens.xaxis.set_major_formatter(ConciseDateFormatter(tokens.xaxis.get_major_locator()))
        figure.suptitle(f"{outcome.scenario.name}, policy {outcome.policy}, seed {outcome.seed}")
        svg = path.suffix.lower() == ".svg"
        figure.savefig(path, dpi=130, metadata={"Date": None} if svg else None)


def _power(axes: Axes, outcome: Outcome, fleet_file: FleetFile) -> None:
    trajectory = outcome.trajectory
    times, meters = _drawn(trajectory, trajectory.meter_power_watts / 1000)
    if len(meters) <= _MOST_SITES:
        axes.stackplot(times, meters, labels=trajectory.site_ids, alpha=0.35, lw=0)
    axes.plot(times, meters.sum(axis=0), color=_POWER, lw=1.2, label="at the meters")
    for place, asked in enumerate(all_asked(outcome, fleet_file)):
        if asked.target_power_watts is None:
            continue
        # What an event asks of some sites, the others may draw beside it.
        others = [row for row in range(len(trajectory.site_ids)) if row not in asked.rows]
        beside = _drawn(trajectory, trajectory.meter_power_watts[others] / 1000)[1].sum(axis=0)
        inside = (times >= date2num(asked.held_from)) & (times < date2num(asked.ends_at))
        target = np.where(inside, asked.target_power_watts / 1000 + beside, np.nan)
        axes.plot(times, target, color=_TARGET, lw=1.4, ls="--", label="target" if place == 0 else None)
    axes.set_ylabel("kW")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", fontsize="x-small", ncols=5, frameon=False)


def _prices(axes: Axes, trajectory: Trajectory) -> None:
    shown: set[bytes] = set()
    times, prices = _drawn(trajectory, trajectory.price_usd_per_mwh)
    for site_id, row in zip(trajectory.site_ids, prices, strict=True):
        if row.tobytes() not in shown and not np.isnan(row).all():  # sites at one settlement point have one line
            axes.plot(times, row, lw=0.9, drawstyle="steps-post", label=site_id)
        shown.add(row.tobytes())
    axes.set_ylabel("USD/MWh")
    if axes.lines and len(axes.lines) <= _MOST_SITES:
        axes.legend(loc="upper left", fontsize="x-small", ncols=4, frameon=False)


def _tokens(axes: Axes, trajectory: Trajectory) -> None:
    for values, color, label in (
        (trajectory.tokens_arrived, _ARRIVED, "arrived"),
        (trajectory.tokens_served, _SERVED, "served"),
    ):
        times, rates = _drawn(trajectory, values.sum(axis=(0, 2))[None] / trajectory.step_seconds)
        axes.plot(times, rates[0], color=color, lw=0.9, label=label)
    axes.set_ylabel("tokens/s")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", fontsize="x-small", ncols=2, frameon=False)


def _drawn(trajectory: Trajectory, values: Floats) -> tuple[NDArray[Any], Floats]:
    """Times and values (S, P) as they are drawn: the means of equal parts of the run, at most so many."""
    ticks = values.shape[1]
    length = -(-ticks // _MOST_POINTS)
    parts = ticks // length
    step = timedelta(seconds=trajectory.step_seconds) * length
    times = date2num([time_of(trajectory, 0) + place * step for place in range(parts)])
    means: Floats = values[:, : parts * length].reshape(len(values), parts, length).mean(axis=2)
    return times, means
