"""How events were answered, read from a few written rows and compared with figures worked out by hand."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.database import connect
from schemas.offer import FlexibilityOffer, OfferedReduction
from schemas.plan import Baseline, FleetPlan, Tracking
from schemas.signals import EventSignal
from tests.written_history import FLEET, HERE, THERE, Connection, describe, load, power, powers, put, rows

pytestmark = pytest.mark.database

# A Wednesday.
START = datetime(2026, 11, 4, 15, 0, tzinfo=UTC)
HEARD = START - timedelta(minutes=10)
TEN_MINUTES = timedelta(minutes=10)


def event(**changes: Any) -> EventSignal:
    values: dict[str, Any] = {
        "kind": "event",
        "fleet_id": FLEET,
        "signal_id": "event-1",
        "source": "utility",
        "published_at": HEARD,
        "starts_at": START,
        "ends_at": START + timedelta(minutes=20),
        "ramp_seconds": 300.0,
        "reduction_ratio": 0.25,
    }
    return EventSignal(**{**values, **changes})


def pinned(watts: dict[str, float], run_id: str = "live") -> FleetPlan:
    return FleetPlan(
        run_id=run_id,
        fleet_id=FLEET,
        kind="plan",
        epoch=1,
        sequence=0,
        revision=1,
        owner="worker-a",
        issued_at=HEARD + timedelta(seconds=1),
        mode="normal",
        explanation="",
        baselines=[Baseline(signal_id="event-1", site_id=site, power_watts=value) for site, value in watts.items()],
    )


@pytest.fixture
async def connection(any_migrated_dsn: str) -> AsyncIterator[Connection]:
    async with await connect(any_migrated_dsn, "gridtide-test") as opened:
        await describe(opened, START)
        yield opened


async def performance(connection: Connection, site_id: str) -> dict[str, Any]:
    (found,) = await rows(connection, "SELECT * FROM event_performance WHERE site_id = %s", site_id)
    return found


async def an_answered_event(connection: Connection) -> None:
    """Twenty minutes, the last fifteen judged: one site gives a fifth too much, the other misses for three minutes."""
    here = powers(HERE, HEARD, (600, 1000), (60, 1000), (1140, 700), (60, 700))
    there = powers(THERE, HEARD, (600, 1000), (10, 900), (10, 800), (580, 750), (180, 800), (420, 750), (60, 900))
    await put(connection, event(), pinned({HERE: 1000.0, THERE: 1000.0}), *here, *there)


async def test_event_performance_of_a_site_that_gives_too_much(connection: Connection) -> None:
    await an_answered_event(connection)
    found = await performance(connection, HERE)
    assert (found["baseline_power_watts"], found["baseline_method"]) == (1000.0, "plan")
    assert (found["target_power_watts"], found["held_power_watts"]) == pytest.approx((750.0, 700.0))
    assert found["promised_kwh"] == pytest.approx(250 * 0.25 / 1000)
    assert found["delivered_kwh"] == pytest.approx(300 * 0.25 / 1000)
    assert (found["delivered_ratio"], found["over_delivery_ratio"]) == pytest.approx((1.2, 0.2))
    assert (found["minutes_over_target"], found["worst_minute_excess_watts"], found["measured_ratio"]) == (0, 0.0, 1.0)
    assert found["time_to_target_seconds"] == 60.0
    # 300 W down in one window of 10 s: 200 W are allowed, and 20 W of noise.
    assert (found["ramp_violations"], found["restore_jump_watts"]) == (1, 0.0)


async def test_event_performance_of_a_site_that_misses_for_three_minutes(connection: Connection) -> None:
    await an_answered_event(connection)
    found = await performance(connection, THERE)
    assert found["minutes_over_target"] == 3
    assert found["worst_minute_excess_watts"] == pytest.approx(50.0)
    assert found["delivered_kwh"] == pytest.approx((250 * 12 + 200 * 3) / 60_000)
    assert found["over_delivery_ratio"] == 0.0
    assert found["time_to_target_seconds"] == 20.0
    assert (found["ramp_violations"], found["restore_jump_watts"]) == (0, pytest.approx(150.0))


async def test_event_performance_fleet_judges_its_sites_together(connection: Connection) -> None:
    await an_answered_event(connection)
    (found,) = await rows(connection, "SELECT * FROM event_performance_fleet")
    assert (found["sites"], found["target_power_watts"]) == (2, pytest.approx(1500.0))
    # What one drew too much the other drew too little, in the same minutes.
    assert (found["minutes_over_target"], found["worst_minute_excess_watts"]) == (0, pytest.approx(0.0, abs=1e-6))
    assert found["delivered_kwh"] == pytest.approx((300 * 15 + 250 * 12 + 200 * 3) / 60_000)
    assert found["time_to_target_seconds"] == 60.0
    assert found["ramp_violations"] == 1


async def test_event_performance_calls_good_nothing_that_nobody_measured(connection: Connection) -> None:
    here = powers(HERE, HEARD, (600, 1000), (60, 1000), (1140, 700))
    there = powers(THERE, HEARD, (600, 1000))  # silent from the event's start
    await put(connection, event(), pinned({HERE: 1000.0, THERE: 1000.0}), *here, *there)
    silent = await performance(connection, THERE)
    assert (silent["measured_ratio"], silent["minutes_judged"]) == (0.0, 0)
    assert (silent["minutes_over_target"], silent["worst_minute_excess_watts"]) == (None, None)
    heard = await performance(connection, HERE)
    assert (heard["measured_ratio"], heard["minutes_judged"], heard["minutes_over_target"]) == (1.0, 15, 0)
    (fleet,) = await rows(connection, "SELECT * FROM event_performance_fleet")
    assert (fleet["measured_ratio"], fleet["minutes_judged"]) == (0.0, 0)
    unknown = ("minutes_over_target", "worst_minute_excess_watts", "held_power_watts", "time_to_target_seconds")
    assert [fleet[column] for column in unknown] == [None] * 4


async def test_event_performance_counts_service_misses_and_tokens(connection: Connection) -> None:
    await an_answered_event(connection)
    before = [load(HERE, START - timedelta(seconds=10 * n), 500.0) for n in (1, 2)]
    during = [load(HERE, START + timedelta(seconds=10 * n), 400.0) for n in (0, 1, 2)]
    await put(connection, *before, *during, load(HERE, START + timedelta(minutes=20), 999.0))
    found = await performance(connection, HERE)
    # Of ten requests a window three lie above the objective's bucket, and half of the six in it.
    assert (found["requests_served"], found["service_misses"]) == (30, pytest.approx(18.0, rel=1e-4))
    assert found["tokens_served"] == pytest.approx(12_000.0)
    assert (found["tokens_served_per_second"], found["tokens_served_per_second_before"]) == (400.0, 500.0)


async def test_event_performance_judges_a_withdrawn_event_by_nothing(connection: Connection) -> None:
    await an_answered_event(connection)
    await put(connection, event(published_at=START + timedelta(minutes=1), cancelled=True))
    found = await performance(connection, HERE)
    assert (found["cancelled"], found["published_at"]) == (True, START + timedelta(minutes=1))
    judged = ("promised_kwh", "delivered_kwh", "delivered_ratio", "minutes_over_target", "ramp_violations")
    assert [found[column] for column in judged] == [None] * 5


def offer(issued_at: datetime, watts: float, seconds_valid: float = 120.0, site_id: str = HERE) -> FlexibilityOffer:
    """Of half an hour and of three, within half a minute and within five: 1 and 2 W apart, so that each is known."""
    return FlexibilityOffer(
        fleet_id=FLEET,
        site_id=site_id,
        issued_at=issued_at,
        valid_until=issued_at + timedelta(seconds=seconds_valid),
        expected_power_watts=1000.0,
        offers=[
            OfferedReduction(
                response_seconds=response,
                duration_seconds=duration,
                firm_power_watts_p50=watts + 100,
                firm_power_watts_p90=watts + more,
                tokens_lost_per_mwh=1e9,
            )
            for response, duration, more in ((30, 1800, 0), (300, 1800, 1), (30, 10_800, 2), (300, 10_800, 3))
        ],
    )


async def delivered(connection: Connection, site_id: str = HERE) -> dict[str, Any]:
    (found,) = await rows(connection, "SELECT * FROM flexibility_delivered WHERE site_id = %s", site_id)
    return found


async def test_flexibility_delivered_holds_the_event_against_the_newest_offer_before_it(connection: Connection) -> None:
    await an_answered_event(connection)
    await put(connection, *[load(HERE, START + timedelta(seconds=10 * n), 400.0) for n in (-1, 0)])
    seconds = [timedelta(seconds=each) for each in (-70, -10, 10)]
    await put(connection, *[offer(HEARD + since, watts) for since, watts in zip(seconds, (100, 250, 900), strict=True)])
    found = await delivered(connection)
    assert found["offer_issued_at"] == HEARD - timedelta(seconds=10)
    # Fifteen minutes to hold, fifteen until then: the shorter part, and the slower one.
    assert (found["duration_seconds"], found["response_seconds"]) == (1800, 300)
    assert (found["firm_power_watts_p90"], found["firm_power_watts_p50"]) == (251.0, 350.0)
    assert (found["asked_reduction_watts"], found["delivered_reduction_watts"]) == pytest.approx((250.0, 300.0))
    assert (found["within_offer"], found["minutes_over_target"]) == (True, 0)
    assert found["tokens_fewer_per_mwh"] == 0.0
    there = await delivered(connection, THERE)
    assert (there["offer_issued_at"], there["within_offer"], there["minutes_over_target"]) == (None, None, 3)


async def test_flexibility_delivered_knows_no_offer_that_was_over_or_does_not_suit(connection: Connection) -> None:
    await an_answered_event(connection)
    await put(connection, offer(HEARD - timedelta(seconds=120), 250.0))
    assert (await delivered(connection))["offer_issued_at"] is None
    # Announced when it begins, and to be met at once: nothing is that fast.
    await put(connection, event(published_at=START, ramp_seconds=20.0, signal_id="event-2"), offer(START, 250.0))
    query = "SELECT * FROM flexibility_delivered WHERE site_id = %s AND signal_id = 'event-2'"
    (found,) = await rows(connection, query, HERE)
    assert (found["offer_issued_at"], found["response_seconds"], found["within_offer"]) == (START, None, None)


async def test_event_tracking_has_a_row_a_plan_and_event(connection: Connection) -> None:
    for revision, (phase, since) in enumerate([("active", 1), ("escalated", 2), ("escalated", 2), ("resolved", 4)]):
        tracking = Tracking(
            signal_id="event-1",
            phase=phase,  # type: ignore[arg-type]
            phase_since=START + timedelta(minutes=since),
            target_power_watts=1500.0,
            delivered_power_watts=1500.0 + 10 * revision,
            correction_watts=-5.0 * revision,
        )
        made = {"issued_at": START + timedelta(minutes=revision + 1), "revision": revision, "tracking": [tracking]}
        await put(connection, pinned({}).model_copy(update=made))
    found = await rows(connection, "SELECT * FROM event_tracking ORDER BY issued_at")
    assert [row["phase"] for row in found] == ["active", "escalated", "escalated", "resolved"]
    assert [row["excess_watts"] for row in found] == [0.0, 10.0, 20.0, 30.0]
    assert found[2]["phase_since"] == START + timedelta(minutes=2)


async def test_event_targets_follow_the_newest_revision(connection: Connection) -> None:
    await put(connection, event(), pinned({HERE: 1000.0, THERE: 3000.0}))
    revised = {"published_at": START, "reduction_ratio": None, "target_power_watts": 2000.0}
    await put(connection, event(**revised))
    found = await rows(connection, "SELECT site_id, target_power_watts FROM event_targets ORDER BY site_id")
    # An absolute target is shared out by the baselines.
    assert [tuple(row.values()) for row in found] == [(HERE, 500.0), (THERE, 1500.0)]


async def test_event_targets_name_only_the_sites_meant(connection: Connection) -> None:
    await put(connection, event(site_ids=[THERE]))
    assert [row["site_id"] for row in await rows(connection, "SELECT site_id FROM event_targets")] == [THERE]


async def test_event_targets_without_a_plan_rest_on_the_five_minutes_before(connection: Connection) -> None:
    too_early, silent = HEARD - timedelta(minutes=6), HEARD - timedelta(minutes=5)
    await put(connection, event(), power(HERE, too_early, 5000.0), power(HERE, silent, None))
    await put(connection, power(HERE, HEARD - timedelta(minutes=4), 1300.0), power(HERE, HEARD, 5000.0))
    found = await performance(connection, HERE)
    assert found["baseline_method"] == "five-minutes-before"
    # The meter was silent in one of the two windows: there it is 800 W of IT power times the PUE.
    assert found["baseline_power_watts"] == pytest.approx((800 * 1.25 + 1300) / 2)


async def prior_days(connection: Connection, watts: dict[int, float], adjustment_watts: float) -> None:
    """For each day before the event: its hours in one window, and one within the two hours of the adjustment."""
    for back, value in watts.items():
        start = START - timedelta(days=back)
        await put(connection, power(HERE, start, value, seconds=600))
        await put(connection, power(HERE, start - timedelta(hours=3), value - 100, seconds=600))
        await put(connection, power(HERE, start - timedelta(hours=1), 9000.0, seconds=600))
    await put(connection, power(HERE, START - timedelta(hours=3), adjustment_watts, seconds=600))


# Weekdays before the event's Wednesday; 4, 3, 10, 11 days before lie weekends.
WEEKDAYS = [1, 2, 5, 6, 7, 8, 9, 12, 13, 14, 15]
WATTS = {back: 1000.0 + 10 * back for back in WEEKDAYS}


@pytest.mark.parametrize(
    ("adjustment_watts", "adjusted_by"), [(1100.0, 88.0), (1500.0, 222.4), (300.0, -222.4)], ids=["in", "up", "down"]
)
async def test_event_targets_rest_on_the_high_5_of_10_days(
    connection: Connection, adjustment_watts: float, adjusted_by: float
) -> None:
    await prior_days(connection, {**WATTS, 3: 4000.0, 4: 4000.0, 10: 4000.0, 11: 4000.0}, adjustment_watts)
    await put(connection, event(ends_at=START + TEN_MINUTES), pinned({HERE: 500.0}))
    found = await performance(connection, HERE)
    # Ten newest weekdays: 1 to 14 days before; of them the highest: 8, 9, 12, 13, 14. The hours of the adjustment lay
    # 100 W below each; at most 20 % of the mean either way.
    mean = sum(WATTS[back] for back in (8, 9, 12, 13, 14)) / 5
    assert mean == 1112.0
    assert found["baseline_method"] == "high-5-of-10"
    assert found["baseline_power_watts"] == pytest.approx(mean + adjusted_by)


async def test_event_targets_leave_out_days_with_another_event(connection: Connection) -> None:
    await prior_days(connection, WATTS, 1012.0)
    other = START - timedelta(days=14, hours=2)
    span = {"published_at": other, "starts_at": other, "ends_at": other + TEN_MINUTES}
    await put(connection, event(ends_at=START + TEN_MINUTES), event(signal_id="event-0", **span))
    (found,) = await rows(connection, "SELECT * FROM event_targets WHERE signal_id = 'event-1' AND site_id = %s", HERE)
    mean = sum(WATTS[back] for back in (8, 9, 12, 13, 15)) / 5
    assert found["baseline_power_watts"] == pytest.approx(mean + 1012.0 - (mean - 100))
    # With one day fewer there is no such baseline.
    await put(connection, event(signal_id="event-0b", **{**span, "starts_at": other - timedelta(days=1)}))
    (found,) = await rows(connection, "SELECT * FROM event_targets WHERE signal_id = 'event-1' AND site_id = %s", HERE)
    assert found["baseline_method"] is None


async def test_event_performance_shows_the_run_asked_for(connection: Connection) -> None:
    await describe(connection, START, "replay")
    of_replay = [state.model_copy(update={"run_id": "replay"}) for state in powers(HERE, START, (1200, 600))]
    await put(connection, event(run_id="replay"), pinned({HERE: 800.0}, "replay"), *of_replay)
    assert await rows(connection, "SELECT * FROM event_performance") == []
    assert await rows(connection, "SELECT * FROM event_performance_fleet") == []
    await an_answered_event(connection)
    assert (await performance(connection, HERE))["held_power_watts"] == pytest.approx(700.0)
    await connection.execute("SET gridtide.run_id = 'replay'")
    found = await performance(connection, HERE)
    assert (found["run_id"], found["baseline_power_watts"]) == ("replay", 800.0)
    assert found["held_power_watts"] == pytest.approx(600.0)
