"""Whatever record the contracts allow has its row, and nothing is lost on the way into PostgreSQL's binary form."""

import json
import struct
from collections.abc import Sequence
from datetime import datetime

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from schemas.catalog import TOPICS, Topic
from streams.record.rows import row_of, rows_of
from streams.record.tables import BY_NAME, SITE_CLASS_LOAD
from streams.record.writer import ReadingsDumper
from tests.strategies import topic_records

FLOAT8_ARRAY = psycopg.postgres.types["float8"].array_oid


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())  # plans are large to draw
def test_a_row_holds_its_whole_record_and_its_key_first(topic: Topic, data: st.DataObject) -> None:
    record = data.draw(topic_records(topic.name))
    name, row = row_of(record)
    table = BY_NAME[name]
    assert row[: len(table.key)] == topic.natural_key_of(record)
    values = dict(zip(table.columns, row, strict=True))
    for column, type_ in table.types.items():
        if type_ == "jsonb" and values[column] is not None:
            values[column] = json.loads(values[column])
    if name == "site_load":
        parts = [row for table, row in rows_of(record) if table == SITE_CLASS_LOAD.name]
        values["classes"] = [dict(zip(SITE_CLASS_LOAD.columns, part, strict=True)) for part in parts]
    assert topic.adapter.validate_json(json.dumps(values, default=datetime.isoformat)) == record


@given(st.lists(st.none() | st.floats() | st.integers(-(2**53), 2**53)))
def test_readings_in_binary_are_what_postgresql_takes_them_for(readings: Sequence[float | None]) -> None:
    data = ReadingsDumper(list, None).dump(readings)
    loaded = Transformer().get_loader(FLOAT8_ARRAY, Format.BINARY).load(data)
    assert [_bits(value) for value in loaded] == [_bits(value) for value in readings]


def _bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("!d", value)
