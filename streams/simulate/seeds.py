"""The same scenario under several seeds: means, the worst, and every broken safety rule. Pure."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

# Of these the least is the worst; of everything else the most.
_MORE_IS_BETTER = frozenset(
    {
        "tokens",
        "tokens_ratio",
        "saving_vs_price_blind_ratio",
        "attained_saving_ratio",
        "weighted_performance_ratio",
        "delivered_per_offered_ratio",
        "events",
        "events_met_ratio",
    }
)
_PARTS = ("fleet", "events_summary")


def over_seeds(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The runs' KPIs, ready for JSON: `figures` has of each the mean and the worst; null where no run knows it."""
    figures = {
        part: {name: _over([result[part][name] for result in results], name) for name in results[0][part]}
        for part in _PARTS
        if all(result.get(part) for result in results)
    }
    return {
        "scenario": results[0]["scenario"],
        "policy": results[0]["policy"],
        "seeds": [result["seed"] for result in results],
        "figures": figures,
        "ramp_violations": sum(result["ramp_violations"] for result in results),
        "safety_violations": sum(result["safety_violations"]["total"] for result in results),
        "bars_met": {
            verdict["name"]: sum(
                each["met"] for result in results for each in result["verdicts"] if each["name"] == verdict["name"]
            )
            for verdict in results[0]["verdicts"]
        },
        "runs": list(results),
    }


def _over(values: Sequence[Any], name: str) -> dict[str, float | None]:
    known = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if not known:
        return {"mean": None, "worst": None}
    return {"mean": fmean(known), "worst": min(known) if name in _MORE_IS_BETTER else max(known)}


def page(summary: Mapping[str, Any]) -> RenderableType:
    """The summary as a table for people."""
    count = len(summary["seeds"])
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in ("", "mean", "worst"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for part, figures in summary["figures"].items():
        for name, of in figures.items():
            if of["mean"] is not None:
                table.add_row(f"{part} {name}".replace("_", " "), f"{of['mean']:,.6g}", f"{of['worst']:,.6g}")
    bars = [f"{name} in {met} of {count}" for name, met in summary["bars_met"].items()]
    return Group(
        f"[bold]{escape(summary['scenario'])}[/bold] under [bold]{escape(summary['policy'])}[/bold], {count} seeds",
        table,
        f"broken safety rules: {summary['safety_violations']}; ramps: {summary['ramp_violations']}",
        *([escape("bars met: " + ", ".join(bars))] if bars else []),
    )
