"""The published contracts, generated from the catalog: a JSON Schema for each topic and one AsyncAPI document.

`python -m schemas.publish` writes them to docs/reference; with `--check` it only says which differ.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault
from pydantic_core import core_schema

from schemas.catalog import (
    BY_NAME,
    CLOCK,
    COMMAND_ACKS,
    FLEET_PLANS,
    FLEXIBILITY_OFFERS,
    FORECAST_SCORES,
    GPU_TELEMETRY,
    GRID_SIGNALS,
    INFERENCE_REQUESTS,
    MAX_RECORD_BYTES,
    SITE_COMMANDS,
    SITE_FORECASTS,
    SITE_HEARTBEATS,
    SITE_STATE,
    TOPICS,
    Topic,
)
from schemas.compatibility import breaking_changes

REFERENCE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
KAFKA_BINDING: Final = "0.5.0"


@dataclass(frozen=True, slots=True)
class Stage:
    """Who takes part in the flow, and which topics it reads and writes (design, section 2)."""

    about: str
    receives: tuple[Topic, ...] = ()
    sends: tuple[Topic, ...] = ()


# The picture of the design's section 2, in the order in which the data goes.
STAGES: Final = {
    "gpu-exporters": Stage("GPU exporters at the sites", sends=(GPU_TELEMETRY,)),
    "inference-servers": Stage("inference servers at the sites", sends=(INFERENCE_REQUESTS,)),
    "collect": Stage(
        "collectors of markets and utilities, and the replay of traces",
        sends=(GPU_TELEMETRY, INFERENCE_REQUESTS, GRID_SIGNALS, CLOCK),
    ),
    "aggregate": Stage(
        "folds telemetry and requests into windows", (GPU_TELEMETRY, INFERENCE_REQUESTS, CLOCK), (SITE_STATE,)
    ),
    "forecast": Stage(
        "forecasts load and its spikes, and scores what it said", (SITE_STATE, CLOCK), (SITE_FORECASTS, FORECAST_SCORES)
    ),
    "policy": Stage(
        "plans a fleet, commands its sites and says what they can give",
        (SITE_STATE, SITE_FORECASTS, GRID_SIGNALS, FLEET_PLANS, COMMAND_ACKS, SITE_HEARTBEATS, CLOCK),
        (FLEET_PLANS, FLEXIBILITY_OFFERS, SITE_COMMANDS),
    ),
    "dispatch": Stage("site controllers", (SITE_COMMANDS, CLOCK), (COMMAND_ACKS, SITE_HEARTBEATS)),
    "record": Stage("writes every topic to TimescaleDB", TOPICS),
}


class _Contract(GenerateJsonSchema):
    """Pydantic's JSON Schema, less the titles that only repeat field names, and with the defaults of empty lists."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        return [] if schema.get("default_factory") is list else schema.get("default", NoDefault)

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """As pydantic's; and the tag is required, since a record without it can't be told from its siblings."""
        union = super().tagged_union_schema(schema)
        tag = str(schema["discriminator"])
        for branch in union["oneOf"]:
            definition = self.get_schema_from_definitions(branch["$ref"]) or branch
            definition["properties"][tag].pop("default", None)
            if tag not in definition["required"]:
                definition["required"].append(tag)
        return union


def json_schema(topic: Topic) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a topic's records as they stand on the bus.

    `required` is what every reader may rely on: fields without a default. Gridtide itself writes every field; a
    record of an older writer, or of someone else's, may lack those that have a default.
    """
    schema = topic.adapter.json_schema(mode="validation", schema_generator=_Contract)
    model = schema.pop("description", "")
    schema.pop("title", None)
    about = topic.about[0].upper() + topic.about[1:] + "."
    return {
        "$schema": DIALECT,
        "$id": f"urn:gridtide:{topic.name}",
        "title": topic.name,
        "description": f"{about}\n\n{model}".strip(),
        **schema,
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document: channels, messages, and which stage sends and receives what."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Gridtide",
            "version": "1",
            "description": (
                "The topics of the bus. A run other than `live` prefixes each topic with its name and a dot. "
                "Within a version fields are only ever added, each with a default; readers ignore what they don't know."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": dict(_operations()),
        "components": {"messages": {topic.name: _message(topic) for topic in TOPICS}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "title": topic.name,
        "description": (
            f"{topic.about[0].upper()}{topic.about[1:]}. Keyed by `{topic.key}`. Partitions: as many as the other "
            "topics have, set once for the installation; a key's partition is Kafka's default (murmur2). "
            f"A record is the same record wherever ({', '.join(topic.natural_key)}) are equal. "
            f"What can't be read goes to `{topic.dlq}` with its original bytes."
        ),
        "messages": {"record": {"$ref": f"#/components/messages/{topic.name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": {
                    "cleanup.policy": ["compact", "delete"] if topic.compacted else ["delete"],
                    "retention.ms": topic.retention_seconds * 1000,
                },
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _message(topic: Topic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "title": topic.name,
        "summary": f"{topic.about[0].upper()}{topic.about[1:]}; at most {MAX_RECORD_BYTES} bytes of JSON.",
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./schemas/{topic.name}.schema.json"},
        },
        "bindings": {"kafka": {"key": _key_schema(topic), "bindingVersion": KAFKA_BINDING}},
    }


def _key_schema(topic: Topic) -> dict[str, Any]:
    schema = json_schema(topic)
    if "oneOf" in schema:  # every kind of a union has the same key
        schema = schema["$defs"][schema["oneOf"][0]["$ref"].rpartition("/")[2]]
    key = {name: value for name, value in schema["properties"][topic.key].items() if name in ("type", "pattern")}
    return {**key, "description": f"the record's `{topic.key}`, in UTF-8"}


def _operations() -> list[tuple[str, dict[str, Any]]]:
    operations = []
    for name, stage in STAGES.items():
        for action, topics in (("receive", stage.receives), ("send", stage.sends)):
            for topic in topics:
                channel = f"#/channels/{topic.name}"
                operation = {
                    "action": action,
                    "title": f"{name} {action}s {topic.name}",
                    "summary": stage.about[0].upper() + stage.about[1:] + ".",
                    "channel": {"$ref": channel},
                    "messages": [{"$ref": f"{channel}/messages/record"}],
                }
                operations.append((f"{name}-{action}-{topic.name}", operation))
    return operations


def documents() -> dict[str, dict[str, Any]]:
    """Every published document by its path below docs/reference."""
    schemas = {f"schemas/{topic.name}.schema.json": json_schema(topic) for topic in TOPICS}
    return {**schemas, "asyncapi.json": asyncapi()}


def text_of(document: dict[str, Any]) -> str:
    """A document's text as it is committed: fields keep the order in which they are declared."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Writes every document below `folder`."""
    for path, document in documents().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text_of(document), encoding="utf-8")


def differing(folder: Path) -> list[str]:
    """The paths below `folder` that are missing, out of date, or no topic's any more."""
    wanted = {path: text_of(document) for path, document in documents().items()}
    found = {path.relative_to(folder).as_posix() for path in folder.glob("schemas/*.json")}
    stale = [path for path, text in wanted.items() if _read(folder / path) != text]
    return sorted({*stale, *(found - wanted.keys())})


def breaking(folder: Path) -> list[str]:
    """What writing to `folder` would break for those who go by the schemas that stand there now."""
    said = []
    for name in BY_NAME:
        text = _read(folder / "schemas" / f"{name}.schema.json")
        if text is not None:
            said += [f"{name}: {change}" for change in breaking_changes(json.loads(text), json_schema(BY_NAME[name]))]
    return said


def _read(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def main(arguments: list[str] | None = None, folder: Path = REFERENCE) -> int:
    """Writes the documents, or says which differ. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m schemas.publish", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs, exit 1 if anything does")
    parser.add_argument("--break", dest="break_", action="store_true", help="write in spite of breaking changes")
    options = parser.parse_args(arguments)
    broken = [] if options.break_ else breaking(folder)
    for change in broken:
        sys.stderr.write(f"breaking: {change}\n")
    if options.check:
        stale = differing(folder)
        for path in stale:
            sys.stderr.write(f"differs: {folder / path}: run `make contracts`\n")
        return 1 if stale else 0
    if broken:
        sys.stderr.write("nothing written: make it a new version of the topic, or add a field with a default instead\n")
        return 1
    write(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
