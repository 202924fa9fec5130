"""Signed, from a signal to the ack: what nobody may have said is not acted on, and all of it is one trace."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka.structs import ConsumerRecord

from infra.bus import partition_of
from infra.clock import wall_now
from infra.key_folder import KeyFolder
from infra.signing import Headers, Owner
from schemas.catalog import COMMAND_ACKS, FLEET_PLANS, GRID_SIGNALS, SITE_COMMANDS, SITE_STATE, Topic
from schemas.command import CommandAck
from schemas.envelope import Record
from schemas.plan import FleetPlan
from streams.trace import Trace, received
from tests.stream.inputs import event_now, power_now
from tests.stream.rig import PARTITIONS, Rig, rig_on
from tests.stream.test_controller_service import SITE, answered, answers, heartbeat_after, throttle

Broker = tuple[str, str]
FLEET = "nyiso"
PLANNER = Owner("planner", FLEET)
GIVEN = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


def by(owner: Owner, folder: Path, value: bytes, at: datetime, ended: datetime | None = None) -> Headers:
    """The headers of somebody who made himself a key in a folder, and trusts it there."""
    keys = KeyFolder(folder)
    keys.create(owner, at - timedelta(seconds=1), ended)
    return keys.read().sign(value, owner, at)


async def put(rig: Rig, topic: Topic, record: Record, headers: Headers) -> None:
    """Puts a record on the bus with any headers."""
    key = topic.key_of(record)
    await rig.put(topic.name, key, record.to_json(), partition_of(key, PARTITIONS), headers)


async def forge(rig: Rig, epoch: int) -> None:
    """Every kind of command that the fleet's planner has not said, each far above any pair of its own."""
    command = throttle(rig, 9, epoch=epoch, target_power_watts=80_000.0)
    value, now, ours = command.to_json(), wall_now(), rig.keys.folder.folder
    hour_ago = now - timedelta(hours=1)
    genuine = rig.signed(SITE_COMMANDS, command, value)
    await put(rig, SITE_COMMANDS, command.model_copy(update={"target_power_watts": 90_000.0}), genuine)
    for headers in (
        [],
        by(PLANNER, rig.folder / "stranger", value, now),
        by(PLANNER, ours, value, hour_ago, ended=now - timedelta(minutes=30)),
        by(Owner("planner", "ercot"), ours, value, now),
        by(Owner("site", SITE), ours, value, now),
    ):
        await put(rig, SITE_COMMANDS, command, headers)


async def test_controller_acts_on_no_command_that_its_planner_has_not_signed(broker: Broker, tmp_path: Path) -> None:
    async with rig_on(broker, tmp_path) as rig:
        await forge(rig, 8)
        rig.start_controller(SITE, tmp_path / "memory")
        beat = await heartbeat_after(rig, 0)
        assert (beat["epoch"], beat["target_power_watts"]) == (0, None)
        await forge(rig, 9)
        ack = await answered(rig, throttle(rig, 1))
        assert (ack["status"], ack["highest_epoch"]) == ("accepted", 1)
        assert answers(rig) == [(1, "accepted")], "nothing is said to a forger"
        assert all(reason in rig.said("controller") for reason in ("unsigned", "forged", "untrusted"))


def forged_ack(rig: Rig, command: dict[str, Any]) -> CommandAck:
    """An answer that would send the planner above an epoch that nobody has used."""
    told = {name: command[name] for name in ("fleet_id", "site_id", "control_id", "epoch", "sequence")}
    return CommandAck(
        **told, run_id=rig.run_id, status="rejected", observed_at=wall_now(), highest_epoch=99, highest_sequence=1
    )


def forged_plan(rig: Rig) -> FleetPlan:
    """A plan that a successor would go on from."""
    made = {"epoch": 50, "sequence": 5, "revision": 9, "owner": "forger", "mode": "hold", "explanation": "forged"}
    return FleetPlan.model_validate(
        {**made, "run_id": rig.run_id, "fleet_id": FLEET, "kind": "plan", "issued_at": wall_now()}
    )


def of_site(rig: Rig, topic: Topic) -> list[tuple[ConsumerRecord, dict[str, Any]]]:
    """What was said to the site, or by it: message and record."""
    both = zip(rig.seen[topic.name], rig.records(topic), strict=True)
    return [(message, record) for message, record in both if record.get("site_id") == SITE]


def trace_of(message: ConsumerRecord) -> Trace:
    """The trace that a message came with."""
    trace = received(message.headers)
    assert trace is not None
    return trace


async def test_from_signal_to_ack_all_is_signed_and_one_trace_and_what_is_not_signed_does_not_count(
    broker: Broker, tmp_path: Path
) -> None:
    async with rig_on(broker, tmp_path) as rig:
        await put(rig, FLEET_PLANS, forged_plan(rig), [])
        rig.start("policy")
        rig.start_controller(SITE, tmp_path / "memory")
        await rig.send(SITE_STATE, power_now(rig.fleet_file, rig.run_id))
        await put(rig, GRID_SIGNALS, event_now(FLEET, rig.run_id), [GIVEN.header()])
        await rig.until("an answer", lambda: bool(of_site(rig, COMMAND_ACKS)))
        (told, command), (answer, ack) = of_site(rig, SITE_COMMANDS)[0], of_site(rig, COMMAND_ACKS)[0]
        assert (ack["epoch"], ack["sequence"], ack["status"]) == (1, command["sequence"], "accepted")
        assert {trace_of(message).trace_id for message in (told, answer)} == {GIVEN.trace_id}
        assert len({trace_of(told).span_id, trace_of(answer).span_id, GIVEN.span_id}) == 3

        false = forged_ack(rig, command)
        await put(rig, COMMAND_ACKS, false, [])
        await put(
            rig,
            COMMAND_ACKS,
            false,
            by(Owner("site", "nyiso-west"), rig.keys.folder.folder, false.to_json(), wall_now()),
        )
        letters = rig.seen[COMMAND_ACKS.dlq]
        await rig.until("both dead letters", lambda: len(letters) == 2)
        assert [dict(letter.headers)["reason"] for letter in letters] == [b"unsigned", b"untrusted"]
        # An answer to what follows: by then the planner would have gone above the epoch that was made up.
        over = event_now(FLEET, rig.run_id).model_copy(update={"cancelled": True, "published_at": wall_now()})
        await rig.send(GRID_SIGNALS, [over])
        await rig.until("a release", lambda: any(each["kind"] == "release" for _, each in of_site(rig, SITE_COMMANDS)))
        assert {record["epoch"] for _, record in of_site(rig, SITE_COMMANDS)} == {1}
        for topic in (FLEET_PLANS, SITE_COMMANDS):
            for message in rig.seen[topic.name]:
                record = topic.adapter.validate_json(message.value)
                refused = rig.keys.refusal(topic, record, message.value, message.headers)
                assert (refused is None) == (getattr(record, "owner", "") != "forger")
