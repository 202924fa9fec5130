"""A worker ends when it is told or when something fails, even one that the engine keeps from ever having started."""

import asyncio
import os
import signal
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from infra.settings import Settings
from streams import watchdog
from streams.watchdog import StalledError
from streams.worker import _run_until_told


@dataclass
class NeverStarted:
    """An engine whose group can't be joined."""

    starting: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False
    crash_reason: Exception | None = None
    _crashed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Never returns."""
        self.starting.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Ends it."""
        self.stopped = True


def a_stage(app: NeverStarted) -> Any:
    """What of a stage a worker uses."""
    failed = asyncio.get_running_loop().create_future()
    return SimpleNamespace(name="aggregate", app=app, settings=Settings(), failed=failed)


async def test_worker_told_before_the_engine_has_started_stops_it() -> None:
    app = NeverStarted()
    running = asyncio.create_task(_run_until_told(a_stage(app)))
    await app.starting.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert app.stopped


async def test_worker_whose_group_can_not_be_joined_is_ended_by_its_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    async def seen(_: object) -> None:
        raise StalledError("for 60 s: the group was not joined")

    monkeypatch.setattr(watchdog, "watch", seen)
    with pytest.raises(StalledError):
        await _run_until_told(a_stage(NeverStarted()))


async def test_worker_whose_agent_fails_ends_with_what_failed() -> None:
    stage = a_stage(NeverStarted())
    stage.failed.set_exception(ValueError("an agent's"))
    with pytest.raises(ValueError, match="an agent's"):
        await _run_until_told(stage)


async def test_worker_whose_engine_crashed_says_why() -> None:
    app = NeverStarted(crash_reason=RuntimeError("no leader"))
    app._crashed.set()
    with pytest.raises(RuntimeError, match="no leader"):
        await _run_until_told(a_stage(app))
