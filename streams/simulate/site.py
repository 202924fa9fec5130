"""One site in virtual time: its plant, its meter and its controller, driven as the live service drives them."""

from collections.abc import Mapping
from datetime import datetime

from schemas.command import Command, CommandAck
from schemas.fleet import FleetFile, Site
from schemas.site import ControllerHeartbeat
from streams.capacity import full_power_watts, least_power_watts
from streams.dispatch.controller import accept, resumed, target_in_force
from streams.dispatch.state import ControllerState, Surroundings
from streams.dispatch.tick import tick
from streams.simulate.demand import SiteDemand
from streams.simulate.faults import Faults
from streams.simulate.log import UNSIGNED
from streams.simulate.plant import PlantFlow, PlantTruth, SitePlant
from streams.simulate.scenario import Scenario


class VirtualSite:
    """A plant and its controller. Times come twice: as seconds from the start, which faults know, and as the site's."""

    def __init__(self, site: Site, fleet_file: FleetFile, scenario: Scenario, faults: Faults, seed: int) -> None:
        self.site = site
        self.plant = SitePlant.start(
            site, fleet_file.gpu_models, fleet_file.service_classes, seed, truth_of(scenario, site.id)
        )
        self.state = ControllerState(site_id=site.id, run_id=scenario.name)
        self.read_watts: float | None = None  # what the meter said last
        self._faults, self._fleet_id, self._run_id = faults, fleet_file.fleets[0].id, scenario.name
        self._full_watts = full_power_watts(site, fleet_file)
        self._least_watts = least_power_watts(site, fleet_file)
        self._reading: float | None = None  # of the tick that runs, known at its end
        self._cap_refused = False
        self._missed: list[tuple[Command, Mapping[str, str]]] = []

    def hear(self, command: Command, headers: Mapping[str, str], seconds: float, now: datetime) -> list[CommandAck]:
        """Takes a command; gives the answer. One that nobody signed is not taken, one that finds nobody in waits."""
        if self._is_down(seconds):
            self._missed.append((command, headers))
            return []
        if headers == UNSIGNED:
            return []
        self.state, ack = accept(self.state, command, self._around(seconds), now)
        return [ack]

    def restart(self, seconds: float, now: datetime) -> list[CommandAck]:
        """Starts the controller again from what it keeps on disk, and takes what it missed; gives the answers."""
        kept = ControllerState.model_validate_json(self.state.worth_keeping().model_dump_json())
        self.state = resumed(kept)
        missed, self._missed = self._missed, []
        return [ack for command, headers in missed for ack in self.hear(command, headers, seconds, now)]

    def control(self, seconds: float, now: datetime) -> list[CommandAck]:
        """The controller's tick at the beginning of the plant's; gives what it has to say."""
        self.read_watts = self._reading
        if self._is_down(seconds):
            return []
        around = self._around(seconds)
        ticked = tick(self.state, around, self._full_watts, now)
        self.state = ticked.state
        if around.locked_out:
            return ticked.acks
        refusal = self._faults.on("command-refused", seconds, self.site.id)
        self._cap_refused = refusal is not None and ticked.limit_watts != self.plant.power_cap_watts
        if not self._cap_refused:
            self.plant.set_power_cap(ticked.limit_watts)
        self.plant.set_admission(ticked.admission_ratio)
        self.plant.shifts = {}
        for (service_class, to_site), share in ticked.shares.items():
            self.plant.set_shift(service_class, to_site, share)
        return ticked.acks

    def draw(self, demand: SiteDemand, interval_seconds: float, seconds: float) -> tuple[PlantFlow, float | None]:
        """The plant's tick that begins at `seconds`: what happened, and what the meter reads at its end."""
        flow = self.plant.tick(demand, interval_seconds)
        lie = self._faults.on("lying-meter", seconds, self.site.id)
        if self._faults.on("dead-meter", seconds, self.site.id):
            self._reading = None
        elif lie is None or lie.factor is not None:
            assert self.plant.meter_power_watts is not None  # it has just ticked
            self._reading = self.plant.meter_power_watts * (1.0 if lie is None or lie.factor is None else lie.factor)
        return flow, self._reading

    def heartbeat(self, seconds: float, now: datetime) -> ControllerHeartbeat | None:
        """What the controller says of itself; nothing while it is down."""
        if self._is_down(seconds):
            return None
        return ControllerHeartbeat(
            run_id=self._run_id,
            fleet_id=self._fleet_id,
            site_id=self.site.id,
            observed_at=now,
            epoch=self.state.epoch,
            sequence=self.state.sequence,
            target_power_watts=target_in_force(self.state, now),
            meter_power_watts=self.read_watts,
            locked_out=self._locked_out(seconds),
        )

    def _around(self, seconds: float) -> Surroundings:
        return Surroundings(
            self.site,
            meter_power_watts=self.read_watts,
            locked_out=self._locked_out(seconds),
            least_power_watts=self._least_watts,
            cap_refused=self._cap_refused,
        )

    def _locked_out(self, seconds: float) -> bool:
        refusal = self._faults.on("command-refused", seconds, self.site.id)
        return refusal is not None and refusal.by == "controller"

    def _is_down(self, seconds: float) -> bool:
        return self._faults.on("controller-restart", seconds, self.site.id) is not None


def truth_of(scenario: Scenario, site_id: str) -> PlantTruth:
    """What the scenario says is true of a site's plant."""
    given = scenario.plant.model_dump(exclude_none=True, exclude={"sites"})
    own = scenario.plant.sites.get(site_id)
    return PlantTruth(**(given | (own.model_dump(exclude_none=True) if own else {})))
