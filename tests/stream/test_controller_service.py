"""A site's controller as a process: where it starts from, what it forgets (nothing), and whom it does not obey."""

import asyncio
import subprocess
import sys
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from infra.bus import partition_of
from infra.clock import wall_now
from schemas.catalog import COMMAND_ACKS, SITE_COMMANDS, SITE_HEARTBEATS
from schemas.command import Command, Release, Throttle
from tests.stream.rig import PARTITIONS, Rig, on_kafka_when_drilled, rig_on

Broker = tuple[str, str]
SITE = "nyiso-nyc"
LOCKED_OUT = "locked out locally"


def throttle(rig: Rig, sequence: int, site_id: str = SITE, issued: float = 0.0, **more: Any) -> Throttle:
    """A throttle, issued so many seconds from now; by default one control, for an hour."""
    site = rig.fleet_file.site(site_id)
    fleet_id = rig.fleet_file.fleet_of(site_id)
    assert site is not None
    issued_at = wall_now() + timedelta(seconds=issued)
    fields = {
        "run_id": rig.run_id,
        "fleet_id": fleet_id,
        "site_id": site_id,
        "control_id": "event",
        "epoch": 1,
        "sequence": sequence,
        "issued_at": issued_at,
        "starts_at": issued_at,
        "ends_at": issued_at + timedelta(hours=1),
        "lease_expires_at": issued_at + timedelta(minutes=15),
        "reason": "event",
        "target_power_watts": site.import_limit_watts * 0.8,
        "ramp_down_watts_per_second": site.ramp_down_watts_per_second,
        "ramp_up_watts_per_second": site.ramp_up_watts_per_second,
        "fallback_power_watts": site.import_limit_watts * 0.7,
    }
    return Throttle(**(fields | more))


def release(rig: Rig, sequence: int, control_id: str) -> Release:
    """The end of a control, now."""
    kept = throttle(rig, sequence).model_dump(include={*Release.model_fields} - {"kind", "control_id"})
    return Release(**kept, control_id=f"{control_id}-ends", releases_control_id=control_id)


def answers(rig: Rig, site_id: str = SITE) -> list[tuple[int, str]]:
    """What the site has answered, each record once: (sequence, status), in order."""
    acks = {(ack["sequence"], ack["status"], ack["observed_at"]): ack for ack in rig.records(COMMAND_ACKS)}
    return [(ack["sequence"], ack["status"]) for ack in acks.values() if ack["site_id"] == site_id]


async def answered(rig: Rig, command: Command) -> dict[str, Any]:
    """Sends a command and waits for the site's answer to it."""
    await rig.send(SITE_COMMANDS, [command])
    return await answer_to(rig, command.sequence)


async def answer_to(rig: Rig, sequence: int) -> dict[str, Any]:
    """The site's first answer to a command, once it is there."""

    def found() -> list[dict[str, Any]]:
        return [ack for ack in rig.records(COMMAND_ACKS) if ack["sequence"] == sequence]

    await rig.until(f"an answer to {sequence}", lambda: bool(found()))
    return found()[0]


async def heartbeat_after(rig: Rig, seen: int) -> dict[str, Any]:
    """The first heartbeat after so many."""
    await rig.until("a heartbeat", lambda: len(rig.records(SITE_HEARTBEATS)) > seen)
    return rig.records(SITE_HEARTBEATS)[seen]


async def test_controller_without_a_memory_starts_from_the_last_command_in_force(
    broker: Broker, tmp_path: Path
) -> None:
    async with rig_on(broker, tmp_path) as rig:
        hour_ago = wall_now() - timedelta(hours=1)
        await rig.send(
            SITE_COMMANDS,
            [
                throttle(rig, 1, issued=-7200, control_id="over", ends_at=hour_ago, lease_expires_at=hour_ago),
                throttle(rig, 2, issued=-120),
                renewal := throttle(rig, 3, issued=-60, target_power_watts=170_000.0, renewal=True),
                throttle(rig, 4, issued=-50, control_id="released"),
                release(rig, 5, "released"),
            ],
        )
        rig.start_controller(SITE, tmp_path / "memory")
        beat = await heartbeat_after(rig, 0)
        assert (beat["epoch"], beat["sequence"]) == (1, 5), "the highest pair seen, in force or not"
        assert beat["target_power_watts"] == renewal.target_power_watts
        await answered(rig, throttle(rig, 6))
        # By the next answer all are in: the superseded, the expired and the released got none.
        assert answers(rig) == [(3, "accepted"), (6, "accepted")]


async def test_controller_killed_and_started_again_keeps_its_lease_and_goes_on_where_it_was(
    broker: Broker, tmp_path: Path
) -> None:
    async with rig_on(broker, tmp_path) as rig:
        first = rig.start_controller(SITE, tmp_path / "memory")
        await heartbeat_after(rig, 0)
        await answered(rig, throttle(rig, 1, target_power_watts=170_000.0))
        first.kill()
        beats = len(rig.records(SITE_HEARTBEATS))
        await rig.send(SITE_COMMANDS, [throttle(rig, 2, target_power_watts=160_000.0)])  # nobody is there
        rig.start_controller(SITE, tmp_path / "memory")
        await answer_to(rig, 2)
        third = throttle(rig, 3, target_power_watts=150_000.0)
        await answered(rig, third)
        assert answers(rig) == [(1, "accepted"), (2, "accepted"), (3, "accepted")]
        beat = await heartbeat_after(rig, beats)
        assert beat["target_power_watts"] in {170_000.0, 160_000.0, 150_000.0}, "never free in between"


@on_kafka_when_drilled
async def test_controller_killed_after_a_refusal_does_not_accept_the_same_command_later(
    broker: Broker, tmp_path: Path
) -> None:
    async with rig_on(broker, tmp_path) as rig:
        memory = tmp_path / "memory"
        await lock_out(rig, memory)
        first = rig.start_controller(SITE, memory)
        beat = await heartbeat_after(rig, 0)
        assert beat["locked_out"] is True
        refusal = await answered(rig, throttle(rig, 1))
        assert (refusal["status"], refusal["detail"]) == ("rejected", LOCKED_OUT)
        first.kill()
        await lock_out(rig, memory, "--lift")
        rig.start_controller(SITE, memory)
        beat = await heartbeat_after(rig, 1)
        assert (beat["locked_out"], beat["target_power_watts"]) == (False, None)
        await answered(rig, throttle(rig, 2))
        said = defaultdict(set)
        for sequence, status in answers(rig):
            said[sequence].add(status)
        assert said == {1: {"rejected"}, 2: {"accepted"}}


@on_kafka_when_drilled
async def test_controller_obeys_nobody_while_locked_out_and_obeys_again_when_that_is_lifted(
    broker: Broker, tmp_path: Path
) -> None:
    async with rig_on(broker, tmp_path) as rig:
        memory = tmp_path / "memory"
        rig.start_controller(SITE, memory)
        assert (await answered(rig, throttle(rig, 1)))["status"] == "accepted"
        await lock_out(rig, memory)
        locked_at = await first_answered(rig, 2, "rejected")
        assert (await answered(rig, throttle(rig, locked_at + 1)))["detail"] == LOCKED_OUT
        await lock_out(rig, memory, "--lift")
        await first_answered(rig, locked_at + 2, "accepted")


@on_kafka_when_drilled
async def test_controller_acts_on_no_command_of_another_run(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig:
        # Taken, its pair would stand above that of the command after it: before the start, and while it runs.
        foreign = throttle(rig, 9, epoch=9, run_id="live").to_json()
        place = partition_of(SITE.encode(), PARTITIONS)
        await rig.put(SITE_COMMANDS.name, SITE.encode(), foreign, place)
        rig.start_controller(SITE, tmp_path / "memory")
        beat = await heartbeat_after(rig, 0)
        assert (beat["epoch"], beat["target_power_watts"]) == (0, None)
        await rig.put(SITE_COMMANDS.name, SITE.encode(), foreign, place)
        ack = await answered(rig, throttle(rig, 1))
        assert (ack["status"], ack["highest_epoch"]) == ("accepted", 1)
        assert answers(rig) == [(1, "accepted")]
        assert "wrong_run" in rig.said("controller")


@on_kafka_when_drilled
async def test_controller_ignores_its_neighbours_commands_in_the_same_partition(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig:
        by_partition = defaultdict(list)
        for _, site in rig.fleet_file.sites():
            by_partition[partition_of(site.id.encode(), PARTITIONS)].append(site.id)
        ours, neighbour = next(sites for sites in by_partition.values() if len(sites) > 1)[:2]
        rig.start_controller(ours, tmp_path / "memory")
        await rig.send(SITE_COMMANDS, [throttle(rig, 9, neighbour, epoch=9)])
        ack = await answered(rig, throttle(rig, 1, ours))
        assert (ack["site_id"], ack["status"], ack["highest_epoch"]) == (ours, "accepted", 1)
        assert answers(rig, neighbour) == []
        beat = await heartbeat_after(rig, 0)
        assert beat["site_id"] == ours


async def first_answered(rig: Rig, sequence: int, status: str) -> int:
    """Sends throttle after throttle until one is answered so; the lock-out is seen at the controller's next tick."""
    while (await answered(rig, throttle(rig, sequence)))["status"] != status:
        sequence += 1
    return sequence


async def lock_out(rig: Rig, memory: Path, *options: str) -> None:
    """`gridtide lock-out`, as the operator at the site gives it."""
    command = [sys.executable, "-m", "streams.cli", "lock-out", SITE, *options, "--state-dir", str(memory)]
    environment = {**rig.environment(), "PATH": ""}
    await asyncio.to_thread(subprocess.run, command, env=environment, check=True, capture_output=True)
