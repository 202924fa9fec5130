"""The live path equals the simulator: one scenario through both gives the same commands.

Live: `gridtide replay` with its plants, the aggregate and policy stages and a controller a site, on a real broker.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from infra.embedded.process import free_port
from infra.settings import load_fleet_file
from schemas.catalog import SITE_COMMANDS
from schemas.command import Release, Shift, Throttle
from streams.collect.inputs import demo_events
from streams.simulate.safety import violations
from tests.simulations import START, run
from tests.stream.judge import AnyCommand, anchors, judged
from tests.stream.rig import Rig, on_kafka_when_drilled, rig_on
from tests.stream.two_sites import write_fleet_file

SPAN_SECONDS = 600.0
RATE = 20.0
PRICE_STEP_SECONDS = 30.0
STARTS_IN_SECONDS = 10.0
PLAN_SECONDS = 60.0
# New York is dear for eight minutes, then the west. Every price is a planning step: both paths plan at the same times,
# and have moved what is worth it well before the event is announced, to which rules answer while the optimiser works.
PRICES = [(90.0, 30.0)] * 16 + [(30.0, 90.0)] * 5
SCENARIO = """
name = "live-path"
starts_at = {starts_at:%Y-%m-%dT%H:%M:%SZ}
duration_seconds = {duration}
warm_up_seconds = 0
forecast = "none"
fleet_file = "fleets.toml"
[traffic]
requests = "requests.csv"
[[prices]]
file = "prices.csv"
published_seconds = 0.0
[[events]]
kind = "{event.kind}"
announced = {announced}
starts = {starts}
ends = {ends}
reduction_ratio = {event.reduction_ratio}
ramp_seconds = {event.ramp_seconds}
"""


@dataclass(frozen=True, order=True)
class What:
    """Of what kind a command is, to whom and why."""

    site_id: str
    kind: str
    reason: str
    role: str
    service_class: str


@dataclass(frozen=True)
class Told:
    """When a site was told it, seconds from the start, and how much."""

    seconds: float
    share_ratio: float
    target_power_watts: float


@on_kafka_when_drilled
async def test_live_path_gives_the_commands_that_the_simulator_gives(broker: tuple[str, str], tmp_path: Path) -> None:
    _write_inputs(tmp_path)
    outcome = await asyncio.to_thread(run, tmp_path, _scenario(tmp_path), "planner")
    simulated = [entry.record for entry in outcome.log if isinstance(entry.record, Throttle | Shift | Release)]
    async with rig_on(broker, tmp_path, clocked=False) as rig:
        live, starts_at = await _played(rig, tmp_path)
        expected, found = _story(simulated, START), _story(live, starts_at)
        assert {what.kind for what in expected} == {"throttle", "shift", "release"}, "the scenario asks for all"
        assert {what: len(told) for what, told in found.items()} == {what: len(told) for what, told in expected.items()}
        for what, told in expected.items():
            for ours, theirs in zip(told, found[what], strict=True):
                assert abs(ours.seconds - theirs.seconds) <= PLAN_SECONDS, (what, ours, theirs)
                assert abs(ours.share_ratio - theirs.share_ratio) <= 0.01, (what, ours, theirs)
                assert abs(ours.target_power_watts - theirs.target_power_watts) <= 0.01 * ours.target_power_watts, what
        assert violations(judged(rig), rig.fleet_file) == []


async def _played(rig: Rig, folder: Path) -> tuple[list[AnyCommand], datetime]:
    """The commands of the live run before the last planning step of the scenario, and when it started."""
    rig.settings = rig.settings.model_copy(update={"fleet_file": folder / "fleets.toml"})
    rig.fleet_file = load_fleet_file(rig.settings.fleet_file)
    port = free_port()
    options = {
        "--duration": SPAN_SECONDS / RATE,
        "--speed": RATE,
        "--starts-in": STARTS_IN_SECONDS,
        "--requests": folder / "requests.csv",
        "--prices": folder / "prices.csv",
        "--plant-port": port,
    }
    replay = rig.start_replay(*(str(each) for option in options.items() for each in option))
    rig.start("aggregate", "policy")
    for _, site in rig.fleet_file.sites():
        rig.start_controller(site.id, folder / "controllers", port)
    await rig.until("the replay's end", lambda: replay.exit_status() is not None)
    assert replay.exit_status() == 0, replay.last_words()
    starts_at = anchors(rig)[0].replay_anchor
    commands = [SITE_COMMANDS.adapter.validate_json(message.value) for message in rig.seen[SITE_COMMANDS.name]]
    return [each for each in commands if each.issued_at < starts_at + timedelta(seconds=SPAN_SECONDS)], starts_at


def _story(commands: Iterable[AnyCommand], starts_at: datetime) -> dict[What, list[Told]]:
    """What each site was told anew: what only renews, or repeats to within a per cent, is left out."""
    story = defaultdict[What, list[Told]](list)
    newest: dict[tuple[str, str], tuple[What, Told]] = {}
    for command in commands:
        share, target = getattr(command, "share_ratio", 0.0), getattr(command, "target_power_watts", 0.0)
        role, service = getattr(command, "role", ""), getattr(command, "service_class", "")
        what = What(command.site_id, command.kind, command.reason, role, service)
        told = Told((command.issued_at - starts_at).total_seconds(), share, target)
        known = newest.get((command.site_id, command.control_id))
        if known is not None and known[0] == what and _same(known[1], told):
            continue
        newest[command.site_id, command.control_id] = (what, told)
        story[what].append(told)
    return dict(story)


def _same(a: Told, b: Told) -> bool:
    watts = abs(a.target_power_watts - b.target_power_watts)
    return watts <= 0.01 * a.target_power_watts and abs(a.share_ratio - b.share_ratio) <= 0.01


def _scenario(folder: Path) -> str:
    """The scenario that `gridtide replay` plays: its traffic and prices, and the event that it makes up."""
    (event,) = demo_events(load_fleet_file(folder / "fleets.toml"), START, SPAN_SECONDS, "live-path")
    announced, starts, ends = (
        (at - START).total_seconds() for at in (event.published_at, event.starts_at, event.ends_at)
    )
    return SCENARIO.format(
        starts_at=START, duration=SPAN_SECONDS, event=event, announced=announced, starts=starts, ends=ends
    )


def _write_inputs(folder: Path) -> None:
    """Traffic that is always the same but for one busy minute, to which it is scaled and that neither site sees."""
    write_fleet_file(folder / "fleets.toml")
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for number in range(round(6 * SPAN_SECONDS / 2.5) + 1):
        seconds = 2.5 * number
        busy = 3.5 * SPAN_SECONDS <= seconds < 3.5 * SPAN_SECONDS + 60
        lines.append(f"{START + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S.%f},500,{142 if busy else 100}")
    (folder / "requests.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = ["interval_start_utc,NYC_usd_mwh,WEST_usd_mwh"]
    for number, (nyc, west) in enumerate(PRICES):
        starts_at = START + timedelta(seconds=number * PRICE_STEP_SECONDS)
        lines.append(f"{starts_at:%Y-%m-%dT%H:%M:%SZ},{nyc},{west}")
    (folder / "prices.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
