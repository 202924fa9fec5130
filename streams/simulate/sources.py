"""The files of a scenario: traffic as a trace in the simulator's ticks, prices by market. Found by name or by path."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import FleetFile
from streams.collect.cells import TraceError, read_rows
from streams.collect.table import Table, read_table
from streams.collect.traces import (
    MAX_STEPS,
    REQUEST_COLUMNS,
    PriceTrace,
    RequestTrace,
    read_price_trace,
    read_request_trace,
)
from streams.simulate.scenario import CONSTANT, PriceSpec, Scenario, TrafficSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SUFFIXES = (".csv.gz", ".csv")
_PER = r"_?(per_(?P<per>s|sec|second|min|minute|h|hour)|(?P<rps>rps))"
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}
_RATE = re.compile(rf".*{_PER}", re.IGNORECASE)
# How columns of rates are known: requests, prompt tokens, generated tokens.
_REQUESTS = re.compile(rf"(?!.*tok)(?!.*client)(.*_)?(req|reqs|request|requests|rate)_?({_PER})", re.IGNORECASE)
_PROMPT = re.compile(rf"(.*_)?(in|input|prompt|prefill|context)_tok(en)?s?{_PER}", re.IGNORECASE)
_TOKENS = re.compile(rf"((.*_)?(out|output|generated|decode)_)?tok(en)?s?{_PER}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class PriceFile:
    """One market's prices: the trace from the scenario's start on, and the zone of each settlement point."""

    spec: PriceSpec
    trace: PriceTrace
    zones: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What a scenario takes from files, the same for every seed and policy."""

    requests: RequestTrace
    prices: tuple[PriceFile, ...]


def read_sources(scenario: Scenario, fleet_file: FleetFile, scenario_path: Path, data: Path) -> Sources:
    """Reads the files that a scenario names.

    Args:
        scenario: what is simulated.
        fleet_file: of its one fleet.
        scenario_path: where it lies; paths in it are relative to that.
        data: the folder with requests/ and prices/, in which files are found by name.

    Raises:
        TraceError: a file is not there or holds no such thing; one line that says which and what.
    """
    traffic = scenario.traffic
    if traffic.requests == CONSTANT:
        ones = np.ones(1)
        requests = RequestTrace(
            CONSTANT,
            scenario.starts_at,
            scenario.step_seconds,
            ones,
            ones * traffic.prompt_tokens_per_request,
            ones * traffic.tokens_per_request,
        )
    else:
        requests = _requests(_found(traffic.requests, "requests", scenario_path, data), scenario)
    points = list(dict.fromkeys(site.settlement_point for _, site in fleet_file.sites()))
    return Sources(requests, tuple(_prices(spec, points, scenario, scenario_path, data) for spec in scenario.prices))


def _found(name: str, kind: str, scenario_path: Path, data: Path) -> Path:
    """The file of a name: beside the scenario, or in the data folder, with or without its suffix."""
    beside = scenario_path.parent / name
    if beside.is_file():
        return beside
    if name.endswith(_SUFFIXES) and len(Path(name).parts) > 1:
        raise TraceError(f"{beside}: no such file ({scenario_path})")
    folder = data / kind
    if not folder.is_dir():
        raise TraceError(
            f"{folder}: no such folder, for {name!r} of {scenario_path}; name it with --data or GRIDTIDE_DATA"
        )
    stems = [folder / name, *(folder / (name + suffix) for suffix in _SUFFIXES)]
    stems += sorted(each for suffix in _SUFFIXES for each in folder.glob(f"{name}_*{suffix}"))
    found = [each for each in stems if each.is_file()]
    if not found:
        there = ", ".join(sorted(each.name.split(".csv")[0] for each in folder.iterdir()))
        raise TraceError(f"{folder}: no {name!r}, named by {scenario_path}; there are {there}"[:400])
    return found[0]


def _requests(path: Path, scenario: Scenario) -> RequestTrace:
    """A raw trace counted in ticks, or a table of rates drawn through the middles of its bins."""
    _, header = next(read_rows(path), (1, []))
    if set(REQUEST_COLUMNS) <= set(header):
        return read_request_trace(path, scenario.step_seconds)
    rows = read_rows(path)
    line, header = next(rows, (1, []))
    return _rates(path, read_table(path, rows, line, header), scenario.traffic, scenario.step_seconds)


def _rates(path: Path, table: Table, traffic: TrafficSpec, step_seconds: float) -> RequestTrace:
    named = (traffic.requests_column, traffic.prompt_tokens_column, traffic.tokens_column)
    columns = [
        _column(path, table, name, known) for name, known in zip(named, (_REQUESTS, _PROMPT, _TOKENS), strict=True)
    ]
    of_requests, of_prompts, of_tokens = columns
    if of_requests is None:
        there = ", ".join(table.columns)[:200]
        raise TraceError(f"{path}: no column of requests by time, such as requests_per_second, among {there}")
    times = (table.times - table.times[0]) / 1e6
    if len(times) < 2 or (np.diff(times) <= 0).any():
        raise TraceError(f"{path}: {table.time_column}: the times of a trace must rise, and be two at least")
    bin_seconds = float(np.median(np.diff(times)))
    steps = int((times[-1] + bin_seconds) // step_seconds)
    if not 1 <= steps <= MAX_STEPS:
        raise TraceError(f"{path}: {steps} ticks of {step_seconds:g} s; need between 1 and {MAX_STEPS}")
    middles = (np.arange(steps) + 0.5) * step_seconds

    def drawn(rates: NDArray[np.float64]) -> NDArray[np.float64]:
        known = ~np.isnan(rates)
        return np.interp(middles, times[known] + bin_seconds / 2, rates[known]) * step_seconds

    requests = drawn(of_requests)
    prompts = requests * traffic.prompt_tokens_per_request if of_prompts is None else drawn(of_prompts)
    tokens = requests * traffic.tokens_per_request if of_tokens is None else drawn(of_tokens)
    # Beginnings that are seconds from a zero of the file's own: only the order matters to who plays the trace.
    return RequestTrace(path.name, _EPOCH, step_seconds, requests, prompts, tokens)


def _column(path: Path, table: Table, name: str | None, known: re.Pattern[str]) -> NDArray[np.float64] | None:
    """The rates (1/s) of the column named, or of the first whose name says so; None where there is none."""
    if name is None:
        name = next((each for each in table.columns if known.fullmatch(each) and each not in table.wrong), None)
        if name is None:
            return None
    if name not in table.columns or name in table.wrong:
        raise TraceError(f"{path}: no column {name!r} of numbers; there are {', '.join(table.columns)[:200]}")
    unit = _RATE.fullmatch(name)
    seconds = _SECONDS[unit["per"].lower()] if unit and unit["per"] else 1.0
    values = table.columns[name]
    values = np.where(np.isfinite(values) & (values >= 0), values, np.nan) / seconds
    return None if np.isnan(values).all() else values


def _prices(spec: PriceSpec, points: Iterable[str], scenario: Scenario, scenario_path: Path, data: Path) -> PriceFile:
    path = _found(spec.file, "prices", scenario_path, data)
    start = spec.file_starts_at or scenario.starts_at
    trace = read_price_trace(path, start.isoformat())
    if trace.span_seconds < scenario.duration_seconds:
        raise TraceError(
            f"{path}: ends {trace.span_seconds / 3600:.1f} h after {start:%Y-%m-%d %H:%M}; {scenario_path} "
            f"lasts {scenario.duration_seconds / 3600:.1f} h"
        )
    zones = {point: spec.zones.get(point, point) for point in points}
    for point, zone in zones.items():
        if zone not in trace.zones:
            raise TraceError(
                f"{path}: no zone {zone!r} for {point} of {scenario_path}; there are {', '.join(trace.zones)}"
            )
    return PriceFile(spec, trace, zones)
