"""A small fleet and short ways to say what happens to it: for the tests of the policy and of the controllers.

Three equal sites of 100 GPUs, each at its own settlement point. At the meter: 50 kW at full load, 25 kW at the least.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.fleet import parse_fleet_file
from schemas.latency import BUCKETS
from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from schemas.signals import EventSignal, PriceSignal
from schemas.site import ClassLoad, LoadState, PowerState
from streams.policy.desk import Desk
from streams.policy.view import FleetView

NOON = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
SITES = ("alpha", "beta", "gamma")
FULL, LEAST, IMPORT_LIMIT, MINIMUM_ON, FAILSAFE = 50_000.0, 25_000.0, 52_000.0, 15_000.0, 32_000.0
RAMP_DOWN, RAMP_UP = 750.0, 150.0

# A GPU that makes sums easy, and the class that is never touched.
GPU_AND_RIGID_CLASS = """
[[gpu_models]]
id = "gpu"
max_power_watts = 400.0
cap_cliff_watts = 200.0
tokens_per_second = 100.0
prompt_token_cost_ratio = 0.0
cap_throughput = [[80.0, 0.0], [200.0, 0.8], [400.0, 1.0]]
load_power = [[0.0, 0.2], [0.1, 0.7], [1.0, 1.0]]
[[service_classes]]
id = "interactive"
flex = 0
traffic_ratio = 0.3
ttft_objective_seconds = 0.5
itl_objective_seconds = 0.05
"""
_HEAD = (
    GPU_AND_RIGID_CLASS
    + """
[[service_classes]]
id = "chat"
flex = 1
traffic_ratio = 0.3
ttft_objective_seconds = 2.0
itl_objective_seconds = 0.1
[[service_classes]]
id = "batch"
flex = 3
traffic_ratio = 0.4
ttft_objective_seconds = 60.0
itl_objective_seconds = 0.5
[[fleets]]
id = "trio"
[fleets.limits]
strike_price_usd_per_mwh = 100.0
"""
)
_SITE = """
[[fleets.sites]]
id = "{site}"
settlement_point = "{point}"
pue = 1.25
import_limit_watts = 52000.0
minimum_on_watts = 15000.0
failsafe_watts = 32000.0
ramp_down_watts_per_second = 750.0
ramp_up_watts_per_second = 150.0
[[fleets.sites.pools]]
id = "pool"
gpu_model = "gpu"
gpus = 100
"""
FLEET_FILE = parse_fleet_file(_HEAD + "".join(_SITE.format(site=site, point=site.upper()) for site in SITES))
FLEET = FLEET_FILE.fleets[0]
LIMITS = FLEET.limits
ALPHA, BETA, GAMMA = FLEET.sites


def at(seconds: float) -> datetime:
    """The time so many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def empty_plan(epoch: int = 1) -> FleetPlan:
    return FleetPlan(
        fleet_id="trio",
        kind="claim",
        epoch=epoch,
        sequence=0,
        revision=0,
        owner="test",
        issued_at=NOON,
        mode="hold",
        explanation="",
    )


def a_desk(**powers: float) -> Desk:
    """A planner's desk at noon; what each site draws where it is known."""
    desk = Desk(FLEET, FLEET_FILE, empty_plan())
    for site, watts in powers.items():
        desk.take(power(site, 0, watts), NOON)
    return desk


def a_view(**powers: float) -> FleetView:
    return a_desk(**powers).view


def power(site: str, end: float, meter: float | None, it: float = 0.0) -> PowerState:
    """The power of the ten-second window that ends `end` seconds after noon."""
    return PowerState(
        fleet_id="trio",
        site_id=site,
        window_start=at(end - 10),
        window_end=at(end),
        records=1,
        duplicates=0,
        it_power_watts=it,
        it_energy_joules=0.0,
        meter_power_watts=meter,
        utilization_ratio=None,
        temperature_celsius_max=None,
        gpu_samples=100,
        masked_values=0,
        gpus_reporting=100,
        reporting_ratio=1.0,
    )


def load(site: str, end: float, tokens_per_second: float) -> LoadState:
    """The load of the ten-second window that ends `end` seconds after noon, spread as the fleet file says."""
    return LoadState(
        fleet_id="trio",
        site_id=site,
        window_start=at(end - 10),
        window_end=at(end),
        records=1,
        duplicates=0,
        requests_per_second=1.0,
        tokens_arrived_per_second=tokens_per_second,
        tokens_served_per_second=tokens_per_second,
        tokens_queued=0,
        covered_ratio=1.0,
        classes=[
            ClassLoad(
                service_class=service.id,
                requests_per_second=1.0,
                prompt_tokens_per_second=0.0,
                tokens_arrived_per_second=tokens_per_second * service.traffic_ratio,
                tokens_served_per_second=tokens_per_second * service.traffic_ratio,
                tokens_queued=0,
                ttft_seconds_counts=[0] * BUCKETS,
                ttft_seconds_p50=None,
                ttft_seconds_p99=None,
            )
            for service in FLEET_FILE.service_classes
        ],
    )


def price(site: str, usd: float, start: float = 0, end: float = 300, **more: Any) -> PriceSignal:
    """The price at the settlement point of a site, over seconds after noon."""
    fields: dict[str, Any] = {"market": "real-time", "published_at": at(start), **more}
    return PriceSignal(
        fleet_id="trio",
        signal_id=f"{fields['market']}/{site}/{start:g}",
        source="test",
        starts_at=at(start),
        ends_at=at(end),
        settlement_point=site.upper(),
        price_usd_per_mwh=usd,
        **fields,
    )


def event(name: str = "e1", start: float = 600, end: float = 4200, **more: Any) -> EventSignal:
    """An event over seconds after noon: a quarter less, unless said otherwise."""
    if "target_power_watts" not in more:
        more.setdefault("reduction_ratio", 0.25)
    fields: dict[str, Any] = {"kind": "event", "published_at": NOON, **more}
    return EventSignal(fleet_id="trio", signal_id=name, source="test", starts_at=at(start), ends_at=at(end), **fields)


def throttle_control(name: str = "t", site: str = "alpha", start: float = 0, end: float = 3600, **more: Any) -> Any:
    fields: dict[str, Any] = {
        "control_id": name,
        "site_id": site,
        "reason": "event",
        "target_power_watts": 30_000.0,
        "ramp_down_watts_per_second": RAMP_DOWN,
        "ramp_up_watts_per_second": RAMP_UP,
        "fallback_power_watts": 28_000.0,
        "starts_at": at(start),
        "ends_at": at(end),
        "caused_by": ["e1"],
    }
    return ThrottleControl(**(fields | more))


def shift_control(phase: str = "proposed", since: float = 0, **more: Any) -> ShiftControl:
    fields: dict[str, Any] = {
        "control_id": "s",
        "from_site_id": "alpha",
        "to_site_id": "beta",
        "service_class": "batch",
        "share_ratio": 0.2,
        "reserved_power_watts": 2_000.0,
        "phase": phase,
        "phase_since": at(since),
        "starts_at": at(0),
        "ends_at": at(3600),
    }
    return ShiftControl(**(fields | more))


def _command(order: tuple[int, int], issued: float, start: float, end: float, lease: float) -> dict[str, Any]:
    return {
        "fleet_id": "trio",
        "epoch": order[0],
        "sequence": order[1],
        "issued_at": at(issued),
        "starts_at": at(start),
        "ends_at": at(end),
        "lease_expires_at": at(issued + lease),
        "reason": "event",
    }


def throttle(
    order: tuple[int, int] = (1, 1),
    issued: float = 0,
    start: float = 0,
    end: float = 3600,
    lease: float = 900,
    **more: Any,
) -> Throttle:
    fields = _command(order, issued, start, end, lease) | {
        "site_id": "alpha",
        "control_id": "t",
        "target_power_watts": 30_000.0,
        "ramp_down_watts_per_second": RAMP_DOWN,
        "ramp_up_watts_per_second": RAMP_UP,
        "fallback_power_watts": 28_000.0,
    }
    return Throttle(**(fields | more))


def release(order: tuple[int, int] = (1, 9), issued: float = 60, start: float | None = None, **more: Any) -> Release:
    start = issued if start is None else start
    fields = _command(order, issued, start, max(start, 3600), 900) | {
        "site_id": "alpha",
        "control_id": "t",
        "releases_control_id": "t",
    }
    return Release(**(fields | more))


def shift(order: tuple[int, int] = (1, 1), role: str = "drain", issued: float = 0, **more: Any) -> Shift:
    """A shift from alpha to beta when draining, from beta to alpha when reserving: always a command for alpha."""
    donor, acceptor = ("alpha", "beta") if role == "drain" else ("beta", "alpha")
    fields = _command(order, issued, 0, 3600, 900) | {
        "site_id": "alpha",
        "control_id": "s",
        "role": role,
        "from_site_id": donor,
        "to_site_id": acceptor,
        "service_class": "batch",
        "share_ratio": 0.2,
        "reserved_power_watts": 2_000.0,
        "reason": "economics",
    }
    return Shift(**(fields | more))


def ack(command: Throttle | Shift | Release, status: str = "accepted", **more: Any) -> CommandAck:
    """A site's answer to a command."""
    fields: dict[str, Any] = {
        "fleet_id": command.fleet_id,
        "site_id": command.site_id,
        "control_id": command.control_id,
        "epoch": command.epoch,
        "sequence": command.sequence,
        "status": status,
        "observed_at": command.issued_at,
        "highest_epoch": command.epoch,
        "highest_sequence": command.sequence,
    }
    return CommandAck(**(fields | more))
