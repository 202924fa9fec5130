"""What a site controller knows: its memory, which survives a restart, and its surroundings at the moment. Pure."""

from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from schemas.command import Command, CommandAck, Knob, Shift, Throttle
from schemas.envelope import LIVE_RUN
from schemas.fleet import Site
from schemas.units import UtcTime

_MOST_OF_IMPORT_LIMIT = 2.0


class ControlInForce(BaseModel):
    """A command that the site has taken on, when that was, and whether its lease has lapsed since.

    `answered` is what was said then; None where the command was recalled, and nothing was said.
    `received_uptime_seconds` is the reading of the controller's monotonic clock (`Surroundings.uptime_seconds`): a
    lease runs on it, so that nobody can lengthen one by setting a clock. None where the wall clock alone decides.
    """

    model_config = ConfigDict(frozen=True)

    command: Throttle | Shift
    lapsed: bool = False
    answered: CommandAck | None = None
    received_uptime_seconds: float | None = None


class Trim(BaseModel):
    """What the meter has shown to stand above the power limit, and over how much time that was seen."""

    model_config = ConfigDict(frozen=True)

    excess_ratio: float = 0.0
    seen_seconds: float = 0.0
    settled_at: UtcTime | None = None  # since when the limit has stood where it should


class KnobState(BaseModel):
    """What the site is held with, and the share of its flexible requests that is let in."""

    model_config = ConfigDict(frozen=True)

    knob: Knob = "none"
    since: UtcTime | None = None
    above_since: UtcTime | None = None  # the meter above the target, and nothing more to be had from the cap
    admission_ratio: float = 1.0


class MovedShare(BaseModel):
    """A share of a class's traffic that goes to another site, on its way to `goal_ratio`."""

    model_config = ConfigDict(frozen=True)

    control_id: str
    service_class: str
    to_site_id: str
    share_ratio: float = 0.0
    goal_ratio: float = 0.0
    ratio_per_second: float | None = None  # None: at once
    ramp_seconds: float = 0.0


class LastReading(BaseModel):
    """The meter's newest reading, and since when it has stayed the same though the limit moved."""

    model_config = ConfigDict(frozen=True)

    watts: float
    same_since: UtcTime
    limit_watts: float | None = None


class ControllerState(BaseModel):
    """All that a controller must not forget: kept on disk, so that a restart resumes the lease."""

    model_config = ConfigDict(frozen=True)

    site_id: str
    run_id: str = LIVE_RUN
    epoch: int = 0
    sequence: int = 0
    newest: Command | None = None  # the command of the highest pair, and why it was refused if it was
    newest_refusal: str | None = None
    controls: tuple[ControlInForce, ...] = ()
    next_offset: int | None = None
    traceparents: dict[str, str] = Field(default_factory=dict)  # by control: that of its newest command
    owed: tuple[CommandAck, ...] = ()  # decided, and perhaps not said yet
    limit_watts: float | None = None
    ramp_up_watts_per_second: float | None = None
    asked_watts: float | None = None  # by the throttle that ruled at the last tick; None: none did
    trim: Trim = Trim()
    knob: KnobState = KnobState()
    shares: tuple[MovedShare, ...] = ()
    reading: LastReading | None = None
    moved_at: UtcTime | None = None  # when limit, shares and admission last moved; None: they go on from where they are
    told: dict[str, str] = Field(default_factory=dict)  # by control: what was last said of how it goes
    at_target_since: dict[str, UtcTime] = Field(default_factory=dict)

    @property
    def highest(self) -> tuple[int, int]:
        """The highest (epoch, sequence) seen."""
        return (self.epoch, self.sequence)

    def control(self, control_id: str) -> ControlInForce | None:
        """The control of that name, if the site holds it."""
        return next((each for each in self.controls if each.command.control_id == control_id), None)

    def with_control(self, control: ControlInForce) -> "ControllerState":
        """With the control in place of any of its name."""
        name = control.command.control_id
        if self.control(name) is None:
            return self.model_copy(update={"controls": (*self.controls, control)})
        controls = tuple(control if each.command.control_id == name else each for each in self.controls)
        return self.model_copy(update={"controls": controls})

    def without(self, control_id: str) -> "ControllerState":
        """Without the control of that name."""
        return self.model_copy(
            update={"controls": tuple(each for each in self.controls if each.command.control_id != control_id)}
        )

    def worth_keeping(self) -> "ControllerState":
        """Without what changes at every tick and may be a little old after a restart."""
        trim = self.trim.model_copy(update={"seen_seconds": 0.0, "excess_ratio": round(self.trim.excess_ratio, 3)})
        return self.model_copy(update={"moved_at": None, "reading": None, "trim": trim})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the site knows of itself at the moment.

    `least_power_watts` is the least that its equipment makes sense at (`capacity.least_power_watts`), `uptime_seconds`
    the controller's monotonic clock (None: there is none, in virtual time), `cap_refused` says that the equipment did
    not take the power limit when it was last told.
    """

    site: Site
    meter_power_watts: float | None = None
    locked_out: bool = False
    least_power_watts: float = 0.0
    uptime_seconds: float | None = None
    cap_refused: bool = False

    @property
    def least_watts(self) -> float:
        """The lowest target that the site holds."""
        return max(self.site.minimum_on_watts, self.least_power_watts)

    def plausible(self) -> "Surroundings":
        """Without a reading that can't be: negative, no number, above twice the import limit."""
        watts = self.meter_power_watts
        if watts is None or 0 <= watts <= _MOST_OF_IMPORT_LIMIT * self.site.import_limit_watts:  # NaN is not within
            return self
        return self.with_meter(None)

    def with_meter(self, watts: float | None) -> "Surroundings":
        """With another meter reading."""
        return replace(self, meter_power_watts=watts)
