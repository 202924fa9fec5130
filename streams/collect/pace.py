"""How fast a run's clock may go on this machine. Pure."""

from collections.abc import Sequence
from statistics import median

# Further behind the clock than this, readings would no longer belong to the time that controllers act in.
BEHIND_INTERVALS = 3.0
# A step's own work may take this share of its time: stages and controllers need the rest.
_SHARE_OF_STEP = 0.4
_LEAST_RATE = 1.0


def paced_rate(
    rate: float, wanted_rate: float, behind_intervals: float, work_seconds: Sequence[float], interval_seconds: float
) -> float:
    """The clock's rate (run seconds a wall second) for the next step.

    `work_seconds` is what the last steps took of wall time, waiting aside: their median says what the machine can
    sustain, and a single stall does not. Behind by more than BEHIND_INTERVALS the clock goes at half of that, so
    that the plants catch up; caught up, it goes as fast as is wanted and sustained.
    """
    typical = median(work_seconds) if work_seconds else 0.0
    sustained = min(wanted_rate, _SHARE_OF_STEP * interval_seconds / typical) if typical > 0 else wanted_rate
    if behind_intervals > BEHIND_INTERVALS:
        return max(_LEAST_RATE, min(rate, sustained / 2))
    if behind_intervals < 1 and rate < 0.9 * sustained:
        return sustained
    return rate
