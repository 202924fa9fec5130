"""The demo's independent count: what stands on the bus, each natural key once."""

from typing import Any

import pytest

from schemas import catalog
from schemas.catalog import TOPICS, Topic
from schemas.envelope import Record
from streams.demo.tally import Headers, Tally
from tests.examples import ACK, EVENT, EXAMPLES, FLEET, FRAME, LOAD, NOON, POWER, PRICE, SITE, THROTTLE, after


def taken(*records: tuple[Topic, Record], headers: Headers = ()) -> Tally:
    """A tally of these records, a second apart."""
    tally = Tally()
    for second, (topic, record) in enumerate(records):
        tally.take(topic.name, record.to_json(), second * 1000, headers)
    return tally


def changed(record: Record, **fields: Any) -> Record:
    """The record with other values."""
    return record.model_copy(update=fields)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_take_counts_each_natural_key_once(topic: Topic) -> None:
    examples = EXAMPLES[topic.name]
    tally = taken(*[(topic, record) for record in examples * 2])
    assert tally.distinct() == {each.name: len(examples) if each is topic else 0 for each in TOPICS}
    assert tally.repeats == {topic.name: len(examples)}


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff", b"null", b"[]", b"{}", b'"text"', b"7"])
def test_take_counts_what_is_no_record_and_goes_on(value: bytes | None) -> None:
    tally = Tally()
    tally.take(catalog.GPU_TELEMETRY.name, value, 0, ())
    assert tally.unreadable == {catalog.GPU_TELEMETRY.name: 1}
    assert tally.counts()["frames_in"] == 0


def test_counts_are_what_a_summary_begins_with() -> None:
    tally = taken((catalog.GPU_TELEMETRY, FRAME), (catalog.SITE_STATE, POWER), (catalog.SITE_STATE, LOAD))
    assert tally.counts() == {
        "frames_in": 1,
        "gpu_samples_in": 3,
        "request_rates_in": 0,
        "signals_in": 0,
        "states_out": 2,
        "forecasts_out": 0,
        "offers_out": 0,
    }


def test_a_command_is_answered_by_a_verdict_and_by_no_other_ack() -> None:
    received = changed(ACK, status="received")
    tally = taken((catalog.SITE_COMMANDS, THROTTLE), (catalog.COMMAND_ACKS, received))
    assert tally.commands_without_answer == 1
    tally.take(catalog.COMMAND_ACKS.name, ACK.to_json(), 0, ())
    assert tally.commands_without_answer == 0
    assert tally.commands == {("throttle", "event"): 1}


def test_the_first_command_of_each_site_for_an_event_is_the_answer_to_it() -> None:
    renewal = changed(THROTTLE, sequence=130)
    elsewhere = changed(THROTTLE, site_id="dallas-1")
    unknown = changed(THROTTLE, sequence=131, caused_by=["event-99"])
    commands = [(catalog.SITE_COMMANDS, each) for each in (THROTTLE, renewal, elsewhere, unknown)]
    assert taken((catalog.GRID_SIGNALS, EVENT), *commands).signal_to_command_seconds == [1.0, 3.0]


def test_a_state_knows_which_frame_closed_it() -> None:
    tally = Tally()
    tally.take(catalog.SITE_STATE.name, POWER.to_json(), 1250, [("closed-by-timestamp-ms", b"1000")])
    assert tally.telemetry_to_state_seconds == [0.25]


def test_an_event_is_what_was_said_last_however_it_came() -> None:
    later = changed(EVENT, published_at=after(5), reduction_ratio=0.5)
    for order in ((EVENT, later), (later, EVENT)):
        tally = taken(*[(catalog.GRID_SIGNALS, event) for event in order])
        assert tally.events["event-17"]["reduction_ratio"] == 0.5


def test_dead_letters_are_counted_by_topic_and_reason() -> None:
    tally = Tally()
    tally.take_dead_letter("gpu.telemetry.v1", [("reason", b"future")])
    tally.take_dead_letter("gpu.telemetry.v1", [])
    assert tally.dead_letters == {("gpu.telemetry.v1", "future"): 1, ("gpu.telemetry.v1", "?"): 1}


def test_tokens_and_energy_are_rates_times_their_windows() -> None:
    metered = changed(POWER, meter_power_watts=3_600_000.0)
    dark = changed(POWER, window_start=after(10), window_end=after(20))
    tally = taken((catalog.SITE_STATE, LOAD), (catalog.SITE_STATE, metered), (catalog.SITE_STATE, dark))
    assert tally.tokens == 31_002.5
    assert tally.energy_kwh() == 10.0


def cost(*prices: Record) -> float:
    """What 1 MWh used at noon costs in Austin."""
    tally = taken(*[(catalog.GRID_SIGNALS, price) for price in prices])
    tally.meter[SITE][NOON] = (3_600_000_000.0, 1.0)
    return tally.energy_cost_usd({SITE: (FLEET, "HB_NORTH")})


def test_the_cost_of_energy_is_at_the_price_of_its_place_and_time() -> None:
    assert cost(PRICE) == pytest.approx(-12.75)
    assert cost() == 0.0
    assert cost(changed(PRICE, starts_at=after(1))) == 0.0
    assert cost(changed(PRICE, ends_at=NOON)) == 0.0
    assert cost(changed(PRICE, settlement_point="HB_WEST")) == 0.0
    assert cost(changed(PRICE, fleet_id="nyiso")) == 0.0
    assert cost(changed(PRICE, market="day-ahead")) == 0.0


def test_a_revised_price_holds_however_it_came() -> None:
    revised = changed(PRICE, published_at=after(60), price_usd_per_mwh=-90.0)
    assert cost(PRICE, revised) == cost(revised, PRICE) == pytest.approx(-90.0)
