"""A simulated run's KPIs as tables for people. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_NONE = "-"
# A page is for one screen: of many events those with the most minutes over their targets are shown.
_MOST_EVENTS = 12
_MOST_SITES = 20


def page(result: Mapping[str, Any]) -> RenderableType:
    """`kpis`' figures: the fleet beside the policies it was compared with, sites, events, counts, and the verdicts."""
    name, policy = escape(result["scenario"]), escape(result["policy"])
    parts: list[RenderableType] = [f"[bold]{name}[/bold] under [bold]{policy}[/bold], seed {result['seed']}"]
    if result["question"]:
        parts.append(escape(result["question"]))
    tables = [_fleet(result), _sites(result)]
    if result["events"]:
        tables.append(_events(result))
    tables.append(_counts(result))
    if result["verdicts"]:
        tables.append(_verdicts(result["verdicts"]))
    for table in tables:
        parts += ["", table]
    return Group(*parts)


def _table(names: Sequence[str], figures: Sequence[str], caption: str | None = None) -> Table:
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left", padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _fleet(result: Mapping[str, Any]) -> Table:
    fleet, caption = result["fleet"], None
    if fleet["saving_vs_price_blind_ratio"] is not None:
        caption = f"saved over price-blind: {percent(fleet['saving_vs_price_blind_ratio'])} a token"
        if fleet["attained_saving_ratio"] is not None:
            caption += f", {percent(fleet['attained_saving_ratio'])} of what perfect foresight saves"
    table = _table(("fleet",), ("USD", "kWh", "M tokens", "USD/M tokens", "lost", "missed"), caption)
    compared = {name: each for name, each in result["compared_with"].items() if each is not None}
    for name, each in {result["policy"]: fleet, **compared}.items():
        table.add_row(escape(name), *_money(each))
    return table


def _sites(result: Mapping[str, Any]) -> Table:
    more = len(result["sites"]) - _MOST_SITES
    table = _table(
        ("site",),
        ("USD", "kWh", "M tokens", "USD/M tokens", "lost", "missed", "ramps broken"),
        f"and {more} more" if more > 0 else None,
    )
    for site_id, each in list(result["sites"].items())[:_MOST_SITES]:
        table.add_row(escape(site_id), *_money(each), f"{each.get('ramp_violations', 0):,}")
    return table


def _money(of: Mapping[str, Any]) -> list[str]:
    return [
        _figure(of["energy_cost_usd"], ",.2f"),
        _figure(of["energy_kwh"], ",.1f"),
        _figure(of["tokens"] / 1e6, ",.2f"),
        _figure(of["usd_per_million_tokens"], ".4f"),
        percent(of["tokens_lost_ratio"]),
        percent(of["slo_miss_ratio"]),
    ]


def _events(result: Mapping[str, Any]) -> Table:
    events = sorted(result["events"], key=lambda each: -(each["minutes_over_target"] or 0))
    hidden = len(events) - _MOST_EVENTS
    table = _table(
        ("event", "kind"),
        ("target", "min over", "measured", "over-delivered", "to target", "error", "jump", "tokens"),
        "min over: minutes above the target, by the pinned and the measured baseline; jump: largest in a minute after"
        + (f"; and {hidden} events more" if hidden > 0 else ""),
    )
    for each in events[:_MOST_EVENTS]:
        table.add_row(
            escape(each["signal_id"]),
            each["kind"],
            _kilowatts(each["target_power_watts"]),
            f"{_figure(each['minutes_over_target'], 'd')} of {each['minutes']}",
            _figure(each["minutes_over_measured_target"], "d"),
            percent(each["over_delivery_ratio"]),
            _seconds(each["time_to_target_seconds"]),
            percent(each["tracking_mae_ratio"]),
            _kilowatts(each["restore_jump_watts"]),
            percent(each["tokens_ratio"]),
        )
    return table


def _counts(result: Mapping[str, Any]) -> Table:
    commands, shifts, planner = result["commands"], result["shifts"], result["planner"]
    kinds = [f"{count:,} {kind} ({reason})" for kind, of in commands["by_kind"].items() for reason, count in of.items()]
    safety = result["safety_violations"]
    rules = ", ".join(f"rule {rule}: {count:,}" for rule, count in safety["by_rule"].items())
    states = ", ".join(f"{count:,} {state}" for state, count in shifts["by_end_state"].items())
    modes = ", ".join(f"{mode} {_seconds(seconds)}" for mode, seconds in result["mode_seconds"].items())
    plans = ", ".join(f"{count:,} by the {planner}" for planner, count in planner["plans"].items())
    iterations = planner["iterations_mean"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, text in (
        ("commands", ", ".join([*kinds, f"{commands['renewals']:,} renewals"])),
        ("shifts", f"{states or 'none'}; {shifts['tokens_moved'] / 1e6:,.2f} M tokens moved"),
        ("plans", plans + (f"; {iterations:,.0f} iterations each" if iterations is not None else "")),
        ("modes", modes),
        ("offers", f"{result['offers']:,}"),
        ("safety", rules or "no rule broken"),
        ("ramps", f"broken {result['ramp_violations']:,} times" if result["ramp_violations"] else "all held"),
    ):
        table.add_row(name, escape(text or "none"))
    return table


def _verdicts(found: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(("bar",), ("", "bound", "measured", "met"))
    for each in found:
        met = "[green]yes[/green]" if each["met"] else "[red bold]NO[/red bold]"
        table.add_row(
            each["name"],
            each["direction"],
            value_of(each["name"], each["bound"]),
            value_of(each["name"], each["value"]),
            met,
        )
    return table


def value_of(name: str, value: float | None) -> str:
    """A KPI's value for people, in the unit that stands in its name; null: not measured."""
    if value is None:
        return "not measured"
    if name.endswith("_ratio"):
        return percent(value)
    if name.endswith("_watts"):
        return _kilowatts(value)
    return _seconds(value) if name.endswith("_seconds") else f"{value:,.6g}"


def percent(ratio: float | None) -> str:
    """A ratio in percent."""
    return _NONE if ratio is None else f"{ratio * 100:.2f} %"


def _figure(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)


def _kilowatts(watts: float | None) -> str:
    return _NONE if watts is None else f"{watts / 1000:,.1f} kW"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"
