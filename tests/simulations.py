"""A scenario of two small sites, short ways to change it, and to run it: for the tests of the simulator.

At each site 100 GPUs: 50 kW at the meter at full load, 25 kW at the least; prompts cost nothing.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.command import CommandAck, Throttle
from schemas.fleet import FleetFile
from streams.simulate.log import Entry, Outcome
from streams.simulate.loop import Policy, World, simulate
from streams.simulate.scenario import Scenario
from streams.simulate.scenario_file import read_scenario
from streams.simulate.sources import read_sources
from tests.policy_cases import GPU_AND_RIGID_CLASS

START = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
SITES = ("alpha", "beta")
SETTINGS = """
name = "pair"
about = "a test"
starts_at = 2026-11-01T12:00:00Z
duration_seconds = {duration}
warm_up_seconds = 0
forecast = "{forecast}"
"""
TRAFFIC = """
[traffic]
requests = "constant"
load_ratio = 0.7
prompt_tokens_per_request = 10.0
tokens_per_request = 100.0
"""
EVENT = """
[[events]]
announced = 300
starts = 600
ends = {ends}
reduction_ratio = 0.25
ramp_seconds = 120
"""
_MODELS = (
    GPU_AND_RIGID_CLASS
    + """
[[service_classes]]
id = "batch"
flex = 3
traffic_ratio = 0.7
ttft_objective_seconds = 60.0
itl_objective_seconds = 0.5
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
FLEETS = (
    _MODELS + '\n[[fleets]]\nid = "pair"\n' + "".join(_SITE.format(site=site, point=site.upper()) for site in SITES)
)


def text(duration: float = 1800, more: str = "", forecast: str = "none", traffic: str = TRAFFIC) -> str:
    """The scenario as a file has it; `more` comes before the fleet."""
    return SETTINGS.format(duration=duration, forecast=forecast) + traffic + more + FLEETS


def event(ends: float = 1500) -> str:
    """A quarter less from 600 s on, announced at 300 s."""
    return EVENT.format(ends=ends)


def fault(kind: str, since: float, until: float, more: str = "") -> str:
    """Something that goes wrong."""
    return f'\n[[faults]]\nkind = "{kind}"\nfrom = {since}\nuntil = {until}\n{more}\n'


def read(folder: Path, written: str, data: Path | None = None) -> tuple[Scenario, FleetFile, World]:
    """The scenario of a text, its fleet, and its world under its own seed."""
    path = folder / "scenario.toml"
    path.write_text(written)
    scenario, fleet_file = read_scenario(path)
    sources = read_sources(scenario, fleet_file, path, data or folder)
    return scenario, fleet_file, World.of(scenario, fleet_file, sources, scenario.seed)


def run(
    folder: Path,
    written: str,
    policy: Policy = "rules",
    note: Callable[[Entry], None] | None = None,
    data: Path | None = None,
) -> Outcome:
    """What comes of the scenario of a text."""
    return simulate(read(folder, written, data)[2], policy, note=note)


def seconds(at: datetime) -> float:
    """From the start of the scenario."""
    return (at - START) / timedelta(seconds=1)


def of_kind(outcome: Outcome, kind: type[Any], site: str = "") -> list[tuple[float, Any]]:
    """When each record of a kind was appended, and the record; of one site if it is named."""
    return [
        (seconds(entry.at), entry.record)
        for entry in outcome.log
        if isinstance(entry.record, kind) and (not site or entry.record.site_id == site)
    ]


def throttles(outcome: Outcome, site: str = "") -> list[tuple[float, Any]]:
    """The throttles that were commanded."""
    return of_kind(outcome, Throttle, site)


def statuses(outcome: Outcome, site: str) -> list[str]:
    """What a site answered, in order."""
    return [ack.status for _, ack in of_kind(outcome, CommandAck, site)]


def mean_watts(outcome: Outcome, site: str, since: float, until: float) -> float:
    """The true power at a site's meter between two times."""
    step = outcome.scenario.step_seconds
    row = outcome.trajectory.meter_power_watts[SITES.index(site)]
    return float(row[round(since / step) : round(until / step)].mean())
