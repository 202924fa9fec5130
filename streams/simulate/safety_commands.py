"""Commands and their answers against the rules 1 to 5, 7 and 12. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from schemas.command import CommandAck, Shift, Throttle
from schemas.site import ControllerHeartbeat
from streams.simulate.safety_ledger import (
    GRACE,
    GRID_REASONS,
    TAKEN,
    AnyCommand,
    Finding,
    Ledger,
    SiteBook,
    strongest,
)

# Rounding on the way through JSON; nothing that matters to a grid.
WATT = 1.0
_SECOND = timedelta(seconds=1)
# How far a planner's clock may be ahead of a site's, and a site's lease behind it (design, section 5).
_CLOCK_TOLERANCE = timedelta(seconds=30)


def judge_command(ledger: Ledger, at: datetime, command: AnyCommand) -> Iterator[Finding]:
    """A command as it goes out: its lease, its number, its limits, its reason. To be called before it is noted."""
    book = ledger.sites[command.site_id]

    def finding(rule: int, detail: str) -> Finding:
        return (rule, at, command.site_id, f"{command.kind} {command.control_id} {command.order}: {detail}")

    lease = timedelta(seconds=book.fleet.limits.lease_seconds)
    if isinstance(command, Shift) and command.role == "reserve":  # it outlives the donor's, and the way home
        lease = 2 * (lease + timedelta(seconds=command.ramp_seconds))
    if command.lease_expires_at - command.issued_at > lease + _SECOND:
        yield finding(1, f"a lease of {command.lease_expires_at - command.issued_at}")
    known = book.commands.get(command.order)
    if known is not None:
        if known != command:
            yield finding(2, "the pair was given to another command")
        return
    if command.sequence < book.newest.get(command.epoch, 0):
        yield finding(2, "a higher pair has gone out")
    if isinstance(command, Throttle):
        yield from (finding(rule, detail) for rule, detail in _beyond_limits(ledger, book, command))
    if not command.explanation.strip() or (command.reason in GRID_REASONS and not command.caused_by):
        yield finding(12, "it is not explained")
    plan = ledger.plans.get((command.fleet_id, command.epoch))
    if plan is None or plan.sequence < command.sequence:
        yield finding(12, "no plan that says so went before it")
    elif command.control_id not in ledger.planned_controls[command.fleet_id]:
        yield finding(12, "its control stands in no plan")


def _beyond_limits(ledger: Ledger, book: SiteBook, command: Throttle) -> Iterator[tuple[int, str]]:
    site, target, limits = book.site, command.target_power_watts, book.fleet.limits
    if command.fallback_power_watts > target + WATT:
        yield 1, f"falls back to {command.fallback_power_watts:.0f} W from {target:.0f} W"
    if not ledger.least_watts(site) - WATT <= target <= site.import_limit_watts + WATT:
        yield 5, f"a target of {target:.0f} W"
    for name, of_fleet in (
        ("ramp_down_watts_per_second", limits.ramp_down_watts_per_second),
        ("ramp_up_watts_per_second", limits.ramp_up_watts_per_second),
    ):
        most = min(getattr(site, name), of_fleet or getattr(site, name))
        if getattr(command, name) > most * (1 + 1e-9):
            yield 6, f"{name} of {getattr(command, name):g}"


def judge_ack(ledger: Ledger, at: datetime, ack: CommandAck) -> Iterator[Finding]:
    """An answer by which a site takes a command on. To be called before it is noted."""
    book, pair = ledger.sites[ack.site_id], (ack.epoch, ack.sequence)
    if ack.status not in TAKEN or pair in book.taken:
        return

    def finding(rule: int, detail: str) -> Finding:
        return (rule, at, ack.site_id, f"{ack.control_id} {pair} {ack.status}: {detail}")

    earlier = book.highest_at is not None and book.highest_at < ack.observed_at
    if pair < (ack.highest_epoch, ack.highest_sequence) or (earlier and pair < book.highest):
        yield finding(2, f"the site had seen {max(book.highest, (ack.highest_epoch, ack.highest_sequence))}")
    command = book.commands.get(pair)
    if command is None or command.control_id != ack.control_id:
        yield finding(3, "no such command was given to the site")
        return
    over = command.kind != "release" and command.ends_at + _CLOCK_TOLERANCE <= ack.observed_at
    if over or command.lease_expires_at + _CLOCK_TOLERANCE <= ack.observed_at:
        yield finding(3, "it had expired")
    if command.issued_at > ack.observed_at + _CLOCK_TOLERANCE:
        yield finding(3, "it came from the future")
    if ack.status == "partial" and isinstance(command, Throttle) and command.reason in GRID_REASONS:
        possible = command.target_power_watts >= book.site.minimum_on_watts
        yield from [finding(7, "for the grid, and the site could")] if possible else []


def judge_heartbeat(ledger: Ledger, at: datetime, beat: ControllerHeartbeat) -> Iterator[Finding]:
    """The target that a site says is in force, against the one that its answers make (rules 1 and 4).

    Nothing is said where the two can't be compared: an answer is on its way or lost, something begins or ends about
    now, the site is locked out, or it holds less than it was asked to and has said so.
    """
    book, moment = ledger.sites[beat.site_id], beat.observed_at
    ruling = strongest(book.held.values(), moment)
    expected = None if ruling is None else ruling.asks_watts(moment)
    stated = beat.target_power_watts
    same = stated == expected or (stated is not None and expected is not None and abs(stated - expected) <= WATT)
    if same or beat.locked_out or (beat.epoch, beat.sequence) != book.highest or _is_unclear(book, beat):
        return
    rises = expected is not None and (stated is None or stated > expected)
    lapsed = ruling is not None and ruling.has_lapsed(moment)
    if ruling is None or ruling.target_is_known:
        detail = f"{stated} W in force, {expected} W by what it has taken on up to {book.highest}"
        yield (1 if lapsed and rises else 4, at, beat.site_id, detail)


def _is_unclear(book: SiteBook, beat: ControllerHeartbeat) -> bool:
    """True while an answer is missing, or something begins, ends or lapses about now."""
    edges = [
        edge
        for hold in book.held.values()
        for edge in (hold.command.starts_at, hold.ends_at, hold.command.lease_expires_at, book.answered_at)
        if edge is not None
    ]
    return any(abs(edge - beat.observed_at) <= GRACE for edge in edges) or any(
        pair <= (beat.epoch, beat.sequence) and max(each.ends_at, each.lease_expires_at) > beat.observed_at
        for pair, each in book.unanswered.items()
    )
