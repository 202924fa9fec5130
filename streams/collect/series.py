"""`read_series(path)`: the load that a file holds, in equal steps, whatever state the file is in."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forecasting.series import LoadSeries
from streams.collect.cells import Rows, TraceError, read_rows, when
from streams.collect.table import Table, read_table
from streams.collect.traces import MAX_STEPS, REQUEST_COLUMNS, read_requests

Missing = Literal["gaps", "zeros"]
Tell = Callable[[str], None]

REQUESTS = "requests_per_second"
_RAW_COLUMNS = (REQUESTS, *REQUEST_COLUMNS[1:])
_RAW_STEPS_SECONDS = (1, 5, 10, 30, 60, 300, 600, 3600)
_USUAL_STEP_SECONDS = 60.0
_LEAST_RAW_STEPS, _MOST_RAW_STEPS = 48, 15 * 24 * 60
_SUB_STEPS = 10
_BOUNDS = ("_lo", "_hi")
_CLIENTS = "clients"
_DAY = 86_400_000_000
# A coarser step counts when at least this share of it was observed, as the live history has it.
_LEAST_COVERED_RATIO = 0.5
# A stamp that lies further from its step than this share of it is worth a note.
_JITTER_RATIO = 0.01


class StepError(TraceError):
    """A file's own step does not fit into the one asked for."""


def read_series(
    path: Path,
    column: str | None = None,
    step_seconds: float | None = None,
    missing: Missing = "gaps",
    tell: Tell = lambda note: None,
) -> LoadSeries:
    """Reads a file (.csv or .csv.gz) as load in equal steps.

    A raw request trace (TIMESTAMP, ContextTokens, GeneratedTokens; a line a request) is counted: requests per second,
    or tokens per second of the `column` named, and the dispersion of the requests in tenths of a step. A step without
    requests is 0. The step is 60 s unless the trace is so short, or so long, that another gives a usual number of
    steps; a last step that the trace fills only in part is left out.

    Any other file has a column of times (see `read_table`) and columns of numbers, of which `column` or the first
    that varies and is no bound (`_lo`, `_hi`) is taken, with the number of active clients where a column has
    "clients" in its name. The step is the commonest time between two lines; a longer one that is a whole multiple can
    be asked for. Lines may come in any order; each counts in the step nearest to its stamp, several in one step are
    averaged. What is negative or not finite is taken as not observed. Lines that a leap of the clock longer than a
    day, and than all the rest, has parted from the others are left out. Steps without a line are NaN, or 0 with
    `missing="zeros"`.

    `tell` gets a line for people on each choice made, and on each fault mended.

    Raises:
        TraceError: the file can't be read or holds no such series; one line that says where and what.
        StepError: its steps can't be joined to steps of `step_seconds`.
        ValueError: `step_seconds` is not positive.
    """
    if step_seconds is not None and not step_seconds > 0:
        raise ValueError(f"step_seconds must be positive, not {step_seconds}")
    rows = read_rows(path)
    line, header = next(rows, (1, []))
    if not header:
        raise TraceError(f"{path}: empty")
    if set(REQUEST_COLUMNS) <= set(header):
        return _count(path, rows, line, header, column, step_seconds, tell)
    return _columns(path, read_table(path, rows, line, header), column, step_seconds, missing, tell)


def _count(
    path: Path, rows: Rows, line: int, header: list[str], column: str | None, step_seconds: float | None, tell: Tell
) -> LoadSeries:
    """A raw request trace in steps."""
    if column is not None and column not in _RAW_COLUMNS:
        raise TraceError(f"{path}: no column {column!r} of numbers; there are {', '.join(_RAW_COLUMNS)}")
    times, *tokens = read_requests(path, rows, line, header)
    order = np.argsort(times, kind="stable")
    order = order[_near(path, times[order], tell)]
    times = times[order]
    span_seconds = int(times[-1] - times[0]) / 1e6
    step_seconds = step_seconds or _raw_step_seconds(span_seconds)
    steps = max(1, int(span_seconds / step_seconds))
    _check_steps(path, steps * _SUB_STEPS, step_seconds / _SUB_STEPS)
    bins = np.floor((times - times[0]) / (step_seconds * 1e6 / _SUB_STEPS)).astype(np.int64)
    inside = bins < steps * _SUB_STEPS

    def binned(weights: NDArray[np.int64] | None) -> NDArray[np.float64]:
        counts = np.bincount(bins[inside], None if weights is None else weights[inside], steps * _SUB_STEPS)
        return counts.astype(np.float64).reshape(steps, _SUB_STEPS)

    counts = binned(None)
    name = column or REQUESTS
    summed = counts if name == REQUESTS else binned(tokens[REQUEST_COLUMNS.index(name) - 1][order])
    means = counts.mean(axis=1)
    dispersion = np.divide(counts.var(axis=1), means, out=np.full(steps, np.nan), where=means > 0)
    tell(f"{path.name}: {len(times):,} requests in {steps:,} steps of {step_seconds:g} s, as {name}")
    values = summed.sum(axis=1) / step_seconds
    return LoadSeries(f"{path.name} {name}", when(int(times[0])), step_seconds, values, None, dispersion)


def _raw_step_seconds(span_seconds: float) -> float:
    if span_seconds < _LEAST_RAW_STEPS * _USUAL_STEP_SECONDS:
        finer = [step for step in _RAW_STEPS_SECONDS if span_seconds >= _LEAST_RAW_STEPS * step]
        return float(max(finer, default=_RAW_STEPS_SECONDS[0]))
    coarser = [step for step in _RAW_STEPS_SECONDS if span_seconds <= _MOST_RAW_STEPS * step]
    return max(_USUAL_STEP_SECONDS, float(min(coarser, default=_RAW_STEPS_SECONDS[-1])))


def _columns(
    path: Path, table: Table, column: str | None, step_seconds: float | None, missing: Missing, tell: Tell
) -> LoadSeries:
    """One column of a table in steps, and its clients."""
    name = _chosen(path, table, column, tell)
    clients = next((each for each in table.columns if _CLIENTS in each.lower() and each != name), None)
    order = np.argsort(table.times, kind="stable")
    if unsorted := int((np.diff(table.times) < 0).sum()):
        line = table.lines[1:][np.diff(table.times) < 0][0]
        tell(f"{path}:{line}: {table.time_column}: earlier than the line before ({unsorted} such); sorted by time")
    order = order[_near(path, table.times[order], tell)]
    times, lines = table.times[order], table.lines[order]
    step = _step(path, times)
    places, starts_at = _places(path, times, lines, step, table.time_column, tell)
    _check_steps(path, int(places[-1]) + 1, step / 1e6)
    ratio = _ratio(path, step, step_seconds)

    def stepped(values: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
        fine = _averaged(values[order], places)
        return _coarser(np.where(np.isnan(fine), gap, fine), ratio)

    values = stepped(_observed(path, table, name, tell), 0.0 if missing == "zeros" else np.nan)
    if np.isnan(values).all():
        raise TraceError(f"{path}: {name}: no whole step with numbers of 0 or more")
    active = None if clients is None or clients in table.wrong else stepped(table.columns[clients], np.nan)
    return LoadSeries(f"{path.name} {name}", when(starts_at), ratio * step / 1e6, values, active)


def _chosen(path: Path, table: Table, column: str | None, tell: Tell) -> str:
    """The name of the column to take; it holds nothing but numbers and blanks."""
    name = column
    if name is None:
        ranked = _ranked(table)
        if not ranked:
            raise TraceError(f"{path}: no column of numbers beside {table.time_column}")
        name, *others = ranked
        if others:
            tell(f"{path.name}: takes the column {name}; there are also {', '.join(others)} (--column)")
    if name not in table.columns:
        there = ", ".join(table.columns) or "none"
        raise TraceError(f"{path}: no column {name!r} of numbers; there are {there[:200]}")
    if name in table.wrong:
        line, text = table.wrong[name]
        raise TraceError(f"{path}:{line}: {name}: not a number (got {text[:60]!r})")
    return name


def _ranked(table: Table) -> list[str]:
    """The columns of numbers, the likeliest load first: what varies, no bounds, no clients, after the times."""

    def rank(name: str) -> tuple[bool, ...]:
        values = table.columns[name]
        constant = bool(np.nanmin(values) == np.nanmax(values))
        bound = name.lower().endswith(_BOUNDS)
        return (bound, _CLIENTS in name.lower(), constant, name not in table.after_time)

    return sorted(table.columns, key=rank)  # stable: among equals the file's order


def _observed(path: Path, table: Table, name: str, tell: Tell) -> NDArray[np.float64]:
    values = table.columns[name]
    wrong = np.isinf(values) | (values < 0)
    if wrong.any():
        line = table.lines[int(np.argmax(wrong))]
        tell(f"{path}:{line}: {name}: negative or not finite ({int(wrong.sum())} such); taken as not observed")
    return np.where(wrong, np.nan, values)


def _near(path: Path, times: NDArray[np.int64], tell: Tell) -> slice:
    """Which of the sorted `times` belong together: not those that a leap of the clock has parted from the others."""
    first, end = 0, len(times)
    while end - first > 1:
        leaps = np.diff(times[first:end])
        after = first + int(np.argmax(leaps)) + 1
        leap = int(leaps.max())
        if leap <= max(_DAY, int(times[end - 1] - times[first]) - leap):
            break
        first, end = (after, end) if end - after > after - first else (first, after)
    if left_out := len(times) - (end - first):
        days = (int(times[-1]) - int(times[0])) / _DAY
        tell(f"{path.name}: the clock leaps ({days:.1f} days from first to last stamp); {left_out} lines left out")
    return slice(first, end)


def _step(path: Path, times: NDArray[np.int64]) -> int:
    """The commonest time between two lines, in microseconds; where none is common, the median in whole seconds."""
    between = np.diff(np.unique(times))
    if not len(between):
        raise TraceError(f"{path}: lines of one time only; at least 2 times are needed to know their step")
    values, counts = np.unique(between, return_counts=True)
    if counts.max() * 2 >= len(between):
        return int(values[np.argmax(counts)])
    return max(1, round(float(np.median(between)) / 1e6)) * 1_000_000


def _places(
    path: Path, times: NDArray[np.int64], lines: NDArray[np.int64], step: int, time_column: str, tell: Tell
) -> tuple[NDArray[np.int64], int]:
    """The number of the step nearest to each stamp, from 0, and when step 0 begins."""
    off_first = (times - times[0] + step // 2) % step - step // 2
    origin = int(times[0]) + int(np.median(off_first))
    places = (times - origin + step // 2) // step
    off = np.abs(times - origin - places * step) > step * _JITTER_RATIO
    if off.any():
        line = lines[int(np.argmax(off))]
        tell(f"{path}:{line}: {time_column}: off the step of {step / 1e6:g} s ({int(off.sum())} such); nearest taken")
    first = int(places[0])
    if several := len(places) - len(np.unique(places)):
        line = lines[1:][np.diff(places) == 0][0]
        tell(f"{path}:{line}: {time_column}: a second line of the same step ({several} such); averaged")
    return places - first, origin + first * step


def _averaged(values: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of the known values of each step, NaN where there is none."""
    known = ~np.isnan(values)
    steps = int(places[-1]) + 1
    counts = np.bincount(places[known], minlength=steps)
    sums = np.bincount(places[known], values[known], steps)
    return np.divide(sums, counts, out=np.full(steps, np.nan), where=counts > 0)


def _ratio(path: Path, step: int, step_seconds: float | None) -> int:
    """How many of the file's steps make one of those asked for."""
    if step_seconds is None:
        return 1
    ratio = round(step_seconds * 1e6 / step)
    if ratio < 1 or abs(ratio * step - step_seconds * 1e6) > 1:
        raise StepError(
            f"{path}: a step of {step_seconds:g} s is no whole multiple of the file's, which is {step / 1e6:g} s"
        )
    return ratio


def _coarser(values: NDArray[np.float64], ratio: int) -> NDArray[np.float64]:
    """Means of `ratio` steps each, NaN where fewer than half are known; a last one not full is left out."""
    if ratio == 1:
        return values
    groups = values[: len(values) // ratio * ratio].reshape(-1, ratio)
    known = ~np.isnan(groups)
    counts = known.sum(axis=1)
    sums = np.where(known, groups, 0.0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(groups), np.nan), where=counts >= ratio * _LEAST_COVERED_RATIO)


def _check_steps(path: Path, steps: int, step_seconds: float) -> None:
    if steps > MAX_STEPS:
        raise TraceError(f"{path}: {steps} steps of {step_seconds:g} s from first to last line; at most {MAX_STEPS}")
