"""The plant's door: what an actuator may ask, and that a wrong request changes nothing."""

from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from infra.embedded.process import free_port
from infra.settings import DEMO_FLEET_FILE, ConfigurationError, load_fleet_file
from streams.dispatch.actuators import ActuatorError, SimulatedActuator
from streams.simulate.demand import ClassDemand
from streams.simulate.plant import SitePlant
from streams.simulate.service import LOCALHOST, PlantService

FLEETS = load_fleet_file(DEMO_FLEET_FILE)
SITES = ("nyiso-nyc", "nyiso-west", "nyiso-north")
LIMIT, SHARES, METER = (f"/sites/nyiso-nyc/{what}" for what in ("power-limit", "shares", "meter"))
CHAT = {"service_class": "chat", "to_site_id": "nyiso-west", "share_ratio": 0.2}

NO_LIMIT = [b"", b"{", b"null", b"[]", b"\xff", b"{}", b'{"watts": -1}', b'{"watts": NaN}', b'{"watts": 1e999}']
NO_LIMIT += [b'{"watts": "500"}', b'{"watts": true}', b'{"watts": 5, "volts": 1}', b'{"watts": [5]}']
NO_SHARES: list[Any] = [
    [{**CHAT, "to_site_id": "nowhere"}],
    [{**CHAT, "to_site_id": "Nowhere at all"}],
    [{**CHAT, "to_site_id": "nyiso-nyc"}],
    [{**CHAT, "service_class": "unheard-of"}],
    [{**CHAT, "share_ratio": 1.01}],
    [{**CHAT, "share_ratio": -0.1}],
    [{**CHAT, "share_ratio": "0.2"}],
    [{**CHAT, "more": 1}],
    [CHAT, {**CHAT, "to_site_id": "nyiso-north", "share_ratio": 0.9}],
    [{**CHAT, "service_class": "batch"}, {**CHAT, "to_site_id": "nowhere"}],
    [None],
    {},
    None,
]


@pytest.fixture
def plants() -> dict[str, SitePlant]:
    """The plants of one fleet."""
    made = {}
    for name in SITES:
        site = FLEETS.site(name)
        assert site is not None
        made[name] = SitePlant.start(site, FLEETS.gpu_models, FLEETS.service_classes, seed=1)
    return made


@pytest.fixture
async def client(plants: dict[str, SitePlant]) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the service, as it serves them."""
    service, port = PlantService(plants), free_port()
    await service.start(LOCALHOST, port)
    try:
        async with aiohttp.ClientSession(f"http://{LOCALHOST}:{port}") as session:
            yield session
    finally:
        await service.stop()


async def status(client: aiohttp.ClientSession, path: str, **body: Any) -> int:
    """The status that a PUT is answered with."""
    async with client.put(path, **body) as answer:
        return answer.status


async def test_a_power_limit_holds_and_is_lifted(client: aiohttp.ClientSession, plants: dict[str, SitePlant]) -> None:
    assert await status(client, LIMIT, json={"watts": 150_000}) == 200
    assert plants["nyiso-nyc"].power_cap_watts == 150_000.0
    assert await status(client, LIMIT, json={"watts": None}) == 200
    assert plants["nyiso-nyc"].power_cap_watts is None
    assert plants["nyiso-west"].power_cap_watts is None


@pytest.mark.parametrize("body", NO_LIMIT, ids=repr)
async def test_a_malformed_power_limit_leaves_the_old_one(
    body: bytes, client: aiohttp.ClientSession, plants: dict[str, SitePlant]
) -> None:
    plants["nyiso-nyc"].set_power_cap(99_000.0)
    assert await status(client, LIMIT, data=body) == 422
    assert plants["nyiso-nyc"].power_cap_watts == 99_000.0


async def test_an_admission_holds_and_a_wrong_one_leaves_it(
    client: aiohttp.ClientSession, plants: dict[str, SitePlant]
) -> None:
    path = "/sites/nyiso-nyc/admission"
    assert await status(client, path, json={"admission_ratio": 0.4}) == 200
    for wrong in (b"", b"{}", b'{"admission_ratio": 1.1}', b'{"admission_ratio": -0.1}', b'{"admission_ratio": "1"}'):
        assert await status(client, path, data=wrong) == 422
    assert plants["nyiso-nyc"].admission_ratio == 0.4
    assert plants["nyiso-west"].admission_ratio == 1.0


async def test_the_simulated_actuator_reaches_its_plant(plants: dict[str, SitePlant]) -> None:
    service, port, plant = PlantService(plants), free_port(), plants["nyiso-nyc"]
    await service.start(LOCALHOST, port)
    actuator = SimulatedActuator(f"http://{LOCALHOST}:{port}", "nyiso-nyc")
    try:
        await actuator.set_power_limit(150_000.0)
        await actuator.set_admission(0.5)
        await actuator.set_shares({("chat", "nyiso-west"): 0.2})
        with pytest.raises(ActuatorError, match="503"):
            await actuator.read_meter_watts()
    finally:
        await actuator.close()
        await service.stop()
    assert (plant.power_cap_watts, plant.admission_ratio) == (150_000.0, 0.5)
    assert plant.shifts == {"chat": {"nyiso-west": 0.2}}


async def test_shares_replace_what_was_shared_before(
    client: aiohttp.ClientSession, plants: dict[str, SitePlant]
) -> None:
    plant = plants["nyiso-nyc"]
    assert await status(client, SHARES, json={"shares": [CHAT, {**CHAT, "service_class": "batch"}]}) == 200
    assert plant.shifts == {"chat": {"nyiso-west": 0.2}, "batch": {"nyiso-west": 0.2}}
    assert await status(client, SHARES, json={"shares": [{**CHAT, "to_site_id": "nyiso-north"}]}) == 200
    assert plant.shifts == {"chat": {"nyiso-north": 0.2}}
    assert await status(client, SHARES, json={"shares": []}) == 200
    assert plant.shifts == {}


@pytest.mark.parametrize("shares", NO_SHARES, ids=repr)
async def test_wrong_shares_leave_the_old_ones(
    shares: Any, client: aiohttp.ClientSession, plants: dict[str, SitePlant]
) -> None:
    plant = plants["nyiso-nyc"]
    plant.set_shift("chat", "nyiso-north", 0.5)
    assert await status(client, SHARES, json={"shares": shares}) == 422
    assert plant.shifts == {"chat": {"nyiso-north": 0.5}}


@pytest.mark.parametrize("path", ["power-limit", "admission", "shares", "meter", "elsewhere"])
async def test_a_site_or_path_that_is_not_there_is_not_found(path: str, client: aiohttp.ClientSession) -> None:
    body = {"power-limit": {"watts": 1}, "admission": {"admission_ratio": 1}, "shares": {"shares": []}}.get(path)
    method = client.put if body else client.get
    async with method(f"/sites/nowhere/{path}", json=body) as answer:
        assert answer.status == 404


async def test_an_endless_body_is_refused(client: aiohttp.ClientSession) -> None:
    assert await status(client, LIMIT, data=BytesIO(b" " * 2**21)) == 413


async def test_the_meter_is_silent_until_it_has_been_read(
    client: aiohttp.ClientSession, plants: dict[str, SitePlant]
) -> None:
    async with client.get(METER) as answer:
        assert answer.status == 503
    plants["nyiso-nyc"].tick({"chat": ClassDemand(10, 1000, 1000)}, 10.0)
    async with client.get(METER) as answer:
        assert await answer.json() == {"power_watts": plants["nyiso-nyc"].meter_power_watts}


async def test_a_port_that_is_taken_is_said_in_one_line(plants: dict[str, SitePlant]) -> None:
    first, second, port = PlantService(plants), PlantService(plants), free_port()
    await first.start(LOCALHOST, port)
    try:
        with pytest.raises(ConfigurationError, match=rf"^the plant can't serve on 127\.0\.0\.1:{port}: .*in use"):
            await second.start(LOCALHOST, port)
    finally:
        await second.stop()
        await first.stop()
