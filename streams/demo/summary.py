"""What a demo did, as figures and as a page that a person can read. Pure."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from schemas.fleet import FleetFile
from streams.demo.tally import Tally


def summarise(
    tally: Tally, fleet_file: FleetFile, rows: dict[str, int], span_seconds: float, rate: float, notes: list[str]
) -> dict[str, Any]:
    """The figures of a run, ready for JSON. `rows`: what the database holds, by table."""
    points = {site.id: (fleet.id, site.settlement_point) for fleet, site in fleet_file.sites()}
    cost, tokens = tally.energy_cost_usd(points), round(tally.tokens)
    return {
        **tally.counts(),
        "commands_out": _nested(tally.commands),
        "acks_in": dict(sorted(tally.acks.items())),
        "commands_without_answer": tally.commands_without_answer,
        "dead_letters": _nested(tally.dead_letters),
        "repeats": dict(tally.repeats),
        "rows": rows,
        "energy_kwh": round(tally.energy_kwh(), 3),
        "energy_cost_usd": round(cost, 4),
        "tokens": tokens,
        "usd_per_million_tokens": round(cost / tokens * 1e6, 6) if tokens else None,
        "signal_to_command_seconds": _percentiles(tally.signal_to_command_seconds),
        "telemetry_to_state_seconds": _percentiles(tally.telemetry_to_state_seconds),
        "events": [_event(tally, event, fleet_file) for event in tally.events.values() if not event["cancelled"]],
        "simulated_seconds": span_seconds,
        "speed": rate,
        "notes": notes,
    }


def problems(summary: dict[str, Any], tally: Tally, tables_of: dict[str, tuple[str, ...]]) -> list[str]:
    """What did not go as it must; empty if all is well. `tables_of`: the tables that a topic's records lie in."""
    found = [f"no {name}" for name in ("frames_in", "states_out", "forecasts_out") if not summary[name]]
    found += [f"no {name}" for name in ("commands_out", "acks_in", "rows") if not summary[name]]
    if summary["commands_without_answer"]:
        found.append(f"{summary['commands_without_answer']} commands without an answer")
    for topic, keys in tally.distinct().items():
        held = sum(summary["rows"].get(table, 0) for table in tables_of[topic])
        if held != keys:
            found.append(f"{topic}: {keys} distinct keys on the bus, {held} rows in the database")
    for event in summary["events"]:
        settled, target = event["settled_watts"], event["target_watts"]
        if settled is None or target is None:
            found.append(f"{event['signal_id']}: the meters are silent before or during it")
        elif settled > target * 1.02:
            found.append(f"{event['signal_id']}: power did not come down to the target")
    return found


def _nested(counts: Any) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (outer, inner), count in sorted(counts.items()):
        nested.setdefault(outer, {})[inner] = count
    return nested


def _percentiles(seconds: list[float]) -> dict[str, float | None]:
    if not seconds:
        return {"p50": None, "p99": None}
    return {"p50": round(float(np.quantile(seconds, 0.5)), 3), "p99": round(float(np.quantile(seconds, 0.99)), 3)}


def _event(tally: Tally, event: dict[str, Any], fleet_file: FleetFile) -> dict[str, Any]:
    """How the fleet's meters answered an event: before it was announced, at the target, after its end."""
    fleet = fleet_file.fleet(event["fleet_id"])
    assert fleet is not None
    sites = [site.id for site in fleet.sites if not event["site_ids"] or site.id in event["site_ids"]]
    said, starts, ends = (datetime.fromisoformat(event[name]) for name in ("published_at", "starts_at", "ends_at"))
    settled = starts + timedelta(seconds=event["ramp_seconds"] + 60)
    before = _mean_watts(tally, sites, said - timedelta(minutes=5), said)
    target = event["target_power_watts"]
    baseline = _baseline_watts(tally, event["signal_id"], sites, before)
    if target is None and baseline is not None:
        target = round(baseline * (1 - event["reduction_ratio"]), 1)
    return {
        "signal_id": event["signal_id"],
        "before_watts": before,
        "target_watts": target,
        "settled_watts": _mean_watts(tally, sites, settled, ends),
        "after_watts": _mean_watts(tally, sites, ends + timedelta(minutes=8), ends + timedelta(minutes=30)),
    }


def _baseline_watts(tally: Tally, signal_id: str, sites: list[str], before: float | None) -> float | None:
    """What the reduction is counted from: what the planner pinned when it heard of the event, and else the meters
    before it. The two differ by what the sites' load did while the news was on its way.
    """
    pinned = [tally.baselines.get((signal_id, site_id)) for site_id in sites]
    known = [watts for watts in pinned if watts is not None]
    return sum(known) if before is not None and len(known) == len(sites) else before


def _mean_watts(tally: Tally, sites: list[str], since: datetime, until: datetime) -> float | None:
    means = []
    for site_id in sites:
        watts = [watts for start, (watts, _) in tally.meter[site_id].items() if since <= start < until]
        if not watts:
            return None
        means.append(sum(watts) / len(watts))
    return round(sum(means), 1)


def page(summary: dict[str, Any], found: list[str]) -> RenderableType:
    """The summary for a person."""
    table = Table(title="Gridtide demo", show_header=False, title_style="bold", min_width=64)
    hours = summary["simulated_seconds"] / 3600
    table.add_row("played", f"{hours:.2f} h at {summary['speed']:g} times real time")
    for note in summary["notes"]:
        table.add_row("", escape(note))
    table.add_section()
    table.add_row("telemetry", f"{summary['frames_in']:,} frames, {summary['gpu_samples_in']:,} GPU samples")
    table.add_row("site states", f"{summary['states_out']:,}")
    table.add_row("forecasts", f"{summary['forecasts_out']:,}")
    table.add_row("flexibility offers", f"{summary['offers_out']:,}")
    sent = ", ".join(
        f"{count} {kind} ({reason})" for kind, by in summary["commands_out"].items() for reason, count in by.items()
    )
    table.add_row("commands", sent or "none")
    table.add_row("answers", ", ".join(f"{count} {status}" for status, count in summary["acks_in"].items()) or "none")
    dead = sum(count for by in summary["dead_letters"].values() for count in by.values())
    table.add_row("dead letters", f"{dead:,}")
    table.add_row("rows", f"{sum(summary['rows'].values()):,} in {len(summary['rows'])} tables")
    table.add_section()
    for name, label in (
        ("telemetry_to_state_seconds", "frame to state"),
        ("signal_to_command_seconds", "event to command"),
    ):
        at = summary[name]
        if at["p50"] is not None:
            table.add_row(label, f"p50 {at['p50'] * 1000:.0f} ms, p99 {at['p99'] * 1000:.0f} ms (wall clock)")
    table.add_row("energy", f"{summary['energy_kwh']:,.1f} kWh for {summary['energy_cost_usd']:,.2f} USD")
    if summary["usd_per_million_tokens"] is not None:
        price = f"{summary['usd_per_million_tokens']:.4f} USD of energy per million"
        table.add_row("tokens", f"{summary['tokens'] / 1e6:,.1f} million, {price}")
    for event in summary["events"]:
        steps = (event[name] for name in ("before_watts", "target_watts", "settled_watts", "after_watts"))
        before, target, settled, after = (f"{watts / 1000:.1f}" if watts is not None else "-" for watts in steps)
        told = f"{before} kW before, target {target}, held {settled}, {after} after"
        table.add_row("grid event", told)
    well = "[green]every command answered, every key in once[/green]"
    return Group(table, "[red]" + escape("\n".join(found)) + "[/red]" if found else well)
