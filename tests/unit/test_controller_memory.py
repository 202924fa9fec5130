"""What survives a restart: the lease, the numbers, the limit, the lock-out; and what the site is told then."""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from infra.clock import Clock
from infra.settings import ConfigurationError, Settings
from schemas.clock import ClockAnchor
from schemas.command import CommandAck
from streams.dispatch import service as service_module
from streams.dispatch.actuators import ActuatorError
from streams.dispatch.controller import ControllerState, Surroundings, accept, elapse, resumed, target_in_force
from streams.dispatch.limit import MARGIN_RATIO
from streams.dispatch.memory import ControllerMemory
from streams.dispatch.service import ControllerService
from streams.dispatch.tick import tick
from tests.policy_cases import ALPHA, FLEET_FILE, FULL, NOON, ack, at, shift, throttle

AROUND = Surroundings(ALPHA, 40_000.0)
AIM = 30_000 * (1 - MARGIN_RATIO)


def a_state() -> ControllerState:
    state = ControllerState(site_id="alpha", next_offset=17)
    for command in (throttle((2, 1)), shift((2, 2))):
        state, _ = accept(state, command, AROUND, at(0))
    for seconds in (0, 60):
        state = tick(state, AROUND, FULL, at(seconds)).state
    return state


def test_memory_gives_back_what_was_saved(tmp_path: Path) -> None:
    memory = ControllerMemory(tmp_path / "new", "alpha", "live")
    assert memory.load() is None
    memory.save(a_state())
    assert ControllerMemory(tmp_path / "new", "alpha", "live").load() == a_state()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["live.alpha.json"]
    assert ControllerMemory(tmp_path / "new", "alpha", "demo").load() is None
    assert ControllerMemory(tmp_path / "new", "beta", "live").load() is None


def test_memory_that_is_no_state_stops_the_start(tmp_path: Path) -> None:
    memory = ControllerMemory(tmp_path, "alpha", "live")
    (tmp_path / "live.alpha.json").write_text("{")
    with pytest.raises(ConfigurationError, match="move it away"):
        memory.load()


def test_memory_in_a_place_that_is_no_folder_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file"):
        ControllerMemory(tmp_path / "file", "alpha", "live").load()


def test_lock_out_is_shared_by_all_runs_and_survives(tmp_path: Path) -> None:
    ControllerMemory(tmp_path, "alpha", "live").set_lock_out(True)
    memory = ControllerMemory(tmp_path, "alpha", "demo")
    assert memory.locked_out()
    assert not ControllerMemory(tmp_path, "beta", "live").locked_out()
    memory.set_lock_out(False)
    memory.set_lock_out(False)
    assert not memory.locked_out()


def test_restart_keeps_the_lease_and_lets_it_lapse_on_time(tmp_path: Path) -> None:
    memory = ControllerMemory(tmp_path, "alpha", "live")
    memory.save(a_state())
    state = memory.load()
    assert state is not None
    assert (state.highest, state.next_offset, state.limit_watts) == ((2, 2), 17, AIM)
    assert target_in_force(state, at(899)) == 30_000
    assert elapse(state, AROUND, at(899)) == (state, [])
    state, answers = elapse(state, AROUND, at(900))
    assert [answer.status for answer in answers] == ["expired", "expired"]
    assert target_in_force(state, at(900)) == 28_000
    assert accept(state, throttle((2, 1), issued=900), AROUND, at(900))[1].status == "rejected"


def test_restart_after_the_end_rises_at_the_ramp(tmp_path: Path) -> None:
    memory = ControllerMemory(tmp_path, "alpha", "live")
    memory.save(a_state())
    loaded = memory.load()
    assert loaded is not None
    state, limits = resumed(loaded), []
    for seconds in (5000, 5010, 5020):
        ticked = tick(state, AROUND, FULL, at(seconds))
        state = ticked.state
        limits.append(ticked.limit_watts)
    assert limits == [AIM, AIM + 1500, AIM + 3000]


def test_memory_of_an_older_release_still_loads(tmp_path: Path) -> None:
    old = {
        "site_id": "alpha",
        "epoch": 2,
        "sequence": 1,
        "controls": [{"command": throttle((2, 1)).model_dump(mode="json"), "lapsed": False}],
        "next_offset": 17,
        "owed": [],
        "limit_watts": 30_000.0,
        "limit_at": "2026-11-01T12:01:00Z",
        "ramp_up_watts_per_second": 150.0,
    }
    (tmp_path / "demo.alpha.json").write_text(json.dumps(old))
    state = ControllerMemory(tmp_path, "alpha", "demo").load()
    assert state is not None
    assert (state.run_id, state.highest, state.limit_watts) == ("demo", (2, 1), 30_000)
    assert tick(resumed(state), AROUND, FULL, at(61)).limit_watts == 30_000


class Equipment:
    """An actuator that notes what it is told."""

    def __init__(self, meter: float | None = 40_000.0) -> None:
        self.meter = meter
        self.told: list[object] = []

    async def set_power_limit(self, watts: float | None) -> None:
        self.told.append(watts)

    async def set_admission(self, ratio: float) -> None:
        self.told.append(f"admits {ratio:g}")

    async def set_shares(self, shares: Mapping[tuple[str, str], float]) -> None:
        self.told.append(dict(shares))

    async def read_meter_watts(self) -> float | None:
        return self.meter

    async def close(self) -> None:
        pass


def a_service(folder: Path, equipment: Equipment) -> ControllerService:
    # The clock stands at the examples' noon, to all that can be seen of it in a test.
    clock = Clock(ClockAnchor(run_id="live", wall_anchor=NOON.replace(year=2020), replay_anchor=NOON, rate=1e-9))
    return ControllerService(
        Settings(), FLEET_FILE, "alpha", equipment, ControllerMemory(folder, "alpha", "live"), clock
    )


async def test_service_tells_its_site_again_after_a_restart(tmp_path: Path) -> None:
    ControllerMemory(tmp_path, "alpha", "live").save(a_state())
    equipment = Equipment()
    service = a_service(tmp_path, equipment)
    ticked = tick(service._state, AROUND, FULL, at(60))
    await service._act(ticked)
    assert equipment.told == [AIM, "admits 1", {("batch", "beta"): 0.2}]
    await service._act(ticked)
    assert len(equipment.told) == 3


async def test_service_withdraws_what_lapsed_while_it_was_away(tmp_path: Path) -> None:
    free = a_state().model_copy(update={"controls": (), "limit_watts": None})
    ControllerMemory(tmp_path, "alpha", "live").save(free)
    equipment = Equipment()
    service = a_service(tmp_path, equipment)
    await service._act(tick(service._state, AROUND, FULL, at(2000)))
    assert equipment.told == [None, "admits 1", {}]


async def test_service_goes_on_with_the_rest_where_the_cap_is_refused(tmp_path: Path) -> None:
    class Stubborn(Equipment):
        async def set_power_limit(self, watts: float | None) -> None:
            raise ActuatorError("the rack manager says no")

    ControllerMemory(tmp_path, "alpha", "live").save(a_state())
    equipment = Stubborn()
    service = a_service(tmp_path, equipment)
    await service._act(tick(service._state, AROUND, FULL, at(60)))
    assert equipment.told == ["admits 1", {("batch", "beta"): 0.2}]
    await service._observe()
    assert service._around.cap_refused


class Bus:
    """A producer that may be cut off."""

    def __init__(self) -> None:
        self.there = False
        self.said: list[CommandAck] = []
        self.tried, self.all_said = asyncio.Event(), asyncio.Event()

    async def send_and_wait(self, topic: str, value: bytes, **_: object) -> None:
        self.tried.set()
        if not self.there:
            raise KafkaTimeoutError
        self.said.append(CommandAck.model_validate_json(value))
        if len(self.said) == 5:
            self.all_said.set()


async def test_service_says_in_order_what_it_could_not_say_while_the_bus_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_RETRY_WALL_SECONDS", 0.0)
    monkeypatch.setattr(ControllerService, "_headers", lambda *_: [])  # signatures have their own tests
    bus, answers = Bus(), [ack(throttle((1, number))) for number in range(1, 6)]
    lost = a_service(tmp_path, Equipment())
    lost._say(answers[:3])
    lost._producer = bus
    await until(lost._speak(), bus.tried)
    assert bus.said == []
    again = a_service(tmp_path, Equipment())  # a restart while the bus is away
    again._outbox.load()
    again._producer, bus.there = bus, True
    again._say(answers[3:])
    await until(again._speak(), bus.all_said)
    assert bus.said == answers


async def until(running: Coroutine[Any, Any, None], event: asyncio.Event) -> None:
    task = asyncio.create_task(running)
    await event.wait()
    task.cancel()


@pytest.mark.parametrize("reading", [None, -5.0, float("nan"), float("inf")])
async def test_service_takes_an_impossible_reading_for_none(tmp_path: Path, reading: float | None) -> None:
    equipment = Equipment()
    service = a_service(tmp_path, equipment)
    await service._observe()
    assert service._around.meter_power_watts == 40_000
    equipment.meter = reading
    await service._observe()
    assert service._around.meter_power_watts is None


async def test_service_sees_the_lock_out(tmp_path: Path) -> None:
    service = a_service(tmp_path, Equipment())
    assert not service._around.locked_out
    ControllerMemory(tmp_path, "alpha", "live").set_lock_out(True)
    await service._observe()
    assert service._around.locked_out


def test_service_of_an_unknown_site_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not in the fleet file"):
        ControllerService(
            Settings(), FLEET_FILE, "delta", Equipment(), ControllerMemory(tmp_path, "delta", "live"), Clock()
        )
