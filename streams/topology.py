"""The flow, top to bottom. Read this page first.

    GPU exporters ─────► gpu.telemetry.v1 ─────┐
    inference servers ─► inference.requests.v1 ┴► AGGREGATE ─► site.state.v1 ─┬─► FORECAST ─► site.forecasts.v1 ─┐
    market, utility ───► grid.signals.v1 ─────────────────────────────────────┴──────────────────────────────────┤
    site controllers ──► site.command-acks.v1, site.heartbeats.v1 ───────────────────────────────────────────────┤
               ▲                                                                                                 ▼
               └─────────────────────────────── site.commands.v1 ◄─── fleet.plans.v1 ◄──────────────────────── POLICY

    FORECAST also says how good it was ─► site.forecast-scores.v1
    POLICY also says what each site can give ─► site.flexibility-offers.v1
    every topic ─► RECORD ─► TimescaleDB           what can't be read ─► <topic>.dlq

Each stage is a Faust app of its own: its own consumer group, its own process, so that a slow one (the database!)
holds back nothing but itself. From site.state.v1 on keys are fleets, so that all that the policy reads of a fleet
lies in one partition number, which one worker holds.
"""

from collections.abc import Callable
from dataclasses import dataclass

from infra.clock import Clock
from infra.settings import Settings
from schemas.catalog import (
    CLOCK,
    COMMAND_ACKS,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    FORECAST_SCORES,
    GPU_TELEMETRY,
    GRID_SIGNALS,
    INFERENCE_REQUESTS,
    SITE_COMMANDS,
    SITE_FORECASTS,
    SITE_HEARTBEATS,
    SITE_STATE,
    TOPICS,
    Topic,
)
from schemas.fleet import FleetFile
from streams.aggregate import agent as aggregate
from streams.engine import StageApp
from streams.forecast import agent as forecast
from streams.policy import agent as policy
from streams.record import agent as record
from streams.sensor import StreamSensor
from streams.stage import Stage


@dataclass(frozen=True, slots=True)
class StageFlow:
    """What a stage reads and writes, what it remembers, and how its agents are attached.

    `owns_rejects` are the topics whose unreadable messages this stage puts on their dead-letter topics: one stage
    for each topic, so that a bad message is reported once.
    """

    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...]
    owns_rejects: frozenset[Topic]
    memory: str | None
    attach: Callable[[Stage], None]


STAGES: dict[str, StageFlow] = {
    "aggregate": StageFlow(
        reads=(GPU_TELEMETRY, INFERENCE_REQUESTS),
        writes=(SITE_STATE,),
        owns_rejects=frozenset({GPU_TELEMETRY, INFERENCE_REQUESTS}),
        memory=aggregate.MEMORY,
        attach=lambda stage: aggregate.attach(stage, STAGES["aggregate"].reads),
    ),
    "forecast": StageFlow(
        reads=(SITE_STATE,),
        writes=(SITE_FORECASTS, FORECAST_SCORES),
        owns_rejects=frozenset({SITE_STATE}),
        memory=forecast.MEMORY,
        attach=forecast.attach,
    ),
    "policy": StageFlow(
        reads=(GRID_SIGNALS, SITE_STATE, SITE_FORECASTS, COMMAND_ACKS, SITE_HEARTBEATS),
        writes=(FLEET_PLANS, FLEXIBILITY_OFFERS, SITE_COMMANDS),
        owns_rejects=frozenset({GRID_SIGNALS, SITE_FORECASTS, COMMAND_ACKS, SITE_HEARTBEATS}),
        memory=None,  # fleet.plans.v1 is its memory
        attach=lambda stage: policy.attach(stage, STAGES["policy"].reads, STAGES["policy"].owns_rejects),
    ),
    "record": StageFlow(
        reads=TOPICS,  # raw telemetry only where GRIDTIDE_RECORD_TELEMETRY says so
        writes=(),
        owns_rejects=frozenset({FORECAST_SCORES, FLEET_PLANS, FLEXIBILITY_OFFERS, SITE_COMMANDS, CLOCK}),
        memory=None,
        attach=lambda stage: record.attach(stage, TOPICS, STAGES["record"].owns_rejects),
    ),
}

MEMORY_TOPICS: tuple[str, ...] = tuple(flow.memory for flow in STAGES.values() if flow.memory)


def build(name: str, settings: Settings, clock: Clock, fleet_file: FleetFile) -> Stage:
    """One stage with its Faust app, its agents attached; called in the event loop that will run it.

    Raises:
        KeyError: there is no such stage.
    """
    app = StageApp(name, settings)
    StreamSensor(name).watch(app)
    stage = Stage(name, app, settings, clock, fleet_file)
    STAGES[name].attach(stage)
    return stage
