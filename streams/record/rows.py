"""Records as rows: which table a record goes to, and its values in the order of the table's columns.

Pure. A column is named like the record's field, so that no field is lost and none is translated: text, numbers and
times as they are, lists of names and of readings as arrays, nested values as JSON. The first columns are the
topic's natural key, which is the table's primary key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from schemas.clock import ClockAnchor
from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.envelope import Record, Value
from schemas.forecast import SiteForecast
from schemas.offer import FlexibilityOffer
from schemas.plan import FleetPlan
from schemas.requests import RequestRates
from schemas.score import ForecastScore
from schemas.signals import CarbonSignal, EventSignal, PriceSignal
from schemas.site import ClassLoad, ControllerHeartbeat, LoadState, PowerState
from schemas.telemetry import TelemetryFrame
from streams.record.tables import (
    CLOCK_ANCHORS,
    COMMAND_ACKS,
    DEAD_LETTERS,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    FORECAST_SCORES,
    GPU_TELEMETRY,
    GRID_SIGNALS,
    INFERENCE_REQUESTS,
    SITE_CLASS_LOAD,
    SITE_COMMANDS,
    SITE_FORECASTS,
    SITE_HEARTBEATS,
    SITE_LOAD,
    SITE_POWER,
    Table,
)

Row = tuple[Any, ...]


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be read: its position on the source topic, why, and its bytes.

    `arrived_at` (aware UTC) is the message's own timestamp there, not the time of rejection: it is part of the key,
    and the same message must have the same key however often it is rejected.
    """

    arrived_at: datetime
    topic: str  # as in the catalog, without the run's prefix
    partition_id: int
    message_offset: int
    run_id: str
    reason: str
    detail: str
    message_key: bytes | None
    message: bytes | None


def rows_of(record: Record | DeadLetter) -> list[tuple[str, Row]]:
    """All rows that a record comes to: its own (`row_of`), and for a load state one a service class.

    Raises:
        TypeError: no table holds records of this type.
    """
    own = row_of(record)
    if not isinstance(record, LoadState):
        return [own]
    whole = vars(record)
    shared = dict(zip(_SHARED, _shared_of(whole), strict=True))
    return [own, *((SITE_CLASS_LOAD.name, _part_of(shared | vars(part))) for part in record.classes)]


def row_of(record: Record | DeadLetter) -> tuple[str, Row]:
    """Return the name of the record's table and its values in the order of that table's columns.

    Columns of a field that the record's kind does not have are None.

    Raises:
        TypeError: no table holds records of this type.
    """
    layout = _LAYOUT_OF.get(type(record))
    if layout is None:
        raise TypeError(f"no table holds a {type(record).__name__}")
    fields = vars(record)
    row = layout.values_of(layout.absent | fields if layout.absent else fields)
    if not layout.conversions:
        return layout.table, row
    values = list(row)
    for place, convert in layout.conversions:
        if values[place] is not None:
            values[place] = convert(values[place])
    return layout.table, tuple(values)


# A class's row has its own values, and those that it shares with the whole state.
_SHARED: Final = [column for column in SITE_CLASS_LOAD.columns if column not in ClassLoad.model_fields]
_shared_of: Final = itemgetter(*_SHARED)
_part_of: Final = itemgetter(*SITE_CLASS_LOAD.columns)


def _text(value: str) -> str:
    return value.replace("\0", "\N{SYMBOL FOR NULL}")


def _json(value: Value | Sequence[Value]) -> str:
    if isinstance(value, Value):
        return value.model_dump_json()
    return f"[{','.join([item.model_dump_json() for item in value])}]"


TABLE_OF: Final[Mapping[type[Record | DeadLetter], Table]] = {
    TelemetryFrame: GPU_TELEMETRY,
    RequestRates: INFERENCE_REQUESTS,
    PriceSignal: GRID_SIGNALS,
    CarbonSignal: GRID_SIGNALS,
    EventSignal: GRID_SIGNALS,
    PowerState: SITE_POWER,
    LoadState: SITE_LOAD,
    SiteForecast: SITE_FORECASTS,
    ForecastScore: FORECAST_SCORES,
    FleetPlan: FLEET_PLANS,
    FlexibilityOffer: FLEXIBILITY_OFFERS,
    Throttle: SITE_COMMANDS,
    Shift: SITE_COMMANDS,
    Release: SITE_COMMANDS,
    CommandAck: COMMAND_ACKS,
    ControllerHeartbeat: SITE_HEARTBEATS,
    ClockAnchor: CLOCK_ANCHORS,
    DeadLetter: DEAD_LETTERS,
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """What `row_of` needs of a type at hand."""

    table: str
    absent: dict[str, None]  # columns of the table that the type has no field for
    values_of: Callable[[Mapping[str, Any]], Row]
    conversions: Sequence[tuple[int, Callable[[Any], Any]]]


def _layout(kind: type[Record | DeadLetter], table: Table) -> _Layout:
    # PostgreSQL holds no NUL in text. Records have none, by their contracts; a dead letter may quote anything.
    conversions = {"text": _text} if kind is DeadLetter else {"jsonb": _json}
    fields = kind.model_fields if issubclass(kind, Record) else kind.__annotations__
    return _Layout(
        table.name,
        {column: None for column in table.columns if column not in fields},
        itemgetter(*table.columns),
        [(place, conversions[type_]) for place, type_ in enumerate(table.types.values()) if type_ in conversions],
    )


_LAYOUT_OF: Final = {kind: _layout(kind, table) for kind, table in TABLE_OF.items()}
