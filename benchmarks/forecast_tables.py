"""A backtest's scores as tables for people: methods by horizon, the best of each marked."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.table import Table

from benchmarks.rolling import Told

_COLUMNS = {
    "wMAPE": "wmape",
    "pinball": "pinball",
    "90 % holds": "coverage_90",
    "width": "width_90",
    "Winkler": "winkler_90",
}
_LOWER_IS_BETTER = ("wmape", "pinball", "winkler_90")
_SPIKE_COLUMNS = {
    "average precision": "average_precision",
    "recall at 10 % false alarms": "recall_at_10pct_false_alarms",
    "lead time, s": "lead_time_seconds",
}


def tables(trace: str, summary: Mapping[str, Any], told: Mapping[str, Told]) -> Iterator[Table]:
    """A table for each horizon, one of spikes, and one of seconds."""
    for horizon, scored in summary["horizons"].items():
        methods = {"model": scored["model"], **scored["baselines"]}
        yield _table(f"{trace}, {horizon} ahead", methods, _COLUMNS, min, _LOWER_IS_BETTER)
    for definition, by_within in summary["spikes"]["others"].items():
        for within, found in by_within.items():
            methods = {name: each for name, each in found.items() if isinstance(each, Mapping)}
            yield _table(
                f"{trace}, spikes {definition} within {within}",
                methods,
                _SPIKE_COLUMNS,
                max,
                tuple(_SPIKE_COLUMNS.values()),
            )
    yield _seconds(trace, summary["seconds"], told)


def _table(
    title: str,
    methods: Mapping[str, Any],
    columns: Mapping[str, str],
    best_of: Callable[..., float],
    marked: tuple[str, ...],
) -> Table:
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for heading in columns:
        shown.add_column(heading, justify="right")
    best = {
        score: best_of((each[score] for each in methods.values() if each[score] is not None), default=None)
        for score in marked
    }
    for name, each in methods.items():
        shown.add_row(name, *(_cell(score, each[score], best.get(score)) for score in columns.values()))
    return shown


def _cell(score: str, value: float | None, best: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.2%}" if score in ("wmape", "coverage_90") else f"{value:.4g}"
    return f"[bold]*{text}[/bold]" if value == best else text


def _seconds(trace: str, ours: Mapping[str, float], told: Mapping[str, Told]) -> Table:
    shown = Table(title=f"{trace}, seconds over the whole roll", title_justify="left")
    for heading in ("", "train", "predict", "choose", "variants"):
        shown.add_column(heading, justify="left" if heading in ("", "variants") else "right")
    shown.add_row("model", f"{ours['train']:.1f}", f"{ours['predict']:.2f}", "", "")
    for name, each in told.items():
        variants = "; ".join(dict.fromkeys(each.variants))
        seconds = (f"{each.train_seconds:.1f}", f"{each.predict_seconds:.2f}", f"{each.choose_seconds:.1f}")
        shown.add_row(name, *seconds, variants)
    return shown
