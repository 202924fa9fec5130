"""Aggregate, forecast and policy, each killed in turn while a grid event is in force: the fence holds throughout."""

from datetime import timedelta
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest

from forecasting.forecaster import statistical
from infra.clock import wall_now
from schemas.catalog import GRID_SIGNALS, SITE_COMMANDS, SITE_FORECASTS, SITE_HEARTBEATS, SITE_STATE
from schemas.command import Throttle
from streams.forecast.partition import PartitionHistories
from streams.forecast.serving import NO_MODEL
from streams.intake import Arrived
from tests.faults.commands import (
    all_sites,
    assert_every_command_was_planned,
    assert_pairs_rise,
    commanded_above,
    commanded_sites,
    commands_by_site,
    informed_fleets,
    newest_epochs,
    obeyed,
    plan_quickly,
)
from tests.faults.drill import Broker, feed, until_states
from tests.faults.flow import make_flow, whole_window
from tests.forecasters import Fixed
from tests.stream.inputs import event_now
from tests.stream.rig import Rig, rig_on

pytestmark = [pytest.mark.broker, pytest.mark.drill]

STEP_SECONDS = 30.0  # of the forecaster, so that a flow of minutes has several
CONTROLLED = ("nyiso-nyc", "ercot-dallas")  # sites with a controller of their own; the others are judged from the log


@pytest.mark.parametrize("seed", range(3))
async def test_chain_killed_stage_by_stage_in_an_event_obeys_one_planner_and_forgets_nothing(
    kafka: Broker, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(seed)
    monkeypatch.setenv("GRIDTIDE_FORECAST_STEP_SECONDS", str(STEP_SECONDS))
    # Of the last minutes: the policy wants to know what is, not what was.
    flow = make_flow(whole_window(wall_now() - timedelta(seconds=160)))
    async with rig_on(kafka, tmp_path) as rig:
        plan_quickly(rig)
        stages = {child.name: child for child in rig.start("aggregate", "forecast", "policy")}
        controllers = [rig.start_controller(site_id, tmp_path / site_id) for site_id in CONTROLLED]
        await feed(rig, chain(*flow.slices[:4]))
        await until_states(rig, flow.closed(4))
        fleets = {fleet.id for fleet in rig.fleet_file.fleets}
        await rig.until("a planner that knows every site's power", lambda: informed_fleets(rig) == fleets)
        await rig.send(GRID_SIGNALS, [event_now(fleet.id, rig.run_id) for fleet in rig.fleet_file.fleets])
        await rig.until("a throttle for every site", lambda: commanded_sites(rig) == all_sites(rig))
        targets = {site_id: _throttle(told[0].command) for site_id, told in commands_by_site(rig).items()}
        victims = [*rng.sample(sorted(stages), 3), "policy"]
        for victim, part in zip(victims, flow.slices[4:8], strict=True):
            at_work_on = SITE_COMMANDS.name if victim == "policy" else SITE_STATE.name
            # Counted before the feed: what follows from it may be out when it returns.
            enough = len(rig.seen[at_work_on]) + rng.randint(1, 8)
            await feed(rig, part)
            await rig.until(f"more on {at_work_on}", lambda at=at_work_on, n=enough: len(rig.seen[at]) >= n)  # type: ignore[misc]
            before = newest_epochs(rig)
            stages[victim].kill()
            (stages[victim],) = rig.start(victim)
            if victim == "policy":
                await rig.until(
                    "a successor of every planner",
                    lambda before=before: all(  # type: ignore[misc]
                        newest_epochs(rig)[fleet] > epoch for fleet, epoch in before.items()
                    ),
                )
        for part in flow.slices[8:]:
            await feed(rig, part)
        await feed(rig, flow.closers)
        await until_states(rig, len(flow.windows) - len(flow.closers))
        await rig.until("what is in force, told again", lambda: commanded_above(rig, before) == all_sites(rig))

        assert_every_command_was_planned(rig)
        assert_pairs_rise(rig)
        for site_id, first in targets.items():
            taken, target = obeyed(rig, site_id)
            assert {_throttle(command).control_id for command in taken} == {first.control_id}
            assert target == first.target_power_watts, f"{site_id} ends at another target than the event's"
        await _forecasts_follow_from_the_states(rig)
        beats = len(rig.seen[SITE_HEARTBEATS.name])
        for controller in controllers:
            controller.kill()
        for site_id in CONTROLLED:
            rig.start_controller(site_id, tmp_path / site_id)
        await rig.until("a heartbeat of each", lambda: _beating(rig, beats).keys() == set(CONTROLLED))
        for site_id, beat in _beating(rig, beats).items():
            assert beat["target_power_watts"] == targets[site_id].target_power_watts
            assert beat["epoch"] > 1, "it obeys the successor"


def _throttle(command: object) -> Throttle:
    assert isinstance(command, Throttle)
    return command


def _beating(rig: Rig, after: int) -> dict[str, dict[str, Any]]:
    """The first heartbeat of each site after so many of all."""
    beats: dict[str, dict[str, Any]] = {}
    for beat in rig.records(SITE_HEARTBEATS)[after:]:
        beats.setdefault(beat["site_id"], beat)
    return beats


async def _forecasts_follow_from_the_states(rig: Rig) -> None:
    """Each forecast is what the states of its site give, read once and in order, and none is missing."""
    states = {message.value: SITE_STATE.adapter.validate_json(message.value) for message in rig.seen[SITE_STATE.name]}
    in_order = sorted(states.values(), key=lambda state: state.window_start)
    serving = Fixed(statistical(STEP_SECONDS), (NO_MODEL,))
    histories = PartitionHistories(STEP_SECONDS, rig.run_id, rig.fleet_file, serving)
    made = histories.fold([Arrived(0, 0, state) for state in in_order], 0)
    expected = {forecast.to_json() for forecast in made.forecasts}
    assert expected
    await rig.until("every forecast", lambda: len(rig.by_key(SITE_FORECASTS)) >= len(expected))
    assert {message.value for message in rig.seen[SITE_FORECASTS.name]} == expected
