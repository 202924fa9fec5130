"""What others see with tools of their own: kcat reads the bus, psql the database, and both tell the same."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from psycopg.conninfo import conninfo_to_dict

from schemas.catalog import COMMAND_ACKS, GRID_SIGNALS, SITE_COMMANDS, SITE_STATE, Topic
from tests.stream.inputs import event_now, power_now
from tests.stream.rig import PATIENCE_SECONDS, Rig, on_one_broker, rig_on

pytestmark = [pytest.mark.broker, pytest.mark.database]

SCHEMAS = Path(__file__).parents[2] / "docs/reference/schemas"
SITE = "ercot-dallas"
Broker = tuple[str, str]
Rows = set[tuple[str, ...]]


def needs(tool: str) -> None:
    """Skips, by name, where a tool is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


async def output_of(*command: str, **environment: str) -> str:
    """What a program prints; fails where it does."""
    pipe = asyncio.subprocess.PIPE
    ran = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env={**os.environ, **environment})
    out, complaint = await asyncio.wait_for(ran.communicate(), 60)
    assert ran.returncode == 0, complaint.decode()
    return out.decode()


async def by_kcat(rig: Rig, topic: Topic) -> list[dict[str, Any]]:
    """A topic from its beginning to its end, as kcat reads it: one JSON document a record, each as its schema says."""
    name = topic.on_bus(rig.run_id)
    where = ["-b", rig.settings.bootstrap_servers, "-t", name]
    printed = await output_of("kcat", *where, *["-C", "-e", "-q", "-o", "beginning", "-f", "%s\\n"])
    records = [json.loads(line) for line in printed.splitlines()]
    validator = jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{topic.name}.schema.json").read_text()))
    for record in records:
        validator.validate(record)
    return records


async def by_psql(dsn: str, query: str) -> Rows:
    """The rows of a query, as psql prints them, over TCP and with the password."""
    to = conninfo_to_dict(dsn)
    address = ["-h", str(to["host"]), "-p", str(to["port"]), "-U", str(to["user"]), "-d", str(to["dbname"])]
    options = ["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--field-separator=|", "-c", query]
    printed = await output_of("psql", *address, *options, PGPASSWORD=str(to["password"]))
    return {tuple(line.split("|")) for line in printed.splitlines()}


async def send_power_and_an_event(rig: Rig) -> None:
    """One window of power of every site of the fleet, and a grid event in force now."""
    fleet = rig.fleet_file.fleet_of(SITE)
    assert fleet is not None
    states = [state for state in power_now(rig.fleet_file, rig.run_id) if state.fleet_id == fleet]
    event = event_now(fleet, rig.run_id)
    await rig.send(SITE_STATE, states)
    await rig.send(GRID_SIGNALS, [event])


@asynccontextmanager
async def played(broker: Broker, folder: Path, dsn: str) -> AsyncIterator[Rig]:
    """A run in which a site was commanded and has answered, and whose planner has ended: the bus stands still."""
    async with rig_on(broker, folder, dsn) as rig:
        planner, _ = rig.start("policy", "record")
        rig.start_controller(SITE, folder / "memory")
        await send_power_and_an_event(rig)
        await rig.until("a command for each site", lambda: len({c["site_id"] for c in rig.records(SITE_COMMANDS)}) == 2)
        await rig.until("an answer", lambda: bool(rig.records(COMMAND_ACKS)))
        planner.terminate()
        await rig.until("the planner's end", lambda: planner.pid is None)
        await rig.until("every answer", lambda: answers(rig.records(COMMAND_ACKS)) == expected(rig))
        yield rig


def expected(rig: Rig) -> Rows:
    """That the site with a controller accepts every command."""
    of_site = (command for command in rig.records(SITE_COMMANDS) if command["site_id"] == SITE)
    return {(SITE, str(command["epoch"]), str(command["sequence"]), "accepted") for command in of_site}


def answers(acks: list[dict[str, Any]]) -> Rows:
    """Answers as psql prints them."""
    return {(ack["site_id"], str(ack["epoch"]), str(ack["sequence"]), ack["status"]) for ack in acks}


def orders(commands: list[dict[str, Any]]) -> Rows:
    """Throttles as psql prints them."""
    return {
        (each["site_id"], str(each["epoch"]), str(each["sequence"]), each["control_id"], each["kind"], each["reason"])
        for each in commands
    }


async def psql_finds(rig: Rig, commands: list[dict[str, Any]], acks: list[dict[str, Any]]) -> None:
    """Waits until the history holds these commands and answers, and nothing else; each psql takes its own time."""
    dsn = rig.settings.database_dsn.get_secret_value()
    columns = "site_id, epoch, sequence, control_id, kind, reason"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await by_psql(dsn, f"SELECT {columns} FROM gridtide.site_commands") != orders(commands):
            pass
        while await by_psql(dsn, "SELECT site_id, epoch, sequence, status FROM gridtide.command_acks") != answers(acks):
            pass


@on_one_broker
async def test_psql_finds_what_is_on_the_bus(broker: Broker, tmp_path: Path, migrated_dsn: str) -> None:
    needs("psql")
    async with played(broker, tmp_path, migrated_dsn) as rig:
        await psql_finds(rig, rig.records(SITE_COMMANDS), rig.records(COMMAND_ACKS))


async def test_kcat_reads_commands_as_json_that_the_schema_describes_and_psql_finds_the_same(
    broker: Broker, tmp_path: Path, migrated_dsn: str
) -> None:
    needs("kcat")
    needs("psql")
    name, servers = broker
    if name == "embedded" and await can_not_list(servers):
        pytest.skip("this kcat can't read how the embedded broker (Tansu) names its API versions")
    async with played(broker, tmp_path, migrated_dsn) as rig:
        commands, acks = await by_kcat(rig, SITE_COMMANDS), await by_kcat(rig, COMMAND_ACKS)
        assert {command["site_id"] for command in commands} > {SITE}
        assert {command["run_id"] for command in commands} == {rig.run_id}
        assert answers(acks) == expected(rig)
        await psql_finds(rig, commands, acks)


async def can_not_list(servers: str) -> bool:
    """Whether kcat gets no list of topics from a broker."""
    silent = asyncio.subprocess.DEVNULL
    ran = await asyncio.create_subprocess_exec("kcat", "-b", servers, "-L", "-m", "5", stdout=silent, stderr=silent)
    return await ran.wait() != 0
