"""What survives a restart: the lease, the numbers, the limit, the lock-out; and what the site is told then."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.clock import Clock
from infra.settings import ConfigurationError, Settings
from schemas.clock import ClockAnchor
from streams.dispatch.controller import (
    ControllerState,
    Surroundings,
    accept,
    elapse,
    ramp,
    resumed,
    shares_in_force,
    target_in_force,
)
from streams.dispatch.memory import ControllerMemory
from streams.dispatch.service import ControllerService
from tests.policy_cases import ALPHA, FLEET_FILE, FULL, NOON, at, release, shift, throttle

AROUND = Surroundings(ALPHA, 40_000.0)


def a_state() -> ControllerState:
    state = ControllerState(site_id="alpha", next_offset=17)
    for command in (throttle((2, 1)), shift((2, 2))):
        state, _ = accept(state, command, AROUND, at(0))
    return ramp(ramp(state, AROUND, FULL, at(0)), AROUND, FULL, at(60))


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
    assert (state.highest, state.next_offset, state.limit_watts) == ((2, 2), 17, 30_000)
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
    state, _ = elapse(resumed(loaded), AROUND, at(5000))
    limits = []
    for seconds in (5000, 5010, 5020):
        state = ramp(state, AROUND, FULL, at(seconds))
        limits.append(state.limit_watts)
    assert limits == [30_000, 31_500, 33_000]


class Equipment:
    """An actuator that notes what it is told."""

    def __init__(self, meter: float | None = 40_000.0) -> None:
        self.meter = meter
        self.told: list[object] = []

    async def set_power_limit(self, watts: float | None) -> None:
        self.told.append(watts)

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
    await service._act()
    assert equipment.told == [30_000, {("batch", "beta"): 0.2}]
    await service._act()
    assert len(equipment.told) == 2


async def test_service_withdraws_what_lapsed_while_it_was_away(tmp_path: Path) -> None:
    state, _ = accept(a_state(), release((2, 3), releases_control_id="s"), AROUND, at(60))
    assert shares_in_force(state, at(60)) == {}
    free = state.model_copy(update={"controls": (), "limit_watts": None})
    ControllerMemory(tmp_path, "alpha", "live").save(free)
    equipment = Equipment()
    await a_service(tmp_path, equipment)._act()
    assert equipment.told == [None, {}]


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
