"""What a run leaves: the log of the bus, what the sites did tick by tick, and the log as a file of JSON lines."""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from schemas.catalog import BY_NAME, SITE_FORECASTS
from schemas.envelope import Record
from schemas.fleet import FleetFile
from schemas.site import LoadState
from schemas.toml_file import first_fault
from schemas.units import UtcTime
from streams.simulate.scenario import Scenario

Floats = NDArray[np.float64]

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
# On a command that nobody signed: a controller's verification refuses it.
UNSIGNED: Mapping[str, str] = MappingProxyType({"signature": "none"})


class LogError(ValueError):
    """The log can't be used; the message is one line that names the file and the line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as the bus has it: when it was appended, on which topic, with which headers."""

    at: datetime
    topic: str
    record: Record
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)


@dataclass(slots=True, eq=False)
class Trajectory:
    """What the sites did: S sites, K ticks, C service classes. Counts and energies are of the tick, powers its mean.

    `meter_power_watts` is the truth, `read_power_watts` what the meter said (NaN: nothing). `limit_watts`: the power
    cap that the controller set (NaN: none). `price_usd_per_mwh`: the real-time price that holds (NaN: none is known).
    Arrived is before any shift, at the site that was asked; served, late and queued where it was or will be served.
    `requests_late`: served requests whose first token came later than the class's objective, the latency of the link
    that they were moved over included. `mode`: of the plan in force at the tick's beginning; empty before the first.
    """

    site_ids: tuple[str, ...]
    class_ids: tuple[str, ...]
    starts_at: datetime
    step_seconds: float
    meter_power_watts: Floats
    read_power_watts: Floats
    it_power_watts: Floats
    limit_watts: Floats
    price_usd_per_mwh: Floats
    tokens_arrived: Floats
    tokens_served: Floats
    work_queued: Floats
    requests_arrived: Floats
    requests_late: Floats
    mode: NDArray[np.str_]

    @classmethod
    def empty(cls, scenario: Scenario, fleet_file: FleetFile) -> Self:
        """For a scenario's run, nothing known yet."""
        site_ids = tuple(site.id for _, site in fleet_file.sites())
        class_ids = tuple(service.id for service in fleet_file.service_classes)

        def unknown() -> Floats:
            return np.full((len(site_ids), scenario.ticks), np.nan)

        def none() -> Floats:
            return np.zeros((len(site_ids), scenario.ticks, len(class_ids)))

        return cls(
            site_ids,
            class_ids,
            scenario.starts_at,
            scenario.step_seconds,
            meter_power_watts=unknown(),
            read_power_watts=unknown(),
            it_power_watts=unknown(),
            limit_watts=unknown(),
            price_usd_per_mwh=unknown(),
            tokens_arrived=none(),
            tokens_served=none(),
            work_queued=none(),
            requests_arrived=none(),
            requests_late=none(),
            mode=np.full(scenario.ticks, "", dtype="<U16"),
        )


@dataclass(slots=True, eq=False)
class Outcome:
    """A run: what was asked, who planned (`none`: nobody), and what came of it.

    `log` has what a run is judged by: all topics but the forecasts and the load states, which `--log` writes too.
    """

    scenario: Scenario
    policy: str
    seed: int
    log: list[Entry]
    trajectory: Trajectory

    def judged(self) -> Iterator[tuple[datetime, str, Record]]:
        """The log for the checker of the safety rules, without the commands that no controller takes for one."""
        return ((each.at, each.topic, each.record) for each in self.log if each.headers != UNSIGNED)


def is_kept(entry: Entry) -> bool:
    """Whether an outcome keeps the entry: a forecast is a hundred kilobytes, and what loads were the trajectory has."""
    return entry.topic != SITE_FORECASTS.name and not isinstance(entry.record, LoadState)


class Heading(BaseModel):
    """The first line of a log file: what was simulated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: Scenario
    fleet_file: FleetFile
    policy: str
    seed: int


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    topic: str
    at: UtcTime
    headers: dict[str, str]
    record: dict[str, Any]


class LogFile:
    """Writes a log as it comes about: a heading, then a line an entry; .gz is compressed. The same run, same bytes."""

    def __init__(self, path: Path, heading: Heading) -> None:
        """Begins the file.

        Raises:
            OSError: it can't be written.
        """
        self._raw = path.open("wb")
        packed = gzip.GzipFile("", "wb", 5, self._raw, 0) if path.suffix == ".gz" else self._raw
        self._file = cast(IO[bytes], packed)
        self._file.write(heading.model_dump_json(by_alias=True).encode() + b"\n")

    def write(self, entry: Entry) -> None:
        """Adds an entry."""
        about = json.dumps(
            {"topic": entry.topic, "at": f"{entry.at:%Y-%m-%dT%H:%M:%S.%fZ}", "headers": {**entry.headers}}
        )
        self._file.write(about[:-1].encode() + b', "record": ' + entry.record.to_json() + b"}\n")

    def close(self) -> None:
        """Ends the file."""
        self._file.close()
        self._raw.close()


@dataclass(slots=True)
class ReadLog:
    """A log file: its heading, and the entries as they are read."""

    path: Path
    heading: Heading
    _lines: Iterator[bytes] = field(repr=False)

    def entries(self) -> Iterator[Entry]:
        """The entries, once, in the order of the log.

        Raises:
            LogError: a line is none; it says which.
        """
        for number, line in enumerate(self._lines, start=2):
            try:
                read = _Line.model_validate_json(line)
                topic = BY_NAME[read.topic]
                record = cast(TypeAdapter[Record], topic.adapter).validate_json(json.dumps(read.record))
            except ValidationError as error:
                raise LogError(f"{self.path}:{number}: {first_fault(error)}"[:400]) from error
            except KeyError:
                raise LogError(f"{self.path}:{number}: no topic {read.topic!r}") from None
            yield Entry(read.at, read.topic, record, UNSIGNED if read.headers == UNSIGNED else read.headers)


def read_log(path: Path) -> ReadLog:
    """A log file that `gridtide simulate --log` wrote.

    Raises:
        LogError: it can't be read, or has no heading.
    """
    lines = _lines(path)
    first = next(lines, b"")
    try:
        return ReadLog(path, Heading.model_validate_json(first), lines)
    except ValidationError as error:
        raise LogError(f"{path}: not a log of gridtide simulate: {first_fault(error)}"[:400]) from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (OSError, EOFError) as error:
        raise LogError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
