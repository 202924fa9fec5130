"""What an event's sites deliver, held against its target: the plan asks for more where they deliver too little. Pure.

Each site holds its own meter to its own target within seconds. What is left to the policy is what a site can't mend
by itself: one that refuses, is silent or at its least while the others could give more.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.plan import FleetPlan, Tracking, TrackingPhase
from schemas.signals import EventSignal
from streams.policy.view import FleetView

# Time after the ramp before the meters are held against the target: actuators and windows lag.
_GRACE = timedelta(seconds=60)
# A shortfall of more than this share of the reduction is a breach.
_BREACH_RATIO = 0.2
# Within these shares of the reduction, above and below the target, is what noise costs: it moves no correction.
_ABOVE_RATIO, _BELOW_RATIO = 0.01, 0.03
# Half of an error is corrected in a minute or so: slower than the sites' own loops, so that the two do not fight.
_TIME_CONSTANT_SECONDS = 90.0
_LONGEST_STEP_SECONDS = 60.0
# Unless there is a breach, a correction beyond this share of the reduction is more likely a wrong meter.
_MOST_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class Asked:
    """An event, what its sites drew before it, and what they may draw together during it."""

    event: EventSignal
    base_watts: dict[str, float]
    target_watts: float

    @property
    def reduction_watts(self) -> float:
        """What the sites together are asked to give up."""
        return max(0.0, sum(self.base_watts.values()) - self.target_watts)


def track(
    view: FleetView,
    asked: Iterable[Asked],
    previous: FleetPlan,
    unresponsive: Collection[str],
    now: datetime,
) -> list[Tracking]:
    """The tracking of each event whose target is to be met by now; once it is over, as it was, until all have let go.

    `previous` is the plan in force; sites that leave its commands `unresponsive` are taken to give up nothing as long
    as their meters do not say otherwise.
    """
    known = {each.signal_id: each for each in previous.tracking}
    seconds = min((now - previous.issued_at).total_seconds(), _LONGEST_STEP_SECONDS)
    tracking = []
    for each in asked:
        before, since = known.get(each.event.signal_id), _to_be_met_at(each.event) + _GRACE
        if since <= now < each.event.ends_at:
            delivered = _delivered_watts(view, each, unresponsive, since)
            tracking.append(_tracked(each, before, delivered, seconds, now))
        elif before is not None:
            tracking.append(before)
    return tracking


def _to_be_met_at(event: EventSignal) -> datetime:
    """One that is said, or revised, at the last moment can't be met at once."""
    return max(event.starts_at + timedelta(seconds=event.ramp_seconds), event.published_at + _GRACE)


def correction_watts(tracking: Sequence[Tracking], signal_id: str) -> float:
    """How far below the event's target the sites are asked to stay."""
    return next((each.correction_watts for each in tracking if each.signal_id == signal_id), 0.0)


def _delivered_watts(view: FleetView, asked: Asked, unresponsive: Collection[str], since: datetime) -> float:
    """What the sites draw together. One not heard of since then: its share of the target if it answers commands, else
    all that it drew before.
    """
    share = asked.target_watts / max(sum(asked.base_watts.values()), asked.target_watts, 1.0)
    total = 0.0
    for site_id, base_watts in asked.base_watts.items():
        site = view.sites[site_id]
        minute_watts = site.minute_watts()
        if minute_watts is not None and site.power is not None and site.power.window_end > since:
            total += minute_watts
        else:
            total += base_watts * (1.0 if site_id in unresponsive else share)
    return total


def _tracked(
    asked: Asked, before: Tracking | None, delivered_watts: float, step_seconds: float, now: datetime
) -> Tracking:
    above, reduction = delivered_watts - asked.target_watts, asked.reduction_watts
    breach = above > _BREACH_RATIO * reduction
    phase: TrackingPhase = "active" if before is None else before.phase
    since = now if before is None else before.phase_since
    if breach and phase != "escalated":
        phase, since = "escalated", now
    elif phase == "escalated" and above <= _ABOVE_RATIO * reduction:
        phase, since = "resolved", now
    correction = before.correction_watts if before else 0.0
    if phase == "escalated" and above > 0:
        correction = max(correction, above)  # at once: what one site does not give, the others are asked for
    beyond = max(0.0, above - _ABOVE_RATIO * reduction) + min(0.0, above + _BELOW_RATIO * reduction)
    correction += beyond * min(1.0, step_seconds / _TIME_CONSTANT_SECONDS)
    most = reduction if phase != "active" else _MOST_RATIO * reduction
    return Tracking(
        signal_id=asked.event.signal_id,
        phase=phase,
        phase_since=since,
        target_power_watts=asked.target_watts,
        delivered_power_watts=delivered_watts,
        correction_watts=min(max(0.0, correction), most),
    )
