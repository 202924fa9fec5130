"""The optimiser's shifts: what should be moved now, against what is moving. Pure.

A share that is to fall falls in place; one that is to rise takes a new control for the rest of it, since the acceptor
must reserve before the donor drains.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from schemas.fleet import FleetFile
from schemas.plan import ShiftControl
from streams.policy.shifts import GIVING, LIVING, continued, ended, prolonged, proposed
from streams.policy.view import FleetView

# A difference of less than this share of a class's traffic is left: forecasts and loads are no more exact.
LEAST_CHANGE_RATIO = 0.03

Pair = tuple[str, str, str]  # donor, acceptor, service class


def moved_shifts(
    view: FleetView,
    previous: list[ShiftControl],
    wanted: dict[Pair, float],
    fleet_file: FleetFile,
    now: datetime,
    leaving: set[str],
) -> list[ShiftControl]:
    """The shifts from `now` on, given the share that each pair should move; a pair not named moves nothing.

    What a `leaving` site (silent, unresponsive) takes part in returns.
    """
    going = continued(previous, view, now, leaving)
    kept: list[ShiftControl] = []
    new: list[ShiftControl] = []
    for pair, held in _by_pair(going).items():
        surplus = sum(control.share_ratio for control in held) - wanted.get(pair, 0.0)
        # What is not wanted at all goes back to the last per cent.
        lower = surplus > LEAST_CHANGE_RATIO or pair not in wanted
        remaining = _lowered(held, surplus, now) if lower else held
        kept += [prolonged(control, now) for control in remaining]
    for pair, share in wanted.items():
        held = [control for control in kept if _pair_of(control) == pair]
        # What is on its way home can't be given again before it is there.
        given = sum(each.reserved_share_ratio or each.share_ratio for each in [*going, *new] if _gives(each, pair))
        lack = share - sum(control.share_ratio for control in held if control.phase in GIVING)
        lack = min(lack, 1.0 - given)
        # One step at a time: until the last rise has begun, nobody knows whether the acceptor takes it.
        waiting = any(control.phase in {"proposed", "reserved"} for control in held)
        if (
            lack > LEAST_CHANGE_RATIO
            and not waiting
            and not set(pair[:2]) & leaving
            and not _rests(going, pair, view, now)
        ):
            new.append(_proposed(view, fleet_file, pair, lack, now, [*kept, *new]))
    others = [control for control in going if control.phase not in GIVING]
    return [*others, *kept, *new]


def _pair_of(control: ShiftControl) -> Pair:
    return (control.from_site_id, control.to_site_id, control.service_class)


def _gives(control: ShiftControl, pair: Pair) -> bool:
    """True if it takes of the same traffic as the pair."""
    return control.phase in LIVING and (control.from_site_id, control.service_class) == (pair[0], pair[2])


def _by_pair(controls: Iterable[ShiftControl]) -> dict[Pair, list[ShiftControl]]:
    by_pair: dict[Pair, list[ShiftControl]] = {}
    for control in controls:
        if control.phase in GIVING:
            by_pair.setdefault(_pair_of(control), []).append(control)
    return by_pair


def shares_given(controls: Iterable[ShiftControl]) -> dict[Pair, float]:
    """The share of each pair that moves, or is about to."""
    by_pair = _by_pair(controls).items()
    return {pair: sum(control.share_ratio for control in held) for pair, held in by_pair}


def _lowered(held: list[ShiftControl], surplus: float, now: datetime) -> list[ShiftControl]:
    """The controls with `surplus` less among them, the newest first to give.

    The acceptor keeps its room until the donor has come down.
    """
    lowered = []
    for control in sorted(held, key=lambda each: (each.starts_at, each.control_id), reverse=True):
        share = control.share_ratio - max(0.0, surplus)
        surplus -= control.share_ratio
        if share < LEAST_CHANGE_RATIO:
            lowered.append(ended(control, now))
        elif share < control.share_ratio:
            kept = control.reserved_share_ratio or control.share_ratio
            lowered.append(control.model_copy(update={"share_ratio": share, "reserved_share_ratio": kept}))
        else:
            lowered.append(control)
    return lowered


def _rests(going: list[ShiftControl], pair: Pair, view: FleetView, now: datetime) -> bool:
    """True where the pair has only just moved something back, or was refused: prices that flicker move nothing."""
    rest = timedelta(seconds=view.fleet.limits.step_seconds)
    return any(_pair_of(each) == pair and each.phase not in GIVING and now < each.phase_since + rest for each in going)


def _proposed(
    view: FleetView, fleet_file: FleetFile, pair: Pair, share: float, now: datetime, others: list[ShiftControl]
) -> ShiftControl:
    donor, acceptor = view.site(pair[0]), view.site(pair[1])
    prices = [view.price_at(site.settlement_point, now) for site in (donor, acceptor)]
    known = [price for price in prices if price is not None]
    why = "the cheapest way to serve the fleet's load"
    if len(known) == 2:
        why += f" at {known[0].price_usd_per_mwh:.2f} and {known[1].price_usd_per_mwh:.2f} USD/MWh"
    causes = [price.signal_id for price in known]
    return proposed(donor, acceptor, pair[2], share, view, fleet_file, now, causes, why, others)
