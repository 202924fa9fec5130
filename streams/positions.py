"""Which position may be committed, when what was read feeds results that come out later. Pure."""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Entry:
    next_offset: int
    feeds: set[Hashable]


@dataclass(slots=True)
class Held:
    """Positions of one partition, held until all that the records before them feed is out.

    A batch that feeds a window still open holds every later position as well: what is committed is always a prefix.
    """

    _entries: deque[_Entry] = field(default_factory=deque)
    _by_feed: dict[Hashable, list[_Entry]] = field(default_factory=dict)

    def hold(self, next_offset: int, feeds: Iterable[Hashable]) -> None:
        """A batch that ends before `next_offset` was read; it feeds these results."""
        entry = _Entry(next_offset, set(feeds))
        self._entries.append(entry)
        for feed in entry.feeds:
            self._by_feed.setdefault(feed, []).append(entry)

    def release(self, feeds: Iterable[Hashable]) -> int | None:
        """These results are out. Returns the position that may be committed now; None if nothing moved."""
        for feed in feeds:
            for entry in self._by_feed.pop(feed, ()):
                entry.feeds.discard(feed)
        position = None
        while self._entries and not self._entries[0].feeds:
            position = self._entries.popleft().next_offset
        return position

    @property
    def waiting(self) -> int:
        """How many batches are held."""
        return len(self._entries)

    def oldest_feeds(self) -> set[Hashable]:
        """What the oldest held batch still waits for; empty if nothing is held."""
        return set(self._entries[0].feeds) if self._entries else set()
