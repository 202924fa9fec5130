"""A short history made by hand: two sites through one hour, with prices, an event and what it set off.

Everything is a plain function of the time, so that a test can say what comes out. `fill` writes all of it; the
makers of single records are for tests that want rows of their own.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import psycopg

from schemas.envelope import LIVE_RUN, Record
from schemas.forecast import HorizonForecast
from schemas.plan import Baseline
from schemas.requests import RequestRates
from schemas.signals import EventSignal, PriceSignal
from schemas.site import LoadState, PowerState
from schemas.telemetry import TelemetryFrame
from streams.record.rows import DeadLetter, Row, rows_of
from streams.record.tables import SERVICE_CLASSES, SITES
from streams.record.writer import write_batch
from tests.examples import (
    ACK,
    COUNTS,
    EVENT,
    FLEET,
    FORECAST,
    FRAME,
    HEARTBEAT,
    LOAD,
    NOON,
    OFFER,
    OTHER_SITE,
    PLAN,
    POWER,
    PRICE,
    REQUESTS,
    SHIFT,
    SITE,
    THROTTLE,
    after,
)

WINDOW_SECONDS = 10
HOUR_SECONDS = 3600
PUE = {SITE: 1.25, OTHER_SITE: 1.5}
SETTLEMENT_POINT = {SITE: "HB_NORTH", OTHER_SITE: "HB_WEST"}
EVENT_STARTS_SECONDS, EVENT_ENDS_SECONDS, EVENT_RAMP_SECONDS = 1200, 2400, 120
FIRST_HOUR, AFTER_THE_HOUR, DAY_BEFORE = NOON, after(HOUR_SECONDS), after(-86_400)

Rows = dict[str, list[Row]]


def site_rows(known_from: datetime = DAY_BEFORE, run_id: str = LIVE_RUN, **changed: Any) -> Rows:
    """The descriptions of both sites and of their service class; `changed` columns are the same at both sites."""
    sites = [
        {
            "known_from": known_from,
            "site_id": site_id,
            "run_id": run_id,
            "fleet_id": FLEET,
            "settlement_point": SETTLEMENT_POINT[site_id],
            "pue": PUE[site_id],
            "gpus": 4,
            "import_limit_watts": 1_500_000.0,
            "minimum_on_watts": 100_000.0,
            "failsafe_watts": 200_000.0,
            "ramp_down_watts_per_second": 5_000.0,
            "ramp_up_watts_per_second": 2_500.0,
            "in_service": True,
        }
        | changed
        for site_id in (SITE, OTHER_SITE)
    ]
    chat: dict[str, Any] = {"known_from": known_from, "service_class": "chat", "run_id": run_id, "flex": 1}
    chat |= {"ttft_objective_seconds": 2.0, "itl_objective_seconds": 0.1}
    return {
        SITES.name: [tuple(site[column] for column in SITES.columns) for site in sites],
        SERVICE_CLASSES.name: [tuple(chat[column] for column in SERVICE_CLASSES.columns)],
    }


def power(site_id: str, seconds: float, it_power_watts: float, meter_power_watts: float | None, **more: Any) -> Record:
    """The power state of the window that begins `seconds` after noon."""
    length = more.pop("window_seconds", WINDOW_SECONDS)
    values: dict[str, Any] = {"site_id": site_id}
    values |= {"window_start": after(seconds), "window_end": after(seconds + length)}
    values |= {"it_power_watts": it_power_watts, "it_energy_joules": it_power_watts * length}
    values |= {"meter_power_watts": meter_power_watts, "records": 1, "duplicates": 0}
    return PowerState.model_validate(vars(POWER) | values | more)


def load(site_id: str, seconds: float, tokens_served_per_second: float, **more: Any) -> Record:
    """The load state of the window that begins `seconds` after noon: all of it of class chat."""
    values = {"site_id": site_id, "window_start": after(seconds), "window_end": after(seconds + WINDOW_SECONDS)}
    rates = {"tokens_served_per_second": tokens_served_per_second, "ttft_seconds_counts": COUNTS}
    rates["tokens_arrived_per_second"] = tokens_served_per_second
    values |= {"classes": [vars(LOAD.classes[0]) | rates], "records": 1}
    values |= {name: rates[name] for name in ("tokens_served_per_second", "tokens_arrived_per_second")}
    return LoadState.model_validate(vars(LOAD) | values | more)


def price(starts: float, ends: float, usd_per_mwh: float, published: float | None = None, **more: Any) -> Record:
    """The real-time price of an interval, in seconds after noon; said half a minute before, unless it is said when."""
    values = {"starts_at": after(starts), "ends_at": after(ends), "price_usd_per_mwh": usd_per_mwh}
    values |= {"published_at": after(starts - 30 if published is None else published)}
    values |= {"signal_id": f"rt/{more.get('settlement_point', 'HB_NORTH')}/{starts}"}
    return PriceSignal.model_validate(vars(PRICE) | values | more)


def frame(site_id: str, seconds: float, **more: Any) -> Record:
    """A frame of telemetry read `seconds` after noon."""
    values = {"site_id": site_id, "observed_at": after(seconds), "sequence": int(seconds * 10)}
    return TelemetryFrame.model_validate(vars(FRAME) | values | more)


def requests(site_id: str, seconds: float, **more: Any) -> Record:
    """Request rates of the interval that ends `seconds` after noon."""
    values = {"site_id": site_id, "observed_at": after(seconds), "sequence": int(seconds * 10)}
    return RequestRates.model_validate(vars(REQUESTS) | values | more)


def rows_by_table(records: Iterable[Record | DeadLetter], run_id: str = LIVE_RUN) -> Rows:
    """All rows of the records, by table, as of a run."""
    rows: Rows = {}
    for record in records:
        of_run = record.model_copy(update={"run_id": run_id}) if isinstance(record, Record) else record
        for table, row in rows_of(of_run):
            rows.setdefault(table, []).append(row)
    return rows


def meter_watts(site_id: str, seconds: float) -> float:
    """The meter's mean over the window that begins then: flat, a quarter less in the event, 0.5 % above its target."""
    full = {SITE: 1_000_000.0, OTHER_SITE: 600_000.0}[site_id]
    ramped = EVENT_STARTS_SECONDS + EVENT_RAMP_SECONDS <= seconds < EVENT_ENDS_SECONDS
    return full * 0.745 if ramped else full


def an_hour() -> list[Record | DeadLetter]:
    """The hour from noon. The meter of the second site is silent in its last ten minutes; one frame came late."""
    found: list[Record | DeadLetter] = [*_states(), *_signals(), *_answers(), *_forecasts()]
    found += [frame(SITE, 1815.5)]
    found += [
        DeadLetter(after(60), "gpu.telemetry.v1", 0, 7, LIVE_RUN, "not_json", "EOF while parsing a value", None, b"{")
    ]
    return found


def _states() -> Iterable[Record]:
    for site_id in (SITE, OTHER_SITE):
        for seconds in range(0, HOUR_SECONDS, WINDOW_SECONDS):
            watts = meter_watts(site_id, seconds)
            silent = site_id == OTHER_SITE and seconds >= HOUR_SECONDS - 600
            tokens = 3000.0 + seconds / 10
            yield frame(site_id, seconds + 0.25)
            yield requests(site_id, seconds + WINDOW_SECONDS, interval_seconds=float(WINDOW_SECONDS))
            yield power(site_id, seconds, watts / PUE[site_id], None if silent else watts)
            yield load(site_id, seconds, tokens)


def _signals() -> Iterable[Record]:
    for number in range(HOUR_SECONDS // 300):
        for point, base in (("HB_NORTH", 30.0), ("HB_WEST", -5.0)):
            starts = number * 300
            yield price(starts, starts + 300, base + number, settlement_point=point)
    # Said again after the fact.
    yield price(300, 600, 45.0, published=900)
    values: dict[str, Any] = {
        "published_at": after(EVENT_STARTS_SECONDS - 600),
        "starts_at": after(EVENT_STARTS_SECONDS),
    }
    values |= {"ends_at": after(EVENT_ENDS_SECONDS), "ramp_seconds": float(EVENT_RAMP_SECONDS)}
    yield EventSignal.model_validate(vars(EVENT) | values)


def _answers() -> Iterable[Record]:
    heard = EVENT_STARTS_SECONDS - 600
    span: dict[str, Any] = {"starts_at": after(EVENT_STARTS_SECONDS), "ends_at": after(EVENT_ENDS_SECONDS)}
    baselines = [
        Baseline(signal_id=EVENT.signal_id, site_id=site_id, power_watts=meter_watts(site_id, 0))
        for site_id in (SITE, OTHER_SITE)
    ]
    throttles = [
        PLAN.throttles[0].model_copy(
            update=span
            | {
                "site_id": site_id,
                "control_id": f"throttle-{site_id}",
                "target_power_watts": 0.75 * meter_watts(site_id, 0),
            }
        )
        for site_id in (SITE, OTHER_SITE)
    ]
    for throttle in throttles:
        offered = {"issued_at": after(heard - 30), "valid_until": after(heard + 90), "site_id": throttle.site_id}
        yield OFFER.model_copy(update=offered | {"expected_power_watts": meter_watts(throttle.site_id, 0)})
    yield PLAN.model_copy(update={"issued_at": after(heard + 1), "baselines": baselines, "throttles": throttles})
    for sequence, throttle in enumerate(throttles, start=118):
        order = span | {"issued_at": after(heard + 1), "lease_expires_at": after(EVENT_ENDS_SECONDS)}
        order |= {"site_id": throttle.site_id, "control_id": throttle.control_id, "sequence": sequence}
        order |= {"target_power_watts": throttle.target_power_watts}
        yield THROTTLE.model_copy(update=order)
        for status, seconds in (
            ("received", heard + 1.1),
            ("accepted", heard + 1.2),
            ("ramping", EVENT_STARTS_SECONDS),
            ("compliant", EVENT_STARTS_SECONDS + EVENT_RAMP_SECONDS),
        ):
            answer = {"site_id": throttle.site_id, "control_id": throttle.control_id, "sequence": sequence}
            answer |= {"status": status, "observed_at": after(seconds), "detail": "", "highest_sequence": sequence}
            yield ACK.model_copy(update=answer | {"meter_power_watts": meter_watts(throttle.site_id, seconds)})
    # The other site is to take some of the first one's chat.
    yield SHIFT.model_copy(update=span | {"issued_at": after(heard + 2), "lease_expires_at": after(EVENT_ENDS_SECONDS)})
    for seconds in range(0, HOUR_SECONDS, 300):
        for site_id in (SITE, OTHER_SITE):
            yield HEARTBEAT.model_copy(update={"site_id": site_id, "observed_at": after(seconds + 5)})


def _forecasts() -> Iterable[Record]:
    for seconds in range(300, HOUR_SECONDS, 300):
        for site_id in (SITE, OTHER_SITE):
            horizons = [
                HorizonForecast(
                    horizon_seconds=horizon,
                    tokens_per_second=[3000.0 + (seconds + horizon) / 10 + off for off in range(-60, 80, 20)],
                )
                for horizon in (300, 600, 1800)
            ]
            yield FORECAST.model_copy(
                update={"site_id": site_id, "issued_at": after(seconds), "horizons": horizons, "flags": []}
            )


async def fill(connection: psycopg.AsyncConnection[Any], run_id: str = LIVE_RUN) -> None:
    """Writes the hour, with the sites' descriptions, as of a run."""
    await write_batch(connection, site_rows(run_id=run_id))
    await write_batch(connection, rows_by_table(an_hour(), run_id))
