"""Shifts against rules 5 and 8: a place for the traffic before it moves, and until it is home. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.command import CommandAck, Release, Shift
from schemas.fleet import FleetFile
from schemas.plan import FleetPlan
from streams.simulate.safety_ledger import TAKEN, AnyCommand, Finding, Ledger, SiteBook

_LIVING = frozenset({"proposed", "reserved", "ramping", "active", "returning"})
# A tick of a site controller, and rounding.
_TICK = timedelta(seconds=15)
_ROUNDING = 1e-6


@dataclass(slots=True)
class _Saga:
    """One shift as the log tells it."""

    reserved_until: datetime | None = None  # lease of the reservation that the acceptor has taken on
    drained_until: datetime | None = None  # lease of the newest drain that the donor was told
    home_at: datetime | None = None  # when the donor, told to let go, has brought its traffic home
    donor_id: str | None = None
    ramp_seconds: float = 0.0  # the longest that the donor was told

    def is_out(self, moment: datetime) -> bool:
        """True while traffic may be on its way to the acceptor."""
        ends = [each for each in (self.drained_until, self.home_at) if each is not None]
        return self.drained_until is not None and moment + _TICK < min(ends)


class Shifts:
    """Follows every shift of the log."""

    def __init__(self, fleet_file: FleetFile) -> None:
        self._classes = {service.id: service for service in fleet_file.service_classes}
        self._sagas: dict[str, _Saga] = {}

    def judge_command(self, ledger: Ledger, at: datetime, command: AnyCommand) -> Iterator[Finding]:
        """A shift as it is commanded, and a release of one."""
        if isinstance(command, Shift):
            yield from self._judge_shift(ledger, at, command)
        elif isinstance(command, Release) and (saga := self._sagas.get(command.releases_control_id)) is not None:
            acceptor = ledger.sites[command.site_id].shifts.get(command.releases_control_id)
            if acceptor is not None and acceptor.role == "reserve" and saga.is_out(command.starts_at):
                yield (8, at, command.site_id, f"{command.control_id}: the acceptor is let go while traffic may be out")

    def _judge_shift(self, ledger: Ledger, at: datetime, command: Shift) -> Iterator[Finding]:
        saga = self._sagas.setdefault(command.control_id, _Saga())
        service, fleet = self._classes.get(command.service_class), ledger.sites[command.site_id].fleet

        def finding(rule: int, detail: str) -> Finding:
            return (rule, at, command.site_id, f"{command.role} {command.control_id} {command.order}: {detail}")

        ends = {command.from_site_id, command.to_site_id}
        if service is None or not ends <= {site.id for site in fleet.sites}:
            yield finding(8, "no such class, or not between two sites of the fleet")
            return
        if service.flex == 0 and command.role == "drain" and not ledger.emergency_runs(command.from_site_id, at):
            yield finding(5, f"{service.id} is untouched outside an emergency")
        if service.sites and not ends <= set(service.sites):
            yield finding(8, f"{service.id} is not served at both")
        if fleet.link(command.from_site_id, command.to_site_id).latency_seconds > service.added_latency_limit_seconds:
            yield finding(8, f"too far for {service.id}")
        if command.role == "drain":
            if saga.reserved_until is None:
                yield finding(8, "no reservation has been taken on")
            elif saga.reserved_until < command.lease_expires_at:
                yield finding(8, "the donor's lease outlives the reservation")
            until = min(command.lease_expires_at, command.ends_at)
            saga.drained_until = max(saga.drained_until or until, until)
            saga.home_at = None
            saga.donor_id, saga.ramp_seconds = command.site_id, max(saga.ramp_seconds, command.ramp_seconds)

    def judge_ack(self, ledger: Ledger, at: datetime, ack: CommandAck) -> Iterator[Finding]:
        """An answer about a shift, after it was noted."""
        book = ledger.sites[ack.site_id]
        command, saga = book.commands.get((ack.epoch, ack.sequence)), self._sagas.get(ack.control_id)
        if command is None or saga is None:
            return
        if isinstance(command, Shift) and ack.status in TAKEN:
            if command.role == "reserve":
                saga.reserved_until = max(saga.reserved_until or command.lease_expires_at, command.lease_expires_at)
            else:
                yield from _more_than_all(book, at, command)
        elif isinstance(command, Shift) and command.role == "drain" and ack.status in {"rejected", "expired"}:
            held = book.shifts.get(ack.control_id)
            if held is None:
                saga.drained_until = None
        elif isinstance(command, Shift) and ack.status == "expired":
            saga.reserved_until = None
        elif isinstance(command, Release) and ack.status in TAKEN:
            ramp_seconds = saga.ramp_seconds if command.site_id == saga.donor_id else 0.0
            saga.home_at = ack.observed_at + timedelta(seconds=ramp_seconds)

    def judge_plan(self, at: datetime, plan: FleetPlan) -> Iterator[Finding]:
        """The shares of a plan, and what it says is over."""
        given: dict[tuple[str, str], float] = {}
        for control in plan.shifts:
            place = (control.from_site_id, control.service_class)
            if control.phase in _LIVING:
                given[place] = given.get(place, 0.0) + control.share_ratio
            saga = self._sagas.get(control.control_id)
            if control.phase == "done" and saga is not None and saga.is_out(at):
                yield (8, at, control.from_site_id, f"{control.control_id} is done while traffic may be out")
        for (site_id, service_class), share in given.items():
            if share > 1 + _ROUNDING:
                yield (8, at, site_id, f"{share:.0%} of {service_class} is planned away")


def _more_than_all(book: SiteBook, at: datetime, command: Shift) -> Iterator[Finding]:
    away = sum(
        each.share_ratio
        for each in book.shifts.values()
        if each.role == "drain"
        and each.service_class == command.service_class
        and at < min(each.lease_expires_at, each.ends_at)
    )
    if away > 1 + _ROUNDING:
        yield (8, at, book.site.id, f"{away:.0%} of {command.service_class} goes away")
