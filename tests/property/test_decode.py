"""Whatever bytes arrive, `decode` answers with a record or a reject; and what we write, we read."""

import json
import re
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.catalog import BY_NAME, TOPICS, Rejected, Topic
from schemas.envelope import LIVE_RUN, Record
from schemas.publish import json_schema
from tests.strategies import KINDS, records, topic_records

REASONS: Final = {"empty", "oversized", "not_json", "wrong_version", "invalid", "wrong_key", "wrong_run"}
every_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
VALIDATORS: Final = {topic.name: Draft202012Validator(json_schema(topic)) for topic in TOPICS}
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

# What stands where a valid value stood. Raw tokens, since many of them can't be written by way of Python values.
TOKENS: Final = (
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "-NaN",
        "1e400",
        "-1e400",
        "1e-400",
        "-1",
        "-0.0",
        "0.1",
        "1.0",
        "+1",
        "01",
        "1.",
    ),
    *("1.", "9" * 400, "9" * 5000, "-" + "9" * 30, str(2**62 + 1), str(2**64), "1e308", "5e-324", "1E5"),
    *("null", "true", "false", "[]", "{}", '""', "[null]", "[[]]", '{"a":1,"a":2}', "[NaN]", "nan", "undefined", ""),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"a\\n"', '"\x00"', '"\\x"', '"' + "x" * 5000 + '"', '"\\u202e"'),
    *('"2026-01-01T00:00:00"', '"2026-01-01T00:00:00+01:00"', '"2026-02-30T00:00:00Z"', '"9999-12-31T24:00:00Z"'),
    *('"1767225600"', "1767225600", '"0001-01-01T00:00:00+00:00"', '"10000-01-01T00:00:00Z"', '"2026-01-01T00:00:60Z"'),
    *(
        "[" * 150 + "]" * 150,
        "[" * 5000 + "]" * 5000,
        '{"a":' * 5000,
        "[" + "0," * 5000 + "0]",
        '"throttle"',
        '"event"',
    ),
)


def assert_answered(topic: Topic, key: bytes | None, value: bytes | None) -> Record | Rejected:
    answer = topic.decode(key, value, LIVE_RUN)
    if isinstance(answer, Rejected):
        assert answer.reason in REASONS
        assert len(answer.detail) <= 500
        assert answer.detail.isprintable()
    else:
        assert isinstance(answer, Record)
        assert key == topic.key_of(answer)
        assert isinstance(topic.decode(key, answer.to_json(), LIVE_RUN), Record)
    return answer


def places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, child in inside for found in [(*at, name), *places(child, (*at, name))]]


def mutated(record: Record, draw: st.DrawFn) -> bytes:
    """The record's JSON after one to three places were dropped, replaced by a raw token, or given twice."""
    document = json.loads(record.to_json())
    tokens: dict[str, str] = {}
    for number in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(document)))
        holder = document
        for part in path:
            holder = holder[part]
        change = draw(st.sampled_from(["drop", "replace", "double"]))
        if change == "drop":
            del holder[last]
            continue
        mark, token = f'"@{number}@"', draw(st.sampled_from(TOKENS))
        doubled = change == "double" and isinstance(holder, dict)
        tokens[mark] = f"{token},{json.dumps(last)}:{token}" if doubled else token
        holder[last] = mark.strip('"')
    text = json.dumps(document, ensure_ascii=False)
    for mark, token in tokens.items():
        text = text.replace(mark, token)
    return text.encode()


keys = st.none() | st.binary(max_size=80) | st.just(b"a")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["kind", "run_id"]), inner),
)


@unhurried
@given(key=keys, value=st.none() | st.binary(max_size=2000), topic=st.sampled_from(TOPICS))
def test_decode_of_any_bytes_answers(key: bytes | None, value: bytes | None, topic: Topic) -> None:
    assert_answered(topic, key, value)


@unhurried
@given(key=keys, value=json_values, topic=st.sampled_from(TOPICS))
def test_decode_of_any_json_answers(key: bytes | None, value: Any, topic: Topic) -> None:
    assert_answered(topic, key, json.dumps(value).encode())


@every_topic
@settings(unhurried, max_examples=60)
@given(data=st.data())
def test_decode_of_mutated_record_answers_as_its_schema_says(topic: Topic, data: st.DataObject) -> None:
    record = data.draw(topic_records(topic.name))
    value = data.draw(st.composite(lambda draw: mutated(record, draw))())
    answer = assert_answered(topic, topic.key_of(record), value)
    if isinstance(answer, Record):
        # NaN and Infinity are no JSON, and null to the schema; that only GPU readings may be so is tested elsewhere.
        document = json.loads(value, parse_constant=lambda token: None)
        document["schema_version"] = int(document.get("schema_version", 1))  # pydantic's Literal[1] takes `true`
        VALIDATORS[topic.name].validate(document)


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:24])
def test_decode_of_bare_token_rejects(token: str) -> None:
    for topic in TOPICS:
        assert isinstance(assert_answered(topic, b"a", token.encode()), Rejected)


@every_topic
def test_decode_of_long_bad_list_says_only_its_first_error(topic: Topic) -> None:
    many = "[" + "{}," * 10_000 + "{}]"  # in a megabyte it would be a third of a million errors: a second and 300 MB
    schema = json_schema(topic)
    for model in (schema, *schema.get("$defs", {}).values()):
        fields = model.get("properties", {})
        tag = fields.get("kind", {})
        kind = tag.get("const") or tag.get("enum", ["none"])[0]
        for field in (name for name, about in fields.items() if about.get("type") == "array"):
            answer = assert_answered(topic, b"a", f'{{"kind":"{kind}","{field}":{many}}}'.encode())
            assert isinstance(answer, Rejected)
            more = re.search(r" and (\d+) more", answer.detail)
            assert more is None or int(more[1]) < 100


@pytest.mark.parametrize(("topic", "kind"), [(BY_NAME[name], kind) for name, kinds in KINDS.items() for kind in kinds])
@settings(unhurried, max_examples=60)
@given(data=st.data())
def test_decode_of_written_record_returns_it(topic: Topic, kind: type[Record], data: st.DataObject) -> None:
    record = data.draw(records(kind))
    value = record.to_json()
    VALIDATORS[topic.name].validate(json.loads(value))
    assert topic.decode(topic.key_of(record), value, record.run_id) == record
    assert kind(**dict(record)).to_json() == value, "equal records are equal bytes"
