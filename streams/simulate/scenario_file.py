"""Reading a scenario file, and the fleet that it is about. What is wrong is one line that names file and key."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from schemas.fleet import Fleet, FleetFile, FleetFileError, parse_fleet_file
from schemas.toml_file import first_fault, parse_toml
from streams.simulate.scenario import Scenario

DEMO_FLEET_FILE = Path(__file__).with_name("demo_fleet.toml")
NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})


class ScenarioError(ValueError):
    """The scenario can't be used; the message is one line that names the file and the key."""


def read_scenario(path: Path, overrides: Mapping[str, Any] = NO_OVERRIDES) -> tuple[Scenario, FleetFile]:
    """The scenario at `path`, with some keys set otherwise, and a fleet file of its one fleet.

    Raises:
        ScenarioError: a file is missing, unreadable or wrong; one line that names the file and the key.
    """
    scenario = parse_toml(_text(path), str(path), Scenario, ScenarioError).model_copy(update=dict(overrides))
    file = _fleet_file(path, scenario)
    chosen = [fleet for fleet in file.fleets if scenario.fleet in {None, fleet.id}]
    if len(chosen) != 1:
        names = ", ".join(fleet.id for fleet in file.fleets)
        raise ScenarioError(f"{path}: fleet: must name the one that is simulated, of {names}")
    only = _of_one_fleet(file, chosen[0], str(path))
    _check_sites(scenario, only, str(path))
    return scenario, only if scenario.shift else without_shifts(only)


def without_shifts(file: FleetFile) -> FleetFile:
    """The same fleet, with no traffic that may move: a share of 0, over no link."""
    fleets = tuple(
        fleet.model_copy(update={"limits": fleet.limits.model_copy(update={"shift_share_ratio": 0.0})})
        for fleet in file.fleets
    )
    classes = tuple(each.model_copy(update={"added_latency_limit_seconds": 0.0}) for each in file.service_classes)
    return FleetFile(gpu_models=file.gpu_models, service_classes=classes, fleets=fleets)


def _fleet_file(path: Path, scenario: Scenario) -> FleetFile:
    if scenario.fleet_file is not None:
        return _parsed(path.parent / scenario.fleet_file)
    default = _parsed(DEMO_FLEET_FILE)
    classes = scenario.service_classes or default.service_classes
    try:
        return FleetFile(
            gpu_models=scenario.gpu_models or default.gpu_models, service_classes=classes, fleets=scenario.fleets
        )
    except ValidationError as error:
        raise ScenarioError(f"{path}: {first_fault(error)}") from error


def _parsed(path: Path) -> FleetFile:
    try:
        return parse_fleet_file(_text(path), str(path))
    except FleetFileError as error:
        raise ScenarioError(str(error)) from error


def _of_one_fleet(file: FleetFile, fleet: Fleet, name: str) -> FleetFile:
    own = {site.id for site in fleet.sites}
    classes = [
        service.model_copy(update={"sites": tuple(site for site in service.sites if site in own)})
        for service in file.service_classes
        if not service.sites or own & set(service.sites)
    ]
    try:
        return FleetFile(gpu_models=file.gpu_models, service_classes=tuple(classes), fleets=(fleet,))
    except ValidationError as error:
        raise ScenarioError(f"{name}: fleet {fleet.id}: {first_fault(error)}") from error


def _check_sites(scenario: Scenario, file: FleetFile, name: str) -> None:
    known = {site.id for _, site in file.sites()}
    points = {site.settlement_point for _, site in file.sites()}
    named = [
        *((f"events[{at}].sites", site) for at, event in enumerate(scenario.events) for site in event.sites),
        *((f"faults[{at}].sites", site) for at, fault in enumerate(scenario.faults) for site in fault.sites),
        *(("plant.sites", site) for site in scenario.plant.sites),
        *(("traffic.site_load_ratio", site) for site in scenario.traffic.site_load_ratio),
    ]
    for key, site in named:
        if site not in known:
            raise ScenarioError(f"{name}: {key}: {site!r} is not a site of the fleet: {', '.join(sorted(known))}")
    for at, price in enumerate(scenario.prices):
        for point in price.zones:
            if point not in points:
                raise ScenarioError(f"{name}: prices[{at}].zones: {point!r} is not a settlement point of the fleet")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ScenarioError(f"{path}: {reason}") from error
