"""Every record of the catalog has its row: no field lost, the natural key first, nothing PostgreSQL can't hold."""

import json
from datetime import UTC, datetime
from typing import get_args

import pytest

from schemas import catalog
from schemas.catalog import TOPICS, Topic
from schemas.envelope import Record
from streams.record.rows import TABLE_OF, DeadLetter, row_of, rows_of
from streams.record.tables import BY_NAME, DEAD_LETTERS, SERVICE_CLASSES, SITE_CLASS_LOAD, SITES, TABLES
from tests.examples import EMERGENCY, EXAMPLES, FRAME, LOAD, PRICE

RECORDS = [(topic, record) for topic in TOPICS for record in EXAMPLES[topic.name]]
LETTER = DeadLetter(
    arrived_at=datetime(2026, 11, 1, tzinfo=UTC),
    topic=catalog.GPU_TELEMETRY.name,
    partition_id=3,
    message_offset=17,
    run_id="live",
    reason="not_json",
    detail="EOF while parsing\0 a value",
    message_key=None,
    message=b"\x00{",
)


def models_of(topic: Topic) -> list[type[Record]]:
    """Return the record types that may stand on a topic: one, or those of a union told apart by `kind`."""
    if isinstance(topic.model, type) and issubclass(topic.model, Record):
        return [topic.model]
    union = get_args(topic.model)[0]
    return list(get_args(union))


def ids(value: object) -> str | None:
    return type(value).__name__ if isinstance(value, Record) else None


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_field_of_a_topic_is_a_column_and_every_column_a_field(topic: Topic) -> None:
    models = models_of(topic)
    for table in {TABLE_OF[model].name for model in models}:
        fields = {field for model in models if TABLE_OF[model].name == table for field in model.model_fields}
        assert set(BY_NAME[table].columns) == fields - ({"classes"} if table == "site_load" else set())


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_the_key_is_the_natural_key_with_the_time_first(topic: Topic) -> None:
    for model in models_of(topic):
        table = TABLE_OF[model]
        assert table.key == topic.natural_key
        assert table.types[table.key[0]] == "timestamptz"


def test_the_examples_are_of_every_record_type() -> None:
    records = {type(record) for _, record in RECORDS}
    assert records == set(TABLE_OF) - {DeadLetter} == {model for topic in TOPICS for model in models_of(topic)}


@pytest.mark.parametrize(("topic", "record"), RECORDS, ids=ids)
def test_row_of_gives_a_value_for_every_column_and_the_natural_key_first(topic: Topic, record: Record) -> None:
    name, row = row_of(record)
    table = BY_NAME[name]
    assert len(row) == len(table.columns)
    assert row[: len(table.key)] == topic.natural_key_of(record)
    for column, type_, value in zip(table.columns, table.types.values(), row, strict=True):
        own = getattr(record, column, None)
        if type_ == "jsonb" and own is not None:
            assert json.loads(value) == record.model_dump(mode="json")[column]
        else:
            assert value == own


def test_row_of_leaves_columns_of_other_kinds_empty() -> None:
    price = dict(zip(BY_NAME["grid_signals"].columns, row_of(PRICE)[1], strict=True))
    assert {column for column, value in price.items() if value is None} == {
        *("intensity_grams_co2_per_kwh", "site_ids", "reduction_ratio", "target_power_watts"),
        *("ramp_seconds", "cancelled"),
    }


def test_row_of_takes_a_dead_letter_and_makes_nul_visible() -> None:
    name, row = row_of(LETTER)
    assert name == DEAD_LETTERS.name
    values = dict(zip(DEAD_LETTERS.columns, row, strict=True))
    assert values == {**vars(LETTER), "detail": "EOF while parsing␀ a value"}


def test_row_of_refuses_what_no_table_holds() -> None:
    with pytest.raises(TypeError, match="no table holds a Record"):
        row_of(Record())


def test_rows_of_a_load_state_are_its_own_and_one_a_service_class() -> None:
    (own, *parts) = rows_of(LOAD)
    assert own == row_of(LOAD)
    assert [name for name, _ in parts] == [SITE_CLASS_LOAD.name] * len(LOAD.classes)
    for (_, row), part in zip(parts, LOAD.classes, strict=True):
        values = dict(zip(SITE_CLASS_LOAD.columns, row, strict=True))
        assert {field: values[field] for field in type(part).model_fields} == vars(part)
        shared = ("window_start", "window_end", "site_id", "fleet_id", "run_id")
        assert {field: values[field] for field in shared} == {field: getattr(LOAD, field) for field in shared}


def test_rows_of_any_other_record_are_its_own() -> None:
    assert list(rows_of(FRAME)) == [row_of(FRAME)]


def test_tables_are_all_reached_and_named_once() -> None:
    by_records = {table.name for table in TABLE_OF.values()}
    assert by_records | {SITE_CLASS_LOAD.name, SITES.name, SERVICE_CLASSES.name} == {table.name for table in TABLES}
    assert len(BY_NAME) == len(TABLES)


def test_row_of_does_not_touch_the_record() -> None:
    before = [FRAME.to_json(), EMERGENCY.to_json()]
    row_of(FRAME), row_of(EMERGENCY)
    assert [FRAME.to_json(), EMERGENCY.to_json()] == before
