"""Two planners at once, in the middle of an event or a shift: sites obey one, and nothing in force is forgotten.

Real controllers move real traffic between plants; the planner is killed, or stopped and woken when it has a successor.
"""

import os
import signal
from pathlib import Path
from typing import get_args

import pytest

from tests.faults.commands import commanded_above, newest_epochs
from tests.faults.drill import Broker
from tests.faults.takeover import (
    SITES,
    Moment,
    assert_all_ends_as_it_should,
    assert_nothing_in_force_is_forgotten,
    assert_safe,
    assert_shifts_go_on,
    assert_sites_never_let_go,
    assert_sites_obey_one_planner,
    bring_to_its_end,
    renewed,
    say_as_if_it_were,
    two_sites,
    until_all_is_said,
    until_it_is_in_the_middle,
    until_moved,
    verdicts,
)

pytestmark = [pytest.mark.broker, pytest.mark.drill]


@pytest.mark.parametrize("moment", get_args(Moment))
async def test_planner_killed_is_succeeded_and_sites_never_notice(
    kafka: Broker, tmp_path: Path, moment: Moment
) -> None:
    async with two_sites(kafka, tmp_path, moment) as (rig, plants):
        (first,) = rig.start("policy")
        await until_it_is_in_the_middle(rig, plants, moment)
        first.kill()
        (successor,) = rig.start("policy")
        await rig.until("what is in force renewed by a successor", lambda: renewed(rig, 1) == set(SITES))
        await until_moved(rig, plants)
        await until_all_is_said(rig)
        assert_nothing_in_force_is_forgotten(rig, epoch=1)
        assert_shifts_go_on(rig, epoch=1)
        assert_sites_never_let_go(rig, plants, moment)
        await bring_to_its_end(rig, plants, moment)
        successor.kill()
        await until_all_is_said(rig)
        assert_all_ends_as_it_should(rig, epoch=2)
        assert_sites_obey_one_planner(rig)
        assert_safe(rig)


@pytest.mark.parametrize("moment", get_args(Moment))
async def test_planner_stopped_is_succeeded_and_obeyed_no_more_when_it_wakes(
    kafka: Broker, tmp_path: Path, moment: Moment
) -> None:
    async with two_sites(kafka, tmp_path, moment) as (rig, plants):
        (zombie,) = rig.start("policy")
        await until_it_is_in_the_middle(rig, plants, moment)
        assert zombie.pid is not None
        os.kill(zombie.pid, signal.SIGSTOP)
        (successor,) = rig.start("policy")
        await rig.until("what is in force renewed by a successor", lambda: renewed(rig, 1) == set(SITES))
        before = newest_epochs(rig)
        os.kill(zombie.pid, signal.SIGCONT)
        # It joins its group again: whoever has the fleet then claims it anew.
        await rig.until("a third claim, and all told again", lambda: commanded_above(rig, before) == set(SITES))
        releases = await say_as_if_it_were(rig, epoch=1)
        orders = {(each.site_id, *each.order) for each in releases}
        await rig.until(
            "an answer to the zombie's releases",
            lambda: (
                orders
                <= {(ack.site_id, ack.epoch, ack.sequence) for site_id in SITES for ack in verdicts(rig, site_id)}
            ),
        )
        seen = {site_id: len(plants.seen[site_id]) for site_id in SITES}
        await rig.until("two more ticks", lambda: all(len(plants.seen[name]) > seen[name] + 2 for name in SITES))
        await until_moved(rig, plants)
        await until_all_is_said(rig)
        assert_nothing_in_force_is_forgotten(rig, epoch=1)
        assert_shifts_go_on(rig, epoch=2)
        assert_sites_never_let_go(rig, plants, moment)
        await bring_to_its_end(rig, plants, moment)
        for worker in (zombie, successor):
            worker.kill()
        await until_all_is_said(rig)
        assert_all_ends_as_it_should(rig, epoch=2)
        assert_sites_obey_one_planner(rig)
        assert_safe(rig, made_up=releases)
