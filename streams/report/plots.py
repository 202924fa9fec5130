"""The evidence as pictures: SVG text, the same for the same rows."""

import io
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from streams.report.evidence import Evidence

# Of a fleet with more sites the page shows those that were longest over their target; the CSV holds all.
MOST_SITES = 12
_KILO = 1000.0
_MINUTE = timedelta(minutes=1)


def _style() -> AbstractContextManager[None]:
    # Names inside the picture come from the hash's salt: the same rows must give the same page. Names from the bus
    # are no formulas.
    return mpl.rc_context(
        {"svg.hashsalt": "gridtide", "svg.fonttype": "none", "timezone": "UTC", "text.parse_math": False}
    )


def fleet_plot(evidence: Evidence) -> str:
    """The sites together, by minute: drawn, baseline, target; and the price below.

    A minute in which a site was not heard of is left blank: the sum of the others would look like a reduction.
    """
    by_site = _by_site(evidence)
    rows = []
    for minute in _every_minute(evidence):
        of_sites = [series.get(minute, (None, None, None)) for series in by_site.values()]
        rows.append((minute, *(_sum([each[place] for each in of_sites]) for place in range(3))))
    priced = bool(evidence.prices.rows)
    with _style():
        figure = Figure(figsize=(9, 4.6 if priced else 3.2), layout="constrained")
        ratios = [3, 1][: 1 + priced]
        axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        _power(axes[0], rows, evidence)
        axes[0].set_title(f"All {len(by_site)} sites")
        if priced:
            _price(axes[1], evidence)
        return _svg(figure)


def site_plots(evidence: Evidence) -> list[tuple[str, str]]:
    """(site, picture) for each site; of many, those that were longest over their target, or not measured at all."""
    over = {row["site_id"]: row["minutes_over_target"] for row in evidence.sites.records()}
    unknown = float("inf")
    by_site = _by_site(evidence)
    ranked = sorted(by_site, key=lambda site: (-(unknown if over.get(site) is None else over[site]), site))
    pictures = []
    for site_id in ranked[:MOST_SITES]:
        rows = [(minute, *by_site[site_id].get(minute, (None, None, None))) for minute in _every_minute(evidence)]
        with _style():
            figure = Figure(figsize=(9, 2.4), layout="constrained")
            axes = figure.subplots()
            _power(axes, rows, evidence)
            axes.set_title(site_id)
            pictures.append((site_id, _svg(figure)))
    return pictures


def _by_site(evidence: Evidence) -> dict[str, dict[datetime, tuple[float | None, ...]]]:
    """Drawn, baseline and target by site and minute."""
    found: defaultdict[str, dict[datetime, tuple[float | None, ...]]] = defaultdict(dict)
    for row in evidence.minutes.records():
        values = (row["meter_power_watts"], row["baseline_power_watts"], row["target_power_watts"])
        found[row["site_id"]][row["minute"]] = values
    return dict(sorted(found.items()))


def _every_minute(evidence: Evidence) -> list[datetime]:
    """From the first minute that is known of any site to the last, without gaps."""
    known = [row["minute"] for row in evidence.minutes.records()]
    first, minutes = min(known), round((max(known) - min(known)) / _MINUTE)
    return [first + number * _MINUTE for number in range(minutes + 1)]


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


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
        steps = by_point[row["settlement_point"]]
        if steps and steps[-1][0] < row["starts_at"]:
            steps.append((steps[-1][0], float("nan")))  # for a while no price is known
        steps += [(row[at], row["price_usd_per_mwh"]) for at in ("starts_at", "ends_at")]
    lines = {}
    for point, steps in by_point.items():
        # Named in the legend, as a label that begins with an underscore would be left out.
        (line,) = axes.plot(date2num([at for at, _ in steps]), [price for _, price in steps], lw=1)
        lines[point] = line
    axes.legend(lines.values(), lines.keys(), loc="upper left", fontsize="small", ncols=4, frameon=False)
    axes.set_ylabel("USD/MWh")
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
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    return text[text.index("<svg") :]
