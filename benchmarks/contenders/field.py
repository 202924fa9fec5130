"""Who takes part, and how each is started: a process of its own, from the beginning of the same topic."""

import sys
from pathlib import Path

from benchmarks.contenders.task import Task, changelog
from benchmarks.drain import ROOT, Contender
from infra.settings import Settings
from schemas.catalog import GPU_TELEMETRY, SITE_STATE, prefixed
from streams.aggregate.agent import MEMORY

_MODULES = {"raw": "raw", "faust": "plain_faust", "quix": "quix"}
NAMES = ("gridtide", *_MODULES)
# Quix wants other versions of what we use: `make bench-aggregate` sets this environment up.
QUIX_PYTHON = ROOT / ".venv-bench" / "bin" / "python"


def contender(name: str, settings: Settings, trial: str, folder: Path) -> Contender:
    """The contender of that name, for one trial; `folder` is its own."""
    return _gridtide(settings) if name == "gridtide" else _peer(name, settings, trial, folder)


def _gridtide(settings: Settings) -> Contender:
    return Contender(
        name="gridtide",
        argv=(sys.executable, "-m", "streams.cli", "stage", "aggregate"),
        output=SITE_STATE.on_bus(settings.run_id),
        environment=settings.model_copy(update={"log_level": "warning"}).as_environment(),
        fresh=(prefixed(MEMORY, settings.run_id),),
        rewind=prefixed("gridtide.aggregate", settings.run_id),
    )


def _peer(name: str, settings: Settings, trial: str, folder: Path) -> Contender:
    task = Task(
        servers=settings.bootstrap_servers,
        source=GPU_TELEMETRY.on_bus(settings.run_id),
        output=prefixed(f"{name}.state", settings.run_id),
        group=f"{settings.run_id}.{name}.{trial}",
        partitions=settings.partitions,
        run_id=settings.run_id,
        fleet_file=str(settings.fleet_file),
        folder=str(folder),
    )
    return Contender(
        name=name,
        argv=(
            str(QUIX_PYTHON) if name == "quix" else sys.executable,
            "-m",
            f"benchmarks.contenders.{_MODULES[name]}",
            *task.arguments(),
        ),
        output=task.output,
        # Quix makes its changelog itself, with as many partitions as the source; Faust would make it with its default.
        fresh=(changelog(task.group),) if name == "faust" else (),
    )
