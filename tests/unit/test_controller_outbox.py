"""What waits for the bus, and the record that stays at the site."""

import json
from pathlib import Path

from schemas.command import CommandAck
from streams.dispatch.controller import ControllerState, Surroundings, accept
from streams.dispatch.journal import Journal, entry
from streams.dispatch.outbox import Outbox, OutboxFile
from streams.dispatch.tick import tick
from tests.policy_cases import ALPHA, FULL, ack, at, throttle


def an_ack(number: int, status: str = "accepted") -> CommandAck:
    return ack(throttle((1, number)), status)


def test_outbox_keeps_the_order() -> None:
    acks = [an_ack(number) for number in range(3)]
    assert Outbox().put(acks[:2]).put(acks[2:]).entries == tuple(acks)


def test_outbox_that_is_full_drops_the_oldest_progress_first_and_verdicts_last() -> None:
    acks = [an_ack(1), an_ack(2, "ramping"), an_ack(3, "rejected"), an_ack(4, "compliant"), an_ack(5, "partial")]
    full = Outbox().put(acks, most=3)
    assert [each.sequence for each in full.entries] == [1, 3, 5]
    assert full.dropped == 2
    assert [each.sequence for each in full.put([an_ack(6)], most=3).entries] == [3, 5, 6]


def test_outbox_said_takes_out_what_is_out_though_others_were_dropped_meanwhile() -> None:
    first, second = an_ack(1, "ramping"), an_ack(2)
    outbox = Outbox().put([first, second]).put([an_ack(3)], most=2)
    assert outbox.said(first) == outbox
    assert [each.sequence for each in outbox.said(second).entries] == [3]


def test_outbox_file_survives_a_restart_and_is_gone_when_all_was_said(tmp_path: Path) -> None:
    path, acks = tmp_path / "outbox.jsonl", [an_ack(number) for number in range(3)]
    file = OutboxFile(path)
    file.put(acks[:1])
    file.put(acks[1:])
    again = OutboxFile(path)
    again.load()
    assert again.outbox.entries == tuple(acks)
    for each in again.outbox.entries:
        assert path.exists()
        again.said(each)
    assert not path.exists()
    empty = OutboxFile(path)
    empty.load()
    assert empty.outbox == Outbox()


def test_outbox_file_leaves_out_a_line_that_a_crash_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    file = OutboxFile(path)
    file.put([an_ack(1)])
    path.write_bytes(path.read_bytes() + b'\n{"fleet_id": "tr')
    file.put([an_ack(2)])
    again = OutboxFile(path)
    again.load()
    assert [each.sequence for each in again.outbox.entries] == [1, 2]


def test_outbox_file_does_not_outgrow_its_queue(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox.jsonl")
    file.put(an_ack(number, "ramping") for number in range(2500))
    file.put([an_ack(2500)])
    lines = (tmp_path / "outbox.jsonl").read_bytes().split()
    assert len(lines) == len(file.outbox.entries) == 2000
    assert file.outbox.dropped == 501


def test_journal_notes_each_change_and_once_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal, state = Journal(path), ControllerState(site_id="alpha")
    meter = 40_000.0
    for seconds in range(120):
        if seconds == 30:
            state, _ = accept(state, throttle(target_power_watts=39_000.0, issued=30), Surroundings(ALPHA), at(30))
        ticked = tick(state, Surroundings(ALPHA, meter + seconds / 100), FULL, at(seconds))
        state = ticked.state
        meter = min(meter, ticked.limit_watts or meter)
        journal.note(entry(ticked, locked_out=False, now=at(seconds)), at(seconds))
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    times = [line["observed_at"][14:19] for line in lines]
    assert times[:2] == ["00:00", "00:30"]
    assert len(lines) < 10
    assert (lines[0]["limit_watts"], lines[0]["meter_power_watts"]) == (None, 40_000)
    assert (lines[-1]["target_power_watts"], lines[-1]["controls"]) == (39_000, ["t"])


def test_journal_is_turned_over_before_it_grows_too_large(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", most_bytes=1000)
    for number in range(100):
        journal.note({"limit_watts": number}, at(number))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["journal.before.jsonl", "journal.jsonl"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    last = (tmp_path / "journal.jsonl").read_bytes().splitlines()[-1]
    assert json.loads(last) == {"limit_watts": 99}
