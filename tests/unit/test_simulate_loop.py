"""The closed loop in virtual time: the same seed the same run, and each fault does what it says."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from schemas.command import CommandAck, Shift, Throttle
from schemas.forecast import SiteForecast
from schemas.plan import FleetPlan
from schemas.signals import EventSignal, PriceSignal
from schemas.site import ControllerHeartbeat, LoadState, PowerState
from streams.simulate.log import UNSIGNED, Entry, Outcome
from streams.simulate.loop import Policy
from tests.simulations import SITES, event, fault, mean_watts, of_kind, run, seconds, statuses, text, throttles

PRICES = '\n[[prices]]\nfile = "prices.csv"\nzones = { ALPHA = "NYC", BETA = "WEST" }\n'


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """An event with nothing going wrong."""
    return run(tmp_path_factory.mktemp("plain"), text(more=event()))


def target_watts(outcome: Outcome, site: str) -> float:
    return float(throttles(outcome, site)[-1][1].target_power_watts)


def log_bytes(entries: list[Entry]) -> bytes:
    return b"\n".join(b"%f %s %s" % (seconds(each.at), each.topic.encode(), each.record.to_json()) for each in entries)


@pytest.mark.parametrize(("policy", "duration"), [("rules", 700), ("planner", 370)])
def test_simulate_gives_the_same_log_by_seed_to_the_byte(tmp_path: Path, policy: Policy, duration: float) -> None:
    network = "[network]\nloss_ratio = 0.05\nduplicate_ratio = 0.05\nreorder_ratio = 0.05\n"
    written = text(duration=duration, more=event(650) + network, forecast="persistence")
    logs = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        entries: list[Entry] = []
        seeded = written.replace('name = "pair"', f'name = "pair"\nseed = {seed}', 1)
        run(tmp_path / folder, seeded, policy, entries.append)
        logs.append(log_bytes(entries))
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]
    assert b"site.state.v1" in logs[0]


def test_simulate_meets_an_event_and_writes_down_what_happened(plain: Outcome) -> None:
    for site in SITES:
        before = mean_watts(plain, site, 0, 300)
        assert mean_watts(plain, site, 800, 1500) == pytest.approx(0.75 * before, rel=0.03)
        assert mean_watts(plain, site, 1740, 1800) > 0.85 * before
        assert "compliant" in statuses(plain, site)
    path = plain.trajectory
    assert set(path.mode.tolist()) <= {"hold", "price-blind"}
    assert np.nanmin(path.limit_watts) == pytest.approx(target_watts(plain, "alpha"), rel=0.05)  # as trimmed
    assert not np.array_equal(path.meter_power_watts, path.read_power_watts)
    assert path.read_power_watts == pytest.approx(path.meter_power_watts, rel=0.02)
    assert path.it_power_watts == pytest.approx(path.meter_power_watts / 1.25)
    served = path.tokens_served.sum() + path.work_queued[:, -1].sum()
    assert path.tokens_arrived.sum() == pytest.approx(served)
    assert np.isnan(path.price_usd_per_mwh).all()


def test_simulate_without_a_planner_commands_nothing(tmp_path: Path) -> None:
    outcome = run(tmp_path, text(duration=900, more=event(800)), "none")
    assert not throttles(outcome)
    assert not of_kind(outcome, FleetPlan)
    assert of_kind(outcome, EventSignal)
    assert mean_watts(outcome, "alpha", 700, 800) == pytest.approx(mean_watts(outcome, "alpha", 0, 300), rel=0.01)


def test_simulate_under_loss_sends_again_what_nobody_answers(tmp_path: Path) -> None:
    outcome = run(tmp_path, text(more=event() + fault("loss", 0, 1800, "ratio = 0.3")))
    beats = len(of_kind(outcome, ControllerHeartbeat))
    assert beats == pytest.approx(0.7 * 120, abs=20)
    for site in SITES:
        target = target_watts(outcome, site)
        assert mean_watts(outcome, site, 900, 1500) <= target * 1.02


def test_simulate_under_duplication_answers_twice_and_changes_nothing(tmp_path: Path, plain: Outcome) -> None:
    outcome = run(tmp_path, text(more=event() + fault("duplication", 0, 1800, "ratio = 1.0")))
    assert len(of_kind(outcome, ControllerHeartbeat)) > 1.9 * len(of_kind(plain, ControllerHeartbeat))
    assert statuses(outcome, "alpha").count("accepted") > statuses(plain, "alpha").count("accepted")
    assert mean_watts(outcome, "alpha", 0, 1800) == pytest.approx(mean_watts(plain, "alpha", 0, 1800), rel=0.01)


def test_simulate_with_a_lost_site_holds_there_what_was_told(tmp_path: Path, plain: Outcome) -> None:
    outcome = run(tmp_path, text(more=event() + fault("bus-lost", 900, 1300, 'sites = ["alpha"]')))
    heard = [at for at, _ in of_kind(outcome, PowerState, "alpha")]
    assert max(b - a for a, b in pairwise(heard)) == pytest.approx(400, abs=20)
    assert max(b - a for a, b in pairwise([at for at, _ in of_kind(outcome, PowerState, "beta")])) < 15
    assert mean_watts(outcome, "alpha", 900, 1500) <= target_watts(plain, "alpha") * 1.02


def test_simulate_with_the_whole_bus_lost_plans_nothing_until_it_is_back(tmp_path: Path) -> None:
    outcome = run(tmp_path, text(more=event() + fault("bus-lost", 200, 500)))
    assert not [at for at in (seconds(each.at) for each in outcome.log) if 200.5 < at < 500]
    (announced, _) = of_kind(outcome, EventSignal)[0]
    assert announced == 500  # said at 300
    assert throttles(outcome, "alpha")[0][0] == pytest.approx(500, abs=1)


def test_simulate_with_a_silent_site_hears_nothing_of_it_and_it_obeys(tmp_path: Path) -> None:
    outcome = run(tmp_path, text(more=event() + fault("site-silent", 250, 1800, 'sites = ["beta"]')))
    assert max(at for at, _ in of_kind(outcome, PowerState, "beta")) < 251
    assert statuses(outcome, "beta") == []
    assert mean_watts(outcome, "beta", 900, 1500) < 0.85 * mean_watts(outcome, "beta", 0, 300)
    assert any("unanswered" in each.why for _, plan in of_kind(outcome, FleetPlan) for each in plan.rejected)


def test_simulate_with_a_lying_meter_reads_another_power_than_is_drawn(tmp_path: Path) -> None:
    more = fault("lying-meter", 300, 600, 'sites = ["alpha"]\nfactor = 0.5') + fault(
        "lying-meter", 300, 600, 'sites = ["beta"]\nstuck = true'
    )
    path = run(tmp_path, text(duration=900, more=more)).trajectory
    assert path.read_power_watts[0, 30:60] == pytest.approx(0.5 * path.meter_power_watts[0, 30:60], rel=0.02)
    assert len(set(path.read_power_watts[1, 29:60].tolist())) == 1
    assert path.read_power_watts[:, 60:] == pytest.approx(path.meter_power_watts[:, 60:], rel=0.02)


def test_simulate_with_a_dead_meter_goes_on_by_the_gpus_power(tmp_path: Path) -> None:
    outcome = run(tmp_path, text(more=event() + fault("dead-meter", 100, 1800, 'sites = ["alpha"]')))
    assert np.isnan(outcome.trajectory.read_power_watts[0, 10:]).all()
    assert all(state.meter_power_watts is None for at, state in of_kind(outcome, PowerState, "alpha") if at > 120)
    assert mean_watts(outcome, "alpha", 900, 1500) < 0.85 * mean_watts(outcome, "alpha", 0, 300)


def test_simulate_with_equipment_that_refuses_the_cap_draws_on(tmp_path: Path) -> None:
    more = event() + fault("command-refused", 0, 1800, 'sites = ["alpha"]\nby = "equipment"')
    outcome = run(tmp_path, text(more=more))
    assert np.isfinite(outcome.trajectory.limit_watts[0, 90:150]).all()
    # Letting fewer requests in is all that is left, and saves little.
    assert mean_watts(outcome, "alpha", 900, 1500) > 1.05 * mean_watts(outcome, "beta", 900, 1500)
    assert statuses(outcome, "alpha")[0] == "accepted"
    assert "breach" in statuses(outcome, "alpha")


def test_simulate_with_a_locked_out_controller_is_refused(tmp_path: Path) -> None:
    more = event() + fault("command-refused", 0, 1800, 'sites = ["alpha"]\nby = "controller"')
    outcome = run(tmp_path, text(more=more))
    assert set(statuses(outcome, "alpha")) == {"rejected"}
    assert mean_watts(outcome, "alpha", 900, 1500) == pytest.approx(mean_watts(outcome, "alpha", 0, 300), rel=0.01)
    assert all(beat.locked_out for _, beat in of_kind(outcome, ControllerHeartbeat, "alpha"))


def test_simulate_planner_crash_is_taken_over_from_the_last_plan(tmp_path: Path, plain: Outcome) -> None:
    outcome = run(tmp_path, text(more=event() + fault("planner-crash", 700, 1000)))
    plans = of_kind(outcome, FleetPlan)
    assert not [at for at, _ in plans if 700 < at < 1000]
    claims = [(at, plan) for at, plan in plans if plan.kind == "claim"]
    assert [(at, plan.epoch) for at, plan in claims] == [(0, 1), (1000, 2)]
    assert claims[1][1].baselines == [plan for at, plan in plans if at <= 700][-1].baselines
    again = [command for at, command in throttles(outcome, "alpha") if at == 1000]
    assert [(command.epoch, command.sequence) for command in again] == [(2, 1)]
    assert mean_watts(outcome, "alpha", 800, 1500) == pytest.approx(mean_watts(plain, "alpha", 800, 1500), rel=0.01)


def test_simulate_planner_crash_through_an_announcement_answers_it_when_taken_over(tmp_path: Path) -> None:
    outcome = run(tmp_path, text(more=event() + fault("planner-crash", 200, 450)))
    assert throttles(outcome, "alpha")[0][0] == 450
    assert of_kind(outcome, EventSignal)[0][0] == 300


def test_simulate_controller_restart_takes_what_it_missed_and_goes_on(tmp_path: Path, plain: Outcome) -> None:
    outcome = run(tmp_path, text(more=event() + fault("controller-restart", 250, 400, 'sites = ["alpha"]')))
    beats = [at for at, _ in of_kind(outcome, ControllerHeartbeat, "alpha")]
    assert beats
    assert not [at for at in beats if 251 < at < 400]
    answered = [at for at, ack in of_kind(outcome, CommandAck, "alpha") if ack.status == "accepted"]
    assert answered[0] == pytest.approx(400, abs=1)
    assert mean_watts(outcome, "alpha", 800, 1500) == pytest.approx(mean_watts(plain, "alpha", 800, 1500), rel=0.01)


def test_simulate_forged_commands_stand_in_the_log_and_are_not_obeyed(tmp_path: Path) -> None:
    outcome = run(tmp_path, text(duration=900, more=fault("forged-command", 300, 600, 'sites = ["beta"]')))
    forged = [entry for entry in outcome.log if entry.headers == UNSIGNED]
    assert len(forged) == 5
    assert all(isinstance(entry.record, Throttle) and entry.record.site_id == "beta" for entry in forged)
    assert not [record for _, _, record in outcome.judged() if isinstance(record, Throttle)]
    assert statuses(outcome, "beta") == []
    assert mean_watts(outcome, "beta", 300, 900) == pytest.approx(mean_watts(outcome, "beta", 0, 300), rel=0.01)


def test_simulate_price_gap_leaves_the_market_silent(tmp_path: Path) -> None:
    rows = [f"2026-11-01T12:{minute:02}:00Z,20,30" for minute in range(0, 60, 5)]
    (tmp_path / "prices.csv").write_text("\n".join(["interval_start_utc,NYC_usd_mwh,WEST_usd_mwh", *rows]))
    outcome = run(tmp_path, text(more=PRICES + fault("price-gap", 300, 900, 'sites = ["beta"]')))
    said = {
        point: [at for at, signal in of_kind(outcome, PriceSignal) if signal.settlement_point == point]
        for point in ("ALPHA", "BETA")
    }
    assert said == {"ALPHA": [15 + 300 * number for number in range(6)], "BETA": [15, 915, 1215, 1515]}
    path = outcome.trajectory
    assert path.price_usd_per_mwh[:, 0].tolist() == [20, 30]  # true whether or not anybody says so
    assert {"normal", "price-blind"} <= set(path.mode.tolist())


def test_simulate_shifts_traffic_and_counts_it_where_it_is_served(tmp_path: Path) -> None:
    rows = [f"2026-11-01T12:{minute:02}:00Z,200,-20" for minute in range(0, 60, 5)]
    (tmp_path / "prices.csv").write_text("\n".join(["interval_start_utc,NYC_usd_mwh,WEST_usd_mwh", *rows]))
    outcome = run(tmp_path, text(more=PRICES))
    path = outcome.trajectory
    assert of_kind(outcome, Shift)
    arrived, served = (counts[:, -30:].sum(axis=(1, 2)) for counts in (path.tokens_arrived, path.tokens_served))
    assert arrived[0] == arrived[1]
    assert served[0] < 0.95 * arrived[0]
    assert served.sum() == pytest.approx(arrived.sum(), rel=0.01)
    still = run(tmp_path, text(more=PRICES).replace('name = "pair"', 'name = "pair"\nshift = false', 1))
    assert not of_kind(still, Shift)


@pytest.mark.parametrize(("kind", "model"), [("live", "baseline-2"), ("persistence", "persistence")])
def test_simulate_feeds_forecasts_from_load_and_from_history(tmp_path: Path, kind: str, model: str) -> None:
    entries: list[Entry] = []
    history = text(duration=900, forecast=kind).replace("load_ratio = 0.7", "load_ratio = 0.7\nhistory_seconds = 1800")
    run(tmp_path, history, note=entries.append)
    forecasts = [entry.record for entry in entries if isinstance(entry.record, SiteForecast)]
    assert sorted((each.site_id, each.history_steps) for each in forecasts[:2]) == [("alpha", 6), ("beta", 6)]
    assert {each.model for each in forecasts} == {model}
    assert forecasts[-1].horizons[0].tokens_per_second[3] == pytest.approx(7000, rel=0.02)
    flat = {tuple(each.tokens_per_second) for each in forecasts[-1].horizons}
    assert (len(flat) == 1) == (kind == "persistence")
    assert any(isinstance(entry.record, LoadState) for entry in entries)


def test_simulate_keeps_of_the_log_what_a_run_is_judged_by(tmp_path: Path) -> None:
    entries: list[Entry] = []
    outcome = run(tmp_path, text(duration=600, forecast="persistence"), note=entries.append)
    left_out = {type(entry.record) for entry in entries} - {type(entry.record) for entry in outcome.log}
    assert left_out == {LoadState, SiteForecast}
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)


def test_simulate_ticks_of_a_second_and_of_a_minute_draw_the_same(tmp_path: Path, plain: Outcome) -> None:
    for step in (1, 60):
        written = text(more=event()).replace('name = "pair"', f'name = "pair"\nstep_seconds = {step}', 1)
        outcome = run(tmp_path, written)
        states = of_kind(outcome, PowerState, "alpha")
        assert len(states) == pytest.approx(1800 / max(10, step), abs=1)
        assert mean_watts(outcome, "alpha", 840, 1500) == pytest.approx(mean_watts(plain, "alpha", 840, 1500), rel=0.02)
        assert math.isclose(
            outcome.trajectory.tokens_arrived.sum(), plain.trajectory.tokens_arrived.sum(), rel_tol=0.01
        )
