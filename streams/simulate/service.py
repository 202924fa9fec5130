"""The plant's door: what a site controller's `simulated` actuator talks to, as it would to a rack manager."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.settings import ConfigurationError
from schemas.units import Ratio, ServiceClassId, SiteId, Watts
from streams.simulate.plant import SitePlant

LOCALHOST = "127.0.0.1"


class PowerLimit(BaseModel):
    """PUT /sites/{site}/power-limit"""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    watts: Watts | None


class Share(BaseModel):
    """One entry of PUT /sites/{site}/shares"""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    service_class: ServiceClassId
    to_site_id: SiteId
    share_ratio: Ratio


class Admission(BaseModel):
    """PUT /sites/{site}/admission: of the requests of Flex 1 and above, the share that is let in."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    admission_ratio: Ratio


class SharesOut(BaseModel):
    """PUT /sites/{site}/shares: all that the site sends away; what is not named ends."""

    model_config = ConfigDict(extra="forbid", strict=True)
    shares: list[Share]


class PlantService:
    """Serves the plants of a run over HTTP."""

    def __init__(self, plants: dict[str, SitePlant]) -> None:
        self._plants = plants
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Serves on `host:port`.

        Raises:
            ConfigurationError: the port can't be bound.
        """
        app = web.Application()
        app.router.add_put("/sites/{site}/power-limit", self._set_power_limit)
        app.router.add_put("/sites/{site}/admission", self._set_admission)
        app.router.add_put("/sites/{site}/shares", self._set_shares)
        app.router.add_get("/sites/{site}/meter", self._read_meter)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(f"the plant can't serve on {host}:{port}: {error.strerror}") from error

    async def stop(self) -> None:
        """Stops serving."""
        if self._runner:
            await self._runner.cleanup()

    async def _set_power_limit(self, request: web.Request) -> web.Response:
        body = await _body(request, PowerLimit.model_validate_json)
        self._plant(request).set_power_cap(body.watts)
        return web.json_response({})

    async def _set_admission(self, request: web.Request) -> web.Response:
        body = await _body(request, Admission.model_validate_json)
        self._plant(request).set_admission(body.admission_ratio)
        return web.json_response({})

    async def _set_shares(self, request: web.Request) -> web.Response:
        body, plant = await _body(request, SharesOut.model_validate_json), self._plant(request)
        unknown = [share.to_site_id for share in body.shares if share.to_site_id not in self._plants]
        if unknown:
            raise web.HTTPUnprocessableEntity(text=f"no site {unknown[0]!r} to shift to")
        before, plant.shifts = plant.shifts, {}
        try:
            for share in body.shares:
                plant.set_shift(share.service_class, share.to_site_id, share.share_ratio)
        except ValueError as error:
            plant.shifts = before
            raise web.HTTPUnprocessableEntity(text=str(error)) from error
        return web.json_response({})

    async def _read_meter(self, request: web.Request) -> web.Response:
        reading = self._plant(request).meter_power_watts
        if reading is None:
            raise web.HTTPServiceUnavailable(text="the meter has not been read yet")
        return web.json_response({"power_watts": reading})

    def _plant(self, request: web.Request) -> SitePlant:
        plant = self._plants.get(request.match_info["site"])
        if plant is None:
            raise web.HTTPNotFound(text=f"no site {request.match_info['site']!r}")
        return plant


async def _body(request: web.Request, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(await request.read())
    except ValidationError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
