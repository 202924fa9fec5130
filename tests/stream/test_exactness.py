"""kill -9 of a stage at the worst moment, and a restart: what comes out is what an undisturbed run puts out."""

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from schemas.catalog import GPU_TELEMETRY, INFERENCE_REQUESTS, SITE_FORECASTS, SITE_STATE, Topic
from tests.stream.inputs import readings
from tests.stream.rig import Rig, on_kafka_when_drilled, rig_on

Broker = tuple[str, str]
Seen = dict[tuple[Any, ...], bytes]

STEPS = 60  # ten minutes in ten-second windows: two steps of the forecaster
SITES = 7


async def _feed(rig: Rig, first: int, last: int) -> None:
    """Puts the readings of steps [first, last) on the bus."""
    frames, rates = readings(STEPS).of_run(rig.run_id, first, last)
    await rig.send(GPU_TELEMETRY, frames)
    await rig.send(INFERENCE_REQUESTS, rates)


def _closed(steps: int) -> int:
    """How many states `steps` steps of readings close.

    A frame at t lies in the window that begins at t, a report for (t - 10 s, t] in the one before; a window closes
    when the newest record lies its end and the allowed lateness (5 s) ahead. So of frames the last two windows are
    open, of reports the last one.
    """
    return SITES * (steps - 2) + SITES * (steps - 1)


async def _until(rig: Rig, topic: Topic, count: int) -> None:
    await rig.until(f"{count} records on {topic.name}", lambda: len(rig.by_key(topic)) >= count)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Seen]:
    """The states and forecasts of a run that nothing happened to."""
    async with rig_on(broker, tmp_path_factory.mktemp("undisturbed")) as rig:
        rig.start("aggregate", "forecast")
        await _feed(rig, 0, STEPS)
        await _until(rig, SITE_STATE, _closed(STEPS))
        await _until(rig, SITE_FORECASTS, SITES)
        return rig.by_key(SITE_STATE), rig.by_key(SITE_FORECASTS)


@on_kafka_when_drilled
async def test_aggregate_killed_with_open_windows_repeats_nothing_and_loses_nothing(
    broker: Broker, tmp_path: Path, undisturbed: tuple[Seen, Seen]
) -> None:
    async with rig_on(broker, tmp_path) as rig:
        (first,) = rig.start("aggregate")
        await _feed(rig, 0, STEPS // 2)
        await _until(rig, SITE_STATE, _closed(STEPS // 2))
        # Windows are open (the newest records have not been closed), and their positions are not committed.
        committed = await rig.committed("aggregate", GPU_TELEMETRY.name)
        assert all(committed[number] < end for number, end in rig.ends(GPU_TELEMETRY).items() if end)
        assert len(rig.by_key(SITE_STATE)) == _closed(STEPS // 2)
        first.kill()
        await _feed(rig, STEPS // 2, STEPS)
        rig.start("aggregate")
        await _until(rig, SITE_STATE, _closed(STEPS))
        assert rig.by_key(SITE_STATE) == undisturbed[0]


async def test_forecasts_after_a_kill_of_forecast_are_those_of_an_undisturbed_run(
    broker: Broker, tmp_path: Path, undisturbed: tuple[Seen, Seen]
) -> None:
    await _assert_same_forecasts(broker, tmp_path, undisturbed, "forecast", SITE_STATE)


@on_kafka_when_drilled
async def test_forecasts_after_a_kill_of_aggregate_are_those_of_an_undisturbed_run(
    broker: Broker, tmp_path: Path, undisturbed: tuple[Seen, Seen]
) -> None:
    await _assert_same_forecasts(broker, tmp_path, undisturbed, "aggregate", GPU_TELEMETRY)


async def _assert_same_forecasts(
    broker: Broker, folder: Path, undisturbed: tuple[Seen, Seen], victim: str, source: Topic
) -> None:
    """Kills the victim, which reads `source`, in a run of both stages."""
    states, forecasts = undisturbed
    assert len(forecasts) == SITES
    async with rig_on(broker, folder) as rig:
        children = {child.name: child for child in rig.start("aggregate", "forecast")}
        await _feed(rig, 0, 20)
        await _until(rig, SITE_STATE, _closed(20))
        # Steps and windows are open, and the positions of what they were fed from are not committed.
        committed = await rig.committed(victim, source.name)
        assert all(committed[number] < end for number, end in rig.ends(source).items() if end)
        children[victim].kill()
        await _feed(rig, 20, 50)
        rig.start(victim)
        await _until(rig, SITE_STATE, _closed(50))
        await _feed(rig, 50, STEPS)
        await _until(rig, SITE_STATE, _closed(STEPS))
        await _until(rig, SITE_FORECASTS, len(forecasts))
        assert rig.by_key(SITE_STATE) == states
        assert rig.by_key(SITE_FORECASTS) == forecasts
