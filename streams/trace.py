"""Trace context in the headers, from a signal to the acks of what it caused. Pure.

As W3C has it: https://www.w3.org/TR/trace-context/. A signal that brings a `traceparent` keeps its trace. Any other's
trace, and every span, is derived from what names the record, so that whoever says a thing again says it under the same
trace: a planner's successor, a controller restarted.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.envelope import Record
from schemas.signals import CarbonSignal, EventSignal, PriceSignal

TRACEPARENT: Final = "traceparent"

_FIELDS: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED: Final = "01"
# How long after a signal's end its trace is kept: a command that it caused may still be released or renewed.
_KEPT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of a trace: 32 and 16 hexadecimal digits, and the flags that travel along."""

    trace_id: str
    span_id: str
    flags: str = _SAMPLED

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def header(self) -> tuple[str, bytes]:
        """The header that says it."""
        return (TRACEPARENT, str(self).encode())

    def span(self, *named: object) -> "Trace":
        """The span, within this trace, of what these names name."""
        return Trace(self.trace_id, _digest(*named)[:16], self.flags)


def derived(*named: object) -> Trace:
    """The trace of what came without one."""
    digest = _digest(*named)
    return Trace(digest[:32], digest[32:48])


def _digest(*named: object) -> str:
    said = (each.isoformat() if isinstance(each, datetime) else str(each) for each in named)
    return hashlib.sha256("\x1f".join(said).encode()).hexdigest()


def parsed(text: str) -> Trace | None:
    """The trace that a `traceparent` says; None where it is invalid, and so to be ignored (section 3.2.2)."""
    fields = _FIELDS.match(text)
    if fields is None or fields["version"] == "ff":
        return None
    rest = text[fields.end() :]
    if rest and (fields["version"] == "00" or not rest.startswith("-")):
        return None  # only versions to come may have more to say
    if not fields["trace"].strip("0") or not fields["span"].strip("0"):
        return None
    return Trace(fields["trace"], fields["span"], fields["flags"])


def received(headers: Sequence[tuple[str, bytes | None]]) -> Trace | None:
    """The trace that a message came with; None without a valid one, or with several."""
    found = [content or b"" for name, content in headers if name == TRACEPARENT]
    return parsed(found[0].decode("latin-1")) if len(found) == 1 else None


@dataclass(slots=True)
class Traces:
    """The traces of the signals that a planner knows."""

    _of_signals: dict[tuple[str, str], tuple[datetime, datetime, Trace]] = field(default_factory=dict)

    def observe(self, record: Record, headers: Sequence[tuple[str, bytes | None]]) -> None:
        """Notes the trace of a signal; of its revisions, as everywhere, the one published last counts."""
        if not isinstance(record, PriceSignal | CarbonSignal | EventSignal):
            return
        name = (record.fleet_id, record.signal_id)
        known = self._of_signals.get(name)
        if known is None or record.published_at >= known[0]:
            trace = received(headers) or derived(record.run_id, *name, record.published_at)
            self._of_signals[name] = (record.published_at, record.ends_at, trace)

    def of_command(self, command: Throttle | Shift | Release) -> Trace:
        """A command's own span, in the trace of the first signal that caused it; of its control, if none did."""
        cause = command.caused_by[0] if command.caused_by else command.control_id
        known = self._of_signals.get((command.fleet_id, cause))
        trace = known[2] if known else derived(command.run_id, command.fleet_id, cause)
        return trace.span(command.site_id, command.epoch, command.sequence)

    def forget(self, now: datetime) -> None:
        """Drops the signals that are long over."""
        self._of_signals = {name: known for name, known in self._of_signals.items() if known[1] > now - _KEPT}


def of_ack(ack: CommandAck, command_traceparent: str) -> Trace:
    """An ack's own span, in the trace of its command; in one of its control, if the command came without."""
    trace = parsed(command_traceparent) or derived(ack.run_id, ack.fleet_id, ack.control_id)
    return trace.span(ack.site_id, ack.epoch, ack.sequence, ack.status, ack.observed_at)
