"""The `gridtide` command. Only here, and in the worker's start, are settings built."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import typer
from rich.console import Console

from infra.bus import create_topics
from infra.clock import FollowedClock
from infra.log import configure_logging
from infra.metrics import serve_metrics
from infra.migrate import migrate as apply_migrations
from infra.migrate import status as migration_status
from infra.roles import let_in, passwords_of
from infra.settings import DEMO_FLEET_FILE, ConfigurationError, Settings, load_fleet_file, load_settings
from schemas.catalog import TOPICS
from schemas.envelope import LIVE_RUN
from streams.backtest.command import backtest
from streams.collect.inputs import ReplayInputs, load_inputs
from streams.keys import keys
from streams.one_clear_line import FAULTS, one_clear_line, say
from streams.report.command import report
from streams.simulate.command import BareJson, replay_decisions, simulate
from streams.supervise import Child, stop_all, watch
from streams.train.command import models, train

app = typer.Typer(
    help="Keeps fleets of AI-inference data centres in step with the electric grid.\n\n"
    "Every setting can be given as an environment variable GRIDTIDE_…; see docs/reference/settings.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(report, name="report")
app.command()(backtest)
app.command()(train)
app.command(cls=BareJson)(simulate)
app.command("replay-decisions", cls=BareJson)(replay_decisions)
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")


class StageName(StrEnum):
    """The stages, in the order in which the data goes."""

    AGGREGATE = "aggregate"
    FORECAST = "forecast"
    POLICY = "policy"
    RECORD = "record"


def _run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@app.command()
@one_clear_line
def demo(
    duration: Annotated[float, typer.Option(help="How long to play, in seconds of real time.", min=20)] = 180.0,
    speed: Annotated[
        float | None,
        typer.Option(help="Seconds of the run's time a real second; by default what gives two hours.", min=1, max=600),
    ] = None,
    requests: Annotated[
        Path | None, typer.Option(help="A raw request trace (AzurePublicDataset CSV, also .gz); default: generated.")
    ] = None,
    prices: Annotated[
        list[Path] | None, typer.Option(help="A price CSV (interval_start_utc and a column a zone); may be repeated.")
    ] = None,
    price_start: Annotated[str | None, typer.Option(help="Where in the price files to begin (ISO 8601).")] = None,
    fleet: Annotated[Path, typer.Option(help="The fleet file.")] = DEMO_FLEET_FILE,
    seed: Annotated[int, typer.Option(help="Seed of everything that is made up.", min=0)] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the summary there as JSON.")] = None,
) -> None:
    """Runs everything on this machine, with an embedded broker and database, and says what happened.

    Plays traffic, prices and a grid event against simulated sites at an accelerated clock. Needs no Docker, no Java
    and no account; leaves nothing behind.
    """
    from streams.demo.progress import Progress  # noqa: PLC0415 - only this command needs it
    from streams.demo.run import DemoOptions, run_demo  # noqa: PLC0415
    from streams.demo.summary import page  # noqa: PLC0415

    rate = speed or 7200.0 / duration
    fleet_file = load_fleet_file(fleet)
    load_settings()  # a wrong variable is said here, in one line
    if json_file and not json_file.parent.is_dir():
        raise ConfigurationError(f"{json_file}: no such folder")
    settings = Settings(run_id="demo", fleet_file=fleet, log_level="warning")
    configure_logging(settings, "demo")
    inputs = _inputs(settings, requests, prices or [], duration * rate, seed, price_start)
    options = DemoOptions(fleet, duration, rate, requests, prices or [], price_start, seed, inputs.notes)
    with Progress(say) as progress:
        summary, found = run_demo(options, fleet_file, progress.tell)
    Console(highlight=False).print(page(summary, found))
    if json_file:
        json_file.write_text(json.dumps(summary, indent=2) + "\n")
    if found:
        raise typer.Exit(1)


def _inputs(
    settings: Settings,
    requests: Path | None,
    prices: list[Path],
    span_seconds: float,
    seed: int,
    price_start: str | None,
    interval_seconds: float = 10.0,
) -> ReplayInputs:
    from streams.collect.replay import replay_plan  # noqa: PLC0415

    plan = replay_plan(span_seconds, 1.0, interval_seconds, 0.0)
    fleet_file = load_fleet_file(settings.fleet_file)
    return load_inputs(
        fleet_file, requests, prices, plan.starts_at, span_seconds, interval_seconds, seed, settings.run_id, price_start
    )


@app.command()
@one_clear_line
def worker(
    stages: Annotated[
        list[StageName] | None, typer.Argument(help="aggregate, forecast, policy, record; default: all.")
    ] = None,
) -> None:
    """Runs stages of the stream, each a process of its own, and starts again what fails.

    With several stages, GRIDTIDE_METRICS_PORT is the first one's; the others follow in order.
    """
    from streams.worker import check_before_start  # noqa: PLC0415 - the engine takes a second to import

    settings = load_settings()
    configure_logging(settings, "worker")
    names = list(dict.fromkeys(stages or StageName))
    _run(check_before_start(names, settings))
    children = [
        Child(
            name,
            ["stage", name],
            {
                "GRIDTIDE_METRICS_PORT": str(settings.metrics_port + place if settings.metrics_port else 0),
                # Kept when the stage is started again, so that it finds its partitions as it left them.
                "GRIDTIDE_MEMBER_NAME": settings.member_name or f"worker-{uuid4().hex[:12]}",
            },
        )
        for place, name in enumerate(names)
    ]

    async def supervise() -> None:
        watching = asyncio.create_task(watch(children))
        _cancel_when_told(watching)
        try:
            await watching
        except asyncio.CancelledError:
            return

    try:
        for child in children:
            child.start()
        _run(supervise())
    finally:
        stop_all(children)


def _cancel_when_told(task: asyncio.Task[None]) -> None:
    import signal  # noqa: PLC0415

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


@app.command(hidden=True)
@one_clear_line
def stage(name: StageName) -> None:
    """Runs one stage in this process, unsupervised; what `worker` starts."""
    from streams.worker import run_stage  # noqa: PLC0415 - the engine takes a second to import

    settings = load_settings()
    configure_logging(settings, name)
    try:
        _run(run_stage(name, settings))
    except FAULTS:
        raise
    except Exception:
        import structlog  # noqa: PLC0415

        structlog.get_logger().exception("failed")
        sys.stderr.flush()
        os._exit(1)  # at once: whatever hangs in a broken engine must not keep the supervisor waiting


@app.command()
@one_clear_line
def controller(
    site: Annotated[str, typer.Option(help="The site to control, as the fleet file names it.")],
    actuator: Annotated[
        Literal["dry-run", "simulated"],
        typer.Option(help="`dry-run` says what it would do; `simulated` drives a plant."),
    ] = "dry-run",
    plant: Annotated[str, typer.Option(help="Where `simulated` finds the plant of `gridtide replay`.")] = (
        "http://127.0.0.1:8700"
    ),
    state_dir: Annotated[Path, typer.Option(help="Where the controller keeps its state and its lock-out.")] = Path(
        ".gridtide/controllers"
    ),
) -> None:
    """Obeys one site's commands and answers them.

    Starts from the last command in force, keeps its lease across a restart, and falls back by itself when nobody
    renews it. `gridtide lock-out` takes the site out of everybody's hands.
    """
    from streams.dispatch.actuators import DryRunActuator, SimulatedActuator  # noqa: PLC0415
    from streams.dispatch.memory import ControllerMemory  # noqa: PLC0415
    from streams.dispatch.service import ControllerService  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings, f"controller {site}")
    serve_metrics(settings.metrics_port)
    fleet_file = load_fleet_file(settings.fleet_file)

    async def control() -> None:
        followed = FollowedClock(settings)
        clock = await followed.start()
        try:
            equipment = SimulatedActuator(plant, site) if actuator == "simulated" else DryRunActuator()
            memory = ControllerMemory(state_dir, site, settings.run_id)
            running = asyncio.create_task(ControllerService(settings, fleet_file, site, equipment, memory, clock).run())
            _cancel_when_told(running)
            try:
                await running
            except asyncio.CancelledError:
                return
        finally:
            await followed.stop()

    _run(control())


@app.command("lock-out")
@one_clear_line
def lock_out(
    site: Annotated[str, typer.Argument(help="The site.")],
    lift: Annotated[bool, typer.Option("--lift", help="Gives the site back.")] = False,
    state_dir: Annotated[Path, typer.Option(help="The controller's folder.")] = Path(".gridtide/controllers"),
) -> None:
    """Locks a site out, here and now: its controller acts on no command until the lock-out is lifted."""
    from streams.dispatch.memory import ControllerMemory  # noqa: PLC0415

    settings = load_settings()
    if load_fleet_file(settings.fleet_file).site(site) is None:
        raise ConfigurationError(f"site {site!r} is not in the fleet file")
    ControllerMemory(state_dir, site, settings.run_id).set_lock_out(not lift)
    say.print(f"{site} is {'free again' if lift else 'locked out'}")


@app.command()
@one_clear_line
def replay(
    duration: Annotated[float, typer.Option(help="How long to play, in seconds of real time.", min=1)] = 3600.0,
    speed: Annotated[float, typer.Option(help="Seconds of the run's time a real second.", min=0.1, max=600)] = 1.0,
    requests: Annotated[Path | None, typer.Option(help="A raw request trace; default: generated.")] = None,
    prices: Annotated[list[Path] | None, typer.Option(help="A price CSV; may be repeated; default: generated.")] = None,
    price_start: Annotated[str | None, typer.Option(help="Where in the price files to begin (ISO 8601).")] = None,
    interval: Annotated[float, typer.Option(help="Seconds of the run's time between two readings.", min=1)] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of everything that is made up.", min=0)] = 1,
    starts_in: Annotated[float, typer.Option(help="Real seconds until the clock starts.", min=0)] = 0.0,
    plant_host: Annotated[str, typer.Option(help="Where controllers reach the plants.")] = "127.0.0.1",
    plant_port: Annotated[int, typer.Option(help="Where controllers reach the plants.", min=1, max=65535)] = 8700,
) -> None:
    """Plays traffic and prices, and the sites' plants that answer to them, under a clock of its own.

    The run is GRIDTIDE_RUN_ID; `live` is refused, since a replay's clock and readings are made up.
    """
    from streams.collect.replay import Replay, replay_plan  # noqa: PLC0415
    from streams.simulate.service import PlantService  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings, "replay")
    if settings.run_id == LIVE_RUN:
        raise ConfigurationError(
            "GRIDTIDE_RUN_ID: a replay can't be the live run; name it, such as GRIDTIDE_RUN_ID=replay"
        )
    fleet_file = load_fleet_file(settings.fleet_file)
    plan = replay_plan(duration, speed, interval, starts_in)
    inputs = load_inputs(
        fleet_file,
        requests,
        prices or [],
        plan.starts_at,
        plan.span_seconds,
        interval,
        seed,
        settings.run_id,
        price_start,
    )
    for note in inputs.notes:
        say.print(note, markup=False)

    async def play() -> None:
        player = Replay(settings, fleet_file, plan, inputs, seed)
        service = PlantService(player.plants)
        await service.start(plant_host, plant_port)
        playing = asyncio.create_task(player.run())
        _cancel_when_told(playing)
        try:
            await playing
        except asyncio.CancelledError:
            return
        finally:
            await service.stop()

    _run(play())


@app.command()
@one_clear_line
def topics() -> None:
    """Creates the topics that are missing: the catalog's, their dead-letter topics, and the stages' memories."""
    from streams.topology import MEMORY_TOPICS  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings, "topics")

    async def create() -> None:
        created = await create_topics(settings, TOPICS, MEMORY_TOPICS)
        say.print(f"created {len(created)} topics" if created else "every topic is there", highlight=False)

    _run(create())


@app.command()
@one_clear_line
def migrate(
    status: Annotated[bool, typer.Option("--status", help="Only say what is applied and what is not.")] = False,
) -> None:
    """Brings the database up to date, and gives its roles the logins whose passwords are set.

    GRIDTIDE_RECORDER_PASSWORD is that of gridtide_recorder, GRIDTIDE_ANALYST_PASSWORD that of gridtide_analyst.
    """
    settings = load_settings()
    dsn = settings.database_dsn.get_secret_value()
    if status:
        for each in migration_status(dsn):
            applied = f"applied {each.applied_at:%Y-%m-%d %H:%M} UTC" if each.applied_at else "not applied"
            typer.echo(f"{each.name}  {applied}")
        return
    applied_now = apply_migrations(dsn)
    say.print("\n".join(applied_now) if applied_now else "the database is up to date")
    passwords = passwords_of(settings)
    let_in(dsn, passwords)
    for role in passwords:
        say.print(f"{role} may log in")


if __name__ == "__main__":
    app()
