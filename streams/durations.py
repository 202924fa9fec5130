"""Durations as people write them: 90s, 10m, 6h, 3d, or a number of seconds."""

import re

_DURATION = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>s|m|min|h|d)?", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds_of(text: str) -> float:
    """The seconds that `text` says; always more than 0.

    Raises:
        ValueError: it says no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match["number"]) * _SECONDS[(match["unit"] or "s").lower()] if match else 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"must be a duration such as 30s, 10m, 6h or 3d (got {text!r})")
    return seconds
