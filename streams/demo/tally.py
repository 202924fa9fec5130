"""An independent count of what stands on the bus: plain JSON in, figures out; no code of the recorder's. Pure."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.catalog import (
    BY_NAME,
    COMMAND_ACKS,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    GPU_TELEMETRY,
    GRID_SIGNALS,
    INFERENCE_REQUESTS,
    SITE_COMMANDS,
    SITE_FORECASTS,
    SITE_STATE,
    TOPICS,
)

JOULES_PER_KWH = 3_600_000
Headers = Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class Tally:
    """Everything counted so far. A record whose natural key was seen before counts as a repeat and no more."""

    keys: dict[str, set[tuple[Any, ...]]] = field(default_factory=lambda: {topic.name: set() for topic in TOPICS})
    repeats: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    gpu_samples: int = 0
    commands: Counter[tuple[str, str]] = field(default_factory=Counter)
    acks: Counter[str] = field(default_factory=Counter)
    unanswered: set[tuple[str, int, int]] = field(default_factory=set)
    answered: set[tuple[str, int, int]] = field(default_factory=set)
    meter: dict[str, dict[datetime, tuple[float, float]]] = field(default_factory=lambda: defaultdict(dict))
    prices: dict[tuple[str, str], list[tuple[datetime, datetime, datetime, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    baselines: dict[tuple[str, str], float] = field(default_factory=dict)
    tokens: float = 0.0
    signal_seen_ms: dict[str, int] = field(default_factory=dict)
    signal_to_command_seconds: list[float] = field(default_factory=list)
    telemetry_to_state_seconds: list[float] = field(default_factory=list)
    _commanded: set[tuple[str, str]] = field(default_factory=set)

    def take(self, topic: str, value: bytes | None, timestamp_ms: int, headers: Headers) -> None:
        """Counts one record of a catalog topic (its name without the run's prefix)."""
        try:
            record = json.loads(value or b"null")
            key = tuple(record[part] for part in BY_NAME[topic].natural_key)
        except (ValueError, TypeError, KeyError):
            self.unreadable[topic] += 1  # the stages put it on the dead-letter topic
            return
        if key in self.keys[topic]:
            self.repeats[topic] += 1
            return
        self.keys[topic].add(key)
        match topic:
            case GPU_TELEMETRY.name:
                self.gpu_samples += len(record["power_watts"])
            case GRID_SIGNALS.name:
                self._take_signal(record, timestamp_ms)
            case SITE_STATE.name:
                self._take_state(record, timestamp_ms, headers)
            case FLEET_PLANS.name:
                self.baselines |= {
                    (each["signal_id"], each["site_id"]): each["power_watts"] for each in record["baselines"]
                }
            case SITE_COMMANDS.name:
                self._take_command(record, timestamp_ms)
            case COMMAND_ACKS.name:
                self._take_ack(record)

    def take_dead_letter(self, topic: str, headers: Headers) -> None:
        """Counts one record of a topic's dead-letter topic."""
        self.dead_letters[topic, dict(headers).get("reason", b"?").decode()] += 1

    def _take_signal(self, record: dict[str, Any], timestamp_ms: int) -> None:
        self.signal_seen_ms.setdefault(record["signal_id"], timestamp_ms)
        if record["kind"] == "price" and record["market"] == "real-time":
            span = (_time(record["starts_at"]), _time(record["ends_at"]), _time(record["published_at"]))
            self.prices[record["fleet_id"], record["settlement_point"]].append((*span, record["price_usd_per_mwh"]))
        elif record["kind"] in {"event", "emergency"}:
            before = self.events.get(record["signal_id"], record)
            if _time(record["published_at"]) >= _time(before["published_at"]):
                self.events[record["signal_id"]] = record

    def _take_state(self, record: dict[str, Any], timestamp_ms: int, headers: Headers) -> None:
        start, end = _time(record["window_start"]), _time(record["window_end"])
        seconds = (end - start).total_seconds()
        cause = dict(headers).get("closed-by-timestamp-ms")
        if cause is not None:
            self.telemetry_to_state_seconds.append((timestamp_ms - int(cause)) / 1000)
        if record["kind"] == "load":
            self.tokens += record["tokens_served_per_second"] * seconds
        elif record["meter_power_watts"] is not None:
            self.meter[record["site_id"]][start] = (record["meter_power_watts"], seconds)

    def _take_command(self, record: dict[str, Any], timestamp_ms: int) -> None:
        self.commands[record["kind"], record["reason"]] += 1
        self.unanswered.add((record["site_id"], record["epoch"], record["sequence"]))
        for signal_id in record["caused_by"]:
            # The first command that a site gets for a signal is the answer to it; renewals are not.
            if signal_id in self.events and (signal_id, record["site_id"]) not in self._commanded:
                self._commanded.add((signal_id, record["site_id"]))
                self.signal_to_command_seconds.append((timestamp_ms - self.signal_seen_ms[signal_id]) / 1000)

    def _take_ack(self, record: dict[str, Any]) -> None:
        self.acks[record["status"]] += 1
        if record["status"] in {"accepted", "partial", "rejected", "superseded"}:
            self.answered.add((record["site_id"], record["epoch"], record["sequence"]))

    @property
    def commands_without_answer(self) -> int:
        """Commands on the bus that no verdict has come for yet."""
        return len(self.unanswered - self.answered)

    def energy_kwh(self) -> float:
        """Energy at the meters."""
        return sum(watts * s for site in self.meter.values() for watts, s in site.values()) / JOULES_PER_KWH

    def energy_cost_usd(self, settlement_points: dict[str, tuple[str, str]]) -> float:
        """Cost of the energy at the price of its site and time; `settlement_points`: site -> (fleet, point)."""
        cost = 0.0
        for site_id, windows in self.meter.items():
            spans = sorted(self.prices[settlement_points[site_id]])
            for start, (watts, seconds) in windows.items():
                # Of two prices for one time the later said holds: prices are revised.
                price = next((price for begins, ends, _, price in reversed(spans) if begins <= start < ends), 0.0)
                cost += watts * seconds / JOULES_PER_KWH / 1000 * price
        return cost

    def distinct(self) -> dict[str, int]:
        """Distinct natural keys of each topic."""
        return {topic: len(keys) for topic, keys in self.keys.items()}

    def counts(self) -> dict[str, int]:
        """What a summary begins with."""
        return {
            "frames_in": len(self.keys[GPU_TELEMETRY.name]),
            "gpu_samples_in": self.gpu_samples,
            "request_rates_in": len(self.keys[INFERENCE_REQUESTS.name]),
            "signals_in": len(self.keys[GRID_SIGNALS.name]),
            "states_out": len(self.keys[SITE_STATE.name]),
            "forecasts_out": len(self.keys[SITE_FORECASTS.name]),
            "offers_out": len(self.keys[FLEXIBILITY_OFFERS.name]),
        }


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
