"""A backtest's scores as tables for people. Pure."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from forecasting.summary import MODEL, SPIKE_BASELINE

_LOWER_IS_BETTER = ("wmape", "pinball", "winkler_90")
_SPIKE_SCORES = ("average_precision", "recall_at_10pct_false_alarms", "lead_time_seconds")
_NONE = "-"


def page(figures: dict[str, Any]) -> RenderableType:
    """`forecasting.summary.summary`'s figures: a table by horizon and method, one of the spikes, and what it took."""
    series, seconds = figures["series"], figures["seconds"]
    about = (
        f"{series['steps']:,} steps of {series['step_seconds']:g} s, {series['train_steps']:,} to learn from, "
        f"{series['origins']:,} forecasts; {series['gaps']:,} gaps"
    )
    flags = f"; {', '.join(series['flags'])}" if series["flags"] else ""
    took = f"{seconds['train']:.1f} s to train, {seconds['predict']:.1f} s to predict"
    return Group(
        f"[bold]{escape(series['name'])}[/bold]", escape(about + flags), _errors(figures), _spikes(figures), took
    )


def _table(names: Sequence[str], figures: Sequence[str], caption: str) -> Table:
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left", padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _errors(figures: dict[str, Any]) -> Table:
    caption = "best of each horizon in green; (95 % interval of the coverage); loads in their own unit"
    table = _table(("ahead", "method"), ("wMAPE", "pinball", "in 90 %", "width", "Winkler"), caption)
    for horizon, scored in figures["horizons"].items():
        methods = {MODEL: scored[MODEL], **scored["baselines"]}
        best = {name: _least(methods, name) for name in _LOWER_IS_BETTER}
        for place, (method, of) in enumerate(each for each in methods.items() if each[1] is not None):
            table.add_row(horizon if place == 0 else "", method.replace("_", " "), *_error_cells(of, best))
        table.add_section()
    return table


def _error_cells(of: dict[str, Any], best: dict[str, float | None]) -> list[str]:
    def shown(name: str, text: str) -> str:
        return f"[green bold]{text}[/green bold]" if of[name] is not None and of[name] == best[name] else text

    return [
        shown("wmape", _percent(of["wmape"])),
        shown("pinball", _load(of["pinball"])),
        _coverage(of),
        _load(of["width_90"]),
        shown("winkler_90", _load(of["winkler_90"])),
    ]


def _coverage(of: dict[str, Any]) -> str:
    interval = of["coverage_90_interval"]
    within = f" ({interval[0] * 100:.0f}-{interval[1] * 100:.0f})" if interval else ""
    return _percent(of["coverage_90"]) + within


def _least(methods: dict[str, Any], name: str) -> float | None:
    known = [of[name] for of in methods.values() if of is not None and of[name] is not None]
    return min(known, default=None)


def _spikes(figures: dict[str, Any]) -> Table:
    caption = "recall: of the spikes, with at most 10 % false alarms"
    table = _table(("spikes", "within", "method"), ("average precision", "recall", "lead time"), caption)
    for definition, by_within in figures["spikes"]["others"].items():
        for place, (within, of) in enumerate(by_within.items()):
            label = definition.replace("_", " ") if place == 0 else ""
            if not of["spikes_ratio"]:
                table.add_row(label, within, "none came", _NONE, _NONE, _NONE)
                continue
            for method in (each for each in (MODEL, SPIKE_BASELINE) if each in of):
                table.add_row(
                    *((label, within) if method == MODEL else ("", "")),
                    method,
                    *(_spike_cell(name, of[method][name]) for name in _SPIKE_SCORES),
                )
        table.add_section()
    return table


def _spike_cell(name: str, value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value / 60:.3g} min" if name == "lead_time_seconds" else f"{value:.3f}"


def _percent(ratio: float | None) -> str:
    return _NONE if ratio is None else f"{ratio * 100:.1f} %"


def _load(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
