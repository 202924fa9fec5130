"""Who plans: one worker a fleet, a takeover that forgets nothing, commands that never go back."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from schemas.catalog import FLEET_PLANS, GRID_SIGNALS, SITE_COMMANDS, SITE_STATE
from tests.stream.inputs import event_now, power_now
from tests.stream.rig import Rig, rig_on


async def _send_power(rig: Rig) -> None:
    """One window of power of every site, as of now."""
    await rig.send(SITE_STATE, power_now(rig.fleet_file, rig.run_id))


async def _send_events(rig: Rig) -> None:
    """A grid event for every fleet, in force now."""
    await rig.send(GRID_SIGNALS, [event_now(fleet.id, rig.run_id) for fleet in rig.fleet_file.fleets])


def _commands(rig: Rig) -> dict[str, list[dict[str, Any]]]:
    """Commands by site, in the order in which they stand on the bus."""
    by_site = defaultdict(list)
    for message in rig.seen[SITE_COMMANDS.name]:
        command = json.loads(message.value)
        by_site[command["site_id"]].append(command)
    return by_site


def _commanded_sites(rig: Rig, epoch: int) -> set[str]:
    return {site for site, commands in _commands(rig).items() if any(each["epoch"] >= epoch for each in commands)}


async def test_policy_killed_in_an_event_is_succeeded_and_nothing_in_force_is_forgotten(
    broker: tuple[str, str], tmp_path: Path
) -> None:
    async with rig_on(broker, tmp_path, commit_interval_seconds=60.0) as rig:
        sites = {site.id for _, site in rig.fleet_file.sites()}
        (first,) = rig.start("policy")
        await _send_power(rig)
        await _send_events(rig)
        await rig.until("a throttle for every site", lambda: _commanded_sites(rig, 1) == sites)
        before = {site: commands[-1] for site, commands in _commands(rig).items()}
        committed = await rig.committed("policy", GRID_SIGNALS.name)
        assert not any(committed.values()), "commands are out, positions are not committed"
        first.kill()
        rig.start("policy")
        # Nothing new on the bus: the successor issues again what is in force, from the plan that it read back.
        await rig.until("a throttle again", lambda: _commanded_sites(rig, 2) == sites, seconds=150)
        for site, commands in _commands(rig).items():
            assert commands[-1]["control_id"] == before[site]["control_id"]
            assert commands[-1]["target_power_watts"] == before[site]["target_power_watts"]
            pairs = [(command["epoch"], command["sequence"]) for command in commands]
            assert pairs == sorted(set(pairs)), f"{site}: pairs go back"


async def test_two_policy_workers_share_the_fleets_and_each_fleet_has_one_planner(
    broker: tuple[str, str], tmp_path: Path
) -> None:
    async with rig_on(broker, tmp_path) as rig:
        rig.start("policy", "policy")
        fleets = {fleet.id for fleet in rig.fleet_file.fleets}
        await _send_power(rig)
        await _send_events(rig)
        await rig.until("a plan for every fleet", lambda: set(_newest_owner(rig)) == fleets)
        await rig.until(
            "a throttle for every site",
            lambda: _commanded_sites(rig, 1) == {site.id for _, site in rig.fleet_file.sites()},
        )
        for site, commands in _commands(rig).items():
            pairs = [(command["epoch"], command["sequence"]) for command in commands]
            assert pairs == sorted(set(pairs)), f"{site}: pairs go back"


def _newest_owner(rig: Rig) -> dict[str, str]:
    owners = {}
    for plan in rig.records(FLEET_PLANS):
        if plan["kind"] == "plan":
            owners[plan["fleet_id"]] = plan["owner"]
    return owners
