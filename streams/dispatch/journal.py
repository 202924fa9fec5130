"""The site's own record of what its controller did, whatever becomes of the bus: JSON lines, once a minute and at each
change, in a file that is turned over before it grows too large (the one before is kept).
"""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from streams.dispatch.controller import target_in_force
from streams.dispatch.tick import Ticked

_INTERVAL = timedelta(minutes=1)
_MOST_BYTES = 8 * 1024 * 1024


def entry(ticked: Ticked, *, locked_out: bool, now: datetime) -> dict[str, Any]:
    """What a tick did: whole watts, the highest pair seen, the controls in force."""
    state = ticked.state
    return {
        "observed_at": now.isoformat(timespec="milliseconds"),
        "target_power_watts": _whole(target_in_force(state, now)),
        "limit_watts": _whole(ticked.limit_watts),
        "meter_power_watts": _whole(ticked.meter_power_watts),
        "knob": state.knob.knob,
        "admission_ratio": round(ticked.admission_ratio, 3),
        "shares": {"/".join(place): round(share, 4) for place, share in ticked.shares.items()},
        "controls": [each.command.control_id + (" lapsed" if each.lapsed else "") for each in state.controls],
        "highest": list(state.highest),
        "locked_out": locked_out,
    }


def _whole(watts: float | None) -> int | None:
    return None if watts is None else round(watts)


class Journal:
    """The file, and when it was last written to."""

    def __init__(self, path: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._path, self._most_bytes = path, most_bytes
        self._last: dict[str, Any] = {}
        self._written_at: datetime | None = None

    def note(self, entry: dict[str, Any], now: datetime) -> None:
        """Writes the entry if something but the meter has changed, or a minute has passed.

        Raises:
            OSError: the disk does not take it.
        """
        acted = {name: value for name, value in entry.items() if name not in {"observed_at", "meter_power_watts"}}
        if acted == self._last and self._written_at is not None and now - self._written_at < _INTERVAL:
            return
        self._last, self._written_at = acted, now
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        if self._path.exists() and self._path.stat().st_size + len(line) > self._most_bytes:
            self._path.replace(self._path.with_suffix(".before.jsonl"))
        with self._path.open("ab") as file:
            file.write(line)
