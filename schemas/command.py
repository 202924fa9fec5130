"""site.commands.v1 and site.command-acks.v1: what a site is told to do, and what it answers."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.envelope import Record
from schemas.units import (
    ControlId,
    Count,
    FleetId,
    Many,
    Ratio,
    Seconds,
    ServiceClassId,
    SignalId,
    SiteId,
    Text,
    UtcTime,
    Watts,
    WattsPerSecond,
)

# Why a command was given, strongest first: hardware limits, operator hold and local lock-out stand above them all,
# and are the site's own (design, section 6).
Reason = Literal["emergency", "ramp", "event", "service", "economics"]
PRECEDENCE: tuple[str, ...] = ("emergency", "ramp", "event", "service", "economics")


class _Command(Record):
    """What every command carries.

    Commands of a site carry (epoch, sequence), rising: a controller never acts on a lower pair. `control_id` names
    the control that the command sets, renews or ends; a renewal is the same control under a higher pair with a later
    `lease_expires_at`. Without renewal the site falls back at `lease_expires_at`.
    """

    fleet_id: FleetId
    site_id: SiteId
    control_id: ControlId
    epoch: Count
    sequence: Count
    issued_at: UtcTime
    starts_at: UtcTime
    ends_at: UtcTime
    lease_expires_at: UtcTime
    reason: Reason
    priority: Count = Field(0, description="within a reason the lower number wins")
    renewal: bool = Field(False, description="the control was already in force; this extends its lease")
    caused_by: Many[SignalId] = Field(default_factory=list, description="the signals that it answers")
    explanation: Text = Field("", max_length=2000)

    @model_validator(mode="after")
    def _times_are_in_order(self) -> Self:
        if self.ends_at < self.starts_at:
            raise ValueError("ends_at must not be before starts_at")
        if self.lease_expires_at <= self.issued_at:
            raise ValueError("lease_expires_at must be after issued_at")
        return self

    @property
    def order(self) -> tuple[int, int]:
        """(epoch, sequence): what decides between two commands for one site."""
        return (self.epoch, self.sequence)


class Throttle(_Command):
    """Hold the meter at or below an absolute power from `starts_at` to `ends_at`; the site chooses the knob."""

    kind: Literal["throttle"] = "throttle"
    target_power_watts: Watts
    ramp_down_watts_per_second: WattsPerSecond
    ramp_up_watts_per_second: WattsPerSecond = Field(description="how fast the site may rise again afterwards")
    fallback_power_watts: Watts = Field(
        description="what the site holds when the lease lapses; before `ends_at` never more than the target"
    )


class Shift(_Command):
    """Move a share of a service class's arriving traffic from this site, or make ready to take it.

    Two-phase: the acceptor is told to `reserve` first, and only when it has accepted is the donor told to `drain`.
    """

    kind: Literal["shift"] = "shift"
    role: Literal["reserve", "drain"]
    from_site_id: SiteId
    to_site_id: SiteId
    service_class: ServiceClassId
    share_ratio: Ratio = Field(description="share of the donor's arriving traffic of the class")
    reserved_power_watts: Watts = Field(description="meter power that the acceptor must have room for")
    ramp_seconds: Seconds = Field(0.0, description="the donor moves its share evenly over this time, there and back")

    @model_validator(mode="after")
    def _site_plays_its_role(self) -> Self:
        expected = self.to_site_id if self.role == "reserve" else self.from_site_id
        if self.site_id != expected or self.from_site_id == self.to_site_id:
            raise ValueError("a shift goes to the acceptor to reserve and to the donor to drain, two different sites")
        return self


class Release(_Command):
    """End a control before its time; the site rises at the control's own ramp."""

    kind: Literal["release"] = "release"
    releases_control_id: ControlId


Command = Annotated[Throttle | Shift | Release, Field(discriminator="kind")]

AckStatus = Literal[
    "received", "accepted", "partial", "rejected", "ramping", "compliant", "breach", "expired", "superseded"
]
# The answers that say what became of a command; the others tell how it goes.
VERDICTS: frozenset[str] = frozenset({"accepted", "partial", "rejected", "superseded"})


# How a site holds its power: nothing needs to, since it draws less by itself; a power cap; fewer requests let in.
Knob = Literal["none", "cap", "admission"]


class CommandAck(Record):
    """The site's answer to the command (epoch, sequence)."""

    fleet_id: FleetId
    site_id: SiteId
    control_id: ControlId
    epoch: Count
    sequence: Count
    status: AckStatus
    observed_at: UtcTime
    detail: Text = Field("", max_length=500, description="why: the reason of a rejection, how much of a partial")
    meter_power_watts: Watts | None = None
    share_ratio: Ratio | None = Field(None, description="of a shift: the share that moves now")
    knob: Knob | None = Field(None, description="of a throttle: what the site holds it with")
    highest_epoch: Count = Field(description="highest pair seen: a stale planner goes above it")
    highest_sequence: Count
