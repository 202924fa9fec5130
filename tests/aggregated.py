"""Site states made at random, and what the aggregates must say of them, added up in Python."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from schemas.latency import BUCKETS
from schemas.site import LoadState, PowerState
from tests.examples import LOAD, OTHER_SITE, POWER, SITE

Values = dict[str, Any]

FAMILIES = ("site_power", "site_load", "site_class_load")
SECONDS_OF = {"1m": 60, "5m": 300, "1h": 3600}
WINDOW_SECONDS = 10


def states(rng: random.Random, since: datetime, windows: Iterable[int]) -> list[PowerState | LoadState]:
    """Power and load of two sites in those windows after `since`; the other site's meter is silent."""
    found: list[PowerState | LoadState] = []
    for window, site_id in product(windows, (SITE, OTHER_SITE)):
        starts_at = since + timedelta(seconds=window * WINDOW_SECONDS)
        place = {
            "site_id": site_id,
            "window_start": starts_at,
            "window_end": starts_at + timedelta(seconds=WINDOW_SECONDS),
            "duplicates": rng.randrange(3),
        }
        power = rng.uniform(1000, 2000)
        power_values = {
            "it_power_watts": power,
            "it_energy_joules": power * WINDOW_SECONDS,
            "meter_power_watts": rng.choice([None, power * 1.2]) if site_id == SITE else None,
            "utilization_ratio": rng.choice([None, rng.random()]),
            "temperature_celsius_max": rng.uniform(30, 80),
            "masked_values": rng.randrange(5),
            "gpus_reporting": rng.randrange(1, 4),
            "reporting_ratio": rng.random(),
        }
        classes = [
            LOAD.classes[0].model_copy(
                update={
                    "service_class": name,
                    "requests_per_second": rng.uniform(0, 20),
                    "tokens_queued": rng.randrange(1000),
                    "ttft_seconds_counts": [rng.choice([0, 0, 1, 40]) for _ in range(BUCKETS)],
                }
            )
            for name in ("chat", "batch")
        ]
        load_values = {"tokens_queued": rng.randrange(1000), "covered_ratio": rng.random(), "classes": classes}
        found.append(POWER.model_copy(update=place | power_values))
        found.append(LOAD.model_copy(update=place | load_values))
    return found


def as_aggregated(found: Sequence[PowerState | LoadState], seconds: int) -> dict[str, dict[tuple[Any, ...], Values]]:
    """What the aggregates by so many seconds must say, by family and key without the run."""
    parts: dict[str, dict[tuple[Any, ...], list[Values]]] = {family: defaultdict(list) for family in FAMILIES}
    for state in found:
        start = datetime.fromtimestamp(state.window_start.timestamp() // seconds * seconds, UTC)
        if isinstance(state, PowerState):
            parts["site_power"][start, state.site_id].append(vars(state))
        else:
            parts["site_load"][start, state.site_id].append(vars(state))
            for each in state.classes:
                parts["site_class_load"][start, state.site_id, each.service_class].append(vars(each))
    of = {"site_power": power_of, "site_load": load_of, "site_class_load": class_load_of}
    return {family: {key: of[family](windows) for key, windows in parts[family].items()} for family in FAMILIES}


def total(windows: Sequence[Values], name: str) -> Any:
    return sum(window[name] for window in windows)


def tokens(windows: Sequence[Values], name: str) -> float:
    return float(total(windows, f"{name}_per_second") * WINDOW_SECONDS)


def power_of(windows: Sequence[Values]) -> Values:
    metered = [window["meter_power_watts"] for window in windows if window["meter_power_watts"] is not None]
    used = [
        window["utilization_ratio"] * window["gpu_samples"]
        for window in windows
        if window["utilization_ratio"] is not None
    ]
    return {
        "windows": len(windows),
        "seconds": len(windows) * WINDOW_SECONDS,
        "it_energy_joules": total(windows, "it_energy_joules"),
        "meter_energy_joules": sum(metered) * WINDOW_SECONDS if metered else None,
        "metered_seconds": len(metered) * WINDOW_SECONDS,
        "it_power_watts_max": max(window["it_power_watts"] for window in windows),
        "meter_power_watts_max": max(metered, default=None),
        "meter_power_watts_min": min(metered, default=None),
        "utilization_samples": sum(used) if used else None,
        "temperature_celsius_max": max(window["temperature_celsius_max"] for window in windows),
        "gpus_reporting_min": min(window["gpus_reporting"] for window in windows),
        "reporting_ratio_min": min(window["reporting_ratio"] for window in windows),
    } | {name: total(windows, name) for name in ("gpu_samples", "masked_values", "records", "duplicates")}


def load_of(windows: Sequence[Values]) -> Values:
    return {
        "windows": len(windows),
        "seconds": len(windows) * WINDOW_SECONDS,
        "requests": tokens(windows, "requests"),
        "tokens_arrived": tokens(windows, "tokens_arrived"),
        "tokens_served": tokens(windows, "tokens_served"),
        "tokens_queued_max": max(window["tokens_queued"] for window in windows),
        "covered_seconds": total(windows, "covered_ratio") * WINDOW_SECONDS,
        "records": total(windows, "records"),
        "duplicates": total(windows, "duplicates"),
    }


def class_load_of(windows: Sequence[Values]) -> Values:
    return {
        "windows": len(windows),
        "seconds": len(windows) * WINDOW_SECONDS,
        "requests": tokens(windows, "requests"),
        "prompt_tokens": tokens(windows, "prompt_tokens"),
        "tokens_arrived": tokens(windows, "tokens_arrived"),
        "tokens_served": tokens(windows, "tokens_served"),
        "tokens_queued_max": max(window["tokens_queued"] for window in windows),
        "ttft_seconds_counts": added(window["ttft_seconds_counts"] for window in windows),
    }


def added(counts: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]
