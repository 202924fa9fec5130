"""The demo's progress: a bar for people at a terminal, a line now and then for a log."""

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from schemas.catalog import COMMAND_ACKS, GPU_TELEMETRY, SITE_COMMANDS, SITE_FORECASTS, SITE_STATE
from streams.demo.watcher import Watcher

_LINE_SECONDS = 15.0


class Progress:
    """Shows what `run_demo` tells."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[counted]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=1.0, counted="")
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, phase: str, done_ratio: float, watcher: Watcher) -> None:
        """Shows the phase, how far it is, and what is on the bus."""
        keys = watcher.tally.keys
        counted = (
            f"{len(keys[GPU_TELEMETRY.name])} frames  {len(keys[SITE_STATE.name])} states  "
            f"{len(keys[SITE_FORECASTS.name])} forecasts  {len(keys[SITE_COMMANDS.name])} commands  "
            f"{len(keys[COMMAND_ACKS.name])} answers"
        )
        self._bar.update(self._task, description=phase, completed=done_ratio, counted=counted)
        if not self._console.is_terminal and monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = monotonic()
            self._console.print(f"{phase} {done_ratio:4.0%}  {counted}")
