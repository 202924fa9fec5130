"""What the sites had offered before an event, beside what it asked and what it got. Pure."""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from schemas.offer import FlexibilityOffer
from streams.simulate.kpis.asked import Asked
from streams.simulate.log import Outcome, Trajectory


@dataclass(frozen=True, slots=True)
class Offered:
    """The firm reduction (P90) of an event's sites together in W; None where one of them had no offer that fits."""

    power_watts: float | None

    def beside(self, delivered: float | None, base: float | None, target: float | None) -> dict[str, Any]:
        """The event's figures about the offer."""
        asked = base - target if base is not None and target is not None else None
        known = self.power_watts
        return {
            "offered_power_watts": known,
            "asked_within_offer": None if known is None or asked is None else asked <= known,
            "delivered_per_offered_ratio": delivered / known if delivered is not None and known else None,
        }


@dataclass(slots=True)
class Offers:
    """The offers in a log, by site, in the order of their appends."""

    times: dict[str, list[datetime]] = field(default_factory=dict)
    made: dict[str, list[FlexibilityOffer]] = field(default_factory=dict)

    def before(self, asked: Asked, trajectory: Trajectory) -> Offered:
        """What stood on offer when the event was heard of, for as long as it asks and as soon as it asks.

        An event is told that long before its target binds: notice and ramp together are the time to respond.
        """
        notice = asked.held_from - asked.heard_at
        powers = [self._firm(trajectory.site_ids[row], asked, notice) for row in asked.rows]
        known = [power for power in powers if power is not None]
        return Offered(sum(known) if len(known) == len(powers) else None)

    def _firm(self, site_id: str, asked: Asked, notice: timedelta) -> float | None:
        place = bisect_left(self.times.get(site_id, []), asked.heard_at) - 1
        if place < 0:
            return None
        offer = self.made[site_id][place]
        fitting = [
            each.firm_power_watts_p90
            for each in offer.offers
            if each.response_seconds <= notice.total_seconds()
            and each.duration_seconds >= (asked.ends_at - asked.asked_at).total_seconds()
        ]
        return max(fitting) if fitting and offer.valid_until >= asked.heard_at else None


def offers_of(outcome: Outcome) -> Offers:
    """All offers of a run."""
    offers = Offers()
    for entry in outcome.log:
        if isinstance(entry.record, FlexibilityOffer):
            offers.times.setdefault(entry.record.site_id, []).append(entry.at)
            offers.made.setdefault(entry.record.site_id, []).append(entry.record)
    return offers
