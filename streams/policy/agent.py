"""The policy stage: everything known of a fleet in, plans and commands out; at once for events, else step by step."""

import asyncio
from collections.abc import AsyncIterable

from infra import metrics
from schemas.catalog import FLEET_PLANS, SITE_COMMANDS, Topic
from schemas.command import CommandAck
from streams.engine import Batch
from streams.policy.desk import Desk
from streams.policy.ownership import Ownership
from streams.stage import Stage


class Planner:
    """The desks of the fleets that this worker plans, and the sending of what they decide."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ownership = Ownership(stage)
        self._desks: dict[int, dict[str, Desk]] = {}
        self._assignment = -1
        self._lock = asyncio.Lock()  # a fleet's plans go out one after the other, whoever calls for them

    async def take(self, batch: Batch, records: list[object]) -> None:
        """Takes records of one partition in, and plans at once where one calls for it."""
        async with self._lock:
            if not self._stage.is_current(batch):
                return  # while it waited here, its partition became another's
            desks = await self._desks_of(batch.assignment, batch.partition)
            now = self._stage.clock.now()
            urgent = {}
            for record in records:
                desk = desks.get(record.fleet_id)  # type: ignore[attr-defined]  # every input carries its fleet
                if desk is not None and desk.take(record, now):  # type: ignore[arg-type]
                    urgent[desk.fleet.id] = desk
            for desk in urgent.values():
                await self._decide(desk, batch.partition)

    async def step(self) -> None:
        """Plans every fleet of the partitions assigned to this worker, whether or not anything was read of them yet."""
        async with self._lock:
            if self._stage.app.rebalancing:
                return
            consumer = self._stage.app.consumer
            assignment = consumer.assignment_number
            for partition in sorted({place.partition for place in consumer.assignment()}):
                if consumer.assignment_number != assignment:
                    return
                for desk in (await self._desks_of(assignment, partition)).values():
                    await self._decide(desk, partition)
                    self._tell(desk)

    async def _desks_of(self, assignment: int, partition: int) -> dict[str, Desk]:
        if assignment != self._assignment:
            self._desks.clear()
            self._assignment = assignment
        if partition not in self._desks:
            self._desks[partition] = await self._ownership.open(partition)
            # A successor issues again what is in force, before it waits for anything.
            for desk in self._desks[partition].values():
                await self._decide(desk, partition)
        return self._desks[partition]

    async def _decide(self, desk: Desk, partition: int) -> None:
        if desk.is_outnumbered():
            desk.plan = await self._ownership.claim(desk.fleet, partition, desk.highest_epoch_seen)
            desk.dispatch.sent.clear()
        plan, commands = desk.decide(self._stage.clock.now())
        # The plan is durable before its commands are out: a successor knows of whatever a site may have been told.
        await self._stage.send(FLEET_PLANS, [plan])
        await self._stage.send(SITE_COMMANDS, commands)
        for command in commands:
            metrics.COMMANDS.labels(command.kind, command.reason).inc()

    def _tell(self, desk: Desk) -> None:
        now = self._stage.clock.now()
        for mode in ("normal", "hold", "price-blind", "rule-based"):
            metrics.PLAN_MODE.labels(desk.fleet.id, mode).set(mode == desk.plan.mode)
        for site_id, site in desk.view.sites.items():
            for kind, state in (("power", site.power), ("load", site.load)):
                if state is not None:
                    metrics.STATE_AGE_SECONDS.labels(site_id, kind).set((now - state.window_end).total_seconds())


def attach(stage: Stage, topics: tuple[Topic, ...], owned: frozenset[Topic]) -> None:
    """Adds an agent for each topic that the policy reads (`owned`: it reports the rejects), and the planning step."""
    planner = Planner(stage)
    for topic in topics:
        _attach_input(stage, topic, planner, owns_rejects=topic in owned)

    async def plan() -> None:
        interval_seconds = min(fleet.limits.plan_interval_seconds for fleet in stage.fleet_file.fleets)
        while not stage.app.should_stop:
            await stage.clock.sleep(interval_seconds)
            await planner.step()

    stage.background(plan)


def _attach_input(stage: Stage, topic: Topic, planner: Planner, *, owns_rejects: bool) -> None:
    intake = stage.intake(topic)

    async def policy(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            arrived = await stage.read(intake, batch, owns_rejects=owns_rejects)
            for each in arrived:
                if isinstance(each.record, CommandAck):
                    metrics.ACKS.labels(each.record.status).inc()
            await planner.take(batch, [each.record for each in arrived])
            stage.mark_out(batch)

    stage.agent(topic.name, policy)
