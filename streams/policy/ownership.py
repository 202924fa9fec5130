"""Who plans a fleet: the first to claim the next epoch on fleet.plans.v1, as everybody reads it back there."""

from uuid import uuid4

from infra.read_back import read_back
from schemas.catalog import FLEET_PLANS, GRID_SIGNALS
from schemas.fleet import Fleet
from schemas.plan import FleetPlan
from streams.intake import Arrived, Intake
from streams.policy.claim import claim
from streams.policy.desk import Desk
from streams.stage import Stage
from streams.trace import Traces

_CLAIMS = 5


class NotOwnedError(RuntimeError):
    """Others kept claiming the fleet first; the worker gives up and is started again."""


class Ownership:
    """Opens desks for the fleets of a partition."""

    def __init__(self, stage: Stage, traces: Traces) -> None:
        self._stage = stage
        self._traces = traces
        self._plans = stage.intake(FLEET_PLANS)
        self._signals = stage.intake(GRID_SIGNALS)
        self._owner = uuid4().hex[:12]

    async def open(self, partition: int) -> dict[str, Desk]:
        """A desk for every fleet whose key lies in the partition: the last plan read back, the next epoch claimed,
        the signals read again.

        Raises:
            NotOwnedError: a fleet could not be claimed.
        """
        desks = {}
        signals = await self._all(self._signals, partition)
        for fleet in self._stage.fleet_file.fleets:
            if self._plans.partition_of(fleet.id.encode()) == partition:
                plan = await self.claim(fleet, partition)
                desk = Desk(fleet, self._stage.fleet_file, plan, self._stage.settings.policy)
                for signal in signals:
                    if signal.record.fleet_id == fleet.id:
                        desk.view.observe(signal.record)
                        self._traces.observe(signal.record, signal.headers)
                desks[fleet.id] = desk
        return desks

    async def claim(self, fleet: Fleet, partition: int, above_epoch: int = 0) -> FleetPlan:
        """Claims the epoch after the highest known; the claim carries the last plan on, being the newest record now.

        Raises:
            NotOwnedError: others were first, every time.
        """
        for _ in range(_CLAIMS):
            history = await self._history(fleet, partition)
            epoch = max([above_epoch, *(plan.epoch for plan in history)]) + 1
            run_id, now = self._stage.settings.run_id, self._stage.clock.now()
            claimed = claim(_newest(history), run_id, fleet.id, self._owner, epoch, now)
            await self._stage.send(FLEET_PLANS, [claimed])
            for plan in await self._history(fleet, partition):
                if plan.epoch == epoch:
                    if plan.owner == self._owner:
                        return claimed
                    break
        raise NotOwnedError(f"fleet {fleet.id} is claimed by others")

    async def _history(self, fleet: Fleet, partition: int) -> list[FleetPlan]:
        plans = await self._all(self._plans, partition)
        return [plan.record for plan in plans if plan.record.fleet_id == fleet.id]

    async def _all(self, intake: Intake, partition: int) -> list[Arrived]:
        settings = self._stage.settings
        found = list[Arrived]()
        async for messages in read_back(settings, intake.topic.on_bus(settings.run_id), partition):
            arrived, _ = intake.read(messages, partition)
            found += arrived
        return found


def _newest(history: list[FleetPlan]) -> FleetPlan | None:
    """The last word of the fleet's newest planner: the first to claim the highest epoch.

    Not the last record: a planner that was stopped for longer than its session may write once more when it wakes.
    """
    if not history:
        return None
    epoch = max(plan.epoch for plan in history)
    owner = next(plan.owner for plan in history if plan.epoch == epoch)
    return next(plan for plan in reversed(history) if (plan.epoch, plan.owner) == (epoch, owner))
