"""Money, tokens, shifts and commands of a run made by hand, with numbers that can be worked out on paper."""

import numpy as np
import pytest

from schemas.plan import Schedule
from streams.simulate.kpis import decisions, kpis
from streams.simulate.kpis.economics import savings
from streams.simulate.log import UNSIGNED, Entry, Outcome
from streams.simulate.safety import Violation
from tests.kpi_cases import (
    CLASSES,
    REQUESTS,
    STEP,
    TICKS,
    TOKENS,
    a_trajectory,
    an_outcome,
    judged,
    planned,
    sent,
    ticks,
)
from tests.policy_cases import FLEET_FILE, SITES, at, release, shift_control, throttle

HOUR = 3600.0
ALL_TOKENS = TOKENS * TICKS * len(SITES) * len(CLASSES)

# Energy, tokens, service


def test_energy_and_cost_are_of_the_meter_after_the_warm_up() -> None:
    trajectory = a_trajectory()
    trajectory.meter_power_watts[:, ticks(0, HOUR)] = 1e9  # while it warms up, nothing counts
    trajectory.meter_power_watts[:, ticks(HOUR, 2 * HOUR)] = np.array([[30e3], [36e3], [42e3]])
    trajectory.price_usd_per_mwh[:] = np.array([[100.0], [50.0], [-20.0]])
    found = judged(trajectory, warm_up_seconds=HOUR)
    fleet, sites = found["fleet"], found["sites"]
    assert fleet["energy_kwh"] == pytest.approx(30 + 36 + 42)
    assert fleet["energy_cost_usd"] == pytest.approx(3.0 + 1.8 - 0.84)
    assert sites["gamma"]["energy_cost_usd"] == pytest.approx(-0.84)
    assert fleet["tokens"] == ALL_TOKENS / 2
    assert fleet["usd_per_million_tokens"] == pytest.approx(3.96 / (ALL_TOKENS / 2 / 1e6))


def test_cost_takes_the_last_price_in_a_gap_and_the_first_before_it() -> None:
    trajectory = a_trajectory()
    prices = trajectory.price_usd_per_mwh
    prices[:, ticks(0, 900)] = np.nan  # as 50, the first known
    prices[:, ticks(HOUR, 1.5 * HOUR)] = np.nan  # as 50, the last known
    prices[:, ticks(1.5 * HOUR, 2 * HOUR)] = 150.0
    fleet = judged(trajectory)["fleet"]
    assert fleet["energy_cost_usd"] == pytest.approx(120 * (1.5 * 0.05 + 0.5 * 0.15))


def test_cost_is_unknown_where_no_price_ever_was() -> None:
    trajectory = a_trajectory()
    trajectory.price_usd_per_mwh[1] = np.nan
    found = judged(trajectory)
    assert found["fleet"]["energy_cost_usd"] is None
    assert found["sites"]["beta"]["usd_per_million_tokens"] is None
    assert found["sites"]["alpha"]["energy_cost_usd"] == pytest.approx(4.0)


def test_tokens_that_wait_at_the_end_are_lost_unless_they_are_young() -> None:
    # Nothing is served in the last 100 s: interactive may wait 0.5 s, chat 2 s, batch 60 s.
    trajectory = a_trajectory()
    trajectory.tokens_served[:, ticks(7100, 7200)] = 0.0
    found = judged(trajectory)
    per_second = TOKENS / STEP
    lost = {name: (100 - young) * per_second * 3 for name, young in zip(CLASSES, (0.5, 2, 60), strict=True)}
    for name in CLASSES:
        assert found["classes"][name]["tokens_lost_ratio"] == pytest.approx(lost[name] / (ALL_TOKENS / 3))
    assert found["fleet"]["tokens_lost_ratio"] == pytest.approx(sum(lost.values()) / ALL_TOKENS)


def test_tokens_that_are_served_later_are_not_lost() -> None:
    trajectory = a_trajectory()
    trajectory.tokens_served[:, ticks(3000, 3100)] = 0.0
    trajectory.tokens_served[:, ticks(3100, 3200)] = 2 * TOKENS
    assert judged(trajectory)["fleet"]["tokens_lost_ratio"] == 0.0


def test_slo_misses_are_requests_late_or_never_served() -> None:
    trajectory = a_trajectory()
    trajectory.requests_late[0, ticks(0, 720), 1] = 5.0  # 72 ticks of chat at alpha, half of them late
    trajectory.tokens_served[:, ticks(3600, 4320), 2] = 0.0  # a tenth of batch is never served
    found = judged(trajectory)
    of_class = REQUESTS * TICKS * 3
    assert found["classes"]["chat"]["slo_miss_ratio"] == pytest.approx(72 * 5 / of_class)
    # Of the tenth as much may still wait as arrives within the objective of 60 s.
    never = (72 - 6) / TICKS
    assert found["classes"]["batch"]["slo_miss_ratio"] == pytest.approx(never)
    assert found["classes"]["interactive"]["slo_miss_ratio"] == 0.0
    total = (72 * 5 + never * of_class) / (3 * of_class)
    assert found["fleet"]["slo_miss_ratio"] == pytest.approx(total)
    alpha = (72 * 5 + never * of_class / 3) / of_class
    assert found["sites"]["alpha"]["slo_miss_ratio"] == pytest.approx(alpha)


def test_savings_compare_the_cost_of_a_token_with_two_other_policies() -> None:
    def at_price(usd: float, served: float = 1.0, late: float = 0.0) -> Outcome:
        trajectory = a_trajectory()
        trajectory.price_usd_per_mwh[:] = usd
        trajectory.tokens_served *= served
        trajectory.requests_late[:] = late
        return an_outcome(trajectory)

    own, blind, oracle = at_price(46.0, late=0.3), at_price(50.0, late=0.1), at_price(45.0)
    fleet = kpis(own, FLEET_FILE, blind, oracle)["fleet"]
    assert fleet["saving_vs_price_blind_ratio"] == pytest.approx(0.08)
    assert fleet["attained_saving_ratio"] == pytest.approx(0.8)
    assert fleet["regret_vs_oracle_ratio"] == pytest.approx(0.2)
    assert fleet["slo_miss_vs_price_blind_ratio"] == pytest.approx(0.02)
    # Who serves half as much at half the cost has saved nothing.
    half = kpis(at_price(25.0, served=0.5), FLEET_FILE, blind, None)["fleet"]
    assert half["saving_vs_price_blind_ratio"] == pytest.approx(0.0)
    assert half["attained_saving_ratio"] is None
    alone = kpis(own, FLEET_FILE, None, None)["fleet"]
    assert alone["saving_vs_price_blind_ratio"] is None
    assert alone["slo_miss_vs_price_blind_ratio"] is None


def test_savings_say_nothing_where_there_is_nothing_to_save() -> None:
    assert savings(-1.0, 0.0, -2.0)["saving_vs_price_blind_ratio"] is None
    assert savings(-1.0, 0.0, -2.0)["attained_saving_ratio"] == pytest.approx(0.5)
    assert savings(1.0, 1.0, 1.0)["attained_saving_ratio"] is None


# Shifts


def test_shifts_move_tokens_by_the_plans_and_count_for_the_site_that_took_them() -> None:
    # A share of 0.5 of alpha's batch to beta: up over 100 s from 1000 s, whole until 2000 s, down over 100 s.
    phases = (
        ("proposed", 900),
        ("reserved", 950),
        ("ramping", 1000),
        ("active", 1100),
        ("returning", 2000),
        ("done", 2100),
    )
    log = [
        planned(seconds, shifts=[shift_control(phase, seconds, share_ratio=0.5, ramp_seconds=100.0, ends_at=at(5000))])
        for phase, seconds in phases
    ]
    log.append(planned(3000, shifts=[shift_control("aborted", 3000, control_id="other")]))
    moved = 0.5 * TOKENS / STEP * (900 + 100)
    trajectory = a_trajectory()
    taken = np.zeros(TICKS)
    taken[ticks(1000, 1100)] = np.arange(0.05, 1, 0.1)
    taken[ticks(1100, 2000)] = 1.0
    taken[ticks(2000, 2100)] = np.arange(0.95, 0, -0.1)
    trajectory.tokens_served[0, :, 2] -= 0.5 * TOKENS * taken
    trajectory.tokens_served[1, :, 2] += 0.5 * TOKENS * taken
    found = judged(trajectory, *log)
    assert found["shifts"] == {"by_end_state": {"aborted": 1, "done": 1}, "tokens_moved": pytest.approx(moved)}
    assert found["sites"]["alpha"]["tokens_lost_ratio"] == pytest.approx(0.0, abs=1e-9)
    assert found["sites"]["beta"]["tokens"] == pytest.approx(ALL_TOKENS / 3 + moved)


def test_shifts_turned_half_way_go_back_from_where_they_were() -> None:
    log = [
        planned(seconds, shifts=[shift_control(phase, seconds, share_ratio=0.5, ramp_seconds=100.0, ends_at=at(5000))])
        for phase, seconds in (("ramping", 1000), ("returning", 1050))
    ]
    moved = judged(a_trajectory(), *log)["shifts"]["tokens_moved"]
    assert moved == pytest.approx(0.5 * TOKENS / STEP * (0.5 * 50))


def test_shifts_end_when_they_must_whatever_became_of_the_planner() -> None:
    log = planned(1000, shifts=[shift_control("ramping", 1000, share_ratio=0.5, ends_at=at(2000))])
    moved = judged(a_trajectory(), log)["shifts"]["tokens_moved"]
    assert moved == pytest.approx(0.5 * TOKENS / STEP * 1000)


# Commands, plans, rules


def test_commands_are_counted_once_by_kind_and_reason_with_renewals_apart() -> None:
    renewal = throttle((1, 2), renewal=True)
    forged = Entry(at(5), "site.commands.v1", throttle((9, 9)), UNSIGNED)
    log = [sent(10, throttle()), sent(11, throttle()), sent(300, renewal), sent(600, release()), forged]
    assert judged(a_trajectory(), *log)["commands"] == {
        "total": 2,
        "renewals": 1,
        "by_kind": {"release": {"event": 1}, "throttle": {"event": 1}},
    }
    later = judged(a_trajectory(), *log, warm_up_seconds=400)["commands"]
    assert later == {"total": 1, "renewals": 0, "by_kind": {"release": {"event": 1}}}


def test_planning_counts_a_program_once_however_many_plans_carry_it() -> None:
    def scheduled(seconds: float, solved_at: float, iterations: int) -> Entry:
        schedule = Schedule(starts_at=at(solved_at), step_seconds=300.0, iterations=iterations, sites=[])
        return planned(seconds, planner="optimiser", schedule=schedule)

    log = [planned(0), scheduled(60, 60, 100), scheduled(90, 60, 100), scheduled(360, 360, 300)]
    assert judged(a_trajectory(), *log)["planner"] == {
        "plans": {"optimiser": 3, "rules": 1},
        "solved": 2,
        "iterations_mean": 200.0,
        "iterations_max": 300,
    }


def test_mode_seconds_are_those_of_the_plan_in_force() -> None:
    trajectory = a_trajectory()
    trajectory.mode[: int(600 / STEP)] = ""
    trajectory.mode[ticks(3600, 4000)] = "price-blind"
    assert judged(trajectory)["mode_seconds"] == {"normal": 6200.0, "price-blind": 400.0}
    assert judged(trajectory, warm_up_seconds=3700)["mode_seconds"] == {"normal": 3200.0, "price-blind": 300.0}


def test_safety_violations_are_counted_by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Violation(rule, at(rule), "alpha", "too much") for rule in (6, 2, 6)]
    monkeypatch.setattr(decisions, "violations", lambda entries, fleet_file: found)
    safety = judged(a_trajectory())["safety_violations"]
    assert (safety["total"], safety["by_rule"]) == (3, {"2": 1, "6": 2})
    assert safety["first"][0]["rule"] == 6
