"""All events of a run in one line. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streams.simulate.kpis.span import ratio

_LARGEST_IS_WORST = (
    "worst_minute_over_target_ratio",
    "over_delivery_ratio",
    "time_to_target_seconds",
    "command_latency_seconds",
    "restore_jump_watts",
    "late_ratio",
)
_LEAST_IS_WORST = ("tokens_ratio", "weighted_performance_ratio", "delivered_per_offered_ratio")


def events_summary(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All events of a run: counts add up, errors are means over the minutes judged, all else is of the worst one."""
    minutes = [each["minutes"] for each in events]
    met = sum(each["minutes_over_target"] == 0 for each in events)
    return {
        "events": len(events),
        "events_met_ratio": ratio(met, sum(each > 0 for each in minutes)),
        "minutes": sum(minutes),
        "minutes_over_target": _added(events, "minutes_over_target"),
        "minutes_over_measured_target": _added(events, "minutes_over_measured_target"),
        "tracking_mae_ratio": _weighted(events, "tracking_mae_ratio", minutes),
        "tracking_mae_where_possible_ratio": _weighted(
            events, "tracking_mae_where_possible_ratio", [each["possible_site_minutes"] for each in events]
        ),
        **{name: _worst_of(events, name, max) for name in _LARGEST_IS_WORST},
        **{name: _worst_of(events, name, min) for name in _LEAST_IS_WORST},
    }


def _known(events: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [each[name] for each in events if each[name] is not None]


def _added(events: Sequence[Mapping[str, Any]], name: str) -> int | None:
    known = _known(events, name)
    return sum(known) if known else None


def _worst_of(events: Sequence[Mapping[str, Any]], name: str, worst: Callable[[list[float]], float]) -> float | None:
    """The worst of those that had a minute to judge; null where one is not known, such as a target never reached."""
    judged = [each for each in events if each["minutes"]]
    known = _known(judged, name)
    return worst(known) if known and len(known) == len(judged) else None


def _weighted(events: Sequence[Mapping[str, Any]], name: str, weights: Sequence[float]) -> float | None:
    pairs = [(each[name], weight) for each, weight in zip(events, weights, strict=True) if each[name] is not None]
    return ratio(sum(value * weight for value, weight in pairs), sum(weight for _, weight in pairs))
