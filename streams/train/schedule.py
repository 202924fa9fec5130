"""When a model is due to be trained. Pure."""

from datetime import datetime, timedelta

# Drift is a state that lasts: it is said again and again while a new model is not yet better.
LEAST_BETWEEN = timedelta(hours=1)


def is_due(now: datetime, tried_at: datetime | None, every: timedelta, is_serving: bool, has_drifted: bool) -> bool:
    """Whether to train now.

    Args:
        now: the time.
        tried_at: when a model was last trained, or there was too little history to; None: never.
        every: the schedule.
        is_serving: whether a trained model serves; while none does, and when forecasts have drifted, the next
            attempt need not wait for the schedule.
        has_drifted: whether a drift was recorded since `tried_at`.
    """
    if tried_at is None:
        return True
    wait = every if is_serving and not has_drifted else min(every, LEAST_BETWEEN)
    return now - tried_at >= wait
