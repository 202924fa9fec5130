"""`gridtide demo`: broker, database, stages, controllers and replay on this machine, and a count of what they did."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from pydantic import SecretStr

from infra.bus import create_topics
from infra.database import SCHEMA, connect
from infra.embedded.broker import EmbeddedBroker
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.process import free_port
from infra.migrate import migrate
from infra.settings import Settings
from schemas.catalog import SITE_COMMANDS, SITE_FORECASTS, SITE_STATE, TOPICS
from schemas.fleet import FleetFile
from streams.demo.summary import problems, summarise
from streams.demo.watcher import Watcher
from streams.supervise import Child, stop_all, watch
from streams.topology import MEMORY_TOPICS, STAGES

RUN_ID = "demo"
# Workers and controllers start meanwhile: about a second of processor time each.
_STARTS_IN_SECONDS = 12.0
_DRAIN_SECONDS = 90.0
# Which tables a topic's records lie in; written down here anew, so that the count stays independent.
TABLES_OF = {
    "gpu.telemetry.v1": ("gpu_telemetry",),
    "inference.requests.v1": ("inference_requests",),
    "grid.signals.v1": ("grid_signals",),
    "site.state.v1": ("site_power", "site_load"),
    "site.forecasts.v1": ("site_forecasts",),
    "site.forecast-scores.v1": ("forecast_scores",),
    "fleet.plans.v1": ("fleet_plans",),
    "site.flexibility-offers.v1": ("flexibility_offers",),
    "site.commands.v1": ("site_commands",),
    "site.command-acks.v1": ("command_acks",),
    "site.heartbeats.v1": ("site_heartbeats",),
    "control.clock.v1": ("clock_anchors",),
}


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to play and how."""

    fleet_path: Path
    duration_seconds: float
    rate: float
    requests: Path | None
    prices: list[Path]
    price_start: str | None
    seed: int
    notes: list[str]


Tell = Callable[[str, float, Watcher], None]


def run_demo(options: DemoOptions, fleet_file: FleetFile, tell: Tell) -> tuple[dict[str, Any], list[str]]:
    """Plays the demo; returns its summary and what went wrong.

    `tell(phase, done_ratio, watcher)` is called as it goes on.

    Raises:
        EmbeddedError, ConfigurationError: something can't be started here.
        GaveUpError: one of the processes can't start.
    """
    with (
        EmbeddedBroker() as broker,
        EmbeddedPostgres() as postgres,
        tempfile.TemporaryDirectory(prefix="gridtide-demo-") as folder,
    ):
        settings = Settings(
            bootstrap_servers=broker.bootstrap_servers,
            database_dsn=SecretStr(postgres.dsn),
            fleet_file=options.fleet_path,
            run_id=RUN_ID,
            partitions=4,
            session_timeout_seconds=6.0,
            commit_interval_seconds=0.5,
            single_record_batches=True,
            keys_dir=Path(folder) / "keys",
            log_level="warning",
        )
        migrate(postgres.dsn)
        return asyncio.run(_Demo(settings, options, fleet_file, tell, Path(folder)).run())


class _Demo:
    def __init__(
        self, settings: Settings, options: DemoOptions, fleet_file: FleetFile, tell: Tell, folder: Path
    ) -> None:
        self._settings, self._options, self._fleet_file, self._tell = settings, options, fleet_file, tell
        self._folder = folder
        self._watcher = Watcher(settings)
        port = free_port()
        self._replay = self._child("replay", self._replay_arguments(port))
        self._stages = [self._child(name, ["stage", name]) for name in STAGES]
        self._controllers = [
            self._child(f"controller {site.id}", self._controller_arguments(site.id, port))
            for _, site in fleet_file.sites()
        ]

    async def run(self) -> tuple[dict[str, Any], list[str]]:
        await create_topics(self._settings, TOPICS, MEMORY_TOPICS)
        children = [self._replay, *self._stages, *self._controllers]
        reading = asyncio.create_task(self._watcher.run())
        watching: asyncio.Task[None] | None = None
        try:
            for child in children:
                child.start()
            watching = asyncio.create_task(watch(children, finite=frozenset({"replay"})))
            await self._until_played(watching)
            await self._at_rest()
            await _cancelled(watching)
            # Policy and controllers live by the clock and go on talking: with them ended, the bus stands still, and
            # what is on it can be compared with what the recorder puts into the database. The controllers outlive
            # the policy, so that its last command has its answer too.
            await asyncio.to_thread(stop_all, [child for child in self._stages if child.name != "record"])
            await self._answered()
            await asyncio.to_thread(stop_all, self._controllers)
            return await self._recorded()
        finally:
            for task in (watching, reading):
                if task is not None:
                    await _cancelled(task)
            self._tell("stopping", 1.0, self._watcher)
            await asyncio.to_thread(stop_all, children)

    async def _until_played(self, watching: asyncio.Task[None]) -> None:
        """Until the replay has ended by itself; what `watching` raises is raised here."""
        started = monotonic()
        total = _STARTS_IN_SECONDS + self._options.duration_seconds
        while self._replay.exit_status() != 0:
            if watching.done():
                watching.result()
            phase = "starting" if monotonic() - started < _STARTS_IN_SECONDS else "playing"
            self._tell(phase, min(1.0, (monotonic() - started) / total), self._watcher)
            await asyncio.sleep(0.25)

    async def _at_rest(self) -> None:
        """Until states and forecasts have stopped coming and every command has its answer."""
        deadline, before = monotonic() + _DRAIN_SECONDS, (-1, -1)
        while monotonic() < deadline:
            distinct = self._watcher.tally.distinct()
            now = (distinct[SITE_STATE.name], distinct[SITE_FORECASTS.name])
            if now == before and not self._watcher.tally.commands_without_answer:
                return
            before = now
            self._tell("settling", 1.0, self._watcher)
            await asyncio.sleep(1.5)

    async def _answered(self) -> None:
        """Until all that was commanded has its answer."""
        deadline = monotonic() + _DRAIN_SECONDS
        while monotonic() < deadline:
            if await self._watcher.has_read(SITE_COMMANDS) and not self._watcher.tally.commands_without_answer:
                return
            self._tell("settling", 1.0, self._watcher)
            await asyncio.sleep(0.25)

    async def _recorded(self) -> tuple[dict[str, Any], list[str]]:
        """The summary once the database holds what the bus does; what is still wrong after a fair time stands in it."""
        deadline = monotonic() + _DRAIN_SECONDS
        span_seconds = self._options.duration_seconds * self._options.rate
        while True:
            tally, rows = self._watcher.tally, await self._rows()
            summary = summarise(tally, self._fleet_file, rows, span_seconds, self._options.rate, self._options.notes)
            found = problems(summary, tally, TABLES_OF)
            if not any("rows in the database" in each for each in found) or monotonic() > deadline:
                return summary, found
            self._tell("recording", 1.0, self._watcher)
            await asyncio.sleep(0.5)

    async def _rows(self) -> dict[str, int]:
        connection = await connect(self._settings.database_dsn.get_secret_value())
        try:
            rows = {}
            for table in (*(name for names in TABLES_OF.values() for name in names), "dead_letters"):
                query = f"SELECT count(*) FROM {SCHEMA}.{table} WHERE run_id = %s"  # noqa: S608 - names of ours
                counted = await (await connection.execute(query, (RUN_ID,))).fetchone()
                assert counted is not None
                rows[table] = int(counted[0])
            return rows
        finally:
            await connection.close()

    def _child(self, name: str, arguments: list[str]) -> Child:
        environment = {**self._settings.as_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return Child(name, arguments, environment, self._folder / f"{name.replace(' ', '-')}.log")

    def _replay_arguments(self, port: int) -> list[str]:
        options = self._options
        arguments = ["replay", "--duration", str(options.duration_seconds), "--speed", str(options.rate)]
        arguments += ["--starts-in", str(_STARTS_IN_SECONDS), "--plant-port", str(port), "--seed", str(options.seed)]
        if options.requests:
            arguments += ["--requests", str(options.requests)]
        for path in options.prices:
            arguments += ["--prices", str(path)]
        if options.price_start:
            arguments += ["--price-start", options.price_start]
        return arguments

    def _controller_arguments(self, site_id: str, port: int) -> list[str]:
        actuator = ["--actuator", "simulated", "--plant", f"http://127.0.0.1:{port}"]
        return ["controller", "--site", site_id, *actuator, "--state-dir", str(self._folder / "controllers")]


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
