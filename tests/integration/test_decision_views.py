"""What was decided, on what grounds and at what cost, read from a few written rows and worked out by hand."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.database import connect
from schemas.command import CommandAck, Release, Throttle
from schemas.forecast import QUANTILE_LEVELS, HorizonForecast, SiteForecast
from schemas.plan import Baseline, FleetPlan, Inputs, Rejected
from schemas.signals import PriceSignal
from tests.written_history import FLEET, HERE, THERE, Connection, describe, load, power, powers, put, rows

pytestmark = pytest.mark.database

START = datetime(2026, 11, 4, 14, 0, tzinfo=UTC)
PRICE, NEXT_PRICE = "rt-14:00", "rt-14:15"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def price(usd_per_mwh: float, published_after: float = 0.0, **changes: Any) -> PriceSignal:
    values = {"signal_id": PRICE, "starts_at": START, "ends_at": after(900), "source": "ercot", "market": "real-time"}
    values |= {"fleet_id": FLEET, "settlement_point": "HB_NORTH", "published_at": after(published_after)}
    return PriceSignal(**{**values, "price_usd_per_mwh": usd_per_mwh, **changes})


def throttle(sequence: int, issued_after: float = 60.0, **changes: Any) -> Throttle:
    values = {"fleet_id": FLEET, "site_id": HERE, "control_id": "economics/1", "epoch": 1, "sequence": sequence}
    values |= {"issued_at": after(issued_after), "starts_at": after(60), "ends_at": after(360), "reason": "economics"}
    values |= {"target_power_watts": 750.0, "fallback_power_watts": 750.0, "caused_by": [PRICE]}
    values |= {"ramp_down_watts_per_second": 5.0, "ramp_up_watts_per_second": 5.0, "explanation": "dear"}
    return Throttle(**{"lease_expires_at": after(issued_after + 120), **values, **changes})


def ack(sequence: int, status: str, observed_after: float, **changes: Any) -> CommandAck:
    values = {"fleet_id": FLEET, "site_id": HERE, "control_id": "economics/1", "epoch": 1, "sequence": sequence}
    values |= {"highest_epoch": 1, "highest_sequence": sequence, "observed_at": after(observed_after)}
    return CommandAck.model_validate({**values, "status": status, **changes})


def plan(sequence: int, issued_after: float, **changes: Any) -> FleetPlan:
    values = {"fleet_id": FLEET, "kind": "plan", "epoch": 1, "sequence": sequence, "revision": sequence}
    values |= {"owner": "worker-a", "issued_at": after(issued_after), "mode": "normal"}
    return FleetPlan(**{"explanation": f"plan {sequence}", **values, **changes})


def forecast(issued_at: datetime, *horizons: tuple[int, list[float]]) -> SiteForecast:
    return SiteForecast(
        fleet_id=FLEET,
        site_id=HERE,
        issued_at=issued_at,
        model="baseline-1",
        history_steps=12,
        horizons=[HorizonForecast(horizon_seconds=each, tokens_per_second=values) for each, values in horizons],
        spikes=[],
    )


@pytest.fixture
async def connection(any_migrated_dsn: str) -> AsyncIterator[Connection]:
    async with await connect(any_migrated_dsn, "gridtide-test") as opened:
        await describe(opened, START)
        yield opened


async def outcomes(connection: Connection) -> list[dict[str, Any]]:
    return list(await rows(connection, "SELECT * FROM command_outcomes ORDER BY issued_at, sequence"))


async def test_command_outcomes_follow_a_command_to_its_release(connection: Connection) -> None:
    await put(connection, throttle(1), throttle(2, 120, renewal=True, ends_at=after(600)))
    values = {name: value for name, value in throttle(3, 290).model_dump().items() if name in Release.model_fields}
    values |= {"kind": "release", "releases_control_id": "economics/1", "starts_at": after(300)}
    await put(connection, Release.model_validate(values))
    await put(connection, ack(1, "received", 60.5), ack(1, "partial", 61.25, detail="minimum-on"))
    await put(
        connection, ack(1, "ramping", 70), ack(2, "compliant", 130), ack(2, "breach", 200), ack(2, "compliant", 210)
    )
    await put(connection, *powers(HERE, after(230), (30, 720), (40, 740)))
    first, renewal, released = await outcomes(connection)
    assert (first["in_force_from"], first["in_force_until"]) == (after(60), after(300))
    assert (first["first_ack_seconds"], first["verdict_seconds"]) == (0.5, 1.25)
    assert (first["verdict"], first["verdict_detail"], first["unanswered"]) == ("partial", "minimum-on", False)
    assert (first["compliant_seconds"], first["breach_seconds"], first["breaches"]) == (70.0, 140.0, 1)
    assert (first["last_progress"], first["renewals"], first["released_at"]) == ("compliant", 1, after(300))
    # The last minute: two windows at 720 W, four at 740 W.
    assert first["achieved_power_watts"] == pytest.approx((2 * 720 + 4 * 740) / 6)
    assert first["achieved_excess_watts"] == pytest.approx(first["achieved_power_watts"] - 750)
    assert (renewal["in_force_until"], renewal["unanswered"]) == (after(300), True)
    assert (released["kind"], released["in_force_from"], released["achieved_power_watts"]) == ("release", None, None)


async def test_command_outcomes_flag_an_unanswered_command(connection: Connection) -> None:
    # Another site's and another command's answers are none of its.
    await put(connection, throttle(1), throttle(2, 90), ack(2, "accepted", 91), ack(1, "accepted", 61, site_id=THERE))
    first, again = await outcomes(connection)
    assert (first["unanswered"], first["verdict"], first["first_ack_at"]) == (True, None, None)
    assert (again["unanswered"], again["verdict"]) == (False, "accepted")
    # Said again, it is the second that holds from then on.
    assert (first["in_force_until"], again["in_force_from"]) == (after(90), after(90))


async def a_decision(connection: Connection) -> None:
    """A throttle for its price from 14:01 to 14:06; the price is revised twice, once before and once after."""
    inputs = Inputs(
        newest_power_window_end=after(50),
        newest_forecast_issued_at=START,
        signal_ids=[PRICE],
        stale_site_ids=[THERE],
    )
    rejected = [Rejected(alternative="deeper", why="service")]
    pinned = [Baseline(signal_id="economics", site_id=HERE, power_watts=1000.0)]
    await put(connection, price(100.0, -60), price(120.0), price(200.0, 7200), throttle(5))
    await put(connection, plan(4, 50), plan(6, 60, inputs=inputs, rejected=rejected, baselines=pinned), plan(7, 70))
    quantiles = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    await put(connection, forecast(START, (300, quantiles)), forecast(after(30), (300, quantiles)))
    # The window that ends at 60 s was not out yet when the plan was made.
    await put(connection, *powers(HERE, START, (40, 1000), (10, 990), (10, 980), (300, 750), (60, 1000)))
    await put(connection, *(load(HERE, after(10 * n), 500.0) for n in range(6)))
    await put(connection, *(load(HERE, after(10 * n), 450.0) for n in range(6, 36)), load(HERE, after(360), 9000.0))


async def test_decisions_show_what_was_known_then(connection: Connection) -> None:
    await a_decision(connection)
    (found,) = await rows(connection, "SELECT * FROM decisions")
    assert (found["plan_revision"], found["plan_owner"], found["plan_mode"]) == (6, "worker-a", "normal")
    assert found["plan_rejected"] == [{"alternative": "deeper", "why": "service"}]
    assert (found["known_power_window_end"], found["known_state_window_end"]) == (after(50), after(50))
    assert (found["known_meter_power_watts"], found["stale_site_ids"]) == (990.0, [THERE])
    assert found["known_tokens_arrived_per_second"] == 500.0
    assert (found["known_forecast_issued_at"], found["known_site_forecast_issued_at"]) == (START, START)
    assert found["known_forecast_horizons"][0]["tokens_per_second"][3] == 4.0
    assert (found["known_price_usd_per_mwh"], found["known_price_published_at"]) == (120.0, START)
    (signal,) = found["known_signals"]
    assert (signal["signal_id"], signal["price_usd_per_mwh"]) == (PRICE, 120.0)


async def test_decisions_cost_what_the_price_turned_out_to_be(connection: Connection) -> None:
    await a_decision(connection)
    (found,) = await rows(connection, "SELECT * FROM decisions")
    # 750 W for five minutes instead of 1000 W, at 200 USD/MWh.
    assert (found["measured_seconds"], found["priced_ratio"], found["baseline_power_watts"]) == (300.0, 1.0, 1000.0)
    assert (found["energy_kwh"], found["price_blind_energy_kwh"]) == pytest.approx((0.0625, 1 / 12))
    assert (found["cost_usd"], found["price_blind_cost_usd"]) == pytest.approx((0.0125, 1 / 60))
    assert found["saved_usd"] == pytest.approx(1 / 60 - 0.0125)
    assert found["tokens_not_served"] == pytest.approx(50.0 * 300)


async def test_decisions_without_a_plan_rest_on_the_five_minutes_before(connection: Connection) -> None:
    second = price(40.0, 870, signal_id=NEXT_PRICE, starts_at=after(900), ends_at=after(1800))
    await put(connection, price(100.0), second, throttle(1, 840, starts_at=after(840), ends_at=after(960)))
    await put(connection, power(HERE, after(530), 9000.0), *powers(HERE, after(780), (30, 900), (30, 1100), (120, 600)))
    (found,) = await rows(connection, "SELECT * FROM decisions")
    assert (found["plan_revision"], found["baseline_power_watts"]) == (None, pytest.approx(1000.0))
    # A minute at each price.
    assert found["cost_usd"] == pytest.approx(600 * 60 * (100 + 40) / 3.6e9)
    assert found["price_blind_cost_usd"] == pytest.approx(1000 * 60 * (100 + 40) / 3.6e9)


async def test_why_gives_the_decision_in_force(connection: Connection) -> None:
    await a_decision(connection)
    await put(connection, throttle(8, 120, renewal=True), throttle(9, 60, site_id=THERE))
    found = await rows(connection, "SELECT sequence, reason, saved_usd FROM why(%s, %s)", HERE, after(300))
    assert [(row["sequence"], row["reason"]) for row in found] == [(5, "economics")]
    assert found[0]["saved_usd"] == pytest.approx(1 / 60 - 0.0125)
    for moment in (59, 360):
        assert await rows(connection, "SELECT * FROM why(%s, %s)", HERE, after(moment)) == []


async def test_decision_views_show_the_run_asked_for(connection: Connection) -> None:
    await put(connection, throttle(1, run_id="replay"), ack(1, "accepted", 61, run_id="replay"))
    await put(connection, *powers(HERE, after(60), (300, 750), run_id="replay"))
    for view in ("command_outcomes", "decisions"):
        assert await rows(connection, f"SELECT * FROM {view}") == []
    await put(connection, throttle(1))
    (found,) = await rows(connection, "SELECT * FROM decisions")
    assert (found["run_id"], found["unanswered"], found["energy_kwh"]) == ("live", True, None)
    await connection.execute("SET gridtide.run_id = 'replay'")
    (found,) = await rows(connection, "SELECT * FROM decisions")
    assert (found["run_id"], found["unanswered"], found["energy_kwh"]) == ("replay", False, pytest.approx(0.0625))


def pinball_loss(quantiles: list[float], came: float) -> float:
    losses = [
        level * (came - value) if came >= value else (1 - level) * (value - came)
        for level, value in zip(QUANTILE_LEVELS, quantiles, strict=True)
    ]
    return sum(losses) / len(losses)


async def test_forecast_accuracy_pairs_forecasts_with_the_load_that_came(connection: Connection) -> None:
    near, far = [80.0, 85.0, 90.0, 100.0, 110.0, 115.0, 120.0], [50.0, 60.0, 70.0, 90.0, 95.0, 99.0, 100.0]
    # Steps of five minutes: 100, 120, 90, 150 tokens/s, the second of two windows; then one that is hardly observed.
    steps = [(0, 300, 100.0), (300, 150, 110.0), (450, 150, 130.0), (600, 300, 90.0), (900, 300, 150.0)]
    await put(connection, *(load(HERE, after(at), rate, seconds) for at, seconds, rate in steps))
    await put(connection, load(HERE, after(1200), 999.0, 100))
    await put(connection, forecast(after(300), (300, near), (600, far)), forecast(after(600), (300, near), (600, far)))
    await put(connection, forecast(after(900), (600, far)), forecast(after(301), (300, near)))
    short, long = await rows(connection, "SELECT * FROM forecast_accuracy ORDER BY horizon_seconds")
    # 100 against 120 and 90 that came; persistence said 100 and 120.
    assert (short["horizon_seconds"], short["forecasts"], short["model"]) == (300, 2, "baseline-1")
    assert short["issued_day"] == START.replace(hour=0)
    assert short["wmape_ratio"] == pytest.approx((20 + 10) / 210)
    assert short["persistence_wmape_ratio"] == pytest.approx((20 + 30) / 210)
    assert short["bias_ratio"] == pytest.approx((-20 + 10) / 210)
    assert (short["coverage_ratio"], short["width_tokens_per_second"]) == (1.0, 40.0)
    assert short["pinball_loss_tokens_per_second"] == pytest.approx(
        (pinball_loss(near, 120) + pinball_loss(near, 90)) / 2
    )
    # 90 against 90 and 150; the third forecast's step was hardly observed.
    assert (long["forecasts"], long["coverage_ratio"]) == (2, 0.5)
    assert long["wmape_ratio"] == pytest.approx(60 / 240)
    assert long["load_tokens_per_second"] == 120.0
    await connection.execute("SET gridtide.run_id = 'replay'")
    assert await rows(connection, "SELECT * FROM forecast_accuracy") == []


async def test_forecast_accuracy_knows_what_came_a_day_ahead(connection: Connection) -> None:
    day, quantiles = 86_400, [80.0, 85.0, 90.0, 100.0, 110.0, 115.0, 120.0]
    await put(connection, *(load(HERE, after(at), rate, 300) for at, rate in ((0, 50.0), (day, 125.0))))
    await put(connection, forecast(after(300), (day, quantiles)))
    (found,) = await rows(connection, "SELECT * FROM forecast_accuracy")
    assert (found["horizon_seconds"], found["forecasts"], found["wmape_ratio"]) == (day, 1, 0.2)
    assert (found["persistence_wmape_ratio"], found["coverage_ratio"]) == (0.6, 0.0)
