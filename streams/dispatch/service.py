"""`gridtide controller`: one site's commands from the bus to its actuator, and its answers back."""

import asyncio
import contextlib
import math
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.bus import partition_of, start_consumer, start_producer
from infra.clock import Clock
from infra.read_back import read_back
from infra.settings import ConfigurationError, Settings
from schemas.catalog import COMMAND_ACKS, SITE_COMMANDS, SITE_HEARTBEATS, Topic
from schemas.command import CommandAck
from schemas.envelope import Record
from schemas.fleet import FleetFile
from schemas.site import ControllerHeartbeat
from streams.capacity import full_power_watts
from streams.dispatch.actuators import Actuator, ActuatorError
from streams.dispatch.controller import (
    ControllerState,
    Surroundings,
    accept,
    elapse,
    ramp,
    resumed,
    shares_in_force,
    target_in_force,
)
from streams.dispatch.memory import ControllerMemory
from streams.dispatch.progress import Progress
from streams.dispatch.recall import recalled
from streams.intake import Intake

log = structlog.get_logger()

_TICK_SECONDS = 1.0
_LEAST_WALL_SECONDS = 0.2  # an accelerated clock must not turn a tick into a busy loop
_HEARTBEAT_SECONDS = 30.0
_STOOD_STILL_TICKS = 5  # the process was stopped, or the machine asleep


class ControllerService:
    """The shell around the pure controller: it alone touches bus, disk, actuator and clock."""

    def __init__(
        self,
        settings: Settings,
        fleet_file: FleetFile,
        site_id: str,
        actuator: Actuator,
        memory: ControllerMemory,
        clock: Clock,
    ) -> None:
        site, fleet_id = fleet_file.site(site_id), fleet_file.fleet_of(site_id)
        if site is None or fleet_id is None:
            raise ConfigurationError(f"site {site_id!r} is not in the fleet file")
        self._settings, self._clock, self._actuator, self._memory = settings, clock, actuator, memory
        self._fleet_id = fleet_id
        self._full_power_watts = full_power_watts(site, fleet_file)
        self._around = Surroundings(site, locked_out=memory.locked_out())
        self._state = resumed(memory.load() or ControllerState(site_id=site_id))
        self._progress = Progress()
        # What the site was last told. Nobody knows what it was told before a restart: it is told again.
        self._shares: dict[tuple[str, str], float] | None = None
        self._limit_set: float | None = math.nan
        self._faults: dict[str, str] = {}
        self._place = TopicPartition(
            SITE_COMMANDS.on_bus(settings.run_id), partition_of(site_id.encode(), settings.partitions)
        )
        self._intake = Intake(
            SITE_COMMANDS, settings.run_id, lambda key: partition_of(key, settings.partitions), fleet_file
        )

    async def run(self) -> None:
        """Serves the site until cancelled.

        Raises:
            ConfigurationError: no broker answers at the start.
        """
        producer = await start_producer(self._settings)
        consumer = await start_consumer(self._settings, fetch_max_wait_ms=250)
        try:
            self._producer: AIOKafkaProducer = producer
            await self._observe()
            await self._start_from_the_last_command(consumer)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._obey(consumer))
                tasks.create_task(self._tick())
                tasks.create_task(self._beat())
        finally:
            await self._actuator.close()
            await consumer.stop()
            await producer.stop()

    async def _start_from_the_last_command(self, consumer: AIOKafkaConsumer) -> None:
        """Where the saved state left off; without one, from the newest command of each control still in force."""
        consumer.assign([self._place])
        if self._state.next_offset is not None:
            await self._answer()
            consumer.seek(self._place, self._state.next_offset)
            return
        commands, next_offset = [], 0
        async for messages in read_back(self._settings, self._place.topic, self._place.partition):
            arrived, _ = self._intake.read(messages, self._place.partition)
            commands += [each.record for each in arrived if each.record.site_id == self._state.site_id]
            next_offset = messages[-1].offset + 1
        state, answers = recalled(self._state, commands, self._around, self._clock.now())
        await self._decided(state, tuple(answers), next_offset)
        consumer.seek(self._place, next_offset)

    async def _obey(self, consumer: AIOKafkaConsumer) -> None:
        async for message in consumer:
            arrived, rejects = self._intake.read([message], self._place.partition)
            for reject in rejects:
                log.warning("not a command", reason=reject.rejected.reason, detail=reject.rejected.detail)
            for each in arrived:
                if each.record.site_id == self._state.site_id:
                    state, ack = accept(self._state, each.record, self._around, self._clock.now())
                    await self._decided(state, (ack,), message.offset + 1)
            # Of a neighbour's commands nothing need be kept: they may be read again.
            self._state = self._state.model_copy(update={"next_offset": message.offset + 1})

    async def _decided(self, state: ControllerState, answers: tuple[CommandAck, ...], next_offset: int) -> None:
        """Keeps what was decided, with the answers, before anybody is told: a crash in between must not let a command
        be taken, and answered, once more and otherwise.
        """
        self._state = state.model_copy(update={"next_offset": next_offset, "owed": answers})
        self._memory.save(self._state)
        await self._answer()

    async def _answer(self) -> None:
        await self._send(COMMAND_ACKS, self._state.owed)
        # Saved with the next change: the same answer twice is one answer.
        self._state = self._state.model_copy(update={"owed": ()})

    async def _tick(self) -> None:
        ticked_at = self._clock.now()
        while True:
            await self._observe()
            now, seconds = self._clock.now(), max(_TICK_SECONDS, _LEAST_WALL_SECONDS * self._clock.rate)
            before = self._state
            if (now - ticked_at).total_seconds() > _STOOD_STILL_TICKS * seconds:
                self._state = resumed(self._state)
            ticked_at = now
            self._state, answers = elapse(self._state, self._around, now)
            self._state = ramp(self._state, self._around, self._full_power_watts, now)
            if not self._around.locked_out:
                await self._act()
            if self._state != before:
                self._memory.save(self._state)
            await self._send(COMMAND_ACKS, [*answers, *self._progress.changes(self._state, self._around, now)])
            await self._clock.sleep(seconds)

    async def _observe(self) -> None:
        meter = None  # rather than an old reading: nobody is told that the site complies when nobody knows
        fault = ""
        try:
            meter = await self._actuator.read_meter_watts()
        except ActuatorError as error:
            fault = str(error)
        if meter is not None and not 0 <= meter < math.inf:
            fault, meter = f"reads {meter} W", None
        self._tell("meter", fault)
        self._around = Surroundings(self._around.site, meter, self._memory.locked_out())

    async def _act(self) -> None:
        shares = shares_in_force(self._state, self._clock.now())
        fault = ""
        try:
            if self._state.limit_watts != self._limit_set:
                await self._actuator.set_power_limit(self._state.limit_watts)
                self._limit_set = self._state.limit_watts
            if shares != self._shares:
                await self._actuator.set_shares(shares)
                self._shares = shares
        except ActuatorError as error:
            fault = str(error)
        self._tell("actuator", fault)

    def _tell(self, what: str, fault: str) -> None:
        """Logs a fault when it comes and when it goes, not at every tick."""
        if fault and fault != self._faults.get(what):
            log.warning(what, error=fault)
        elif not fault and self._faults.get(what):
            log.info(f"{what} is well again")
        self._faults[what] = fault

    async def _beat(self) -> None:
        while True:
            now = self._clock.now()
            beat = ControllerHeartbeat(
                run_id=self._settings.run_id,
                fleet_id=self._fleet_id,
                site_id=self._state.site_id,
                observed_at=now,
                epoch=self._state.epoch,
                sequence=self._state.sequence,
                target_power_watts=target_in_force(self._state, now),
                meter_power_watts=self._around.meter_power_watts,
                locked_out=self._around.locked_out,
            )
            await self._send(SITE_HEARTBEATS, [beat])
            await self._clock.sleep(max(_HEARTBEAT_SECONDS, _LEAST_WALL_SECONDS * self._clock.rate))

    async def _send(self, topic: Topic, records: Iterable[Record]) -> None:
        """Says it if the bus is there. Without it the site goes on by its own rules; the planner will ask again."""
        for record in records:
            with contextlib.suppress(KafkaError):
                await self._producer.send_and_wait(
                    topic.on_bus(self._settings.run_id),
                    record.to_json(),
                    key=topic.key_of(record),
                    partition=partition_of(topic.key_of(record), self._settings.partitions),
                )
