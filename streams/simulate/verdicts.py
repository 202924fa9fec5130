"""Whether a run meets the bars that its scenario sets. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["at most", "at least"]

# Which bars there are: where the value stands in the KPIs, and on which side of the bound it must lie.
_AT_MOST: Mapping[str, tuple[str, ...]] = {
    "energy_cost_usd": ("fleet", "energy_cost_usd"),
    "usd_per_million_tokens": ("fleet", "usd_per_million_tokens"),
    "tokens_lost_ratio": ("fleet", "tokens_lost_ratio"),
    "regret_vs_oracle_ratio": ("fleet", "regret_vs_oracle_ratio"),
    "slo_miss_ratio": ("fleet", "slo_miss_ratio"),
    "slo_miss_vs_price_blind_ratio": ("fleet", "slo_miss_vs_price_blind_ratio"),
    "minutes_over_target": ("events_summary", "minutes_over_target"),
    "minutes_over_measured_target": ("events_summary", "minutes_over_measured_target"),
    "worst_minute_over_target_ratio": ("events_summary", "worst_minute_over_target_ratio"),
    "over_delivery_ratio": ("events_summary", "over_delivery_ratio"),
    "time_to_target_seconds": ("events_summary", "time_to_target_seconds"),
    "command_latency_seconds": ("events_summary", "command_latency_seconds"),
    "tracking_mae_ratio": ("events_summary", "tracking_mae_ratio"),
    "tracking_mae_where_possible_ratio": ("events_summary", "tracking_mae_where_possible_ratio"),
    "restore_jump_watts": ("events_summary", "restore_jump_watts"),
    "late_ratio": ("events_summary", "late_ratio"),
    "ramp_violations": ("ramp_violations",),
    "safety_violations": ("safety_violations", "total"),
    "commands": ("commands", "total"),
}
_AT_LEAST: Mapping[str, tuple[str, ...]] = {
    "saving_vs_price_blind_ratio": ("fleet", "saving_vs_price_blind_ratio"),
    "attained_saving_ratio": ("fleet", "attained_saving_ratio"),
    "tokens_ratio": ("events_summary", "tokens_ratio"),
    "weighted_performance_ratio": ("events_summary", "weighted_performance_ratio"),
    "delivered_per_offered_ratio": ("events_summary", "delivered_per_offered_ratio"),
    "events": ("events_summary", "events"),
    "events_met_ratio": ("events_summary", "events_met_ratio"),
}
BARS = frozenset({*_AT_MOST, *_AT_LEAST})
# What needs a run of the same scenario under another policy beside it.
COMPARED = frozenset(
    {
        "saving_vs_price_blind_ratio",
        "attained_saving_ratio",
        "regret_vs_oracle_ratio",
        "slo_miss_vs_price_blind_ratio",
    }
)


class BarError(ValueError):
    """A scenario sets a bar for something that is not measured."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar of a scenario: the KPI, what it came to (None: not known), what it may be, and whether it is that."""

    name: str
    value: float | None
    direction: Direction
    bound: float
    met: bool


def verdicts(result: Mapping[str, Any], bars: Mapping[str, float]) -> list[Verdict]:
    """One verdict a bar, in the order of the bars. What could not be measured is not met.

    Raises:
        BarError: there is no such KPI; one line that names those that there are.
    """
    return [_verdict(result, name, bound) for name, bound in bars.items()]


def _verdict(result: Mapping[str, Any], name: str, bound: float) -> Verdict:
    direction: Direction = "at most" if name in _AT_MOST else "at least"
    if name not in BARS:
        raise BarError(f"bars: no such KPI: {name!r}; there are {', '.join(sorted(BARS))}")
    value: Any = result
    for key in _AT_MOST.get(name) or _AT_LEAST[name]:
        value = value[key]
    met = value is not None and (value <= bound if direction == "at most" else value >= bound)
    return Verdict(name, value, direction, bound, met)
