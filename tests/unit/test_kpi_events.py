"""What an event comes to, on runs made by hand, with numbers that can be worked out on paper."""

import pytest

from schemas.offer import FlexibilityOffer, OfferedReduction
from streams.simulate.kpis.asked import all_asked
from streams.simulate.log import UNSIGNED, Entry
from tests.kpi_cases import (
    EVENT,
    POWER,
    TARGET,
    TOKENS,
    a_trajectory,
    an_outcome,
    held,
    judged,
    pinned,
    planned,
    said,
    sent,
    the_event,
    ticks,
)
from tests.policy_cases import FLEET_FILE, SITES, at, event, throttle, throttle_control


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
