"""Load over one window: counts inside, so that neither order nor duplicates shift a rate."""

import itertools
from typing import Any

from schemas.latency import BUCKETS
from schemas.requests import ClassRequests, RequestRates
from schemas.site import LoadState
from streams.aggregate.load import LoadWindow
from tests.examples import COUNTS, FLEET, NOON, REQUESTS, SITE, after


def of_class(name: str = "chat", **fields: Any) -> ClassRequests:
    """What one service class was asked for."""
    return REQUESTS.classes[0].model_copy(update={"service_class": name, **fields})


def rates(sequence: int, *classes: ClassRequests, **fields: Any) -> RequestRates:
    """A report of 5 s."""
    common = {"sequence": sequence, "interval_seconds": 5.0, "observed_at": after(5 * sequence + 5)}
    return REQUESTS.model_copy(update={**common, "classes": list(classes or [of_class()]), **fields})


def closed(*reports: RequestRates) -> LoadState:
    """The state of a window of 10 s that holds these reports."""
    window = LoadWindow()
    for each in reports:
        window.fold(each)
    return window.close(FLEET, SITE, NOON, after(10), gpus_expected=1)


def test_close_divides_counts_by_the_window() -> None:
    state = closed(rates(0), rates(1, of_class(requests_arrived=8, tokens_queued=20)))
    (chat,) = state.classes
    assert chat.requests_per_second == state.requests_per_second == 2.0
    assert chat.prompt_tokens_per_second == 960.0
    assert chat.tokens_arrived_per_second == state.tokens_arrived_per_second == 720.0
    assert chat.tokens_served_per_second == state.tokens_served_per_second == 620.0
    assert chat.ttft_seconds_counts == [2 * count for count in COUNTS]
    assert chat.ttft_seconds_p50 is not None
    assert state.covered_ratio == 1.0
    assert (state.records, state.duplicates) == (2, 0)


def test_close_of_classes_is_by_name_and_sums_them() -> None:
    state = closed(rates(0, of_class("chat"), of_class("batch", tokens_arrived=400)))
    assert [each.service_class for each in state.classes] == ["batch", "chat"]
    assert state.tokens_arrived_per_second == 400.0
    assert state.tokens_queued == 1000
    assert state.covered_ratio == 0.5


def test_what_waits_is_the_newest_report_of_each_source() -> None:
    newest, older = rates(1, of_class(tokens_queued=3)), rates(0, of_class(tokens_queued=900))
    other = rates(0, of_class(tokens_queued=40), source="gateway-2")
    assert closed(newest, older, other).tokens_queued == 43


def test_covered_is_that_of_the_source_that_said_least() -> None:
    assert closed(rates(0), rates(1), rates(0, source="gateway-2")).covered_ratio == 0.5
    assert closed(rates(0), rates(1), rates(2)).covered_ratio == 1.0


def test_fold_takes_a_source_and_sequence_once() -> None:
    once = closed(rates(0), rates(1))
    assert closed(rates(0), rates(1), rates(0), rates(1)) == once.model_copy(update={"duplicates": 2})


def test_fold_takes_reports_in_any_order() -> None:
    reports = [
        rates(0, of_class(tokens_queued=1)),
        rates(1, of_class(tokens_queued=2), of_class("batch")),
        rates(2, of_class("batch", tokens_queued=7), observed_at=after(10)),
        rates(3, of_class("batch", tokens_queued=5), observed_at=after(10)),  # at one instant the larger holds
        rates(0, of_class(tokens_arrived=10**15), source="gateway-2", interval_seconds=0.1),
    ]
    assert len({closed(*order).to_json() for order in itertools.permutations(reports)}) == 1


def test_no_time_to_first_token_where_nothing_was_served() -> None:
    (chat,) = closed(rates(0, of_class(ttft_seconds_counts=[0] * BUCKETS))).classes
    assert (chat.ttft_seconds_p50, chat.ttft_seconds_p99) == (None, None)


def test_close_of_wild_counts_is_still_a_record_that_can_be_read() -> None:
    most = 2**62
    wild = of_class(
        requests_arrived=most, prompt_tokens_arrived=most, tokens_arrived=most, tokens_served=most, tokens_queued=most
    ).model_copy(update={"ttft_seconds_counts": [most] * BUCKETS})
    reports = [rates(number, wild, wild, source=f"gateway-{number}") for number in range(3)]
    state = closed(*reports)
    assert LoadState.model_validate_json(state.to_json()) == state
    assert state.tokens_queued == most
