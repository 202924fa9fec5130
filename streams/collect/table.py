"""A CSV file as columns of numbers over one column of times; what is no number is known with its line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streams.collect.cells import Rows, TraceError, microseconds, parse_cell

_TIME_NAME = re.compile(
    r"(ts|t|time|timestamp|date|datetime|interval_start)(_(utc|s|seconds|ms))?|.*_utc", re.IGNORECASE
)
_UNKNOWN = frozenset({"", "-", "na", "n/a", "nan", "null", "none"})
_ROWS_AT_A_TIME = 4096
_ROWS_TO_FIND_TIMES = 50
# As seconds the year 5138: numbers from here on are stamps in milliseconds or finer.
_MOST_SECONDS = 1e11
# Calendars end at the years 1 and 9999; sums of what lies between these two do not.
_FIRST_TIME, _LAST_TIME = -60_000_000_000_000_000, 250_000_000_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Lines of a file as arrays: `lines` (n,) where each stood, `times` (n,) in microseconds since 1970 or since the
    file's own zero, and the numbers of every column in which some are, (n,), NaN where unknown. `after_time` names
    the columns that stand after that of the times; `wrong` says where a column first has what is no number.
    """

    time_column: str
    lines: NDArray[np.int64]
    times: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]
    after_time: tuple[str, ...]
    wrong: dict[str, tuple[int, str]]


def read_table(path: Path, rows: Rows, header_line: int, header: Sequence[str]) -> Table:
    """Reads the lines after the header.

    The times are ISO 8601, or seconds from any zero (stamps in milliseconds or finer are known by their size), in the
    first column named as times are (ts_utc, t_s, timestamp, ...), and else in the first that rises from line to line.

    Raises:
        TraceError: no header, no column of times, a time that is none, a line with too many or too few cells.
    """
    names = [name.strip() for name in header]
    if any(_is_number(name) for name in names):
        raise TraceError(f"{path}:{header_line}: no header: the first line must name the columns")
    time_place: int | None = None
    lines: list[int] = []
    times: list[int] = []
    found = [_Column() for _ in names]
    while batch := list(islice(rows, _ROWS_AT_A_TIME)):
        numbers = [line for line, _ in batch]
        for line, row in batch:
            if len(row) != len(names):
                raise TraceError(f"{path}:{line}: {len(row)} columns, the header has {len(names)}")
        cells = list(zip(*(row for _, row in batch), strict=True))
        if time_place is None:
            time_place = _time_place(path, header_line, names, cells)
        times += _times(path, names[time_place], numbers, cells[time_place])
        lines += numbers
        for place, column in enumerate(found):
            if place != time_place:
                column.take(numbers, cells[place])
    if time_place is None:
        raise TraceError(f"{path}: no lines after the header")
    of_numbers = {name: column for name, column in zip(names, found, strict=True) if column.known}
    return Table(
        time_column=names[time_place],
        lines=np.array(lines, dtype=np.int64),
        times=np.array(times, dtype=np.int64),
        columns={name: np.concatenate(column.parts) for name, column in of_numbers.items()},
        after_time=tuple(name for name in names[time_place + 1 :] if name in of_numbers),
        wrong={name: column.wrong for name, column in of_numbers.items() if column.wrong},
    )


class _Column:
    """Cells as numbers, a part a batch; after the first that is no number the rest is not looked at."""

    def __init__(self) -> None:
        self.parts: list[NDArray[np.float64]] = []
        self.known = False
        self.wrong: tuple[int, str] | None = None

    def take(self, lines: Sequence[int], cells: Sequence[str]) -> None:
        values = np.full(len(cells), np.nan)
        self.parts.append(values)
        if self.wrong is not None:
            return
        try:
            values[:] = [float(cell or "nan") for cell in cells]
        except ValueError:
            for place, cell in enumerate(cells):
                try:
                    values[place] = _number(cell)
                except ValueError:
                    self.wrong = (lines[place], cell)
                    break
        self.known = self.known or not bool(np.isnan(values).all())


def _number(text: str) -> float:
    return float("nan") if text.strip().lower() in _UNKNOWN else float(text)


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _time(text: str) -> int:
    """Microseconds of an ISO 8601 time, or of a number of seconds (of milliseconds or finer where it is huge)."""
    try:
        seconds = float(text)
    except ValueError:
        time = microseconds(text)
    else:
        if not isfinite(seconds):
            raise ValueError("must be a time")
        while seconds >= _MOST_SECONDS:
            seconds /= 1000
        time = round(seconds * 1e6)
    if not _FIRST_TIME <= time <= _LAST_TIME:
        raise ValueError("must be a time")
    return time


def _times(path: Path, name: str, lines: Sequence[int], cells: Sequence[str]) -> list[int]:
    try:
        return [_time(cell) for cell in cells]
    except ValueError:
        return [parse_cell(path, line, name, cell, _time) for line, cell in zip(lines, cells, strict=True)]


def _time_place(path: Path, header_line: int, names: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    for place, name in enumerate(names):
        if _TIME_NAME.fullmatch(name):
            return place
    for place, column in enumerate(cells):
        try:
            times = [_time(cell) for cell in column[:_ROWS_TO_FIND_TIMES]]
        except ValueError:
            continue
        if all(before < after for before, after in pairwise(times)):
            return place
    raise TraceError(
        f"{path}:{header_line}: no column of times among {', '.join(names)[:200]}; "
        "call it timestamp, ts_utc, or t_s if it holds seconds"
    )
