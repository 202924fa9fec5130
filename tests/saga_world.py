"""A planner, three site controllers and what goes wrong between them: for the model check of shifts.

The planner is the desk, the sites are the controllers' `accept` and `tick`; made up is only the way between them, which
loses, copies, delays and reorders, and who is there: a planner may die, stand still or be followed by another, a site
may be silent, locked out or started anew.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from schemas.command import CommandAck, Shift
from schemas.fleet import Site
from schemas.plan import FleetPlan, ShiftControl
from schemas.site import ControllerHeartbeat
from streams.dispatch.controller import ControllerState, Surroundings, accept, resumed, target_in_force
from streams.dispatch.tick import tick
from streams.policy.desk import Desk
from streams.policy.moves import Pair
from streams.policy.optimise import Solution
from streams.policy.orders import AnyCommand
from streams.policy.pairing import Move
from tests.policy_cases import FLEET, FLEET_FILE, FULL, LEAST, LIMITS, NOON, SITES, empty_plan, load, power, price

STEP_SECONDS = int(LIMITS.plan_interval_seconds)
MOST_IN_FLIGHT = 60

Way = Literal["well", "held", "lost"]
Presence = Literal["there", "gone", "cut off"]
Message = AnyCommand | CommandAck


@dataclass(slots=True)
class VirtualController:
    """A site's controller, what it sends away, and what is done to it."""

    site: Site
    state: ControllerState
    meter_watts: float = 35_000.0
    locked_out: bool = False
    silent: bool = False
    out_of_hand: bool = False  # what it moves stands still, or did, and no planner could keep its place
    least_room_watts: float = 0.0  # below its import limit once a reservation was taken on; negative if it is above
    obeyed_lower: bool = False  # whether anything below the highest pair that it had seen changed what it holds
    uptime_seconds: float = 1000.0
    shares: dict[tuple[str, str], float] = field(default_factory=dict)  # by class and acceptor, as the equipment has it

    def hear(self, command: AnyCommand, now: datetime) -> CommandAck:
        """Takes a command; gives the answer."""
        before = self.state
        self.state, ack = accept(before, command, self._around(), now)
        self.obeyed_lower |= command.order < before.highest and self.state.controls != before.controls
        self.obeyed_lower |= self.state.highest < before.highest
        if self._promised(self.state) > self._promised(before):
            room_watts = self.site.import_limit_watts - self.meter_watts - self._promised(self.state)
            self.least_room_watts = min(self.least_room_watts, room_watts)
        return ack

    def tick(self, seconds: float, now: datetime) -> list[CommandAck]:
        """Lets time pass; gives what it has to say. A lock-out leaves the equipment as it is."""
        self.uptime_seconds += seconds
        ticked = tick(self.state, self._around(), FULL, now)
        self.state = ticked.state
        if not self.locked_out:
            self.shares = ticked.shares
        return ticked.acks

    def restart(self) -> None:
        """From its own bytes, with a monotonic clock that starts anew."""
        kept = self.state.worth_keeping().model_dump_json()
        self.state, self.uptime_seconds = resumed(ControllerState.model_validate_json(kept)), 1.0

    def heartbeat(self, now: datetime) -> ControllerHeartbeat:
        """What it says of itself."""
        return ControllerHeartbeat(
            fleet_id=FLEET.id,
            site_id=self.site.id,
            observed_at=now,
            epoch=self.state.epoch,
            sequence=self.state.sequence,
            target_power_watts=target_in_force(self.state, now),
            meter_power_watts=self.meter_watts,
            locked_out=self.locked_out,
        )

    def shifts(self, role: str) -> list[Shift]:
        """The shifts that it holds in a role."""
        return _shifts(self.state, role)

    def _promised(self, state: ControllerState) -> float:
        return sum(each.reserved_power_watts for each in _shifts(state, "reserve"))

    def _around(self) -> Surroundings:
        return Surroundings(self.site, self.meter_watts, self.locked_out, LEAST, self.uptime_seconds)


def _shifts(state: ControllerState, role: str) -> list[Shift]:
    held = [each.command for each in state.controls]
    return [each for each in held if isinstance(each, Shift) and each.role == role]


class World:
    """All of it, and the time."""

    def __init__(self) -> None:
        self.now = NOON
        self.sites = {site.id: VirtualController(site, ControllerState(site_id=site.id)) for site in FLEET.sites}
        self.ways: dict[str, Way] = dict.fromkeys(SITES, "well")
        self.in_flight: list[Message] = []
        self.planner: Presence = "there"
        self.waiting: list[CommandAck] = []
        self.wanted: dict[Pair, float] = {}
        self.optimised = True
        self.prices = dict.fromkeys(SITES, 40.0)
        self.plan = empty_plan()  # the newest on the bus: all that a successor has
        self.plans: list[FleetPlan] = [self.plan]
        self._desk = Desk(FLEET, FLEET_FILE, self.plan)
        self._next_step = self.now
        self.step()

    # The way between planner and sites.

    def send(self, message: Message) -> None:
        """Puts a message on its way."""
        match self.ways[message.site_id]:
            case "well":
                self._arrive(message)
            case "held":
                self.in_flight.append(message)
                del self.in_flight[:-MOST_IN_FLIGHT]
            case "lost":
                pass

    def deliver(self, place: int, *, copy: bool = False) -> None:
        """Lets a message arrive, or a copy of it."""
        message = self.in_flight[place] if copy else self.in_flight.pop(place)
        self._arrive(message)

    def deliver_all(self) -> None:
        """Lets all that is in flight arrive, in order."""
        waiting, self.in_flight = self.in_flight, []
        for message in waiting:
            self._arrive(message)

    def _arrive(self, message: Message) -> None:
        if not isinstance(message, CommandAck):
            self.send(self.sites[message.site_id].hear(message, self.now))
        elif self.planner == "there":
            if self._desk.take(message, self.now):
                self.decide()
        else:
            self.waiting.append(message)

    # The planner.

    def step(self) -> None:
        """A planning step: the sites' states are heard, then a solution is adopted, or the rules stand."""
        self._next_step = self.now + timedelta(seconds=STEP_SECONDS)
        self._observe()
        moves = tuple(Move(*pair, share) for pair, share in self.wanted.items())
        self._desk.adopt(_solution(self.now, moves) if self.optimised else None)
        self.decide()

    def decide(self, told: int | None = None) -> None:
        """The next plan and its commands; of these only the first `told` are sent at once if it stops over it."""
        self.plan, commands = self._desk.decide(self.now)
        self.plans.append(self.plan)
        told = len(commands) if told is None else told
        # One that was only stopped says the rest when it wakes up: late, or never.
        self.in_flight += commands[told:]
        for command in commands[:told]:
            self.send(command)

    def dies(self, told: int | None) -> None:
        """The planner is gone: at rest, or with a plan on the bus of which only some was told."""
        if told is not None:
            self._observe()
            self.decide(told)
        self.planner = "gone"

    def is_cut_off(self) -> None:
        """The planner neither hears nor plans for a while, and forgets nothing."""
        self.planner = "cut off"

    def is_there_again(self) -> None:
        """The planner, or a successor that knows the plan on the bus, hears what was said meanwhile."""
        if self.planner == "gone":
            epoch = self.plan.epoch + 1
            claim = {"kind": "claim", "epoch": epoch, "sequence": 0, "revision": 0, "issued_at": self.now}
            self.plan = self.plan.model_copy(update=claim)
            self._desk = Desk(FLEET, FLEET_FILE, self.plan)
            self._observe()
            self.decide()
        self.planner = "there"
        waiting, self.waiting = self.waiting, []
        for ack in waiting:
            self._arrive(ack)
        self.step()

    def _observe(self) -> None:
        seconds = (self.now - NOON).total_seconds()
        for name, site in self.sites.items():
            if not site.silent:
                self._desk.take(power(name, seconds, site.meter_watts), self.now)
                self._desk.take(load(name, seconds, 5000.0), self.now)
                self._desk.take(site.heartbeat(self.now), self.now)
            self._desk.take(price(name, self.prices[name], 0, 1e7, published_at=self.now), self.now)

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Whom the planner still has to tell something, by control and site."""
        return sorted(self._desk.dispatch.sent)

    # What happens to sites.

    def lock(self, site_id: str) -> None:
        """Locks a site out, or lets it in again; who hears of the site hears of that."""
        site = self.sites[site_id]
        site.locked_out = not site.locked_out
        if self.planner == "there" and not site.silent:
            self._desk.take(site.heartbeat(self.now), self.now)

    # Time.

    def pass_time(self, seconds: int) -> None:
        """A tick of the controllers; the planner steps if it is time."""
        self.now += timedelta(seconds=seconds)
        for site in self.sites.values():
            for ack in site.tick(seconds, self.now):
                self.send(ack)
            # Nobody hears of it, or its acceptor is locked out too, or cut off, and renews no reservation.
            refused = any(self.sites[to].locked_out or self.ways[to] != "well" for _, to in site.shares)
            stuck = site.locked_out and (site.silent or self.planner != "there" or refused)
            site.out_of_hand = bool(site.shares) and (site.out_of_hand or stuck)
        if self.planner == "there" and self.now >= self._next_step:
            self.step()

    def living(self) -> list[ShiftControl]:
        """The shifts of the plan that still concern somebody."""
        return [each for each in self.plan.shifts if each.phase not in {"done", "aborted"}]


def _solution(now: datetime, moves: tuple[Move, ...]) -> Solution:
    """A solution that moves traffic and throttles nobody."""
    watts, work = np.full((len(SITES), 1), FULL), np.zeros((len(SITES), 1, 1))
    throttled = np.zeros((len(SITES), 1), dtype=bool)
    return Solution(now, 300.0, 1, SITES, ("batch",), watts, throttled, work, work, moves)
