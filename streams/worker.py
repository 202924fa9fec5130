"""One stage as a process: checks before the start, runs until told to end, ends at once when something fails."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Collection

import structlog

from infra import metrics
from infra.bus import check_topics
from infra.clock import FollowedClock
from infra.keys import Keys
from infra.metrics import serve_metrics
from infra.migrate import status
from infra.settings import ConfigurationError, Settings, load_fleet_file
from infra.signing import Owner
from schemas.catalog import prefixed
from streams import watchdog
from streams.stage import Stage
from streams.topology import STAGES, build

log = structlog.get_logger()

# A graceful end takes a second or two; what hangs longer is cut off, which costs a replay and nothing else.
_STOP_SECONDS = 10.0


async def run_stage(name: str, settings: Settings) -> None:
    """Runs a stage until SIGTERM or SIGINT.

    Raises:
        ConfigurationError, DatabaseConfigurationError, DatabaseUnavailableError, MigrationError: something must be
            mended before it can start.
        Exception: whatever failed in an agent; the process must end, so that a supervisor starts it again.
    """
    fleet_file = load_fleet_file(settings.fleet_file)
    await check_before_start([name], settings)
    spare_the_collector()
    serve_metrics(settings.metrics_port)
    followed = FollowedClock(settings)
    stage = build(name, settings, await followed.start(), fleet_file)
    try:
        await _run_until_told(stage)
    finally:
        await followed.stop()


async def check_before_start(stages: Collection[str], settings: Settings) -> None:
    """Makes sure that the stages can start: fleet file, keys, brokers, topics, and for the recorder the database.

    Raises:
        ConfigurationError, DatabaseConfigurationError, DatabaseUnavailableError, MigrationError: what must be mended.
    """
    _check_keys(stages, settings)
    flows = [STAGES[name] for name in stages]
    names = [topic.name for flow in flows for topic in (*flow.reads, *flow.writes)]
    names += [flow.memory for flow in flows if flow.memory]
    await check_topics(settings, [prefixed(name, settings.run_id) for name in dict.fromkeys(names)])
    if "record" in stages:
        await _check_database(settings)


def _check_keys(stages: Collection[str], settings: Settings) -> None:
    planners = [Owner("planner", fleet.id) for fleet in load_fleet_file(settings.fleet_file).fleets]
    if "policy" in stages:
        Keys(settings).make_ready(signs=planners)
    elif "record" in stages:
        Keys(settings).make_ready(trusts=planners)


async def _check_database(settings: Settings) -> None:
    for migration in await asyncio.to_thread(status, settings.database_dsn.get_secret_value()):
        if migration.applied_at is None:
            raise ConfigurationError(f"the database lacks migration {migration.name}: run `gridtide migrate`")


def spare_the_collector() -> None:
    """Records make many lists and no circles: looking for circles among them, and all modules, is time lost."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _run_until_told(stage: Stage) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    # Watched from the first: a group that can't be joined keeps the engine from ever having started.
    ends = [
        asyncio.create_task(told.wait()),
        asyncio.create_task(watchdog.watch(stage)),
        asyncio.create_task(stage.app._crashed.wait()),
        stage.failed,
    ]
    starting = asyncio.create_task(_start(stage))
    await asyncio.wait([starting, *ends], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        if end.done():
            end.result()
    if not told.is_set():
        raise RuntimeError(f"the stream engine crashed: {stage.app.crash_reason!r}")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stage.app.stop(), _STOP_SECONDS)
    log.info("stopped")


async def _start(stage: Stage) -> None:
    await stage.app.start()
    metrics.STAGE_INFO.labels(stage.name, stage.settings.run_id).set(1)
    log.info("started", run_id=stage.settings.run_id, brokers=stage.settings.bootstrap_servers)
