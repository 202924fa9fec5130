"""Traffic on its way from a donor to an acceptor and home again, each share over its own ramp. Pure."""

import math
from datetime import datetime

from schemas.command import Shift
from streams.dispatch.state import ControllerState, MovedShare


def moved(state: ControllerState, seconds: float, now: datetime) -> ControllerState:
    """Moves every share for `seconds` towards what its drain asks for; towards 0 where there is none any more."""
    drains = {_key(command): command for command in _drains(state, now)}
    if not drains and not state.shares:
        return state
    underway = {(each.control_id, each.service_class, each.to_site_id): each for each in state.shares}
    shares = []
    for key in [*underway, *(key for key in drains if key not in underway)]:
        share = _towards(underway.get(key), drains.get(key), seconds)
        if share.share_ratio > 0 or share.goal_ratio > 0:
            shares.append(share)
    return state if tuple(shares) == state.shares else state.model_copy(update={"shares": tuple(shares)})


def shares_in_force(state: ControllerState) -> dict[tuple[str, str], float]:
    """The share of each (service class, acceptor) that the site sends away now."""
    shares: dict[tuple[str, str], float] = {}
    for each in state.shares:
        place = (each.service_class, each.to_site_id)
        shares[place] = min(1.0, shares.get(place, 0.0) + each.share_ratio)
    return {place: share for place, share in shares.items() if share > 0}


def _drains(state: ControllerState, now: datetime) -> list[Shift]:
    commands = [each.command for each in state.controls]
    return [each for each in commands if isinstance(each, Shift) and each.role == "drain" and each.starts_at <= now]


def _key(command: Shift) -> tuple[str, str, str]:
    return (command.control_id, command.service_class, command.to_site_id)


def _towards(share: MovedShare | None, drain: Shift | None, seconds: float) -> MovedShare:
    """The share after `seconds`; a goal that is new is first moved towards at the next tick."""
    goal = 0.0 if drain is None else drain.share_ratio
    if share is None:
        assert drain is not None
        share = MovedShare(control_id=drain.control_id, service_class=drain.service_class, to_site_id=drain.to_site_id)
    if goal != share.goal_ratio:
        ramp_seconds = share.ramp_seconds if drain is None else drain.ramp_seconds
        rate = abs(goal - share.share_ratio) / ramp_seconds if ramp_seconds > 0 else None
        update = {"goal_ratio": goal, "ratio_per_second": rate, "ramp_seconds": ramp_seconds}
        share, seconds = share.model_copy(update=update), 0.0
    if share.share_ratio == goal:
        return share
    if share.ratio_per_second is None:
        return share.model_copy(update={"share_ratio": goal})
    left, by = goal - share.share_ratio, share.ratio_per_second * seconds
    ratio = goal if abs(left) <= by + 1e-9 else share.share_ratio + math.copysign(by, left)
    return share.model_copy(update={"share_ratio": ratio})
