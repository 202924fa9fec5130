"""The published contracts are those of the code, may be relied on, and are not broken within a version."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from schemas import publish
from schemas.catalog import (
    BY_NAME,
    CLOCK,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    FORECAST_SCORES,
    GRID_SIGNALS,
    SITE_COMMANDS,
    TOPICS,
    Rejected,
    Topic,
)
from schemas.compatibility import RULES, breaking_changes
from schemas.publish import REFERENCE, STAGES, asyncapi, json_schema
from streams import topology
from tests.strategies import KINDS

every_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)

FORMATS: Final = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def examples(topic: Topic) -> list[Any]:
    loaded: list[Any] = json.loads((REFERENCE / "examples" / f"{topic.name}.json").read_text())
    return loaded


def on_the_bus(topic: Topic, example: dict[str, Any]) -> Any:
    return topic.decode(str(example[topic.key]).encode(), json.dumps(example).encode(), example["run_id"])


def test_committed_contracts_are_those_of_the_code() -> None:
    assert publish.differing(REFERENCE) == [], "the contracts changed: run `make contracts` and commit docs/reference"


def test_committed_contracts_are_not_broken() -> None:
    assert publish.breaking(REFERENCE) == []


@every_topic
def test_json_schema_is_a_valid_schema(topic: Topic) -> None:
    schema = json_schema(topic)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:gridtide:{topic.name}"
    assert schema["title"]
    assert schema["description"]


@every_topic
def test_example_is_as_its_schema_says(topic: Topic) -> None:
    for example in examples(topic):
        Draft202012Validator(json_schema(topic), format_checker=FORMATS).validate(example)


@every_topic
def test_example_decodes(topic: Topic) -> None:
    for example in examples(topic):
        assert not isinstance(record := on_the_bus(topic, example), Rejected), record


@every_topic
def test_examples_show_every_kind_of_record(topic: Topic) -> None:
    assert {type(on_the_bus(topic, example)) for example in examples(topic)} == set(KINDS[topic.name])


@every_topic
def test_schema_and_decode_agree_on_what_may_be_missing(topic: Topic) -> None:
    validator = Draft202012Validator(json_schema(topic), format_checker=FORMATS)
    example = examples(topic)[0]
    key = str(example[topic.key]).encode()
    for field in example:
        without = {name: value for name, value in example.items() if name != field}
        for changed in (without, {**example, field: {"not": "this"}}):
            answer = topic.decode(key, json.dumps(changed).encode(), "live")
            assert validator.is_valid(changed) != isinstance(answer, Rejected), (field, answer)


def test_schema_of_union_needs_its_kind() -> None:
    validator = Draft202012Validator(json_schema(SITE_COMMANDS))
    throttle = examples(SITE_COMMANDS)[0]
    assert validator.is_valid(throttle)
    assert not validator.is_valid({name: value for name, value in throttle.items() if name != "kind"})
    assert not validator.is_valid({**throttle, "kind": "shift"})


@pytest.mark.parametrize("time", ["2026-11-01T17:00:00", "2026-11-01T18:00:00+01:00", "2026-11-01", "1793552400"])
def test_schema_wants_times_in_utc(time: str) -> None:
    validator = Draft202012Validator(json_schema(GRID_SIGNALS))
    assert not validator.is_valid({**examples(GRID_SIGNALS)[0], "published_at": time})


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "$ref")
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(child)


def resolve(document: Any, pointer: str) -> Any:
    for part in pointer.removeprefix("#/").split("/"):
        document = document[part]
    return document


def test_asyncapi_has_its_required_parts() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["title"]
    assert document["info"]["version"]
    assert list(document["channels"]) == [topic.name for topic in TOPICS]
    for channel in document["channels"].values():
        assert channel["address"]
        assert channel["messages"]
        assert channel["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] > 0
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert resolve(document, operation["channel"]["$ref"])
        assert all(one["$ref"].startswith(operation["channel"]["$ref"] + "/messages/") for one in operation["messages"])
    for message in document["components"]["messages"].values():
        assert message["payload"]["schemaFormat"]
        Draft202012Validator.check_schema(message["bindings"]["kafka"]["key"])


def test_asyncapi_references_resolve() -> None:
    document = asyncapi()
    for reference in references(document):
        if reference.startswith("#/"):
            assert resolve(document, reference)
        else:
            assert json.loads((REFERENCE / reference).read_text())["$id"]


def test_stages_send_and_receive_every_topic() -> None:
    others = [stage for name, stage in STAGES.items() if name != "record"]
    assert {topic.name for stage in others for topic in stage.sends} == BY_NAME.keys()
    # Scores are for the history and the metrics, offers for whoever buys them; no stage acts on them.
    received = {topic.name for stage in others for topic in stage.receives}
    assert received | {FORECAST_SCORES.name, FLEXIBILITY_OFFERS.name} == BY_NAME.keys()
    assert STAGES["record"].receives == TOPICS


def test_stages_are_those_that_run() -> None:
    for name, flow in topology.STAGES.items():
        published = STAGES[name]
        assert published.sends == flow.writes
        # Besides what its agents read, every stage follows the clock, and the policy reads its own plans.
        assert set(flow.reads) <= set(published.receives) <= {*flow.reads, CLOCK, FLEET_PLANS}


def test_publish_writes_then_finds_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish.main(["--check"], tmp_path) == 1
    assert "asyncapi.json: run `make contracts`" in capsys.readouterr().err
    assert publish.main([], tmp_path) == 0
    assert publish.main(["--check"], tmp_path) == 0
    assert all(file.read_bytes().endswith(b"}\n") for file in tmp_path.rglob("*.json"))
    stray = tmp_path / "schemas" / "gone.v1.schema.json"
    stray.write_text("{}")
    assert publish.differing(tmp_path) == ["schemas/gone.v1.schema.json"]


def test_publish_does_not_write_over_what_it_would_break(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish.write(tmp_path)
    file = tmp_path / "schemas" / "control.clock.v1.schema.json"
    older = json.loads(file.read_text())
    older["properties"]["rate"]["maximum"] = 10
    file.write_text(json.dumps(older))
    assert publish.main([], tmp_path) == 1
    assert "control.clock.v1: record.rate: maximum 10 -> 100000" in capsys.readouterr().err
    assert json.loads(file.read_text()) == older
    assert publish.main(["--break"], tmp_path) == 0
    assert publish.differing(tmp_path) == []


NUMBER: Final = {"type": "number"}
NULL: Final = {"type": "null"}


def record(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def kinds(*names: str) -> dict[str, Any]:
    branches = {name: record(("kind",), kind={"const": name}) for name in names}
    return {"$defs": branches, "oneOf": [{"$ref": f"#/$defs/{name}"} for name in names]}


A = record(a=NUMBER)
BREAKING: Final[list[tuple[str, Any, Any]]] = [
    ("removed", A, record()),
    ("removed", A, record(b=NUMBER)),
    ("added_required", A, record(("b",), a=NUMBER, b=NUMBER)),
    ("made_required", A, record(("a",), a=NUMBER)),
    ("made_optional", record(("a",), a=NUMBER), A),
    ("type", A, record(a={"type": "string"})),
    ("type", A, record(a={"type": "integer"})),
    ("type", record(a={"type": "integer"}), A),
    ("branch_removed", record(a={"anyOf": [NUMBER, NULL]}), A),
    ("branch_added", A, record(a={"anyOf": [NUMBER, NULL]})),
    ("branch_added", A, record(a={"type": ["number", "null"]})),
    ("branch_removed", kinds("x", "y"), kinds("x")),
    ("branch_added", kinds("x"), kinds("x", "y")),
    ("enum_narrowed", record(a={"enum": ["x", "y"]}), record(a={"enum": ["x"]})),
    ("enum_widened", record(a={"enum": ["x"]}), record(a={"enum": ["x", "y"]})),
    ("enum_widened", record(a={"const": 1}), record(a={"enum": [1, 2]})),
    ("enum_narrowed", record(a={"type": "string"}), record(a={"type": "string", "enum": ["x"]})),
    ("enum_widened", record(a={"type": "string", "const": "x"}), record(a={"type": "string"})),
    ("tightened", A, record(a={**NUMBER, "minimum": 0})),
    ("tightened", record(a={**NUMBER, "maximum": 9}), record(a={**NUMBER, "maximum": 8})),
    ("widened", record(a={**NUMBER, "maximum": 9}), A),
    ("widened", record(a={**NUMBER, "minimum": 1}), record(a={**NUMBER, "minimum": 0})),
    ("tightened", record(a={"type": "string"}), record(a={"type": "string", "maxLength": 9})),
    ("widened", record(a={"type": "array", "maxItems": 2}), record(a={"type": "array", "maxItems": 3})),
    ("default", record(a={**NUMBER, "default": 0}), record(a={**NUMBER, "default": 1})),
    ("unit", record(a={**NUMBER, "unit": "W"}), record(a={**NUMBER, "unit": "kW"})),
    ("closed", {**A, "additionalProperties": False}, {**record(a=NUMBER, b=NUMBER), "additionalProperties": False}),
    ("changed", record(a={"type": "string", "pattern": "^a"}), record(a={"type": "string", "pattern": "^b"})),
    ("changed", record(a={"type": "string", "format": "date-time"}), record(a={"type": "string"})),
    ("type", record(a={"type": "array", "items": NUMBER}), record(a={"type": "array", "items": NULL})),
    ("changed", record(a={"type": "array", "prefixItems": [NUMBER]}), record(a={"type": "array"})),
    ("removed", {"$defs": {"T": A}, "$ref": "#/$defs/T"}, {"$defs": {"T": record()}, "$ref": "#/$defs/T"}),
]
HARMLESS: Final[dict[str, tuple[Any, Any]]] = {
    "nothing": (A, A),
    "field added with a default": (A, record(a=NUMBER, b={**NUMBER, "default": 0})),
    "field added to a kind": (kinds("x"), {"oneOf": [record(("kind",), kind={"const": "x"}, b=NUMBER)]}),
    "words": (A, {**record(a={**NUMBER, "description": "b"}), "title": "T", "$comment": "c"}),
    "type given a name": (A, {"$defs": {"N": NUMBER}, **record(a={"$ref": "#/$defs/N"})}),
    "type renamed": ({"$defs": {"T": A}, "$ref": "#/$defs/T"}, {"$defs": {"U": A}, "$ref": "#/$defs/U"}),
    "other order": (record(("a", "b"), a=NUMBER, b=NULL), record(("b", "a"), b=NULL, a=NUMBER)),
    "kinds in other order": (kinds("x", "y"), kinds("y", "x")),
    "null written otherwise": (record(a={"anyOf": [NULL, NUMBER]}), record(a={"type": ["number", "null"]})),
    "enum in other order": (record(a={"enum": [1, 2]}), record(a={"enum": [2, 1]})),
    "one value as enum": (record(a={"const": 1}), record(a={"enum": [1]})),
    "one type in allOf": (A, record(a={"allOf": [NUMBER]})),
}


@pytest.mark.parametrize(("rule", "old", "new"), BREAKING)
def test_breaking_changes_names_the_rule(rule: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    said = breaking_changes(old, new)
    assert any(line.endswith(RULES[rule]) for line in said), said


@pytest.mark.parametrize(("old", "new"), HARMLESS.values(), ids=HARMLESS)
def test_breaking_changes_of_harmless_change_are_none(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert breaking_changes(old, new) == []


def test_breaking_changes_has_a_test_for_every_rule() -> None:
    assert {rule for rule, _, _ in BREAKING} == RULES.keys()


def test_breaking_changes_of_type_that_holds_itself_ends() -> None:
    tree = {"$defs": {"T": record(children={"type": "array", "items": {"$ref": "#/$defs/T"}})}, "$ref": "#/$defs/T"}
    assert breaking_changes(tree, tree) == []
