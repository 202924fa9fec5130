"""Bad messages on every input topic: each on its dead-letter topic with a reason, the good ones come out."""

import json
import random
from pathlib import Path

import psycopg

from infra.bus import partition_of
from schemas.catalog import (
    COMMAND_ACKS,
    GPU_TELEMETRY,
    GRID_SIGNALS,
    INFERENCE_REQUESTS,
    MAX_RECORD_BYTES,
    SITE_HEARTBEATS,
    SITE_STATE,
    Topic,
)
from tests.examples import EXAMPLES
from tests.stream.inputs import readings
from tests.stream.rig import PARTITIONS, Rig, rig_on

INPUTS = (GPU_TELEMETRY, INFERENCE_REQUESTS, GRID_SIGNALS, COMMAND_ACKS, SITE_HEARTBEATS)
# Bad messages a topic. The embedded broker, which takes one record a request, needs longer for a fifth of them.
BAD = {"embedded": 200, "apache-kafka": 1000, "container": 1000}
OVERSIZED = 2  # one is enough to see it; all of them would be a gigabyte
Message = tuple[bytes | None, bytes | None, int]


def _garbage(topic: Topic, run_id: str, count: int, rng: random.Random) -> list[tuple[str, Message]]:
    """Bad messages of every kind, each with the reason that it must be rejected for."""
    example = EXAMPLES[topic.name][0].model_copy(update={"run_id": run_id})
    good = json.loads(example.to_json())
    site_or_fleet = "nyiso-nyc" if topic.key == "site_id" else "nyiso"
    good[topic.key] = site_or_fleet
    if "site_id" in good:
        good["site_id"] = "nyiso-nyc"
    key = site_or_fleet.encode()
    place = partition_of(key, PARTITIONS)

    def changed(**changes: object) -> bytes:
        return json.dumps({**good, **changes}).encode()

    unknown = {topic.key: "nowhere", **({"site_id": "nowhere"} if "site_id" in good else {})}
    kinds: list[tuple[str, Message]] = [
        ("not_json", (key, b"\xff\xfe\x00garbage", place)),
        ("not_json", (key, b'{"schema_version": 1, "run_id"', place)),
        ("not_json", (key, b"", place)),
        ("empty", (key, None, place)),
        ("invalid", (key, b"[]", place)),
        ("invalid", (key, b"42", place)),
        ("invalid", (key, changed(**{topic.key: None}), place)),
        ("invalid", (key, changed(**{topic.natural_key[0]: "2026-11-01 12:00"}), place)),
        ("wrong_version", (key, changed(schema_version=99), place)),
        ("wrong_key", (b"another", changed(), partition_of(b"another", PARTITIONS))),
        ("wrong_key", (None, changed(), place)),
        ("wrong_run", (key, changed(run_id="another-run"), place)),
        ("wrong_partition", (key, changed(), (place + 1) % PARTITIONS)),
        (
            "unknown_site" if "site_id" in good else "unknown_fleet",
            (b"nowhere", changed(**unknown), partition_of(b"nowhere", PARTITIONS)),
        ),
    ]
    oversized = ("oversized", (key, changed(padding="x" * MAX_RECORD_BYTES), place))
    return [*(rng.choice(kinds) for _ in range(count - OVERSIZED)), *[oversized] * OVERSIZED]


async def _put_all(rig: Rig, topic: Topic, messages: list[tuple[str, Message]]) -> None:
    name = topic.on_bus(rig.run_id)
    for _, (key, value, place) in messages:
        await rig.producer.send(name, value, key=key, partition=place)
    await rig.producer.flush()


async def test_stages_put_garbage_on_its_dead_letter_topic_and_go_on(
    broker: tuple[str, str], tmp_path: Path, migrated_dsn: str
) -> None:
    rng, bad = random.Random(11), BAD[broker[0]]
    async with rig_on(broker, tmp_path, migrated_dsn) as rig:
        made = readings(60)
        frames, rates = made.of_run(rig.run_id, 0, 10)
        await rig.send(GPU_TELEMETRY, frames)
        await rig.send(INFERENCE_REQUESTS, rates)
        expected = {}
        for topic in INPUTS:
            garbage = _garbage(topic, rig.run_id, bad, rng)
            expected[topic.name] = sorted(reason for reason, _ in garbage)
            await _put_all(rig, topic, garbage)
        frames, rates = made.of_run(rig.run_id, 10, 20)
        await rig.send(GPU_TELEMETRY, frames)
        await rig.send(INFERENCE_REQUESTS, rates)
        rig.start("aggregate", "forecast", "policy", "record")
        for topic in INPUTS:
            letters = rig.seen[topic.dlq]
            await rig.until(f"rejects of {topic.name}", lambda letters=letters: len(letters) >= bad)  # type: ignore[misc]
            reasons = sorted(dict(message.headers)["reason"].decode() for message in letters)
            assert reasons == expected[topic.name]
        # The good ones around them came out: 20 steps close 18 windows of frames and 19 of reports at each of 7 sites.
        await rig.until("the states", lambda: len(rig.by_key(SITE_STATE)) == 7 * 18 + 7 * 19)
        await rig.until("the rows", lambda: _dead_letter_rows(migrated_dsn) == bad * len(INPUTS))


def _dead_letter_rows(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        counted = connection.execute("SELECT count(*) FROM gridtide.dead_letters").fetchone()
        assert counted is not None
        return int(counted[0])
