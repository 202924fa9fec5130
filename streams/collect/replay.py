"""`gridtide replay`: the run's clock, its traffic and prices, and its plants, put on the bus in step with the clock."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import structlog
from aiokafka import AIOKafkaProducer

from infra.bus import partition_of, start_producer
from infra.clock import Clock, wall_now
from infra.settings import Settings
from schemas.catalog import CLOCK, GPU_TELEMETRY, GRID_SIGNALS, INFERENCE_REQUESTS, Topic
from schemas.clock import ClockAnchor
from schemas.envelope import Record
from schemas.fleet import FleetFile
from streams.collect.inputs import ReplayInputs
from streams.collect.pace import paced_rate
from streams.collect.signals import price_signals
from streams.simulate.demand import route
from streams.simulate.plant import SitePlant

log = structlog.get_logger()

_STEPS_REMEMBERED = 15


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """How long and how fast: `span_seconds` of the run's time at `rate` run seconds a wall second, a reading every
    `interval_seconds` of the run's time.
    """

    starts_at: datetime
    wall_starts_at: datetime
    rate: float
    span_seconds: float
    interval_seconds: float

    def anchor(self, run_id: str) -> ClockAnchor:
        """The run's clock: it shows `starts_at` at the wall time `wall_starts_at`."""
        return ClockAnchor(run_id=run_id, wall_anchor=self.wall_starts_at, replay_anchor=self.starts_at, rate=self.rate)


def replay_plan(duration_seconds: float, rate: float, interval_seconds: float, starts_in_seconds: float) -> ReplayPlan:
    """A replay of `duration_seconds` of wall time that begins so many wall seconds from now.

    The run's time begins at the last full minute of the wall clock before that: old traces are played as if now.
    """
    begins = wall_now() + timedelta(seconds=starts_in_seconds)
    starts_at = begins.replace(second=0, microsecond=0)
    return ReplayPlan(starts_at, begins, rate, duration_seconds * rate, interval_seconds)


class Replay:
    """The shell that plays inputs: it alone knows the bus and the clock."""

    def __init__(
        self, settings: Settings, fleet_file: FleetFile, plan: ReplayPlan, inputs: ReplayInputs, seed: int
    ) -> None:
        self._settings, self._fleet_file, self._plan, self._inputs = settings, fleet_file, plan, inputs
        self._work_seconds: deque[float] = deque(maxlen=_STEPS_REMEMBERED)
        self.plants = {
            site.id: SitePlant.start(site, fleet_file.gpu_models, fleet_file.service_classes, seed)
            for _, site in fleet_file.sites()
        }

    async def run(self) -> None:
        """Plays to the end.

        Raises:
            ConfigurationError: no broker answers at the start.
        """
        producer = await start_producer(self._settings)
        try:
            anchor = self._plan.anchor(self._settings.run_id)
            await self._send(producer, CLOCK, [anchor])
            clock = Clock(anchor)
            for number in range(round(self._plan.span_seconds / self._plan.interval_seconds)):
                await self._step(producer, clock, number)
                await self._keep_pace(producer, clock, number)
        finally:
            await producer.stop()

    async def _step(self, producer: AIOKafkaProducer, clock: Clock, number: int) -> None:
        """One interval: its signals when it begins, its readings when it ends."""
        interval = self._plan.interval_seconds
        begins, ends = number * interval, (number + 1) * interval
        await clock.sleep_until(self._plan.starts_at + timedelta(seconds=begins))
        await self._send(producer, GRID_SIGNALS, self._signals(begins, ends))
        await clock.sleep_until(self._plan.starts_at + timedelta(seconds=ends))
        began = monotonic()
        shifts = {site_id: plant.shifts for site_id, plant in self.plants.items() if plant.shifts}
        demands = route(self._inputs.demand.at(number), shifts)
        observed_at = self._plan.starts_at + timedelta(seconds=ends)
        frames, rates = [], []
        for site_id, plant in self.plants.items():
            of_site, rate = plant.advance(demands[site_id], interval, observed_at, self._settings.run_id)
            frames.extend(of_site)
            rates.append(rate)
        await self._send(producer, GPU_TELEMETRY, frames)
        await self._send(producer, INFERENCE_REQUESTS, rates)
        self._work_seconds.append(monotonic() - began)

    async def _keep_pace(self, producer: AIOKafkaProducer, clock: Clock, number: int) -> None:
        """Slows the clock of the whole run while the plants can't follow it on this machine, and speeds it up again."""
        interval = self._plan.interval_seconds
        reached = self._plan.starts_at + timedelta(seconds=(number + 1) * interval)
        behind = (clock.now() - reached).total_seconds() / interval
        rate = paced_rate(clock.rate, self._plan.rate, behind, self._work_seconds, interval)
        if rate != clock.rate:
            wall = wall_now()
            anchor = ClockAnchor(
                run_id=self._settings.run_id, wall_anchor=wall, replay_anchor=clock.at(wall), rate=rate
            )
            clock.set(anchor)
            await self._send(producer, CLOCK, [anchor])
            log.info("clock", rate=rate, intervals_behind=round(behind, 1))

    def _signals(self, begins: float, ends: float) -> list[Record]:
        starts_at, run_id = self._plan.starts_at, self._settings.run_id
        prices = price_signals(self._inputs.prices, self._fleet_file, starts_at, begins, ends, run_id)
        until = starts_at + timedelta(seconds=ends)
        since = starts_at + timedelta(seconds=begins)
        events = [event for event in self._inputs.events if since <= event.published_at < until]
        return [*prices, *events]

    async def _send(self, producer: AIOKafkaProducer, topic: Topic, records: Sequence[Record]) -> None:
        name = topic.on_bus(self._settings.run_id)
        sent = []
        for record in records:
            key = topic.key_of(record)
            partition = partition_of(key, self._settings.partitions)
            sent.append(await producer.send(name, record.to_json(), key=key, partition=partition))
        await asyncio.gather(*sent)
