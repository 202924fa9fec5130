"""What a controller without a memory starts from: all that its site was ever told. Pure."""

from datetime import datetime

from schemas.command import Command, CommandAck, Release, Shift, Throttle
from streams.dispatch.controller import ControlInForce, ControllerState, Surroundings, accept, as_held


def last_in_force(commands: list[Command], now: datetime) -> list[Throttle | Shift]:
    """Of all the commands that a site was ever sent: the newest of each control that still holds, in order.

    A throttle holds until its end, its lease run out or not; a shift ends with its lease.
    """
    newest: dict[str, Command] = {}
    for command in sorted(commands, key=lambda each: each.order):
        newest[command.releases_control_id if isinstance(command, Release) else command.control_id] = command
    living = [
        each
        for each in newest.values()
        if not isinstance(each, Release)
        and each.ends_at > now
        and (isinstance(each, Throttle) or each.lease_expires_at > now)
    ]
    return sorted(living, key=lambda each: each.order)


def recalled(
    state: ControllerState, commands: list[Command], around: Surroundings, now: datetime
) -> tuple[ControllerState, list[CommandAck]]:
    """What a controller without a memory starts from: all the commands that its site was ever sent."""
    answers = []
    for command in last_in_force(commands, now):
        if command.lease_expires_at > now:
            state, ack = accept(state, command, around, now)
            answers.append(ack)
        elif not around.locked_out:
            # The planner is gone, the event is not: the fallback holds, as if the controller had been there.
            state = state.with_control(ControlInForce(command=as_held(command, around), lapsed=True))
    seen = max([state.highest, *(command.order for command in commands if command.site_id == state.site_id)])
    return state.model_copy(update={"epoch": seen[0], "sequence": seen[1]}), answers
