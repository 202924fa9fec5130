"""kill -9 of the aggregate stage at random moments: what comes out is what an undisturbed run puts out."""

from itertools import chain
from pathlib import Path
from random import Random

import pytest

from tests.faults.drill import (
    Broker,
    Outcome,
    assert_not_wholly_committed,
    assert_same,
    feed,
    finish,
    repeated_states,
    states_out,
    until_states,
)
from tests.faults.flow import SLICES, Flow
from tests.stream.rig import rig_on

pytestmark = pytest.mark.broker

SEEDS = 20


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.drill if seed else ()) for seed in range(SEEDS)])
async def test_aggregate_killed_at_random_moments_repeats_the_same_bytes_and_loses_nothing(
    kafka: Broker, tmp_path: Path, flow: Flow, undisturbed: Outcome, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(seed)
    # Small fetches, so that states come out one by one and a kill falls among them.
    monkeypatch.setenv("GRIDTIDE_MAX_POLL_RECORDS", str(rng.choice([10, 50, 500])))
    kill_after = sorted(rng.sample(range(2, SLICES), rng.choice([1, 2, 2, 3])))
    async with rig_on(kafka, tmp_path, commit_interval_seconds=rng.choice([0.1, 0.3, 5.0])) as rig:
        (worker,) = rig.start("aggregate")
        for number, part in enumerate(flow.slices, 1):
            await feed(rig, part)
            if number not in kill_after:
                continue
            # Somewhere among the states that this brings out; one in five kills does not wait for any.
            if number == kill_after[0] or rng.random() < 0.8:
                await until_states(rig, rng.randint(states_out(rig) + 1, flow.closed(number)))
            worker.kill()
            await assert_not_wholly_committed(rig, flow, chain(*flow.slices[:number]))
            (worker,) = rig.start("aggregate")
        found = await finish(rig, flow, undisturbed.committed)
        print(f"seed {seed}: killed after slices {kill_after}, {repeated_states(rig)} states repeated")  # noqa: T201
        assert_same(found, undisturbed)
