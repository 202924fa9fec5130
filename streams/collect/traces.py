"""Traces: past traffic and prices, read from files into arrays. A file that can't be used gives one clear line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import ceil, isinf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streams.collect.cells import Rows, TraceError, microseconds, parse_cell, read_rows, start_within, when

REQUEST_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
PRICE_TIME_COLUMN = "interval_start_utc"
MAX_STEPS = 20_000_000
_MOST_TOKENS = 2**40

_PRICE_COLUMN = re.compile(r"(?P<zone>.+?)(_rt|_da)?_usd_(per_)?mwh")


@dataclass(frozen=True, slots=True, eq=False)
class RequestTrace:
    """Traffic per step: arrays of `steps` places with the requests, prompt tokens and generated tokens of each."""

    name: str
    starts_at: datetime
    step_seconds: float
    requests: NDArray[np.float64]
    prompt_tokens: NDArray[np.float64]
    tokens: NDArray[np.float64]

    @property
    def steps(self) -> int:
        """How many steps the trace has."""
        return len(self.requests)

    @property
    def span_seconds(self) -> float:
        """How long it lasts before it starts anew."""
        return self.steps * self.step_seconds

    def at(self, step: int) -> tuple[float, float, float]:
        """Requests, prompt tokens and generated tokens of step number `step` (from 0); past the end it wraps."""
        place = step % self.steps
        return float(self.requests[place]), float(self.prompt_tokens[place]), float(self.tokens[place])

    def tiles(self, duration_seconds: float) -> int:
        """How often the trace is laid end to end to last `duration_seconds`; above 1 it repeats itself."""
        return max(1, ceil(duration_seconds / self.span_seconds - 1e-9))


@dataclass(frozen=True, slots=True, eq=False)
class PriceTrace:
    """Prices in USD/MWh by step and zone, shape (steps, zones). NaN where the market gave none; may be negative."""

    name: str
    starts_at: datetime
    step_seconds: float
    zones: tuple[str, ...]
    prices_usd_per_mwh: NDArray[np.float64]

    @property
    def steps(self) -> int:
        """How many steps the trace has."""
        return len(self.prices_usd_per_mwh)

    @property
    def span_seconds(self) -> float:
        """How long it lasts before it starts anew."""
        return self.steps * self.step_seconds

    def step_of(self, offset_seconds: float) -> int:
        """The number of the step in which `offset_seconds` after the trace's start lies; not wrapped."""
        return int((offset_seconds + 1e-6) // self.step_seconds)

    def at(self, step: int, zone: str) -> float | None:
        """The zone's price in step number `step` (from 0; past the end it wraps); None where it is missing.

        Raises:
            ValueError: the trace has no such zone.
        """
        if zone not in self.zones:
            raise ValueError(f"{self.name}: no zone {zone!r}, only {', '.join(self.zones)}")
        price = float(self.prices_usd_per_mwh[step % self.steps, self.zones.index(zone)])
        return None if np.isnan(price) else price

    def tiles(self, duration_seconds: float) -> int:
        """How often the trace is laid end to end to last `duration_seconds`; above 1 it repeats itself."""
        return max(1, ceil(duration_seconds / self.span_seconds - 1e-9))


def read_request_trace(path: Path, step_seconds: float = 10.0, start: str | None = None) -> RequestTrace:
    """Reads a raw AzurePublicDataset request trace (.csv or .csv.gz; one line a request) into steps.

    Starts at `start` (ISO 8601; UTC where no offset is given), or at the first request. The last step, which the
    file fills only in part, is left out where there is another. Lines may come in any order.

    Raises:
        TraceError: the file can't be read, is another format (traces in bins included), or has a wrong line.
        ValueError: `step_seconds` is not positive.
    """
    if not step_seconds > 0:
        raise ValueError(f"step_seconds must be positive, not {step_seconds}")
    rows = read_rows(path)
    line, header = next(rows, (1, []))
    times, prompts, tokens = read_requests(path, rows, line, header)
    first = int(times.min()) if start is None else start_within(path, start, int(times.min()), int(times.max()))
    span_steps = (int(times.max()) - first) / 1e6 / step_seconds
    steps = max(1, int(span_steps))
    if steps > MAX_STEPS:
        raise TraceError(f"{path}: {steps} steps of {step_seconds} s from first to last request; at most {MAX_STEPS}")
    bins = np.floor((times - first) / 1e6 / step_seconds).astype(np.int64)
    inside = (bins >= 0) & (bins < steps)

    def binned(values: NDArray[np.int64] | None) -> NDArray[np.float64]:
        return np.bincount(bins[inside], None if values is None else values[inside], steps).astype(np.float64)

    return RequestTrace(path.name, when(first), step_seconds, *map(binned, (None, prompts, tokens)))


def read_requests(
    path: Path, rows: Rows, header_line: int, header: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Microseconds since 1970, prompt tokens and generated tokens of every request, in the file's order; at least one.

    Args:
        path: the raw request trace, for what is said of wrong lines.
        rows: its lines after the header.
        header_line: where the header stands.
        header: the names of the columns, REQUEST_COLUMNS among them.

    Raises:
        TraceError: a column is missing, a line is wrong, or there is none.
    """
    places, width = _columns(path, header_line, header, REQUEST_COLUMNS)
    parts = []
    while batch := list(islice(rows, 4096)):  # many rows at a time, for speed
        try:
            cells = list(zip(*(row for _, row in batch), strict=True))
            stamps, prompts, tokens = (cells[place] for place in places)
            part = np.array([[*map(microseconds, stamps)], [*map(int, prompts)], [*map(int, tokens)]], dtype=np.int64)
        except (ValueError, IndexError, OverflowError):
            _check_request_rows(path, batch, places, width)
            raise
        if len(cells) != width or (part[1:] < 0).any() or (part[1:] >= _MOST_TOKENS).any():
            _check_request_rows(path, batch, places, width)
        parts.append(part)
    if not parts:
        raise TraceError(f"{path}: no requests")
    times, of_prompts, generated = np.concatenate(parts, axis=1)
    return times, of_prompts, generated


def read_price_trace(path: Path, start: str | None = None) -> PriceTrace:
    """Reads prices (.csv or .csv.gz): `interval_start_utc`, and a column a zone such as NYC_usd_mwh.

    The step is the commonest time between two lines. Blank or NaN cells and left-out lines are missing prices.
    Starts at `start` (ISO 8601), or at the file's beginning.

    Raises:
        TraceError: the file can't be read, has other columns, or a wrong line: no number, out of order, off the step.
    """
    rows = read_rows(path)
    zones, places = _zones(path, rows)
    times, prices, lines = _price_table(path, rows, zones, places)
    step = _step(path, times, lines)
    slots = (times - times[0]) // step
    full = np.full((int(slots[-1]) + 1, len(zones)), np.nan)
    full[slots] = prices
    first = 0
    if start is not None:
        asked = start_within(path, start, int(times[0]), int(times[-1]))
        first = (asked - int(times[0])) // step  # the step in which the asked time lies
    return PriceTrace(path.name, when(int(times[0]) + first * step), step / 1e6, zones, full[first:])


def _price_table(
    path: Path, rows: Rows, zones: tuple[str, ...], places: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[int]]:
    """Microseconds since 1970, prices by zone, and line number of every row."""
    times: list[int] = []
    prices: list[NDArray[np.float64]] = []
    lines: list[int] = []
    while batch := list(islice(rows, 4096)):  # many rows at a time, for speed
        lines += [line for line, _ in batch]
        try:
            columns = list(zip(*(row for _, row in batch), strict=True))
            times += map(microseconds, columns[places[0]])
            prices.append(np.array([[float(cell or "nan") for cell in columns[place]] for place in places[1:]]).T)
        except (ValueError, IndexError):
            _check_price_rows(path, batch, places, zones)
            raise
        if len(columns) != len(places) or np.isinf(prices[-1]).any():
            _check_price_rows(path, batch, places, zones)
    if len(times) < 2:
        raise TraceError(f"{path}: {len(times)} lines of prices; at least 2 are needed to know their step")
    return np.array(times, dtype=np.int64), np.concatenate(prices), lines


def _columns(path: Path, line: int, header: list[str], names: tuple[str, ...]) -> tuple[list[int], int]:
    missing = [name for name in names if name not in header]
    if missing:
        raise TraceError(
            f"{path}:{line}: no column {missing[0]}; a raw request trace (one line a request) has the columns "
            f"{', '.join(names)}, this has {str(header)[:200]}; traces in bins are not read"
        )
    return [header.index(name) for name in names], len(header)


def _zones(path: Path, rows: Rows) -> tuple[tuple[str, ...], list[int]]:
    line, header = next(rows, (1, []))
    if PRICE_TIME_COLUMN not in header or len(header) < 2:
        raise TraceError(
            f"{path}:{line}: prices have the columns {PRICE_TIME_COLUMN} and <zone>_usd_mwh, this has "
            f"{str(header)[:200]}"
        )
    places = [header.index(PRICE_TIME_COLUMN)]
    zones: list[str] = []
    for place, name in enumerate(header):
        if place == places[0]:
            continue
        match = _PRICE_COLUMN.fullmatch(name)
        if match is None or match["zone"] in zones:
            raise TraceError(f"{path}:{line}: column {name!r} must be <zone>_usd_mwh, each zone once")
        zones.append(match["zone"])
        places.append(place)
    return tuple(zones), places


def _step(path: Path, times: NDArray[np.int64], lines: Sequence[int]) -> int:
    """The commonest time between two lines, in microseconds; every other must be a multiple of it."""
    gaps = np.diff(times)
    if (gaps <= 0).any():
        line = lines[int(np.argmax(gaps <= 0)) + 1]
        raise TraceError(f"{path}:{line}: {PRICE_TIME_COLUMN}: not later than the line before")
    values, counts = np.unique(gaps, return_counts=True)
    step = int(values[np.argmax(counts)])
    if (gaps % step != 0).any():
        line = lines[int(np.argmax(gaps % step != 0)) + 1]
        raise TraceError(f"{path}:{line}: {PRICE_TIME_COLUMN}: off the step of {step / 1e6:g} s")
    if (steps := int(times[-1] - times[0]) // step) > MAX_STEPS:
        raise TraceError(f"{path}: {steps} steps of {step / 1e6:g} s; at most {MAX_STEPS}")
    return step


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value < _MOST_TOKENS:
        raise ValueError("must be a count, 0 or more")
    return value


def _price(text: str) -> float:
    value = float(text or "nan")
    if isinf(value):
        raise ValueError("must be finite")
    return value


def _check_request_rows(path: Path, rows: Sequence[tuple[int, list[str]]], places: list[int], width: int) -> None:
    """Says which cell is wrong, of rows in which one is."""
    for line, row in rows:
        if len(row) != width:
            raise TraceError(f"{path}:{line}: {len(row)} columns, the header has {width}")
        for place, name, parse in zip(places, REQUEST_COLUMNS, (microseconds, _count, _count), strict=True):
            parse_cell(path, line, name, row[place], parse)


def _check_price_rows(
    path: Path, rows: Sequence[tuple[int, list[str]]], places: list[int], zones: tuple[str, ...]
) -> None:
    """Says which cell is wrong, of rows in which one is."""
    for line, row in rows:
        if len(row) != len(places):
            raise TraceError(f"{path}:{line}: {len(row)} columns, the header has {len(places)}")
        parse_cell(path, line, PRICE_TIME_COLUMN, row[places[0]], microseconds)
        for zone, place in zip(zones, places[1:], strict=True):
            parse_cell(path, line, zone, row[place], _price)
