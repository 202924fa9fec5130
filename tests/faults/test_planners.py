"""Planners that come back from the dead: their commands are refused, and no successor takes over from them."""

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from infra.clock import wall_now
from schemas.catalog import FLEET_PLANS, GRID_SIGNALS, SITE_STATE
from schemas.fleet import Fleet
from schemas.plan import Baseline, FleetPlan
from schemas.signals import EventSignal
from tests.faults.commands import (
    all_sites,
    assert_every_command_was_planned,
    commanded_above,
    commanded_sites,
    commands_by_site,
    informed_fleets,
    newest_epochs,
    obeyed,
    plan_quickly,
    plans,
)
from tests.faults.drill import Broker
from tests.stream.inputs import event_now, power_now
from tests.stream.rig import PATIENCE_SECONDS, Rig, rig_on

pytestmark = pytest.mark.broker


async def _send_power(rig: Rig, share: float, ago_seconds: float) -> None:
    """One window of every site's power, as a share of `power_now`'s."""
    shift = timedelta(seconds=-ago_seconds)
    states = [
        state.model_copy(
            update={
                "window_start": state.window_start + shift,
                "window_end": state.window_end + shift,
                "meter_power_watts": (state.meter_power_watts or 0.0) * share,
            }
        )
        for state in power_now(rig.fleet_file, rig.run_id)
    ]
    await rig.send(SITE_STATE, states)


def _emergency(fleet: Fleet, run_id: str) -> EventSignal:
    """A stronger event than `event_now`, under a name of its own."""
    event = event_now(fleet.id, run_id)
    return event.model_copy(update={"kind": "emergency", "signal_id": f"emergency/{fleet.id}", "reduction_ratio": 0.3})


@pytest.mark.drill
async def test_planner_stopped_for_longer_than_its_session_is_obeyed_no_more_when_it_goes_on(
    kafka: Broker, tmp_path: Path
) -> None:
    async with rig_on(kafka, tmp_path) as rig:
        plan_quickly(rig)
        fleets = {fleet.id for fleet in rig.fleet_file.fleets}
        (zombie,) = rig.start("policy")
        await _send_power(rig, 1.0, ago_seconds=20)
        await rig.until("an informed planner", lambda: informed_fleets(rig) == fleets)
        await rig.send(GRID_SIGNALS, [event_now(fleet.id, rig.run_id) for fleet in rig.fleet_file.fleets])
        await rig.until("a throttle for every site", lambda: commanded_sites(rig) == all_sites(rig))
        assert zombie.pid is not None
        os.kill(zombie.pid, signal.SIGSTOP)
        (successor,) = rig.start("policy")
        await rig.until("a successor", lambda: commanded_sites(rig, 2) == all_sites(rig))
        # What the zombie knows nothing of: an emergency, its baseline pinned, and the power that it brings down.
        await rig.send(GRID_SIGNALS, [_emergency(fleet, rig.run_id) for fleet in rig.fleet_file.fleets])
        await rig.until("the emergency's throttles", lambda: set(_emergency_targets(rig)) == all_sites(rig))
        pinned = _emergency_targets(rig)
        os.kill(zombie.pid, signal.SIGCONT)
        await _until_while_power_flows(
            rig,
            "a third planner of some fleet, or the zombie's end",
            lambda: max(newest_epochs(rig).values()) > 2 or zombie.pid is None,
        )
        # The last word is that of a planner who has read everything back.
        for worker in (zombie, successor):
            worker.kill()
        before = newest_epochs(rig)
        rig.start("policy")
        await _until_while_power_flows(
            rig,
            "its successor, and what is in force told again",
            lambda: commanded_above(rig, before) == all_sites(rig),
        )
        assert_every_command_was_planned(rig)
        for site_id in all_sites(rig):
            obeyed_commands, target = obeyed(rig, site_id)
            epochs = [command.epoch for command in obeyed_commands]
            assert epochs == sorted(epochs)
            assert target == pytest.approx(pinned[site_id], abs=1.0), f"{site_id}: its baseline was forgotten"


async def _until_while_power_flows(rig: Rig, what: str, holds: Callable[[], bool]) -> None:
    """Waits while the sites draw half as much as before: a planner begins with the first record that it reads."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                await _send_power(rig, 0.5, ago_seconds=0)
                async with rig.news:  # at least twice a second
                    await rig.news.wait()
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: {what}") from None


def _emergency_targets(rig: Rig) -> dict[str, float]:
    """The newest emergency target of each site, in W, as first told."""
    targets: dict[str, float] = {}
    for site_id, commands in commands_by_site(rig).items():
        for told in commands:
            if told.command.kind == "throttle" and told.command.reason == "emergency":
                targets.setdefault(site_id, told.command.target_power_watts)
    return targets


async def test_successor_takes_over_from_the_highest_epoch_though_a_zombie_wrote_last(
    kafka: Broker, tmp_path: Path
) -> None:
    async with rig_on(kafka, tmp_path) as rig:
        fleet = rig.fleet_file.fleets[0]
        baselines = [Baseline(signal_id="event/1", site_id=site.id, power_watts=100_000.0) for site in fleet.sites]
        now = wall_now()
        common = {"run_id": rig.run_id, "fleet_id": fleet.id, "kind": "plan", "mode": "hold", "explanation": "made"}
        owned = FleetPlan.model_validate(
            {**common, "epoch": 2, "sequence": 5, "revision": 9, "owner": "owner", "issued_at": now}
        ).model_copy(update={"baselines": baselines})
        stale = FleetPlan.model_validate(
            {**common, "epoch": 1, "sequence": 8, "revision": 30, "owner": "zombie", "issued_at": now}
        )
        await rig.send(FLEET_PLANS, [owned, stale])
        rig.start("policy")
        await rig.send(GRID_SIGNALS, [event_now(fleet.id, rig.run_id)])
        await rig.until("a claim", lambda: newest_epochs(rig).get(fleet.id, 0) > 2)
        (claim,) = [plan for plan in plans(rig) if plan.kind == "claim" and plan.fleet_id == fleet.id]
        assert claim.epoch == 3
        assert claim.baselines == baselines
