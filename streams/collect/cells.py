"""Reading CSV files that may be wrong: lines, cells and times, and one clear line on what is."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)

_Parsed = TypeVar("_Parsed", int, float)

Rows = Iterator[tuple[int, list[str]]]


class TraceError(ValueError):
    """A trace can't be used; the message is one line that names the file, and the line and column where one is."""


def read_rows(path: Path) -> Rows:
    """Line number and cells of every line of a .csv or .csv.gz that is not empty.

    Raises:
        TraceError: when it is iterated: the file can't be read, or is no CSV file in UTF-8.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="") as file
        ):
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: not a CSV file in UTF-8: {error}") from error


def parse_cell(path: Path, line: int, column: str, text: str, parse: Callable[[str], _Parsed]) -> _Parsed:
    """What `parse` makes of a cell; its ValueError becomes a TraceError that says where."""
    try:
        return parse(text)
    except ValueError as error:
        raise TraceError(f"{path}:{line}: {column}: {error} (got {text[:60]!r})") from None


def microseconds(text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time; UTC where it gives no offset."""
    stamp = datetime.fromisoformat(text)  # takes Azure's seventh digit and drops it
    since = stamp - (_EPOCH if stamp.tzinfo else _NAIVE_EPOCH)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def when(since_epoch: int) -> datetime:
    """The time that is `since_epoch` microseconds after the start of 1970."""
    return _EPOCH + since_epoch * _MICROSECOND


def start_within(path: Path, start: str, first: int, last: int) -> int:
    """`start` (ISO 8601) in microseconds since 1970; it must lie in [first, last)."""
    try:
        asked = microseconds(start)
    except ValueError as error:
        raise TraceError(f"{path}: start: {error}") from None
    if not first <= asked < last:
        raise TraceError(f"{path}: start: {start} lies outside the file, {when(first)} to {when(last)}")
    return asked
