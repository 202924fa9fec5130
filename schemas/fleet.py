"""The fleet file (TOML): fleets, sites, GPU pools, GPU models, service classes, limits. A wrong one stops the start."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.toml_file import parse_toml
from schemas.units import (
    FleetId,
    PoolId,
    PositiveSeconds,
    Ratio,
    Seconds,
    ServiceClassId,
    SettlementPoint,
    SiteId,
    UsdPerMillionTokens,
    UsdPerMwh,
    Watts,
    WattsPerSecond,
)

PositiveWatts = Annotated[Watts, Field(gt=0)]
Curve = Annotated[tuple[tuple[float, float], ...], Field(min_length=2)]


class FleetFileError(ValueError):
    """The fleet file can't be used; the message is one line that names the key."""


class _Entry(BaseModel):
    # A misspelt key in a file that people write is an error, not a default silently taken.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GpuModel(_Entry):
    """One kind of GPU with its measured curves, each a list of rising [x, y] points, linear in between.

    `cap_throughput`: power cap in W, against the share of full throughput that is left under it.
    `load_power`: share of full throughput served, against the share of `max_power_watts` drawn.
    Below `cap_cliff_watts` throughput collapses: no target may ask for less.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    max_power_watts: PositiveWatts
    cap_cliff_watts: PositiveWatts
    tokens_per_second: Annotated[float, Field(gt=0)] = Field(
        description="generated tokens/s of one GPU, uncapped, full batches"
    )
    prompt_token_cost_ratio: Ratio = Field(0.05, description="work of a prompt token, of a generated token's")
    cap_throughput: Curve
    load_power: Curve

    @model_validator(mode="after")
    def _curves_rise(self) -> Self:
        for name in ("cap_throughput", "load_power"):
            points = getattr(self, name)
            if any(b[0] <= a[0] or b[1] < a[1] for a, b in itertools.pairwise(points)):
                raise ValueError(f"{name}: points must rise")
        if self.load_power[0][0] != 0 or self.load_power[-1] != (1, 1):
            raise ValueError("load_power: must go from [0, ...] to [1, 1]")
        if self.cap_throughput[-1][1] != 1:
            raise ValueError("cap_throughput: the last point must leave all of the throughput (1)")
        if self.cap_cliff_watts > self.max_power_watts:
            raise ValueError("cap_cliff_watts: must not exceed max_power_watts")
        return self


class Pool(_Entry):
    """GPUs of one model at a site."""

    id: PoolId
    gpu_model: str
    gpus: Annotated[int, Field(gt=0, le=1_000_000)]


class Site(_Entry):
    """One data centre. Powers are at the meter, cooling and losses (`pue`) included."""

    id: SiteId
    settlement_point: SettlementPoint
    pue: Annotated[float, Field(ge=1, le=3)]
    import_limit_watts: PositiveWatts
    minimum_on_watts: Watts
    failsafe_watts: Watts = Field(description="what the site holds when it has lost its planner")
    ramp_down_watts_per_second: WattsPerSecond
    ramp_up_watts_per_second: WattsPerSecond
    pools: tuple[Pool, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> Self:
        if not self.minimum_on_watts <= self.failsafe_watts <= self.import_limit_watts:
            raise ValueError("need minimum_on_watts <= failsafe_watts <= import_limit_watts")
        if self.ramp_up_watts_per_second > self.ramp_down_watts_per_second:
            raise ValueError("ramp_up_watts_per_second: restores must not be faster than sheds")
        return self

    @property
    def gpus(self) -> int:
        """All GPUs of the site."""
        return sum(pool.gpus for pool in self.pools)


class Limits(_Entry):
    """How a fleet is planned."""

    power_limit_watts: PositiveWatts | None = Field(None, description="most that the sites may draw together")
    ramp_down_watts_per_second: WattsPerSecond | None = Field(
        None, description="of the sites together; unset: no limit"
    )
    ramp_up_watts_per_second: WattsPerSecond | None = Field(None, description="of the sites together; unset: no limit")
    plan_interval_seconds: PositiveSeconds = 60.0
    lease_seconds: PositiveSeconds = 900.0
    renew_seconds: PositiveSeconds = Field(300.0, description="a lease is renewed this long after it was given")
    ack_timeout_seconds: PositiveSeconds = Field(60.0, description="an unanswered command is sent again after this")
    stale_seconds: PositiveSeconds = Field(180.0, description="a site not heard of for this long is stale")
    stagger_seconds: PositiveSeconds = Field(20.0, description="time between two sites' restores")
    strike_price_usd_per_mwh: UsdPerMwh | None = Field(
        None, description="takes the place of what the measured tokens/kWh and the classes' earnings make it"
    )
    strike_hysteresis_ratio: Ratio = Field(0.1, description="the price must fall this far below the strike again")
    dwell_seconds: PositiveSeconds = Field(600.0, description="a price must stand this long on its side")
    economic_depth_ratio: Ratio = Field(0.25, description="share of its power that a site gives up above the strike")
    shift_spread_usd_per_mwh: Annotated[float, Field(ge=0)] = Field(
        15.0, description="price difference from which the rules move traffic"
    )
    shift_cost_usd_per_mwh: Annotated[float, Field(ge=0)] = Field(
        3.0, description="what moving traffic costs, by its energy: the optimiser moves none that saves less"
    )
    shift_ramp_seconds: PositiveSeconds = Field(60.0, description="over which traffic moves, there and back")
    shift_share_ratio: Ratio = Field(0.2, description="most of a class's traffic that one shift moves")
    horizon_seconds: PositiveSeconds = Field(
        7200.0, description="how far the optimiser looks; events in sight extend it"
    )
    step_seconds: PositiveSeconds = Field(300.0, description="length of the optimiser's steps")
    site_headroom_ratio: Ratio = Field(0.9, description="an acceptor is filled to this share of its capacity at most")

    @model_validator(mode="after")
    def _a_lease_outlives_its_renewal(self) -> Self:
        if self.renew_seconds + self.ack_timeout_seconds >= self.lease_seconds:
            raise ValueError("lease_seconds: must exceed renew_seconds + ack_timeout_seconds")
        return self


class Link(_Entry):
    """The way between two sites, both ways. Sites without a link are as far apart as the default says."""

    between: tuple[SiteId, SiteId]
    latency_seconds: Seconds = 0.02
    tokens_per_second_limit: Annotated[float, Field(gt=0)] | None = Field(
        None, description="most that may move over it, generated tokens, prompts at their cost"
    )


class Fleet(_Entry):
    """The sites among which load may be moved."""

    id: FleetId
    limits: Limits = Limits()
    links: tuple[Link, ...] = ()
    sites: tuple[Site, ...] = Field(min_length=1)

    def link(self, a: str, b: str) -> Link:
        """The way between two of its sites."""
        return next((link for link in self.links if set(link.between) == {a, b}), Link(between=(a, b)))


class ServiceClass(_Entry):
    """A kind of traffic: how much it may be slowed down, and what it is promised.

    `flex` 0, 1, 2, 3 allows 0, 10, 25, 50 % slow-down. Flex 0 is untouched outside an emergency.
    """

    id: ServiceClassId
    flex: Annotated[int, Field(ge=0, le=3)]
    traffic_ratio: Ratio = Field(description="its share of a site's traffic, where the source does not say")
    ttft_objective_seconds: PositiveSeconds
    itl_objective_seconds: PositiveSeconds
    earns_usd_per_million_tokens: UsdPerMillionTokens = Field(0.05, description="what a million generated tokens earn")
    added_latency_limit_seconds: Seconds = Field(0.1, description="its traffic moves over no link slower than this")
    sites: tuple[SiteId, ...] = Field((), description="sites allowed; empty means all")


class FleetFile(_Entry):
    """The whole file, checked across its parts."""

    gpu_models: tuple[GpuModel, ...] = Field(min_length=1)
    service_classes: tuple[ServiceClass, ...] = Field(min_length=1)
    fleets: tuple[Fleet, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for what, names in (
            ("gpu_models", [model.id for model in self.gpu_models]),
            ("service_classes", [service.id for service in self.service_classes]),
            ("fleets", [fleet.id for fleet in self.fleets]),
            ("fleets.sites", [site.id for _, site in self.sites()]),
        ):
            doubled = [name for name, count in Counter(names).items() if count > 1]
            if doubled:
                raise ValueError(f"{what}: id {doubled[0]!r} is given twice")
        models, sites = {model.id for model in self.gpu_models}, {site.id for _, site in self.sites()}
        for fleet, site in self.sites():
            if len({pool.id for pool in site.pools}) < len(site.pools):
                raise ValueError(f"fleets.sites.pools: an id is given twice at {fleet.id}/{site.id}")
            for pool in site.pools:
                if pool.gpu_model not in models:
                    raise ValueError(
                        f"fleets.sites.pools.gpu_model: {pool.gpu_model!r} at {fleet.id}/{site.id} is not in gpu_models"
                    )
        for service in self.service_classes:
            for name in service.sites:
                if name not in sites:
                    raise ValueError(f"service_classes.sites: {name!r} of {service.id} is not a site")
        if abs(sum(service.traffic_ratio for service in self.service_classes) - 1) > 1e-6:
            raise ValueError("service_classes.traffic_ratio: the shares must add up to 1")
        return self

    @model_validator(mode="after")
    def _links_fit(self) -> Self:
        for fleet in self.fleets:
            own = {site.id for site in fleet.sites}
            for link in fleet.links:
                if len(set(link.between)) < 2 or not own >= set(link.between):
                    raise ValueError(f"fleets.links: {link.between} is not between two sites of {fleet.id}")
        return self

    def sites(self) -> Iterator[tuple[Fleet, Site]]:
        """Every site with its fleet, in file order."""
        return ((fleet, site) for fleet in self.fleets for site in fleet.sites)

    def fleet_of(self, site_id: str) -> str | None:
        """The fleet that a site belongs to; None for a site that the file does not know."""
        return self._by_site().get(site_id, (None, None))[0]

    def site(self, site_id: str) -> Site | None:
        """The site of that name; None for one that the file does not know."""
        return self._by_site().get(site_id, (None, None))[1]

    def fleet(self, fleet_id: str) -> Fleet | None:
        """The fleet of that name; None for one that the file does not know."""
        return next((fleet for fleet in self.fleets if fleet.id == fleet_id), None)

    def gpu_model(self, model_id: str) -> GpuModel:
        """The GPU model of that name.

        Raises:
            KeyError: there is none.
        """
        for model in self.gpu_models:
            if model.id == model_id:
                return model
        raise KeyError(model_id)

    def _by_site(self) -> dict[str, tuple[str, Site]]:
        cached = self.__dict__.get("_sites_by_id")
        if cached is None:
            cached = {site.id: (fleet.id, site) for fleet, site in self.sites()}
            self.__dict__["_sites_by_id"] = cached  # a frozen model still has a dict; it is derived, not a field
        return cached


def parse_fleet_file(text: str, name: str = "fleet file") -> FleetFile:
    """Reads a fleet file's text.

    Raises:
        FleetFileError: it is not TOML, or a key is missing, unknown or wrong; one line that names the key.
    """
    return parse_toml(text, name, FleetFile, FleetFileError)
