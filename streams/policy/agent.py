"""The policy stage: everything known of a fleet in, plans and commands out; at once for events, else step by step."""

import asyncio
from collections.abc import AsyncIterable, Coroutine
from typing import Any

from infra import metrics
from schemas.catalog import FLEET_PLANS, FLEXIBILITY_OFFERS, SITE_COMMANDS, Topic
from schemas.command import CommandAck
from schemas.envelope import Record
from schemas.signals import PriceSignal
from streams.engine import Batch
from streams.intake import Arrived
from streams.policy.desk import Desk
from streams.policy.optimise import Solution
from streams.policy.ownership import Ownership
from streams.policy.problem import Problem
from streams.policy.solver import Solver
from streams.stage import Stage
from streams.trace import Traces


class Planner:
    """The desks of the fleets that this worker plans, and the sending of what they decide."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._traces = Traces()
        self._ownership = Ownership(stage, self._traces)
        self._solver = Solver()
        if stage.settings.policy != "rules":
            self._solver.start()
        self._desks: dict[int, dict[str, Desk]] = {}
        self._assignment = -1
        self._lock = asyncio.Lock()  # a fleet's plans go out one after the other, whoever calls for them
        self.early = asyncio.Event()  # a step is due before its time: a price has changed

    async def take(self, batch: Batch, arrived: list[Arrived]) -> None:
        """Takes records of one partition in, and plans at once where one calls for it.

        After a price the optimiser is asked first, by an early step: that is worth a second, a grid event is not.
        """
        async with self._lock:
            if not self._stage.is_current(batch):
                return  # while it waited here, its partition became another's
            desks = await self._desks_of(batch.assignment, batch.partition)
            now = self._stage.clock.now()
            urgent = {}
            for each in arrived:
                self._traces.observe(each.record, each.headers)
                desk = desks.get(each.record.fleet_id)  # every input carries its fleet
                if desk is not None and desk.take(each.record, now) and not _waits(desk, each.record):
                    urgent[desk.fleet.id] = desk
            for desk in urgent.values():
                await self._decide(desk, batch.partition)
            if any(desk.wants_solution for desk in desks.values()):
                self.early.set()

    async def step(self, *, early: bool = False) -> None:
        """Plans every fleet of the partitions assigned to this worker, whether or not anything was read of them yet;
        `early`, only those that want a solution before their time.

        The optimiser works without the lock: an event that comes meanwhile is answered by the rules.
        """
        async with self._lock:
            desks = await self._all_desks()
            asked = {
                name: desk.problem(self._stage.clock.now())
                for name, (_, desk) in desks.items()
                if desk.wants_solution or not early
            }
        solutions = {name: await self._solved(problem) for name, problem in asked.items()}
        async with self._lock:
            for name, (partition, desk) in (await self._all_desks()).items():
                if name not in solutions or desk is not desks[name][1]:
                    continue  # meanwhile it became another's
                desk.adopt(solutions[name])
                await self._decide(desk, partition)
                await self._stage.send(FLEXIBILITY_OFFERS, desk.offers(self._stage.clock.now()))
                self._tell(desk)

    async def _solved(self, problem: Problem | None) -> Solution | None:
        if problem is None:
            return None
        with metrics.OPTIMISER_SECONDS.time():
            solution = await self._solver.solve(problem)
        if solution is None:
            metrics.OPTIMISER_FAILED.inc()
        return solution

    async def _all_desks(self) -> dict[str, tuple[int, Desk]]:
        """By fleet: the partition and the desk; none while partitions change hands."""
        consumer = self._stage.app.consumer
        if self._stage.app.rebalancing:
            return {}
        self._traces.forget(self._stage.clock.now())
        assignment = consumer.assignment_number
        found: dict[str, tuple[int, Desk]] = {}
        for partition in sorted({place.partition for place in consumer.assignment()}):
            if consumer.assignment_number != assignment:
                return {}
            desks = await self._desks_of(assignment, partition)
            found |= {name: (partition, desk) for name, desk in desks.items()}
        return found

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
        sent = []
        for command in commands:
            traceparent = self._traces.of_command(command).header()
            sent += await self._stage.hand_over(SITE_COMMANDS, [command], [traceparent])
        await asyncio.gather(*sent)
        for command in commands:
            metrics.COMMANDS.labels(command.kind, command.reason).inc()

    def _tell(self, desk: Desk) -> None:
        now, plan, fleet_id = self._stage.clock.now(), desk.plan, desk.fleet.id
        for mode in ("normal", "hold", "price-blind", "rule-based"):
            metrics.PLAN_MODE.labels(fleet_id, mode).set(mode == plan.mode)
        metrics.EVENTS_ESCALATED.labels(fleet_id).set(sum(each.phase == "escalated" for each in plan.tracking))
        short = sum(max(0.0, each.delivered_power_watts - each.target_power_watts) for each in plan.tracking)
        metrics.EVENT_SHORTFALL_WATTS.labels(fleet_id).set(short)
        for site_id, site in desk.view.sites.items():
            for kind, state in (("power", site.power), ("load", site.load)):
                if state is not None:
                    metrics.STATE_AGE_SECONDS.labels(site_id, kind).set((now - state.window_end).total_seconds())

    def close(self) -> None:
        """Ends the optimiser's process."""
        self._solver.close()


def _waits(desk: Desk, record: Record) -> bool:
    return isinstance(record, PriceSignal) and desk.wants_solution


def attach(stage: Stage, topics: tuple[Topic, ...], owned: frozenset[Topic]) -> None:
    """Adds an agent for each topic that the policy reads (`owned`: it reports the rejects), and the planning step."""
    planner = Planner(stage)
    for topic in topics:
        _attach_input(stage, topic, planner, owns_rejects=topic in owned)

    async def plan() -> None:
        interval_seconds = min(fleet.limits.plan_interval_seconds for fleet in stage.fleet_file.fleets)
        try:
            while not stage.app.should_stop:
                early = await _due(planner.early, stage.clock.sleep(interval_seconds))
                await planner.step(early=early)
        finally:
            planner.close()

    stage.background(plan)


async def _due(early: asyncio.Event, sleep: Coroutine[Any, Any, None]) -> bool:
    """Waits for the next step; True if it is one before its time."""
    tasks = [asyncio.ensure_future(sleep), asyncio.ensure_future(early.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        was_early = early.is_set() and not tasks[0].done()
        early.clear()
        return was_early
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _attach_input(stage: Stage, topic: Topic, planner: Planner, *, owns_rejects: bool) -> None:
    intake = stage.intake(topic)

    async def policy(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            arrived = await stage.read(intake, batch, owns_rejects=owns_rejects)
            for each in arrived:
                if isinstance(each.record, CommandAck):
                    metrics.ACKS.labels(each.record.status).inc()
            await planner.take(batch, arrived)
            stage.mark_out(batch)

    stage.agent(topic.name, policy)
