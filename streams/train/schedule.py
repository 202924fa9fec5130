"""When a model is due to be trained. Pure."""

from collections.abc import Callable
from datetime import datetime, timedelta

# Drift is a state that lasts: it is said again and again while a new model is not yet better.
LEAST_BETWEEN = timedelta(hours=1)


def is_due(
    now: datetime,
    tried_at: datetime | None,
    every: timedelta,
    is_serving: Callable[[], bool],
    has_drifted: Callable[[], bool],
) -> bool:
    """Whether to train now. What takes a model or a database to answer is asked only where the answer matters.

    Args:
        now: the time.
        tried_at: when a model was last trained, or there was too little history to; None: never.
        every: the schedule.
        is_serving: whether a trained model serves; while none does, and when forecasts have drifted, the next
            attempt need not wait for the schedule.
        has_drifted: whether a drift of the model that serves was recorded since `tried_at`.
    """
    if tried_at is None or now - tried_at >= every:
        return True
    return now - tried_at >= LEAST_BETWEEN and (not is_serving() or has_drifted())
