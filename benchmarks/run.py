"""A run to measure in: its topics, its clock, and settings for its stages."""

from collections.abc import Collection
from pathlib import Path

from pydantic import SecretStr

from infra.bus import create_topics, partition_of, start_producer
from infra.clock import wall_now
from infra.settings import Settings
from schemas.catalog import CLOCK
from schemas.clock import ClockAnchor
from streams.topology import STAGES

RUN_ID = "bench"


def settings_for(servers: str, fleet_file: Path, partitions: int, dsn: str | None = None) -> Settings:
    """The defaults, but for where the run lies, its keys beside its fleet file; `dsn`: its database, if it has one."""
    settings = Settings(
        bootstrap_servers=servers,
        fleet_file=fleet_file,
        partitions=partitions,
        run_id=RUN_ID,
        keys_dir=fleet_file.parent / "keys",
    )
    return settings.model_copy(update={"database_dsn": SecretStr(dsn)}) if dsn else settings


async def set_up(settings: Settings, stages: Collection[str]) -> None:
    """Makes the topics of some stages, and sets the run's clock to the wall's time: records are stamped by that."""
    flows = [STAGES[name] for name in stages]
    topics = dict.fromkeys([*(topic for flow in flows for topic in (*flow.reads, *flow.writes)), CLOCK])
    await create_topics(settings, topics, [flow.memory for flow in flows if flow.memory])
    now = wall_now()
    anchor = ClockAnchor(run_id=settings.run_id, wall_anchor=now, replay_anchor=now, rate=1.0)
    key = CLOCK.key_of(anchor)
    producer = await start_producer(settings)
    try:
        place = partition_of(key, settings.partitions)
        await producer.send_and_wait(CLOCK.on_bus(settings.run_id), anchor.to_json(), key=key, partition=place)
    finally:
        await producer.stop()
