"""Trace context: what is taken over, what is derived, and that a successor derives the same."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.signals import EventSignal
from streams.trace import Trace, Traces, derived, of_ack, parsed, received
from tests.examples import ACK, NOON, SHIFT, THROTTLE, after

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"  # of the recommendation itself
EVENT = EventSignal(
    fleet_id=THROTTLE.fleet_id,
    signal_id="event/1",
    source="utility",
    published_at=NOON,
    starts_at=NOON,
    ends_at=after(3600),
    kind="event",
    reduction_ratio=0.2,
)
COMMAND = THROTTLE.model_copy(update={"caused_by": ["event/1", "event/2"]})


def header(text: str) -> list[tuple[str, bytes | None]]:
    """The headers of a message with a traceparent."""
    return [("other", b"x"), ("traceparent", text.encode())]


def revised(published_at: datetime, signal_id: str = "event/1") -> EventSignal:
    """The event as it was published at a time."""
    return EVENT.model_copy(update={"published_at": published_at, "signal_id": signal_id})


def knowing(*signals: tuple[EventSignal, str]) -> Traces:
    """A planner's traces, after it has read signals with their traceparents."""
    traces = Traces()
    for signal, text in signals:
        traces.observe(signal, header(text) if text else [])
    return traces


def test_parsed_takes_the_example_of_the_recommendation_and_says_it_again() -> None:
    trace = parsed(GIVEN)
    assert trace == Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "00")
    assert str(trace) == GIVEN
    assert trace.header() == ("traceparent", GIVEN.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        GIVEN.upper(),
        GIVEN[:-1],
        GIVEN + "-x",
        GIVEN + "0",
        " " + GIVEN,
        "ff" + GIVEN[2:],
        "01" + GIVEN[2:] + "x",
        GIVEN.replace("-", "_"),
        GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        GIVEN.replace("00f067aa0ba902b7", "0" * 16),
        GIVEN.replace("4bf9", "4bg9"),
        GIVEN + "\n",
    ],
)
def test_parsed_ignores_what_is_invalid(text: str) -> None:
    assert parsed(text) is None
    assert received(header(text)) is None


def test_parsed_takes_of_versions_to_come_what_it_knows() -> None:
    assert parsed("cc" + GIVEN[2:] + "-what-the-future-will-be-like") == parsed(GIVEN)
    assert parsed("cc" + GIVEN[2:]) == parsed(GIVEN)


def test_received_takes_one_header_and_no_more() -> None:
    assert received(header(GIVEN)) == parsed(GIVEN)
    assert received([]) is None
    assert received(header(GIVEN) * 2) is None
    assert received([("traceparent", None)]) is None
    assert received([("traceparent", b"\xff\x00")]) is None


def test_a_command_keeps_the_trace_that_its_first_signal_came_with() -> None:
    traces = knowing((EVENT, GIVEN), (revised(NOON, "event/2"), ""))
    command = traces.of_command(COMMAND)
    assert (command.trace_id, command.flags) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00")
    assert command.span_id != "00f067aa0ba902b7"


def test_a_signal_without_a_valid_trace_gets_one_that_a_successor_derives_too() -> None:
    first, successor = knowing((EVENT, "")), knowing((EVENT, GIVEN[:-1]))
    assert first.of_command(COMMAND) == successor.of_command(COMMAND)
    again = COMMAND.model_copy(update={"epoch": COMMAND.epoch + 1, "sequence": 1, "renewal": True})
    assert successor.of_command(again).trace_id == first.of_command(COMMAND).trace_id


@pytest.mark.parametrize("field", ["run_id", "fleet_id", "signal_id", "published_at"])
def test_a_derived_trace_is_of_one_signal_of_one_run(field: str) -> None:
    other = {"run_id": "replay-1", "fleet_id": "other", "signal_id": "event/9", "published_at": after(1)}[field]
    signal = EVENT.model_copy(update={field: other})
    same = {name: getattr(signal, name) for name in ("run_id", "fleet_id")} | {"caused_by": [signal.signal_id]}
    assert (
        knowing((signal, "")).of_command(COMMAND.model_copy(update=same)).trace_id
        != knowing((EVENT, "")).of_command(COMMAND).trace_id
    )


def test_of_a_signals_revisions_the_one_published_last_counts() -> None:
    late, newest = revised(after(-5)), revised(after(5))
    traces = knowing((EVENT, GIVEN), (late, ""))
    assert traces.of_command(COMMAND).trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    traces.observe(newest, [])
    assert traces.of_command(COMMAND) == knowing((newest, "")).of_command(COMMAND)


def test_each_command_and_each_answer_is_a_span_of_its_own() -> None:
    traces = knowing((EVENT, GIVEN))
    commands = [
        COMMAND,
        COMMAND.model_copy(update={"sequence": COMMAND.sequence + 1}),
        COMMAND.model_copy(update={"epoch": COMMAND.epoch + 1}),
        COMMAND.model_copy(update={"site_id": "another"}),
    ]
    spans = [traces.of_command(command) for command in commands]
    spans += [
        of_ack(ACK, str(spans[0])),
        of_ack(ACK.model_copy(update={"status": "ramping"}), str(spans[0])),
        of_ack(ACK.model_copy(update={"status": "ramping", "observed_at": after(99)}), str(spans[0])),
    ]
    assert {span.trace_id for span in spans} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert {span.flags for span in spans} == {"00"}
    assert len({span.span_id for span in spans}) == len(spans)


def test_a_command_that_no_known_signal_caused_has_the_trace_of_its_control_or_cause() -> None:
    uncaused = SHIFT.model_copy(update={"caused_by": []})
    trace = Traces().of_command(uncaused)
    assert trace.trace_id == derived(uncaused.run_id, uncaused.fleet_id, uncaused.control_id).trace_id
    assert Traces().of_command(COMMAND).trace_id != trace.trace_id


def test_an_answer_to_a_command_without_a_trace_has_one_all_the_same() -> None:
    assert of_ack(ACK, "").trace_id == of_ack(ACK.model_copy(update={"status": "ramping"}), "nonsense").trace_id


def test_forget_keeps_the_trace_of_a_signal_for_a_day_after_its_end() -> None:
    traces = knowing((EVENT, GIVEN))
    traces.forget(after(24 * 3600))
    assert traces.of_command(COMMAND).trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    traces.forget(after(25 * 3600))
    assert traces.of_command(COMMAND).trace_id != "4bf92f3577b34da6a3ce929d0e0e4736"


@given(st.text(max_size=80))
def test_whatever_is_parsed_is_said_again_as_version_00(text: str) -> None:
    trace = parsed(text)
    assert trace is None or parsed(str(trace)) == trace


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_whatever_is_derived_is_valid(names: list[str]) -> None:
    trace = derived(*names)
    assert parsed(str(trace)) == trace
    assert parsed(str(trace.span(*names))) is not None
