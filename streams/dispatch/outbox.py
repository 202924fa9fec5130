"""Answers that wait for the bus: a bounded queue, and the file that it survives a restart in."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from schemas.command import VERDICTS, CommandAck

MOST_ENTRIES = 2000


@dataclass(frozen=True, slots=True)
class Outbox:
    """Answers not said yet, in order, and how many had to be dropped. A value; a full one drops what matters least."""

    entries: tuple[CommandAck, ...] = ()
    dropped: int = 0

    def put(self, acks: Iterable[CommandAck], most: int = MOST_ENTRIES) -> "Outbox":
        """With more answers. Above `most` the oldest progress goes first, the oldest verdict only when all are."""
        entries, dropped = [*self.entries, *acks], self.dropped
        while len(entries) > most:
            oldest = next((place for place, each in enumerate(entries) if each.status not in VERDICTS), 0)
            del entries[oldest]
            dropped += 1
        return Outbox(tuple(entries), dropped)

    def said(self, ack: CommandAck) -> "Outbox":
        """Without an answer that is out."""
        place = next((place for place, each in enumerate(self.entries) if each is ack), None)
        if place is None:  # it was dropped while it was on its way
            return self
        return Outbox(self.entries[:place] + self.entries[place + 1 :], self.dropped)


class OutboxFile:
    """The outbox as JSON lines. What was said leaves the file when all was: the same answer twice is one answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.outbox = Outbox()

    def load(self) -> None:
        """Reads what was left; a line that a crash cut short is left out.

        Raises:
            OSError: the file can't be read.
        """
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        self.outbox = Outbox().put(ack for ack in map(_read, lines) if ack is not None)

    def put(self, acks: Iterable[CommandAck]) -> None:
        """Keeps answers: durable when this returns.

        Raises:
            OSError: the disk does not take them; they are kept in memory all the same.
        """
        acks = tuple(acks)
        dropped = self.outbox.dropped
        self.outbox = self.outbox.put(acks)
        whole = self.outbox.dropped > dropped  # else the file would grow with what the queue has dropped
        self._write(self.outbox.entries if whole else acks, "wb" if whole else "ab")

    def said(self, ack: CommandAck) -> None:
        """Drops an answer that is out.

        Raises:
            OSError: the disk does not take it; the answer may be said once more after a restart.
        """
        self.outbox = self.outbox.said(ack)
        if not self.outbox.entries:
            self._path.unlink(missing_ok=True)

    def _write(self, acks: Iterable[CommandAck], mode: str) -> None:
        path = self._path.with_suffix(".draft") if mode == "wb" else self._path
        with path.open(mode) as file:
            # A line of its own, even after one that a crash cut short.
            file.write(b"".join(b"\n" + ack.to_json() for ack in acks))
            file.flush()
            os.fsync(file.fileno())
        if path != self._path:
            path.replace(self._path)


def _read(line: bytes) -> CommandAck | None:
    try:
        return CommandAck.model_validate_json(line)
    except ValidationError:
        return None
