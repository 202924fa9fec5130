"""What a simulated run is judged by: `kpis`, ready for JSON. Pure.

What each module counts:

    span       ticks, minutes, and which of them lie in a span of time
    moves      what shifts moved, as the plans in the log have it
    economics  energy, cost, tokens, service misses; the saving beside two other policies
    asked      what each event asked for
    offered    what the sites had offered before it
    events     how each event was answered
    ramps      where our controls moved power faster than declared
    commands   commands, plans, modes, offers, broken safety rules
"""

from dataclasses import asdict
from typing import Any

from schemas.fleet import FleetFile
from streams.simulate.kpis.decisions import commands, mode_seconds, offers_made, planning, safety_violations
from streams.simulate.kpis.economics import books, class_figures, fleet_figures, site_figures
from streams.simulate.kpis.events import event_figures
from streams.simulate.kpis.events_summary import events_summary
from streams.simulate.kpis.moves import moves_of, shifts
from streams.simulate.kpis.ramps import ramp_violations
from streams.simulate.kpis.span import counted_from, end_of
from streams.simulate.log import Outcome
from streams.simulate.verdicts import verdicts


def kpis(outcome: Outcome, fleet_file: FleetFile, blind: Outcome | None, oracle: Outcome | None) -> dict[str, Any]:
    """All KPIs of a run after its warm-up, beside the same scenario price-blind and with perfect foresight.

    Ratios are 0-1 (a difference of two may be negative), null where there is nothing to say it of.

    Raises:
        BarError: the scenario sets a bar for something that is not measured.
    """
    trajectory, moved = outcome.trajectory, moves_of(outcome)
    own = books(outcome, fleet_file, moved)
    of_blind, of_oracle = (None if each is None else books(each, fleet_file) for each in (blind, oracle))
    ramps = ramp_violations(outcome, fleet_file)
    events = event_figures(outcome, fleet_file)
    sites = site_figures(own, trajectory.site_ids)
    for site_id, broken in ramps["sites"].items():
        sites[site_id]["ramp_violations"] = sum(broken.values())
    result: dict[str, Any] = {
        "scenario": outcome.scenario.name,
        "question": outcome.scenario.about,
        "policy": outcome.policy,
        "seed": outcome.seed,
        "counted_from": counted_from(outcome).isoformat(),
        "ends_at": end_of(trajectory).isoformat(),
        "fleet": fleet_figures(own, of_blind, of_oracle),
        "compared_with": {
            name: None if each is None else fleet_figures(each, None, None)
            for name, each in (("price-blind", of_blind), ("oracle", of_oracle))
        },
        "sites": sites,
        "classes": class_figures(own, of_blind, trajectory.class_ids),
        "events": events,
        "events_summary": events_summary(events),
        "ramp_violations": ramps["total"],
        "ramp_violations_by": {"sites": ramps["sites"], "fleets": ramps["fleets"]},
        "safety_violations": safety_violations(outcome, fleet_file),
        "commands": commands(outcome),
        "shifts": shifts(outcome, moved),
        "mode_seconds": mode_seconds(outcome),
        "planner": planning(outcome),
        "offers": offers_made(outcome),
    }
    result["verdicts"] = [asdict(each) for each in verdicts(result, outcome.scenario.bars)]
    return result
