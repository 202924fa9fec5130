"""A fleet's hours as the topics tell them: what the checker of safety is tried on.

Planner and controllers are the real ones; a site draws what it wants, or its limit.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from schemas.catalog import COMMAND_ACKS, FLEET_PLANS, GRID_SIGNALS, SITE_COMMANDS, SITE_HEARTBEATS, SITE_STATE, Topic
from schemas.command import Command
from schemas.envelope import Record
from schemas.signals import PriceSignal
from schemas.site import ControllerHeartbeat
from streams.capacity import full_power_watts
from streams.dispatch.controller import ControllerState, Surroundings, accept, target_in_force
from streams.dispatch.tick import tick
from streams.policy.desk import Desk
from tests.policy_cases import FLEET, FLEET_FILE, SITES, at, empty_plan, event, load, power, price

Log = list[tuple[datetime, str, Record]]
STEP_SECONDS = 10


@dataclass
class Story:
    """What happens, and the log of it. `loss`: the share of messages that never arrive, or come twice or late."""

    signals: Iterable[Record]
    hours: float
    loss: float = 0.0
    seed: int = 1
    lost_planner_at: float = math.inf
    log: Log = field(default_factory=list)
    late: list[tuple[float, Command]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = Desk(FLEET, FLEET_FILE, empty_plan())
        self.controllers = {site: ControllerState(site_id=site) for site in SITES}
        self.meters = dict.fromkeys(SITES, 40_000.0)
        self.chance = random.Random(self.seed)
        self.ahead = sorted(self.signals, key=lambda signal: signal.published_at)  # type: ignore[attr-defined]
        for seconds in range(0, int(self.hours * 3600), STEP_SECONDS):
            self._step(seconds)

    def _say(self, seconds: float, topic: Topic, record: Record) -> bool:
        """Appends a record; False if it does not reach who should read it."""
        self.log.append((at(seconds), topic.name, record))
        return self.chance.random() >= self.loss

    def _step(self, seconds: int) -> None:
        urgent = False
        while self.ahead and self.ahead[0].published_at <= at(seconds):  # type: ignore[attr-defined]
            self._say(seconds, GRID_SIGNALS, self.ahead[0])
            urgent |= self.desk.take(self.ahead.pop(0), at(seconds))
        if seconds < self.lost_planner_at and (urgent or seconds % 60 == 0):
            self._plan(seconds)
        for _, command in [each for each in self.late if each[0] <= seconds]:
            self._obey(command, seconds)
        self.late = [each for each in self.late if each[0] > seconds]
        for site in FLEET.sites:
            self._control(site.id, seconds)

    def _plan(self, seconds: float) -> None:
        plan, commands = self.desk.decide(at(seconds))
        self._say(seconds, FLEET_PLANS, plan)
        for command in commands:
            if self._say(seconds, SITE_COMMANDS, command):
                self._obey(command, seconds)
            elif self.chance.random() < 0.5:
                self.late.append((seconds + 20, command))
            if self.chance.random() < self.loss:
                self.late.append((seconds + 30, command))

    def _obey(self, command: Command, seconds: float) -> None:
        around = self._around(command.site_id)
        state, ack = accept(self.controllers[command.site_id], command, around, at(seconds))
        self.controllers[command.site_id] = state
        if self._say(seconds, COMMAND_ACKS, ack) and self.desk.take(ack, at(seconds)):
            self._plan(seconds)

    def _around(self, site_id: str) -> Surroundings:
        return Surroundings(next(site for site in FLEET.sites if site.id == site_id), self.meters[site_id])

    def _control(self, site_id: str, seconds: float) -> None:
        around, end = self._around(site_id), seconds + STEP_SECONDS
        ticked = tick(self.controllers[site_id], around, full_power_watts(around.site, FLEET_FILE), at(seconds))
        state = self.controllers[site_id] = ticked.state
        for answer in ticked.acks:
            if self._say(seconds, COMMAND_ACKS, answer) and self.desk.take(answer, at(seconds)):
                self._plan(seconds)
        demand = 45_000.0 + 2_000.0 * math.sin(seconds / 700 + len(site_id))
        wanted = demand if state.limit_watts is None else min(demand, state.limit_watts)
        self.meters[site_id] = wanted * (1 + 0.003 * self.chance.gauss(0, 1))
        if seconds % 30 == 0:
            beat = ControllerHeartbeat(
                fleet_id=FLEET.id,
                site_id=site_id,
                observed_at=at(seconds),
                epoch=state.epoch,
                sequence=state.sequence,
                target_power_watts=target_in_force(state, at(seconds)),
                meter_power_watts=self.meters[site_id],
                locked_out=False,
            )
            self._say(seconds, SITE_HEARTBEATS, beat)
        for record in (power(site_id, end, self.meters[site_id]), load(site_id, end, 7_000.0)):
            self._say(end, SITE_STATE, record)
            self.desk.take(record, at(end))


def prices(hours: float, dear: tuple[float, float] = (0, 0), apart: tuple[float, float] = (0, 0)) -> list[PriceSignal]:
    """Five-minute prices: above the strike price over one time, alpha's above the others' over another."""

    def usd(site: str, start: float) -> float:
        return (180.0 if dear[0] <= start < dear[1] else 30.0) + 40.0 * (
            site == "alpha" and apart[0] <= start < apart[1]
        )

    return [
        price(site, usd(site, start), start, start + 300)
        for start in range(0, int(hours * 3600), 300)
        for site in SITES
    ]


AN_EVENT = event(start=3600, end=7200, published_at=at(1800), ramp_seconds=120.0)


@cache
def an_event(loss: float = 0.0, seed: int = 1) -> tuple[tuple[datetime, str, Record], ...]:
    """An hour's event for all sites, heard of half an hour before."""
    return tuple(Story([AN_EVENT, *prices(2.5)], 2.5, loss, seed).log)


@cache
def a_lost_planner() -> tuple[tuple[datetime, str, Record], ...]:
    """The same event; the planner is gone from its beginning on."""
    return tuple(Story([AN_EVENT, *prices(2.5)], 2.5, lost_planner_at=4000).log)


@cache
def a_dear_hour(loss: float = 0.0, seed: int = 1) -> tuple[tuple[datetime, str, Record], ...]:
    """An hour above the strike price, and an event in its midst."""
    brief = AN_EVENT.model_copy(update={"starts_at": at(4500), "ends_at": at(5400), "reduction_ratio": 0.4})
    return tuple(Story([brief, *prices(2.0, (1800, 6300))], 2.0, loss, seed).log)


@cache
def a_shift(loss: float = 0.0, seed: int = 1) -> tuple[tuple[datetime, str, Record], ...]:
    """Power is dear at alpha for an hour: traffic moves there and back."""
    return tuple(Story(prices(1.5, apart=(600, 3600)), 1.5, loss, seed).log)
