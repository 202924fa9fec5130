"""Workers that stop, join and leave: who has lost a partition changes nothing, and nothing is lost on the way."""

import asyncio
import os
import signal
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from random import Random

import pytest

from schemas.catalog import SITE_STATE
from streams.supervise import Child
from tests.faults.drill import (
    Broker,
    Outcome,
    assert_not_wholly_committed,
    assert_same,
    committed,
    feed,
    finish,
    repeated_states,
    states_out,
    until_members,
    until_states,
)
from tests.faults.flow import GAP_AFTER, Flow
from tests.stream.rig import PATIENCE_SECONDS, Rig, rig_on

pytestmark = [pytest.mark.broker, pytest.mark.drill]


async def _until_settled(rig: Rig, workers: Sequence[Child]) -> None:
    """Waits until those of the workers that still run are the members of the group; one may have ended itself."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                async with asyncio.timeout(5):
                    await until_members(rig, sum(worker.pid is not None for worker in workers))
            except TimeoutError:
                continue
            return


@pytest.mark.parametrize("seed", range(3))
async def test_worker_stopped_for_longer_than_its_session_changes_nothing_when_it_goes_on(
    kafka: Broker, tmp_path: Path, flow: Flow, undisturbed: Outcome, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(seed)
    monkeypatch.setenv("GRIDTIDE_MAX_POLL_RECORDS", "10")  # so that it has fetched much that it has not folded yet
    async with rig_on(kafka, tmp_path) as rig:
        workers = rig.start("aggregate", "aggregate")
        await until_members(rig, 2)
        early = flow.slices[: GAP_AFTER // 2]
        await feed(rig, chain(*early))
        await until_states(rig, rng.randint(1, flow.closed(len(early)) // 2))
        zombie = rng.choice(workers)
        assert zombie.pid is not None
        os.kill(zombie.pid, signal.SIGSTOP)
        await assert_not_wholly_committed(rig, flow, chain(*early))
        await feed(rig, chain(*flow.slices[len(early) : GAP_AFTER]))
        await until_states(rig, flow.closed(GAP_AFTER))
        # The gap closes all that lies before it, so that positions stand where the slice begins: at a late record.
        await feed(rig, flow.slices[GAP_AFTER])
        await until_states(rig, flow.closed(GAP_AFTER + 1))
        before = await committed(rig)
        os.kill(zombie.pid, signal.SIGCONT)
        await _until_settled(rig, workers)
        after = await committed(rig)
        for topic, places in before.items():
            assert all(after[topic][place] >= position for place, position in places.items()), "a position went back"
        # Whoever reads again from here must not believe the zombie.
        for worker in workers:
            worker.kill()
        rig.start("aggregate")
        for part in flow.slices[GAP_AFTER + 1 :]:
            await feed(rig, part)
        found = await finish(rig, flow, undisturbed.committed)
        print(f"seed {seed}: {repeated_states(rig)} states repeated")  # noqa: T201
        assert_same(found, undisturbed)


async def test_worker_that_joins_and_one_that_leaves_while_data_flows_lose_nothing(
    kafka: Broker, tmp_path: Path, flow: Flow, undisturbed: Outcome
) -> None:
    clock = asyncio.get_running_loop().time
    async with rig_on(kafka, tmp_path) as rig:
        (first,) = rig.start("aggregate")
        await feed(rig, chain(*flow.slices[:2]))
        await until_states(rig, flow.closed(2))
        rig.start("aggregate")
        joining = asyncio.create_task(until_members(rig, 2))
        fed = 2
        while not joining.done() and fed < 5:
            fed += 1
            await feed(rig, flow.slices[fed - 1])
            await until_states(rig, flow.closed(fed))
        await joining
        repeated_by_join = repeated_states(rig)
        await feed(rig, flow.slices[fed])
        fed += 1
        await until_states(rig, states_out(rig) + 1)
        first.terminate()
        left_at, seen = clock(), len(rig.seen[SITE_STATE.name])
        await feed(rig, flow.slices[fed])
        fed += 1
        await rig.until("its end", lambda: first.exit_status() is not None)
        ended_at = clock()
        assert first.exit_status() == 0, "it left in good order"
        await until_states(rig, flow.closed(fed))
        back_at = clock()
        for part in flow.slices[fed:]:
            await feed(rig, part)
        found = await finish(rig, flow, undisturbed.committed)
        print(  # noqa: T201
            f"{repeated_by_join} states repeated by the join, {repeated_states(rig) - repeated_by_join} by the leave;"
            f" {seen} were out when it was told to leave; it ended after {ended_at - left_at:.1f} s,"
            f" all states of its partitions were out after {back_at - left_at:.1f} s"
        )
        assert_same(found, undisturbed)


async def test_supervised_worker_killed_again_and_again_is_started_again_and_loses_nothing(
    kafka: Broker, tmp_path: Path, flow: Flow, undisturbed: Outcome
) -> None:
    async with rig_on(kafka, tmp_path) as rig:
        (supervisor,) = rig.start("aggregate", supervised=True)
        for number, part in enumerate(flow.slices, 1):
            await feed(rig, part)
            if number in {3, 6, 9}:
                await until_states(rig, flow.closed(number) - 1)
                os.kill(_only_child(supervisor), signal.SIGKILL)
                await assert_not_wholly_committed(rig, flow, chain(*flow.slices[:number]))
        assert_same(await finish(rig, flow, undisturbed.committed), undisturbed)
        assert supervisor.pid is not None, "the supervisor itself went on"


def _only_child(process: Child) -> int:
    """The stage under a supervisor."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = children
    return int(child)
