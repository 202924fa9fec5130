"""What a run decided and sent, from its log: commands, plans, modes, offers, broken safety rules. Pure."""

from collections import Counter
from typing import Any

from schemas.catalog import SITE_COMMANDS
from schemas.command import Release, Shift, Throttle
from schemas.fleet import FleetFile
from schemas.offer import FlexibilityOffer
from streams.simulate.kpis.moves import plans_of
from streams.simulate.kpis.span import counted_from, counted_ticks
from streams.simulate.log import Outcome
from streams.simulate.safety import violations


def commands(outcome: Outcome) -> dict[str, Any]:
    """Commands by kind and reason, renewals apart; one that the bus held twice is one."""
    seen: set[tuple[str, int, int]] = set()
    counts: Counter[tuple[str, str]] = Counter()
    renewals = 0
    for at, topic, command in outcome.judged():
        if topic != SITE_COMMANDS.name or not isinstance(command, Throttle | Shift | Release):
            continue
        if at < counted_from(outcome) or (command.site_id, *command.order) in seen:
            continue
        seen.add((command.site_id, *command.order))
        if command.renewal:
            renewals += 1
        else:
            counts[command.kind, command.reason] += 1
    by_kind: dict[str, dict[str, int]] = {}
    for (kind, reason), count in sorted(counts.items()):
        by_kind.setdefault(kind, {})[reason] = count
    return {"total": sum(counts.values()), "renewals": renewals, "by_kind": by_kind}


def mode_seconds(outcome: Outcome) -> dict[str, float]:
    """How long the plan in force was of each mode, degraded or normal; nothing where nobody planned."""
    trajectory = outcome.trajectory
    modes = Counter(str(mode) for mode in trajectory.mode[counted_ticks(outcome)] if mode)
    return {mode: ticks * trajectory.step_seconds for mode, ticks in sorted(modes.items())}


def planning(outcome: Outcome) -> dict[str, Any]:
    """Plans by who made them, and the iterations of the programs that were solved for them."""
    plans = [plan for at, plan in plans_of(outcome) if at >= counted_from(outcome)]
    # A schedule stays in the plans until the next one: it was solved once.
    solved = {
        plan.schedule.starts_at: plan.schedule.iterations
        for plan in plans
        if plan.planner == "optimiser" and plan.schedule is not None
    }
    iterations = list(solved.values())
    return {
        "plans": dict(sorted(Counter(plan.planner for plan in plans).items())),
        "solved": len(iterations),
        "iterations_mean": sum(iterations) / len(iterations) if iterations else None,
        "iterations_max": max(iterations, default=None),
    }


def offers_made(outcome: Outcome) -> int:
    """Flexibility offers after the warm-up."""
    since = counted_from(outcome)
    return sum(isinstance(entry.record, FlexibilityOffer) and entry.at >= since for entry in outcome.log)


def safety_violations(outcome: Outcome, fleet_file: FleetFile) -> dict[str, Any]:
    """By rule of the design's section 6, over the whole run: safety has no warm-up. The first few in detail."""
    found = violations(outcome.judged(), fleet_file)
    by_rule = Counter(each.rule for each in found)
    first = [
        {"rule": each.rule, "at": each.at.isoformat(), "site_id": each.site_id, "detail": each.detail}
        for each in found[:_SHOWN]
    ]
    return {"total": len(found), "by_rule": {str(rule): by_rule[rule] for rule in sorted(by_rule)}, "first": first}


_SHOWN = 5
