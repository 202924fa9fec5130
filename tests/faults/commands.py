"""What the commands of a run are judged by: as a site controller takes them, in the order of the log."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiokafka.structs import ConsumerRecord

from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.catalog import FLEET_PLANS, SITE_COMMANDS
from schemas.command import Release, Shift, Throttle
from schemas.plan import FleetPlan
from streams.dispatch.controller import ControllerState, Surroundings, accept, target_in_force
from tests.stream.rig import Rig

AnyCommand = Throttle | Shift | Release


@dataclass(frozen=True)
class Told:
    """A command as it stands on the bus."""

    command: AnyCommand
    message: ConsumerRecord

    @property
    def appended_at(self) -> datetime:
        """When it came to the log."""
        return datetime.fromtimestamp(self.message.timestamp / 1000, UTC)


def quick_fleet_file(folder: Path) -> Path:
    """The demo's fleets, planned every two seconds, so that commands flow while faults happen."""
    limits = "plan_interval_seconds = 2.0\nrenew_seconds = 4.0\nack_timeout_seconds = 5.0\nlease_seconds = 300.0\n"
    text = DEMO_FLEET_FILE.read_text(encoding="utf-8")
    for fleet in load_fleet_file(DEMO_FLEET_FILE).fleets:
        text = text.replace(f'[[fleets]]\nid = "{fleet.id}"', f'[[fleets]]\nid = "{fleet.id}"\nlimits.x = 0', 1)
    text = text.replace("limits.x = 0", "\n".join(f"limits.{line}" for line in limits.splitlines()))
    path = folder / "quick_fleets.toml"
    path.write_text(text, encoding="utf-8")
    return path


def plan_quickly(rig: Rig) -> None:
    """Gives the stages that are started from now on the quick fleet file."""
    rig.settings = rig.settings.model_copy(update={"fleet_file": quick_fleet_file(rig.folder)})
    rig.fleet_file = load_fleet_file(rig.settings.fleet_file)


def commands_by_site(rig: Rig) -> dict[str, list[Told]]:
    """The commands of each site, in the order of the log."""
    by_site = defaultdict(list)
    for message in rig.seen[SITE_COMMANDS.name]:
        command = SITE_COMMANDS.adapter.validate_json(message.value)
        by_site[command.site_id].append(Told(command, message))
    return dict(by_site)


def commanded_sites(rig: Rig, epoch: int = 1) -> set[str]:
    """The sites that a planner of this epoch or a later one has told something."""
    return {
        site_id
        for site_id, commands in commands_by_site(rig).items()
        if any(told.command.epoch >= epoch for told in commands)
    }


def commanded_above(rig: Rig, epochs: dict[str, int]) -> set[str]:
    """The sites that a planner above their fleet's epoch has told something."""
    return {
        site_id
        for site_id, commands in commands_by_site(rig).items()
        if any(told.command.epoch > epochs[told.command.fleet_id] for told in commands)
    }


def all_sites(rig: Rig) -> set[str]:
    """Every site's name."""
    return {site.id for _, site in rig.fleet_file.sites()}


def plans(rig: Rig) -> list[FleetPlan]:
    """All plans and claims seen; each fleet's in the order of the log."""
    return [FLEET_PLANS.adapter.validate_json(message.value) for message in rig.seen[FLEET_PLANS.name]]


def informed_fleets(rig: Rig) -> set[str]:
    """The fleets of which a planner knows the power of every site: before that it assumes the most they can draw."""
    return {plan.fleet_id for plan in plans(rig) if plan.inputs is not None and not plan.inputs.stale_site_ids}


def newest_epochs(rig: Rig) -> dict[str, int]:
    """The highest epoch of each fleet."""
    epochs: dict[str, int] = {}
    for plan in plans(rig):
        epochs[plan.fleet_id] = max(plan.epoch, epochs.get(plan.fleet_id, 0))
    return epochs


def assert_every_command_was_planned(rig: Rig) -> None:
    """Each command follows from a plan that was on the bus before it: same fleet, epoch and instant of decision."""
    planned: dict[tuple[str, int, datetime], tuple[ConsumerRecord, FleetPlan]] = {}
    for message, plan in zip(rig.seen[FLEET_PLANS.name], plans(rig), strict=True):
        if plan.kind == "plan":
            planned.setdefault((plan.fleet_id, plan.epoch, plan.issued_at), (message, plan))
    for told in (each for commands in commands_by_site(rig).values() for each in commands):
        command = told.command
        message, plan = planned[command.fleet_id, command.epoch, command.issued_at]
        assert command.sequence <= plan.sequence
        assert message.timestamp <= told.message.timestamp


def assert_pairs_rise(rig: Rig) -> None:
    """(epoch, sequence) of a site's commands never goes back in the log: so it is unless a planner came back."""
    for site_id, commands in commands_by_site(rig).items():
        pairs = [told.command.order for told in commands]
        assert pairs == sorted(set(pairs)), f"{site_id}: pairs go back: {pairs}"


def obeyed(rig: Rig, site_id: str) -> tuple[list[AnyCommand], float | None]:
    """What a controller that reads the whole log acts on, and the power target (W) that it ends with.

    Fails if it acts on an older pair after a newer one.
    """
    site = rig.fleet_file.site(site_id)
    assert site is not None
    state, around, taken = ControllerState(site_id=site_id, run_id=rig.run_id), Surroundings(site), list[AnyCommand]()
    told = commands_by_site(rig).get(site_id, [])
    for each in told:
        state, ack = accept(state, each.command, around, each.appended_at)
        if ack.status != "rejected":
            assert not taken or each.command.order >= taken[-1].order, f"{site_id} obeys a planner of the past"
            taken.append(each.command)
    return taken, target_in_force(state, told[-1].appended_at) if told else None
