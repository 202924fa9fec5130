"""How a controller reaches its site: set a power limit, let requests in, route traffic, read the meter."""

from collections.abc import Mapping
from typing import Protocol

import aiohttp
import structlog

log = structlog.get_logger()

Shares = Mapping[tuple[str, str], float]


class ActuatorError(RuntimeError):
    """The site's equipment did not do as it was told; the controller tries again at its next tick."""


class Actuator(Protocol):
    """What a site offers its controller."""

    async def set_power_limit(self, watts: float | None) -> None:
        """Limits the meter power to so many watts; None lifts the limit. Raises ActuatorError."""

    async def set_admission(self, ratio: float) -> None:
        """Lets in this share (0–1) of the requests of Flex 1 and above, Flex 0 always. Raises ActuatorError."""

    async def set_shares(self, shares: Shares) -> None:
        """Sends these shares of (service class, acceptor site) traffic away. Raises ActuatorError."""

    async def read_meter_watts(self) -> float | None:
        """The meter now; None where there is none. Raises ActuatorError."""

    async def close(self) -> None:
        """Lets go of the equipment; the last limit stays."""


class DryRunActuator:
    """Says what it would do and touches nothing."""

    def __init__(self) -> None:
        self._limit: float | None = None

    async def set_power_limit(self, watts: float | None) -> None:
        if watts != self._limit:
            log.info("dry run: power limit", watts=watts)
        self._limit = watts

    async def set_admission(self, ratio: float) -> None:
        if ratio < 1:
            log.info("dry run: admission", admission_ratio=ratio)

    async def set_shares(self, shares: Shares) -> None:
        if shares:
            log.info("dry run: shares", shares={"/".join(place): share for place, share in shares.items()})

    async def read_meter_watts(self) -> float | None:
        return None

    async def close(self) -> None:
        pass


class SimulatedActuator:
    """Reaches the plant of a running `gridtide replay` over HTTP, as a rack manager would be reached."""

    def __init__(self, plant_url: str, site_id: str) -> None:
        self._site_url = f"{plant_url.rstrip('/')}/sites/{site_id}"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))

    async def set_power_limit(self, watts: float | None) -> None:
        await self._call("PUT", "power-limit", {"watts": watts})

    async def set_admission(self, ratio: float) -> None:
        await self._call("PUT", "admission", {"admission_ratio": ratio})

    async def set_shares(self, shares: Shares) -> None:
        entries = [
            {"service_class": service, "to_site_id": to, "share_ratio": share}
            for (service, to), share in shares.items()
        ]
        await self._call("PUT", "shares", {"shares": entries})

    async def read_meter_watts(self) -> float | None:
        reading = await self._call("GET", "meter", None)
        return float(reading["power_watts"])

    async def close(self) -> None:
        await self._session.close()

    async def _call(self, method: str, what: str, body: object) -> dict[str, float]:
        try:
            async with self._session.request(method, f"{self._site_url}/{what}", json=body) as response:
                if response.status != 200:
                    raise ActuatorError(f"the plant answers {response.status} to {method} {what}")
                answer: dict[str, float] = await response.json()
                return answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ActuatorError(f"the plant does not answer: {error or 'time-out'}") from error
