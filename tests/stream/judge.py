"""The log of a run on a real broker, as the checker of the safety rules reads one."""

from datetime import datetime

from aiokafka.structs import ConsumerRecord

from infra.clock import Clock
from schemas.catalog import (
    BY_NAME,
    CLOCK,
    COMMAND_ACKS,
    FLEET_PLANS,
    GRID_SIGNALS,
    SITE_COMMANDS,
    SITE_HEARTBEATS,
    SITE_STATE,
)
from schemas.clock import ClockAnchor
from schemas.command import Release, Shift, Throttle
from schemas.envelope import Record
from tests.stream.rig import Rig

AnyCommand = Throttle | Shift | Release

# Within one millisecond of the brokers' stamps: a plan goes before its commands, they before their answers.
_ORDER = (GRID_SIGNALS, SITE_STATE, FLEET_PLANS, SITE_COMMANDS, COMMAND_ACKS, SITE_HEARTBEATS)


def anchors(rig: Rig) -> list[ClockAnchor]:
    """The run's clock, as it was set and set anew."""
    return [CLOCK.adapter.validate_json(message.value) for message in rig.seen[CLOCK.name]]


def judged(rig: Rig) -> list[tuple[datetime, str, Record]]:
    """All that the run's sites were told and said, in the order in which it came, by the run's clock."""
    found: list[tuple[int, int, int, str, ConsumerRecord]] = []
    for rank, topic in enumerate(_ORDER):
        found += [
            (message.timestamp, rank, message.offset, topic.name, message) for message in list(rig.seen[topic.name])
        ]
    clock = Clock()
    for anchor in anchors(rig):
        clock.set(anchor)
    found.sort(key=lambda each: each[:3])
    return [
        (clock.at_timestamp(stamp), name, BY_NAME[name].adapter.validate_json(message.value))
        for stamp, _, _, name, message in found
    ]
