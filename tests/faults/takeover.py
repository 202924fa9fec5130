"""A planner lost in the middle of something: how it comes to that, and what must hold of the run afterwards."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

from infra.clock import wall_now
from infra.settings import load_fleet_file
from schemas.catalog import COMMAND_ACKS, FLEET_PLANS, GRID_SIGNALS, SITE_COMMANDS
from schemas.command import VERDICTS, CommandAck, Release, Shift, Throttle
from schemas.plan import FleetPlan, ShiftControl
from schemas.signals import EventSignal, PriceSignal
from streams.simulate.safety import violations
from tests.faults.commands import (
    AnyCommand,
    Told,
    assert_every_command_was_planned,
    commands_by_site,
    informed_fleets,
    newest_epochs,
    plans,
)
from tests.faults.drill import Broker
from tests.stream.inputs import event_now
from tests.stream.judge import judged
from tests.stream.plants import Plants, plants_of
from tests.stream.rig import Rig, rig_on
from tests.stream.two_sites import ACCEPTOR, DONOR, FLEET, write_fleet_file

# In the middle of what the planner is lost: the donor's share on its way, the share moved, or an event besides.
Moment = Literal["ramping", "active", "event"]

PRICES = {"NYC": 90.0, "WEST": 30.0}
SAME_PRICES = {"NYC": 30.0, "WEST": 30.0}
LIMITS = {
    "plan_interval_seconds": 2.0,
    "renew_seconds": 4.0,
    "ack_timeout_seconds": 5.0,
    "lease_seconds": 60.0,
    "stagger_seconds": 2.0,
}
LOAD_RATIO = 0.6
SITES = (DONOR, ACCEPTOR)
BATCH = ("batch", ACCEPTOR)
_WAY = ("proposed", "reserved", "ramping", "active", "returning", "done")
# Beyond the target: what a plant's power goes over a cap within a tick.
_TOLERANCE_RATIO = 0.005
_OVERTAKEN = "a higher pair has been seen"


@asynccontextmanager
async def two_sites(broker: Broker, folder: Path, moment: Moment) -> AsyncIterator[tuple[Rig, Plants]]:
    """A run of two sites with plants and controllers, and no planner yet."""
    # Slow enough for a planner to be lost, and succeeded, while the share moves.
    shift_ramp_seconds = 25.0 if moment == "ramping" else 10.0
    async with rig_on(broker, folder) as rig:
        path = folder / "fleets.toml"
        write_fleet_file(path, **LIMITS, shift_ramp_seconds=shift_ramp_seconds)
        rig.settings = rig.settings.model_copy(update={"fleet_file": path})
        rig.fleet_file = load_fleet_file(path)
        async with plants_of(rig, LOAD_RATIO) as plants:
            for site_id in SITES:
                rig.start_controller(site_id, folder / "controllers", plants.port)
            yield rig, plants


async def until_it_is_in_the_middle(rig: Rig, plants: Plants, moment: Moment) -> None:
    """Lets the planner, which must be there, move traffic for a price, and hold the sites for an event."""
    await rig.until("an informed planner", lambda: informed_fleets(rig) == {FLEET})
    await rig.send(GRID_SIGNALS, _prices(rig, PRICES))
    await rig.until(
        "traffic on its way", lambda: _phases(rig) == ["ramping"] and share_away(plants) > 0.1 * _share_wanted(rig)
    )
    if moment == "ramping":
        return
    await until_moved(rig, plants)
    if moment == "event":
        await rig.send(GRID_SIGNALS, [event_now(FLEET, rig.run_id)])
        await rig.until("both sites held", lambda: all(_is_held(rig, plants, site_id) for site_id in SITES))


async def until_moved(rig: Rig, plants: Plants) -> None:
    """Until the whole share is at the acceptor."""
    await rig.until(
        "all of the share moved", lambda: _phases(rig) == ["active"] and share_away(plants) == _share_wanted(rig)
    )


async def bring_to_its_end(rig: Rig, plants: Plants, moment: Moment) -> None:
    """Withdraws what the planner, which must be there, acts on; returns when every site has all of it back."""
    signals: list[PriceSignal | EventSignal] = [*_prices(rig, SAME_PRICES)]
    if moment == "event":
        signals.append(event_now(FLEET, rig.run_id).model_copy(update={"cancelled": True}))
    await rig.send(GRID_SIGNALS, signals)

    def is_over() -> bool:
        return not in_force(rig, newest_epochs(rig)[FLEET]) and _phases(rig) == [] and share_away(plants) == 0

    await rig.until("all given back", is_over)


def _prices(rig: Rig, usd_per_mwh: dict[str, float]) -> list[PriceSignal]:
    """By settlement point, for longer than the test lasts."""
    now = wall_now()
    return [
        PriceSignal(
            run_id=rig.run_id,
            fleet_id=FLEET,
            signal_id=f"rt/{point}",
            source="test",
            published_at=now,
            starts_at=now - timedelta(minutes=5),
            ends_at=now + timedelta(hours=1),
            market="real-time",
            settlement_point=point,
            price_usd_per_mwh=price,
        )
        for point, price in usd_per_mwh.items()
    ]


def _newest_plan(rig: Rig) -> FleetPlan | None:
    return max(plans(rig), key=lambda plan: (plan.epoch, plan.revision), default=None)


def shifts_in_force(rig: Rig) -> list[ShiftControl]:
    """Those of the newest planner."""
    plan = _newest_plan(rig)
    return [] if plan is None else [each for each in plan.shifts if each.phase not in {"done", "aborted"}]


def _phases(rig: Rig) -> list[str]:
    return [each.phase for each in shifts_in_force(rig)]


def _share_wanted(rig: Rig) -> float:
    return sum(each.share_ratio for each in shifts_in_force(rig))


def share_away(plants: Plants) -> float:
    """The share of the donor's batches that goes to the acceptor now."""
    return plants.seen[DONOR][-1].shares.get(BATCH, 0.0)


def _is_held(rig: Rig, plants: Plants, site_id: str) -> bool:
    targets, seen = _targets(rig, site_id), plants.seen[site_id][-1]
    return bool(targets) and seen.cap_watts is not None and max(seen.cap_watts, seen.meter_watts) <= targets[-1]


def _targets(rig: Rig, site_id: str) -> list[float]:
    commands = [told.command for told in commands_by_site(rig).get(site_id, [])]
    return [each.target_power_watts for each in commands if isinstance(each, Throttle)]


def in_force(rig: Rig, epoch: int) -> dict[tuple[str, str], Throttle | Shift]:
    """What a planner has last told of each control and site while it owned the fleet, and not released."""
    newest: dict[tuple[str, str], AnyCommand] = {}
    for site_id, commands in commands_by_site(rig).items():
        late = {command.order for command in overtaken(rig, site_id)}
        for each in (told.command for told in _of(commands, epoch)):
            if each.order not in late:
                newest[each.control_id, site_id] = each
    return {key: each for key, each in newest.items() if not isinstance(each, Release)}


def _of(commands: list[Told], epoch: int) -> list[Told]:
    return [each for each in commands if each.command.epoch == epoch]


def renewed(rig: Rig, above_epoch: int) -> set[str]:
    """The sites at which a planner above the epoch has renewed what it had issued itself."""
    return {
        site_id
        for site_id, commands in commands_by_site(rig).items()
        if any(each.command.epoch > above_epoch and getattr(each.command, "renewal", False) for each in commands)
    }


def verdicts(rig: Rig, site_id: str) -> list[CommandAck]:
    """What the site has said to commands, in the order of the log; each once."""
    acks = [COMMAND_ACKS.adapter.validate_json(message.value) for message in rig.seen[COMMAND_ACKS.name]]
    return [each for each in acks if each.site_id == site_id and each.status in VERDICTS]


def overtaken(rig: Rig, site_id: str) -> list[AnyCommand]:
    """Commands of a planner of the past: a higher epoch's stand before them in the site's log."""
    found, highest = [], 0
    for told in commands_by_site(rig).get(site_id, []):
        if told.command.epoch < highest:
            found.append(told.command)
        highest = max(highest, told.command.epoch)
    return found


async def until_all_is_said(rig: Rig) -> None:
    """Until every command on the bus has its plan and its answer."""

    def nothing_is_owed() -> bool:
        commands = [told.command for told in (told for each in commands_by_site(rig).values() for told in each)]
        said = {(ack.site_id, ack.epoch, ack.sequence) for site_id in SITES for ack in verdicts(rig, site_id)}
        planned = {(plan.epoch, plan.issued_at) for plan in plans(rig) if plan.kind == "plan"}
        return all((each.site_id, *each.order) in said and (each.epoch, each.issued_at) in planned for each in commands)

    await rig.until("an answer to every command", nothing_is_owed)


def last_plan_of(rig: Rig, epoch: int) -> FleetPlan:
    """The last plan that a planner made before it was succeeded."""
    made = plans(rig)
    succeeded = next(number for number, plan in enumerate(made) if plan.epoch > epoch)
    return [plan for plan in made[:succeeded] if plan.epoch == epoch and plan.kind == "plan"][-1]


def assert_nothing_in_force_is_forgotten(rig: Rig, epoch: int) -> None:
    """The successor claims the plan as it was, and tells every site again what it was told, under its own epoch."""
    last = last_plan_of(rig, epoch)
    claim = next(plan for plan in plans(rig) if plan.epoch == epoch + 1)
    assert claim.kind == "claim"
    remembered = {"throttles", "shifts", "baselines", "dwells", "tracking"}
    assert claim.model_dump(include=remembered) == last.model_dump(include=remembered)
    expected = in_force(rig, epoch)
    assert expected.keys() >= {(each.control_id, site_id) for each in last.shifts for site_id in SITES}
    found: dict[tuple[str, str], AnyCommand] = {}
    for commands in commands_by_site(rig).values():
        for told in _of(commands, epoch + 1):
            found.setdefault((told.command.control_id, told.command.site_id), told.command)
    for key, before in expected.items():
        again = found[key]
        assert again.kind == before.kind, f"{key}: {again}"
        assert again.ends_at >= before.ends_at or isinstance(before, Shift)
        if isinstance(before, Throttle) and isinstance(again, Throttle):
            assert abs(again.target_power_watts / before.target_power_watts - 1) < 0.0025, f"{key}: {again}"
        if isinstance(before, Shift) and isinstance(again, Shift):
            assert (again.role, again.share_ratio) == (before.role, before.share_ratio), f"{key}: {again}"


def assert_shifts_go_on(rig: Rig, epoch: int) -> None:
    """From plan to plan, whoever owns the fleet, a shift goes on and never back; there is never another besides."""
    owned = sorted((plan for plan in plans(rig) if plan.epoch >= epoch), key=lambda plan: (plan.epoch, plan.revision))
    phases = [tuple(each.phase for each in plan.shifts) for plan in owned if plan.shifts]
    assert all(len(each) == 1 for each in phases), phases
    way = [_WAY.index(phase) for (phase,) in phases]
    assert way == sorted(way), phases
    assert phases[-1] == ("active",)


def assert_sites_never_let_go(rig: Rig, plants: Plants, moment: Moment) -> None:
    """The share never falls nor doubles, no lease lapses, and for an event neither a cap nor the power rises."""
    shares = [seen.shares.get(BATCH, 0.0) for seen in plants.seen[DONOR]]
    assert all(after >= before for before, after in pairwise(shares)), shares
    assert shares[-1] == max(shares) == shifts_in_force(rig)[0].share_ratio, shares
    for site_id in SITES:
        acks = [COMMAND_ACKS.adapter.validate_json(message.value) for message in rig.seen[COMMAND_ACKS.name]]
        assert not [ack for ack in acks if ack.status == "expired"]
        _assert_leases_overlap(rig, site_id)
        if moment == "event":
            most = max(_targets(rig, site_id))
            caps = [seen.cap_watts for seen in plants.seen[site_id]]
            first = next(number for number, cap in enumerate(caps) if cap is not None and cap <= most)
            assert all(cap is not None and cap <= most for cap in caps[first:]), caps
    if moment == "event":
        _assert_power_stays_down(rig, plants)


def _assert_power_stays_down(rig: Rig, plants: Plants) -> None:
    """Once the sites' power together is at the event's target, it stays there."""
    target = sum(each.target_power_watts for each in last_plan_of(rig, 1).throttles) * (1 + _TOLERANCE_RATIO)
    watts = [
        donor.meter_watts + acceptor.meter_watts
        for donor, acceptor in zip(plants.seen[DONOR], plants.seen[ACCEPTOR], strict=True)
    ]
    down = next(number for number, each in enumerate(watts) if each <= target)
    assert max(watts[:down]) > 1.2 * target, "the event asks for something"
    assert all(each <= target for each in watts[down:]), (target, watts[down:])


def assert_all_ends_as_it_should(rig: Rig, epoch: int) -> None:
    """The planner of the epoch, or a later one, has brought the shift home, and let the acceptor go after the donor."""
    made = [plan for plan in plans(rig) if plan.epoch >= epoch]
    phases = {each.phase for plan in made for each in plan.shifts}
    assert [each for each in _WAY if each in phases][-2:] == ["returning", "done"], phases
    (ramp_seconds,) = {each.ramp_seconds for plan in made for each in plan.shifts}
    control_id = next(each.control_id for plan in made for each in plan.shifts)
    released = [
        next(told.command for told in commands_by_site(rig)[site_id] if _is_release_of(told.command, control_id, epoch))
        for site_id in SITES
    ]
    donor, acceptor = released
    (answer,) = {
        ack.observed_at
        for ack in verdicts(rig, DONOR)
        if (ack.epoch, ack.sequence, ack.status) == (*donor.order, "accepted")
    }
    assert answer + timedelta(seconds=ramp_seconds) <= acceptor.issued_at, "its place is kept until all is home"


def _is_release_of(command: AnyCommand, control_id: str, epoch: int) -> bool:
    return isinstance(command, Release) and command.epoch >= epoch and command.releases_control_id == control_id


def _assert_leases_overlap(rig: Rig, site_id: str) -> None:
    """Each command that a site took on for a control came before the lease of the one before it was over."""
    commands = {told.command.order: told.command for told in commands_by_site(rig)[site_id]}
    leases: dict[str, AnyCommand] = {}
    for ack in verdicts(rig, site_id):
        if ack.status in {"accepted", "partial"}:
            known = leases.get(ack.control_id)
            assert known is None or ack.observed_at < known.lease_expires_at, f"{site_id}: {ack}"
            leases[ack.control_id] = commands[ack.epoch, ack.sequence]
    assert all(wall_now() < each.lease_expires_at for each in leases.values())


def assert_sites_obey_one_planner(rig: Rig) -> None:
    """No site takes on a command of an epoch below one that it has seen, and each that was refused was such a one."""
    for site_id in SITES:
        late = {each.order for each in overtaken(rig, site_id)}
        taken = [ack.epoch for ack in verdicts(rig, site_id) if ack.status in {"accepted", "partial"}]
        assert taken == sorted(taken)
        for ack in verdicts(rig, site_id):
            if (ack.epoch, ack.sequence) in late or ack.status == "rejected":
                assert (ack.status, ack.detail) == ("rejected", _OVERTAKEN), ack
                assert ack.highest_epoch > ack.epoch


def assert_safe(rig: Rig, made_up: Iterable[Release] = ()) -> None:
    """What an outsider reads from the whole log. Commands that a test has `made_up` break rules by themselves: the
    checker is not told of them, so that a site that takes one on acts on what nobody told it, which is a violation.
    """
    assert_every_command_was_planned(rig)
    hidden = list(made_up)
    found = violations((entry for entry in judged(rig) if entry[2] not in hidden), rig.fleet_file)
    assert not found, found


async def say_as_if_it_were(rig: Rig, epoch: int) -> list[Release]:
    """Whatever a planner of that epoch could say last, signed as it would: a plan that knows of nothing, and the
    release of all that it once told.
    """
    last, now = last_plan_of(rig, epoch), wall_now()
    told = list(in_force(rig, epoch).values())
    common = {"issued_at": now, "starts_at": now, "ends_at": now, "lease_expires_at": now + timedelta(seconds=60)}
    kept = set(Release.model_fields) - {"kind", "releases_control_id"}
    highest = max(plan.sequence for plan in plans(rig) if plan.epoch == epoch)
    releases = [
        Release(
            **command.model_dump(include=kept)
            | common
            | {"sequence": highest + number, "releases_control_id": command.control_id}
        )
        for number, command in enumerate(told, start=1)
    ]
    revision = max(plan.revision for plan in plans(rig) if plan.epoch == epoch) + 1
    changed = {"issued_at": now, "sequence": highest + len(told), "revision": revision, "throttles": [], "shifts": []}
    await rig.send(FLEET_PLANS, [last.model_copy(update=changed)])
    await rig.send(SITE_COMMANDS, releases)
    return releases
