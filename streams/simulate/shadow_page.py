"""What another policy would have commanded, as tables for people. Pure."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_NONE = "-"


def page(figures: Mapping[str, Any], most: int) -> RenderableType:
    """`shadow.replayed`'s figures: counts side by side, and the first `most` commands that differ."""
    name = f"[bold]{escape(figures['scenario'])}[/bold], seed {figures['seed']}: what was commanded, and what would be"
    differing = f"{figures['only_given']} commands only given, {figures['only_would_be']} only would be, renewals aside"
    parts: list[RenderableType] = [name, _counts(figures), differing]
    if figures["differing"]:
        parts.append(_differing(figures["differing"][:most]))
    left_out = len(figures["differing"]) - most + figures["differing_left_out"]
    return Group(*parts, *([f"and {left_out} more (--json)"] if left_out > 0 else []))


def _table(*names: str, figures: tuple[str, ...] = ()) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for each in names:
        table.add_column(each, no_wrap=True)
    for each in figures:
        table.add_column(each, justify="right", no_wrap=True)
    return table


def _counts(figures: Mapping[str, Any]) -> Table:
    sides = [figures["given"], figures["would_be"]]
    table = _table("commands", figures=(f"given: {sides[0]['policy']}", f"would be: {sides[1]['policy']}"))
    rows = sorted(
        {(kind, reason) for side in sides for kind, by in side["by_kind_and_reason"].items() for reason in by}
    )
    for kind, reason in rows:
        table.add_row(
            f"{kind}, {reason}", *(str(side["by_kind_and_reason"].get(kind, {}).get(reason, 0)) for side in sides)
        )
    table.add_row("renewals among them", *(str(side["renewals"]) for side in sides))
    cost = [side["planned_energy_usd"] for side in sides]
    table.add_row("energy as planned, USD", *(_NONE if usd is None else f"{usd:,.2f}" for usd in cost))
    return table


def _differing(commands: list[Mapping[str, Any]]) -> Table:
    table = _table("when", "side", "site", "what", "why", figures=("to",))
    for each in commands:
        watts, share = each["target_power_watts"], each["share_ratio"]
        to = f"{watts / 1000:,.1f} kW" if watts is not None else f"{share:.0%}" if share is not None else _NONE
        side = "given" if each["side"] == "given" else "would be"
        when = each["at"][:19].replace("T", " ")
        table.add_row(when, side, escape(each["site_id"]), each["kind"], each["reason"], to)
    return table
