"""Each KPI on a run made by hand, with numbers that can be worked out on paper."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from schemas.offer import FlexibilityOffer, OfferedReduction
from schemas.plan import Schedule
from schemas.signals import EventSignal
from streams.simulate.kpis import decisions, kpis
from streams.simulate.kpis.asked import all_asked
from streams.simulate.kpis.economics import savings
from streams.simulate.log import UNSIGNED, Entry, Outcome, Trajectory
from streams.simulate.page import page
from streams.simulate.plot import plot
from streams.simulate.safety import Violation
from streams.simulate.verdicts import BARS, BarError, verdicts
from tests.kpi_cases import (
    CLASSES,
    POWER,
    REQUESTS,
    STEP,
    TICKS,
    TOKENS,
    a_trajectory,
    an_outcome,
    pinned,
    planned,
    said,
    sent,
    ticks,
)
from tests.policy_cases import FLEET_FILE, SITES, at, event, release, shift_control, throttle, throttle_control

HOUR = 3600.0
Figures = dict[str, Any]
ALL_TOKENS = TOKENS * TICKS * len(SITES) * len(CLASSES)
# Heard at 20 min, to be reached within 2 min of 30 min, over at 60 min: 28 whole minutes.
EVENT = event(start=1800, end=3600, published_at=at(1200), ramp_seconds=120.0)
TARGET = 0.75 * 3 * POWER


def judged(trajectory: Trajectory, *log: Entry, **more: float) -> Figures:
    return kpis(an_outcome(trajectory, *log, **more), FLEET_FILE, None, None)


def held(watts: float, start: float = 1800, end: float = 3600) -> Trajectory:
    """Every site at so many watts over the seconds [start, end)."""
    trajectory = a_trajectory()
    trajectory.meter_power_watts[:, ticks(start, end)] = watts
    return trajectory


def the_event(trajectory: Trajectory, *log: Entry, signal: EventSignal = EVENT, base: float = POWER) -> Figures:
    """The KPIs of the one event, its baseline pinned when it was heard of."""
    said_at = (signal.published_at - at(0)).total_seconds()
    plan = planned(said_at, baselines=pinned(base))
    (only,) = judged(trajectory, said(said_at, signal), plan, *log)["events"]
    return dict(only)


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


# Events


def test_event_that_is_held_exactly_has_nothing_over_and_nothing_beyond() -> None:
    found = the_event(held(30_000.0))
    assert found["base_power_watts"] == found["measured_base_power_watts"] == 120_000.0
    assert found["target_power_watts"] == found["measured_target_power_watts"] == TARGET
    assert (found["minutes"], found["minutes_over_target"], found["minutes_over_measured_target"]) == (28, 0, 0)
    assert found["over_delivery_ratio"] == pytest.approx(0.0)
    assert found["worst_minute_over_target_ratio"] == pytest.approx(0.0)
    assert found["tracking_mae_ratio"] == pytest.approx(0.0)


def test_event_minutes_over_are_whole_minutes_by_their_mean() -> None:
    trajectory = held(30_000.0)
    trajectory.meter_power_watts[:, ticks(1800, 1920)] = POWER  # within the ramp: not judged
    trajectory.meter_power_watts[0, ticks(2000, 2010)] += 600.0  # a minute's mean 100 W over
    trajectory.meter_power_watts[0, ticks(2400, 2410)] += 600.0  # as far over, made up for in the same minute
    trajectory.meter_power_watts[0, ticks(2420, 2430)] -= 600.0
    found = the_event(trajectory)
    assert (found["minutes"], found["minutes_over_target"]) == (28, 1)
    assert found["worst_minute_over_target_ratio"] == pytest.approx(100 / TARGET)
    assert found["tracking_mae_ratio"] == pytest.approx(100 / TARGET / 28)


def test_event_is_judged_by_a_measured_baseline_too() -> None:
    # The planner pinned 2 kW a site more than the five minutes before the event show.
    trajectory = held(31_000.0)
    trajectory.meter_power_watts[:, ticks(0, 900)] = 1e9  # before those five minutes
    found = the_event(trajectory, base=42_000.0)
    assert found["target_power_watts"] == pytest.approx(0.75 * 126_000.0)
    assert found["measured_target_power_watts"] == pytest.approx(TARGET)
    assert (found["minutes_over_target"], found["minutes_over_measured_target"]) == (0, 28)


def test_event_with_an_absolute_target_for_one_site_looks_at_that_site_only() -> None:
    trajectory = a_trajectory()
    trajectory.meter_power_watts[1, ticks(1800, 3600)] = 35_000.0
    signal = event(start=1800, end=3600, published_at=at(1200), target_power_watts=35_000.0, site_ids=["beta"])
    found = the_event(trajectory, signal=signal)
    assert found["sites"] == ["beta"]
    assert (found["base_power_watts"], found["target_power_watts"]) == (POWER, 35_000.0)
    assert (found["minutes"], found["minutes_over_target"]) == (30, 0)


def test_over_delivery_is_what_was_given_beyond_the_asked_of_the_asked() -> None:
    # 30 kW asked; 36 kW given: a fifth more. 24 kW given: none beyond.
    assert the_event(held(28_000.0))["over_delivery_ratio"] == pytest.approx(0.2)
    assert the_event(held(28_000.0))["delivered_power_watts"] == pytest.approx(36_000.0)
    assert the_event(held(32_000.0))["over_delivery_ratio"] == 0.0


def test_time_to_target_counts_from_when_it_was_asked_until_it_is_there_for_good() -> None:
    emergency = event(kind="emergency", start=1200, end=3600, published_at=at(1800), ramp_seconds=60.0)
    trajectory = held(30_000.0, start=1830)
    assert (
        the_event(trajectory, signal=emergency)["time_to_target_seconds"] == 40.0
    )  # three ticks late, read at the end
    assert the_event(held(30_000.0), signal=emergency)["time_to_target_seconds"] == 0.0
    trajectory.meter_power_watts[:, ticks(2400, 2430)] = POWER  # back up for half a minute
    assert the_event(trajectory, signal=emergency)["time_to_target_seconds"] == 640.0
    assert the_event(a_trajectory(), signal=emergency)["time_to_target_seconds"] is None


def test_command_latency_is_from_append_to_append_and_no_forgery_shortens_it() -> None:
    forged = Entry(at(1200.1), "site.commands.v1", throttle(caused_by=["e1"]), UNSIGNED)
    answers = [sent(1203, throttle((1, 2), caused_by=["e1"])), sent(1202.5, throttle((1, 1), caused_by=["e1"]))]
    assert the_event(held(30_000.0), forged, *answers)["command_latency_seconds"] == 2.5
    assert the_event(held(30_000.0), forged)["command_latency_seconds"] is None


def test_tracking_where_possible_leaves_out_what_demand_decides() -> None:
    # The plan splits 90 kW as 32, 28 and 30. Alpha is 320 W over its part, with work waiting; beta has none to do.
    throttles = [
        throttle_control(site, site, target_power_watts=watts)
        for site, watts in zip(SITES, (32_000.0, 28_000.0, 30_000.0), strict=True)
    ]
    trajectory = held(30_000.0)
    trajectory.meter_power_watts[0, ticks(1800, 3600)] = 32_320.0
    trajectory.meter_power_watts[1, ticks(1800, 3600)] = 10_000.0
    trajectory.work_queued[0, ticks(1800, 3600), 1] = 5.0
    trajectory.work_queued[2, ticks(1920, 1970), 2] = 5.0  # not all of the minute
    found = the_event(trajectory, planned(1210, throttles=throttles, baselines=pinned(POWER)))
    assert found["possible_site_minutes"] == 28
    assert found["tracking_mae_where_possible_ratio"] == pytest.approx(0.01)
    assert found["tracking_mae_ratio"] == pytest.approx(17_680 / TARGET)


def test_tracking_lets_the_held_make_up_for_a_site_that_nobody_holds() -> None:
    throttles = [throttle_control(site, site, target_power_watts=20_000.0) for site in SITES[:2]]
    trajectory = held(25_000.0)
    trajectory.meter_power_watts[2] = POWER
    trajectory.work_queued[:] = 1.0
    found = the_event(trajectory, planned(1210, throttles=throttles, baselines=pinned(POWER)))
    assert found["tracking_mae_where_possible_ratio"] == pytest.approx(0.0)
    assert found["possible_site_minutes"] == 2 * 28


def test_restore_jump_is_the_largest_rise_of_a_minute_after_the_end() -> None:
    trajectory = held(30_000.0)
    for site, minute in ((0, 0), (1, 1), (2, 5)):  # alpha at the end, beta a minute after, gamma late but all at once
        trajectory.meter_power_watts[site, ticks(3600, 3600 + 60 * minute)] = 30_000.0
    trajectory.meter_power_watts[2, ticks(3600 + 300, 7200)] = 45_000.0
    found = the_event(trajectory)
    assert found["restore_jump_watts"] == pytest.approx(15_000.0)
    assert found["restore_jump_allowed_watts"] == 3 * 150 * 60
    assert the_event(held(30_000.0, 1800, 7200))["restore_jump_watts"] == 0.0


def test_event_tokens_count_at_all_sites_and_performance_class_by_class() -> None:
    trajectory = held(30_000.0)
    during = ticks(1800, 3600)
    trajectory.tokens_served[:, during, 2] = 0.5 * TOKENS
    trajectory.tokens_served[:, during, 0] = 1.2 * TOKENS  # a queue from before makes up for nothing
    trajectory.requests_late[:, during, 2] = 1.0
    found = the_event(trajectory)
    assert found["tokens_ratio"] == pytest.approx((1.2 + 1.0 + 0.5) / 3)
    assert found["weighted_performance_ratio"] == pytest.approx((1.0 + 1.0 + 0.5) / 3)
    assert found["late_ratio"] == pytest.approx(1 / 30)


def test_event_is_compared_with_the_offer_made_before_it() -> None:
    def offer(site: str, seconds: float, firm: float) -> Entry:
        fields = {"response_seconds": 120.0, "firm_power_watts_p50": 2 * firm, "tokens_lost_per_mwh": 0.0}
        reductions = [
            OfferedReduction(duration_seconds=1800.0, firm_power_watts_p90=firm, **fields),
            OfferedReduction(
                duration_seconds=600.0, firm_power_watts_p90=firm, **fields | {"firm_power_watts_p50": 9e9}
            ),
        ]
        made = FlexibilityOffer(
            fleet_id="trio",
            site_id=site,
            issued_at=at(seconds),
            valid_until=at(seconds + 300),
            expected_power_watts=POWER,
            offers=reductions,
        )
        return Entry(at(seconds), "site.flexibility-offers.v1", made)

    before = [offer(site, 1100, 12_000.0) for site in SITES]
    after = [offer(site, 1300, 1.0) for site in SITES]
    found = the_event(held(29_000.0), *before, *after)
    assert found["offered_power_watts"] == 36_000.0
    assert found["asked_within_offer"] is True
    assert found["delivered_per_offered_ratio"] == pytest.approx(33 / 36)
    assert the_event(held(29_000.0), *before[1:])["offered_power_watts"] is None
    assert judged(a_trajectory(), *before, *after)["offers"] == 6


def test_event_revised_is_judged_from_then_on_and_withdrawn_until_then() -> None:
    deeper = EVENT.model_copy(update={"published_at": at(2400), "reduction_ratio": 0.5})
    withdrawn = EVENT.model_copy(update={"published_at": at(3000), "cancelled": True})
    again = EVENT.model_copy(update={"published_at": at(2400)})
    never = event("e2", start=5000, end=6000, published_at=at(4000))
    called_off = never.model_copy(update={"published_at": at(4500), "cancelled": True})

    def asked(*signals: Entry) -> list[tuple[float, ...]]:
        found = all_asked(an_outcome(a_trajectory(), *signals), FLEET_FILE)
        return [
            tuple((each - at(0)).total_seconds() for each in (one.asked_at, one.held_from, one.ends_at))
            for one in found
        ]

    assert asked(said(1200, EVENT)) == [(1800, 1920, 3600)]
    assert asked(said(1200, EVENT), said(2401, deeper)) == [(2401, 2521, 3600)]
    assert asked(said(1200, EVENT), said(2401, again)) == [(1800, 1920, 3600)]
    assert asked(said(1200, EVENT), said(3001, withdrawn)) == [(1800, 1920, 3001)]
    assert asked(said(4000, never), said(4500, called_off)) == []


def test_events_before_the_warm_up_or_of_another_fleet_are_not_judged() -> None:
    assert judged(held(30_000.0), said(1200, EVENT), warm_up_seconds=3600)["events"] == []
    assert judged(held(30_000.0), said(1200, EVENT.model_copy(update={"fleet_id": "other"})))["events"] == []


def test_events_summary_adds_minutes_and_takes_the_worst_of_the_rest() -> None:
    second = event("e2", start=5400, end=6000, published_at=at(5000), target_power_watts=100_000.0)
    trajectory = held(30_000.0)
    found = judged(trajectory, said(1200, EVENT), planned(1200, baselines=pinned(POWER)), said(5000, second))
    summary = found["events_summary"]
    assert summary["events"] == 2
    assert (summary["minutes"], summary["minutes_over_target"]) == (38, 10)
    assert summary["events_met_ratio"] == 0.5
    assert summary["tracking_mae_ratio"] == pytest.approx(0.2 * 10 / 38)
    assert summary["worst_minute_over_target_ratio"] == pytest.approx(0.2)
    assert summary["time_to_target_seconds"] is None  # the second never was there


# Ramps


def ramped(*points: tuple[float, float | None], site: int = 0) -> Trajectory:
    """A site whose limit changes at the seconds given, and whose meter, wanting 40 kW, follows it."""
    trajectory = a_trajectory()
    for seconds, watts in points:
        trajectory.limit_watts[site, ticks(seconds, 7200)] = np.nan if watts is None else watts
    trajectory.meter_power_watts[site] = np.fmin(POWER, trajectory.limit_watts[site])
    return trajectory


def broken(trajectory: Trajectory) -> tuple[int, int, int]:
    """At alpha by its limit and by its meter, and at the fleet."""
    by = judged(trajectory)["ramp_violations_by"]
    alpha = by["sites"]["alpha"]
    return alpha["limit"], alpha["meter"], by["fleets"]["trio"]


def test_ramps_that_are_kept_count_nothing() -> None:
    # 750 W/s down: 7.5 kW a tick. 150 W/s up: 1.5 kW a tick.
    up = [(3600 + 10 * tick, 30_000.0 + 1_500.0 * tick) for tick in range(1, 8)]
    trajectory = ramped((1800, 33_000.0), (1810, 30_000.0), *up, (3680, None))
    assert broken(trajectory) == (0, 0, 0)
    assert judged(trajectory)["ramp_violations"] == 0


def test_ramps_are_not_broken_by_demand() -> None:
    trajectory = a_trajectory()
    trajectory.meter_power_watts[:, ticks(1800, 3600)] = 10_000.0  # free, and falls and rises by itself
    assert broken(trajectory) == (0, 0, 0)
    below = ramped((1800, 45_000.0), (1900, 52_000.0), (2000, 35_000.0 + POWER))  # a limit that binds nobody
    assert broken(below) == (0, 0, 0)
    burst = ramped((1800, 35_000.0))
    burst.meter_power_watts[0, ticks(2400, 3000)] = 10_000.0  # demand goes and comes back below an even limit
    assert broken(burst) == (0, 0, 0)


def test_ramps_count_limits_that_step_down_or_up_or_let_go_at_once() -> None:
    # Down by 10 kW in a tick; up by 5 kW in a tick; let go 5 kW below what the site wants.
    assert broken(ramped((1800, 30_000.0)))[0] == 1
    assert broken(ramped((1800, 35_000.0), (1810, 30_000.0), (3600, 35_000.0)))[0] == 1
    assert broken(ramped((1800, 35_000.0), (3600, None)))[0] == 1


def test_ramps_count_minutes_in_which_a_meter_outruns_them() -> None:
    # Up 1.5 kW a tick would be 9 kW a minute; the site, let go, jumps by 15 kW within ten ticks and stays.
    trajectory = ramped((1800, 33_000.0), (1810, 26_000.0), (1820, 25_000.0), (3600, None))
    assert broken(trajectory) == (1, 1, 0)
    assert judged(trajectory)["sites"]["alpha"]["ramp_violations"] == 2


def test_ramps_of_the_fleet_hold_for_its_sites_together() -> None:
    limits = FLEET_FILE.fleets[0].limits.model_copy(update={"ramp_up_watts_per_second": 200.0})
    file = FLEET_FILE.model_copy(update={"fleets": (FLEET_FILE.fleets[0].model_copy(update={"limits": limits}),)})
    up = [(3600 + 10 * tick, 30_000.0 + 1_500.0 * tick) for tick in range(7)]
    one, all_three = a_trajectory(), a_trajectory()
    alone = ramped((1800, 33_000.0), (1810, 30_000.0), *up)
    one.limit_watts[0], one.meter_power_watts[0] = alone.limit_watts[0], alone.meter_power_watts[0]
    all_three.limit_watts[:], all_three.meter_power_watts[:] = alone.limit_watts[0], alone.meter_power_watts[0]
    # Each rises by no more than 9 kW a minute; the fleet may by 12 kW.
    for trajectory, expected in ((one, 0), (all_three, 1)):
        found = kpis(an_outcome(trajectory), file, None, None)["ramp_violations_by"]
        assert found["fleets"]["trio"] == expected
        assert not any(sum(each.values()) for each in found["sites"].values())


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


# Verdicts, page, picture


def test_verdicts_know_which_side_of_a_bound_is_the_right_one() -> None:
    bars = {"minutes_over_target": 0, "tokens_ratio": 1.0, "ramp_violations": 0, "attained_saving_ratio": 0.9}
    outcome = an_outcome(held(30_000.0), said(1200, EVENT), planned(1200, baselines=pinned(POWER)), **bars)
    result = kpis(outcome, FLEET_FILE, None, None)
    met = {each["name"]: each["met"] for each in result["verdicts"]}
    assert met["minutes_over_target"]
    assert met["tokens_ratio"]
    assert met["ramp_violations"]
    assert met["attained_saving_ratio"] is False  # not compared with anything: not known, so not met
    result["events_summary"] |= {"minutes_over_target": 1, "tokens_ratio": 0.99}
    assert [each.met for each in verdicts(result, {"minutes_over_target": 0, "tokens_ratio": 1.0})] == [False, False]


def test_verdicts_find_the_value_of_every_bar_there_is() -> None:
    result = judged(a_trajectory())
    assert {each.name for each in verdicts(result, dict.fromkeys(BARS, 0.0))} == BARS


def test_verdicts_refuse_a_bar_for_what_is_not_measured() -> None:
    with pytest.raises(BarError, match=r"'minutes_over'; there are .*minutes_over_target"):
        judged(a_trajectory(), minutes_over=0)


def test_kpis_are_ready_for_json_and_for_people() -> None:
    outcome = an_outcome(
        held(30_000.0),
        said(1200, EVENT),
        planned(1200, baselines=pinned(POWER), shifts=[shift_control("ramping", 1200)]),
        sent(1201, throttle()),
        minutes_over_target=0,
        attained_saving_ratio=0.9,
    )
    result = kpis(outcome, FLEET_FILE, an_outcome(a_trajectory()), None)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    console = Console(width=160, record=True, file=StringIO())
    console.print(page(result))
    text = console.export_text()
    for shown in ("test under planner", "does it hold?", "price-blind", "alpha", "e1", "0 of 28", "1 throttle (event)"):
        assert shown in text
    assert "not measured" in text
    assert text.count("NO") == 1


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_writes_the_same_picture_each_time(tmp_path: Path, suffix: str) -> None:
    outcome = an_outcome(held(30_000.0), said(1200, EVENT), planned(1200, baselines=pinned(POWER)), warm_up_seconds=600)
    pictures = []
    for name in ("a", "b"):
        plot(outcome, FLEET_FILE, tmp_path / f"{name}{suffix}")
        pictures.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0][:8] == b"\x89PNG\r\n\x1a\n" if suffix == ".png" else b"<svg" in pictures[0]
