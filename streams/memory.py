"""What a stage remembers of a partition: written before a position is committed, read back by whoever is next.

A worker that was paused for longer than its session may write once more when its partition is already another's. So
each owner writes under keys of its own, every entry says how far the owner had read, and the furthest counts: a late
word of an earlier owner changes nothing. An owner that has written a key takes the earlier owners' back.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from uuid import uuid4

from aiokafka.structs import ConsumerRecord

from infra.read_back import read_back
from schemas.catalog import prefixed
from streams.stage import Headers, Stage

_SEPARATOR = b"|"  # in no name of ours
_READ_TO = "read-to"


def _new_owner() -> bytes:
    return uuid4().hex[:12].encode()


@dataclass(slots=True)
class Memory:
    """A stage's memory of one partition, as its present owner has it."""

    stage: Stage
    topic: str
    partition: int
    found: dict[str, bytes] = field(default_factory=dict)  # the newest value of each key, as it was when opened
    _earlier: dict[str, set[bytes]] = field(default_factory=dict)
    # How far earlier owners had read for each key: what is made of their words reaches as far.
    _read_to: dict[str, int] = field(default_factory=dict)
    _owner: bytes = field(default_factory=_new_owner)

    async def remember(self, entries: Iterable[tuple[str, bytes]], read_to: int) -> None:
        """Returns when the entries are durable; `read_to` is the position that their owner had read to."""
        entries = list(entries)
        await self.stage.write(
            self.topic,
            self.partition,
            [(self._on_bus(key), value, self._headers(key, read_to)) for key, value in entries],
        )
        taken_back = [old for key, _ in entries for old in self._earlier.pop(key, ())]
        await self.stage.write(self.topic, self.partition, [(old, None, []) for old in taken_back])

    def _on_bus(self, key: str) -> bytes:
        return key.encode() + _SEPARATOR + self._owner

    def _headers(self, key: str, read_to: int) -> Headers:
        return [(_READ_TO, str(max(read_to, self._read_to.get(key, 0))).encode())]


async def opened(stage: Stage, name: str, partition: int) -> Memory:
    """The memory of a partition, read back. `name` is the memory topic, without the run's prefix.

    Raises:
        ConfigurationError: no broker answers.
        TimeoutError: the broker fell silent half-way.
    """
    entries: dict[bytes, tuple[int, bytes]] = {}
    async for records in read_back(stage.settings, prefixed(name, stage.settings.run_id), partition):
        for record in records:
            _take(entries, record)
    furthest: dict[str, tuple[int, bytes]] = {}
    earlier: defaultdict[str, set[bytes]] = defaultdict(set)
    for on_bus, entry in entries.items():
        key = on_bus.rpartition(_SEPARATOR)[0].decode()
        earlier[key].add(on_bus)
        # Two owners that had read equally far say the same: what they say is a function of the log.
        furthest[key] = max(furthest.get(key, entry), entry, key=itemgetter(0))
    found = {key: value for key, (_, value) in furthest.items()}
    read_to = {key: position for key, (position, _) in furthest.items()}
    return Memory(stage, name, partition, found, dict(earlier), read_to)


def _take(entries: dict[bytes, tuple[int, bytes]], record: ConsumerRecord) -> None:
    read_to = dict(record.headers).get(_READ_TO)
    if record.value is None:
        entries.pop(record.key, None)
    elif read_to is not None:  # else not a word of ours
        entries[record.key] = (int(read_to), record.value)
