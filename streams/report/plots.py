"""The evidence as pictures: SVG text, the same for the same rows."""

import io
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from streams.report.evidence import Evidence

# Of a fleet with more sites the page shows those that were longest over their target; the CSV holds all.
MOST_SITES = 12
_KILO = 1000.0


def fleet_plot(evidence: Evidence) -> str:
    """The sites together, by minute: drawn, baseline, target; and the price below."""
    sums: defaultdict[datetime, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    bound: defaultdict[datetime, int] = defaultdict(int)
    sites = {row["site_id"] for row in evidence.minutes.records()}
    for row in evidence.minutes.records():
        place = sums[row["minute"]]
        place[0] += row["meter_power_watts"] or 0.0
        place[1] += row["baseline_power_watts"] or 0.0
        place[2] += row["target_power_watts"] or 0.0
        bound[row["minute"]] += row["target_power_watts"] is not None
    rows = [
        (minute, drawn, baseline, target if bound[minute] == len(sites) else None)
        for minute, (drawn, baseline, target) in sorted(sums.items())
    ]
    priced = bool(evidence.prices.rows)
    figure = Figure(figsize=(9, 4.6 if priced else 3.2), layout="constrained")
    axes = figure.subplots(2 if priced else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1][: 1 + priced])[:, 0]
    _power(axes[0], rows, evidence)
    axes[0].set_title(f"All {len(sites)} sites")
    if priced:
        _price(axes[1], evidence)
    return _svg(figure)


def site_plots(evidence: Evidence) -> list[tuple[str, str]]:
    """(site, picture) for each site; of many, those that were longest over their target."""
    over = {row["site_id"]: row["minutes_over_target"] or 0 for row in evidence.sites.records()}
    by_site: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in evidence.minutes.records():
        by_site[row["site_id"]].append(
            (row["minute"], row["meter_power_watts"], row["baseline_power_watts"], row["target_power_watts"])
        )
    chosen = sorted(by_site, key=lambda site_id: (-over.get(site_id, 0), site_id))[:MOST_SITES]
    pictures = []
    for site_id in chosen:
        figure = Figure(figsize=(9, 2.4), layout="constrained")
        axes = figure.subplots()
        _power(axes, by_site[site_id], evidence)
        axes.set_title(site_id)
        pictures.append((site_id, _svg(figure)))
    return pictures


def _power(axes: Axes, rows: Sequence[tuple[Any, ...]], evidence: Evidence) -> None:
    event = evidence.event.records()[0]
    minutes = date2num([row[0] for row in rows])
    drawn, baseline, target = ([_kilowatts(row[place]) for row in rows] for place in (1, 2, 3))
    axes.axvspan(event["starts_at"], event["ends_at"], color="#eef2f7", lw=0)
    axes.axvspan(event["starts_at"], event["held_from"], color="#dde5ef", lw=0, label="ramp")
    axes.plot(minutes, baseline, color="#7a7a7a", lw=1, ls="--", label="baseline")
    axes.plot(minutes, drawn, color="#1f5fa8", lw=1.4, label="meter power")
    axes.plot(minutes, target, color="#b3261e", lw=1.4, label="target")
    axes.set_ylabel("kW")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", fontsize="small", ncols=4, frameon=False)
    _times(axes)


def _price(axes: Axes, evidence: Evidence) -> None:
    by_point: defaultdict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for row in evidence.prices.records():
        by_point[row["settlement_point"]] += [
            (row["starts_at"], row["price_usd_per_mwh"]),
            (row["ends_at"], row["price_usd_per_mwh"]),
        ]
    for point, steps in sorted(by_point.items()):
        axes.plot(date2num([at for at, _ in steps]), [price for _, price in steps], lw=1, label=point)
    axes.set_ylabel("USD/MWh")
    axes.legend(loc="upper left", fontsize="small", ncols=4, frameon=False)
    _times(axes)


def _times(axes: Axes) -> None:
    axes.xaxis_date()
    formatter = ConciseDateFormatter(axes.xaxis.get_major_locator())
    axes.xaxis.set_major_formatter(formatter)
    axes.spines[["top", "right"]].set_visible(False)


def _kilowatts(watts: float | None) -> float:
    return float("nan") if watts is None else watts / _KILO


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    # Names inside the picture come from the hash's salt, and it would be dated: the same rows must give the same page.
    with mpl.rc_context({"svg.hashsalt": "gridtide", "svg.fonttype": "none", "timezone": "UTC"}):
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    return text[text.index("<svg") :]
