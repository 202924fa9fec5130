"""`gridtide controller`: one site's commands from the bus to its actuator, and its answers back."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.bus import partition_of, start_consumer, start_producer
from infra.clock import Clock
from infra.keys import Keys
from infra.read_back import read_back
from infra.settings import ConfigurationError, Settings
from infra.signing import REFUSALS, Headers, NoKeyError, Owner
from schemas.catalog import COMMAND_ACKS, SITE_COMMANDS, SITE_HEARTBEATS, Rejected, Topic
from schemas.command import CommandAck
from schemas.envelope import LIVE_RUN, Record
from schemas.fleet import FleetFile
from schemas.site import ControllerHeartbeat
from streams.capacity import full_power_watts, least_power_watts
from streams.dispatch.actuators import Actuator, ActuatorError
from streams.dispatch.controller import (
    ControllerState,
    Surroundings,
    accept,
    resumed,
    target_in_force,
)
from streams.dispatch.journal import Journal, entry
from streams.dispatch.memory import ControllerMemory
from streams.dispatch.outbox import OutboxFile
from streams.dispatch.recall import recalled
from streams.dispatch.tick import Ticked, tick
from streams.intake import Arrived, Intake
from streams.intake import Headers as ReceivedHeaders
from streams.trace import of_ack, received

log = structlog.get_logger()

_TICK_SECONDS = 1.0
_LEAST_WALL_SECONDS = 0.2  # an accelerated clock must not turn a tick into a busy loop
_HEARTBEAT_SECONDS = 30.0
_RETRY_WALL_SECONDS = 2.0  # until the bus is tried again
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
        self._keys = Keys(settings)
        self._full_power_watts = full_power_watts(site, fleet_file)
        least = least_power_watts(site, fleet_file)
        self._around = Surroundings(site, locked_out=memory.locked_out(), least_power_watts=least)
        self._state = resumed(memory.load() or ControllerState(site_id=site_id, run_id=settings.run_id))
        self._outbox, self._journal = OutboxFile(memory.outbox_file), Journal(memory.journal_file)
        self._unsaid = asyncio.Event()
        # What the site was last told. Nobody knows what it was told before a restart: it is told again.
        self._shares: dict[tuple[str, str], float] | None = None
        self._limit_set: float | None = math.nan
        self._admission_set = math.nan
        self._faults: dict[str, str] = {}
        self._place = TopicPartition(
            SITE_COMMANDS.on_bus(settings.run_id), partition_of(site_id.encode(), settings.partitions)
        )
        self._intake = Intake(
            SITE_COMMANDS,
            settings.run_id,
            lambda key: partition_of(key, settings.partitions),
            fleet_file,
            self._refusal,
        )

    async def run(self) -> None:
        """Serves the site until cancelled.

        Raises:
            ConfigurationError: no broker answers at the start, or a key is missing.
        """
        own, planner = Owner("site", self._state.site_id), Owner("planner", self._fleet_id)
        self._keys.make_ready(signs=[own], trusts=[planner])
        self._on_disk("outbox", self._outbox.load)
        knows = self._state.next_offset is not None
        bus = None if knows else await self._connect()  # a controller that knows of nothing has to be told first
        try:
            await self._observe()
            if bus:
                await self._join(*bus)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick())
                if bus is None:
                    bus = await self._connect_in_the_end()
                    await self._join(*bus)
                for task in (self._obey(bus[1]), self._speak(), self._beat()):
                    tasks.create_task(task)
        finally:
            await self._actuator.close()
            for client in bus or ():
                await client.stop()

    async def _join(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        self._producer = producer
        await self._start_from_the_last_command(consumer)

    async def _connect(self) -> tuple[AIOKafkaProducer, AIOKafkaConsumer]:
        producer = await start_producer(self._settings)
        try:
            return producer, await start_consumer(self._settings, fetch_max_wait_ms=250)
        except ConfigurationError:
            await producer.stop()
            raise

    async def _connect_in_the_end(self) -> tuple[AIOKafkaProducer, AIOKafkaConsumer]:
        """Waits for the bus. Meanwhile what is in force goes on by its leases, as it would had it been lost later."""
        while True:
            try:
                bus = await self._connect()
            except ConfigurationError as error:
                self._tell("bus", str(error))
                await asyncio.sleep(_RETRY_WALL_SECONDS)
            else:
                self._tell("bus", "")
                return bus

    def _refusal(self, command: Record, value: bytes, headers: ReceivedHeaders) -> Rejected | None:
        """Why a command of this site does not count; who may tell the neighbours what is not known here."""
        if command.site_id != self._state.site_id:  # type: ignore[attr-defined]  # every command carries its site
            return None
        return self._keys.refusal(SITE_COMMANDS, command, value, headers)

    async def _start_from_the_last_command(self, consumer: AIOKafkaConsumer) -> None:
        """Where the saved state left off; without one, from the newest command of each control still in force."""
        consumer.assign([self._place])
        if self._state.next_offset is not None:
            self._answer()
            consumer.seek(self._place, self._state.next_offset)
            return
        ours, next_offset = list[Arrived](), 0
        async for messages in read_back(self._settings, self._place.topic, self._place.partition):
            arrived, _ = self._intake.read(messages, self._place.partition)
            ours += [each for each in arrived if each.record.site_id == self._state.site_id]
            next_offset = messages[-1].offset + 1
        commands = [each.record for each in ours]
        state, answers = recalled(self._state, commands, self._around, self._clock.now())
        await self._decided(state, tuple(answers), next_offset, _traceparents(ours))
        consumer.seek(self._place, next_offset)

    async def _obey(self, consumer: AIOKafkaConsumer) -> None:
        async for message in consumer:
            arrived, rejects = self._intake.read([message], self._place.partition)
            for reject in rejects:
                if reject.rejected.reason in REFUSALS:
                    continue  # counted and said where it was judged; nothing is answered to a forger
                log.warning("not a command", reason=reject.rejected.reason, detail=reject.rejected.detail)
            for each in arrived:
                if each.record.site_id == self._state.site_id:
                    state, ack = accept(self._state, each.record, self._around, self._clock.now())
                    await self._decided(state, (ack,), message.offset + 1, _traceparents([each]))
            # Of a neighbour's commands nothing need be kept: they may be read again.
            self._state = self._state.model_copy(update={"next_offset": message.offset + 1})

    async def _decided(
        self, state: ControllerState, answers: tuple[CommandAck, ...], next_offset: int, traceparents: Mapping[str, str]
    ) -> None:
        """Keeps what was decided, with the answers, before anybody is told: a crash in between must not let a command
        be taken, and answered, once more and otherwise.
        """
        spoken_of = {each.command.control_id for each in state.controls} | {ack.control_id for ack in answers}
        known = {**state.traceparents, **traceparents}
        traces = {control_id: text for control_id, text in known.items() if control_id in spoken_of}
        self._state = state.model_copy(update={"next_offset": next_offset, "owed": answers, "traceparents": traces})
        self._memory.save(self._state)
        self._answer()

    def _answer(self) -> None:
        self._say(self._state.owed)
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
            ticked = tick(self._state, self._around, self._full_power_watts, now)
            self._state = ticked.state
            self._around = self._around.with_meter(ticked.meter_power_watts)
            self._say(ticked.acks)
            if not self._around.locked_out:
                await self._act(ticked)
            if self._state.worth_keeping() != before.worth_keeping():
                self._on_disk("memory", self._memory.save, self._state)
            noted = entry(ticked, locked_out=self._around.locked_out, now=now)
            self._on_disk("journal", self._journal.note, noted, now)
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
        # An accelerated run's time is no monotonic clock's.
        uptime_seconds = time.monotonic() if self._settings.run_id == LIVE_RUN else None
        self._around = replace(
            self._around,
            meter_power_watts=meter,
            locked_out=self._memory.locked_out(),
            uptime_seconds=uptime_seconds,
            cap_refused=bool(self._faults.get("power limit")),
        )

    async def _act(self, ticked: Ticked) -> None:
        """Tells the equipment what has changed; what it does not take it is told again at the next tick."""
        if ticked.limit_watts != self._limit_set and await self._told(
            "power limit", self._actuator.set_power_limit(ticked.limit_watts)
        ):
            self._limit_set = ticked.limit_watts
        if ticked.admission_ratio != self._admission_set and await self._told(
            "admission", self._actuator.set_admission(ticked.admission_ratio)
        ):
            self._admission_set = ticked.admission_ratio
        if ticked.shares != self._shares and await self._told("shares", self._actuator.set_shares(ticked.shares)):
            self._shares = ticked.shares

    async def _told(self, what: str, telling: Awaitable[None]) -> bool:
        try:
            await telling
        except ActuatorError as error:
            self._tell(what, str(error))
            return False
        self._tell(what, "")
        return True

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

    def _say(self, acks: Iterable[CommandAck]) -> None:
        """Leaves answers to be said when the bus is there: the controller never waits for it."""
        acks = list(acks)
        if acks:
            self._on_disk("outbox", self._outbox.put, acks)
            self._unsaid.set()

    async def _speak(self) -> None:
        """Says the answers in order, those from before a restart or an outage first."""
        while True:
            dropped = self._outbox.outbox.dropped
            self._tell("outbox overflow", f"{dropped} answers dropped" if dropped else "")
            for ack in self._outbox.outbox.entries:
                if not await self._send(COMMAND_ACKS, [ack]):
                    await asyncio.sleep(_RETRY_WALL_SECONDS)
                    break
                self._on_disk("outbox", self._outbox.said, ack)
            else:
                self._unsaid.clear()
                if not self._outbox.outbox.entries:
                    await self._unsaid.wait()

    def _on_disk(self, what: str, doing: Callable[..., None], *args: object) -> None:
        """A full disk must not let go of the site. (A command that can't be kept is another matter: `_decided`.)"""
        try:
            doing(*args)
        except OSError as error:
            self._tell(what, error.strerror or str(error))
        else:
            self._tell(what, "")

    async def _send(self, topic: Topic, records: Iterable[Record]) -> bool:
        """Says it, if the bus is there. Without it the site goes on by its own rules; the planner will ask again."""
        for record in records:
            value = record.to_json()
            try:
                headers = self._headers(topic, record, value)
            except NoKeyError as error:  # as if the bus were away: what is not signed nobody would take
                self._tell("signing", str(error))
                return False
            try:
                await self._producer.send_and_wait(
                    topic.on_bus(self._settings.run_id),
                    value,
                    key=topic.key_of(record),
                    partition=partition_of(topic.key_of(record), self._settings.partitions),
                    headers=headers,
                )
            except KafkaError:
                return False
        return True

    def _headers(self, topic: Topic, record: Record, value: bytes) -> Headers:
        signed = self._keys.sign(topic, record, value)
        if signed:
            self._tell("signing", "")
        if isinstance(record, CommandAck):
            traceparent = self._state.traceparents.get(record.control_id, "")
            return [of_ack(record, traceparent).header(), *signed]
        return signed


def _traceparents(commands: Iterable[Arrived]) -> dict[str, str]:
    """Those that commands came with, by control; the newest command's where a control had several."""
    return {
        each.record.control_id: str(trace)
        for each in sorted(commands, key=lambda each: each.record.order)
        if (trace := received(each.headers)) is not None
    }
