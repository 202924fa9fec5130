"""Windows are a function of the log: not of its batches, nor of how often the worker died while it read them."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, cycle

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.requests import ClassRequests, RequestRates
from schemas.site import PowerState
from schemas.telemetry import TelemetryFrame
from streams.aggregate.window import BEGINNING, PartitionWindows, Source, State, WindowRules
from tests.examples import COUNTS, after
from tests.strategies import records

FLEETS = load_fleet_file(DEMO_FLEET_FILE)
SITES = ("nyiso-nyc", "nyiso-west", "ercot-dallas")
RULES = WindowRules(window_seconds=10.0, allowed_lateness_seconds=5.0)
BLANK = 9223372036854775794.0
BAD_READINGS = (None, math.nan, math.inf, -math.inf, BLANK, -1.0, 5_000.1)

# When, of which site, from which source, two figures, and how many seconds late; whether it is sent twice.
Drawn = tuple[float, int, int, int, int, float, float | None]
Make = Callable[[int, float, int, int, int, int], Source]
seconds = st.integers(0, 240).map(lambda quarter: quarter / 4)
in_time = st.integers(0, 19).map(lambda quarter: quarter / 4)
any_delay = st.integers(0, 160).map(lambda quarter: quarter / 4)


def drawn(delays: st.SearchStrategy[float]) -> st.SearchStrategy[list[Drawn]]:
    """What arrives, duplicates at any later time included."""
    counts = st.integers(0, 3000)
    one = st.tuples(seconds, st.integers(0, 2), st.integers(0, 1), counts, counts, delays, st.none() | any_delay)
    return st.lists(one, min_size=8, max_size=40)  # left to itself, Hypothesis draws lists of a few


def frame(number: int, at: float, site: int, source: int, a: int, b: int) -> TelemetryFrame:
    """A frame of two GPUs, one more at times, with a masked reading where a figure says so."""
    watts = [float(a), BAD_READINGS[b % 7] if b % 3 == 0 else float(b), *([300.0] if a % 4 == 0 else [])]
    return TelemetryFrame(
        site_id=SITES[site],
        pool_id="h100",
        source=f"exporter-{source}",
        sequence=number,
        observed_at=after(at),
        interval_seconds=1.0,
        first_gpu=source * 2,
        power_watts=watts,
        energy_joules=[1.0] * len(watts),
        utilization_ratio=[a / 3000] * len(watts),
        memory_used_ratio=[0.1] * len(watts),
        temperature_celsius=[b / 100] * len(watts),
        meter_power_watts=a / 3 if b % 2 else None,
    )


def rates(number: int, at: float, site: int, source: int, a: int, b: int) -> RequestRates:
    """A report of two service classes over 1 to 15 s."""
    share = {"requests_arrived": a, "requests_served": b, "prompt_tokens_arrived": a * 7, "tokens_arrived": a * 3}
    classes = [
        ClassRequests(
            service_class=name, **share, tokens_served=b * 3, tokens_queued=a + place, ttft_seconds_counts=COUNTS
        )
        for place, name in enumerate(("chat", "batch"))
    ]
    return RequestRates(
        site_id=SITES[site],
        source=f"gateway-{source}",
        sequence=number,
        observed_at=after(at),
        interval_seconds=(1.0, 10.0, 15.0)[b % 3],
        classes=classes,
    )


def as_log(make: Make, drawn: Sequence[Drawn], *, duplicates: bool = True) -> list[Source]:
    """The records in the order in which they arrive, and one much later that closes every window."""
    arrivals: list[tuple[float, int, Source]] = []
    order = count()
    for number, (at, site, source, a, b, delay, again) in enumerate(drawn):
        record = make(number, at, site, source, a, b)
        arrivals.append((at + delay, next(order), record))
        if again is not None and duplicates:
            arrivals.append((at + delay + again, next(order), record))
    last = make(len(drawn), 1000.0, 0, 0, 1, 1)
    return [record for *_, record in sorted(arrivals, key=lambda each: each[:2])] + [last]


class _KilledError(Exception):
    pass


@dataclass
class Durable:
    """What outlives a worker. Each write takes one of the `strength` that the worker has left before it is killed."""

    sent: list[bytes] = field(default_factory=list)
    watermark: datetime = BEGINNING
    committed: int = 0
    strength: float = math.inf

    def _write(self) -> None:
        if self.strength <= 0:
            raise _KilledError
        self.strength -= 1

    def send(self, state: State) -> None:
        self._write()
        self.sent.append(state.to_json())

    def remember(self, watermark: datetime) -> None:
        self._write()
        assert watermark >= self.watermark
        self.watermark = watermark

    def commit(self, position: int) -> None:
        self._write()
        assert position >= self.committed
        self.committed = position


def live(log: Sequence[Source], durable: Durable, sizes: Sequence[int], commits: Sequence[bool]) -> PartitionWindows:
    """One worker's life, in the order of `streams.aggregate.agent`: sent, remembered, committed (at times)."""
    windows = PartitionWindows(RULES, FLEETS, watermark=durable.watermark)
    position = durable.committed
    for size, commit in zip(cycle(sizes), cycle(commits)):
        batch = log[position : position + size]
        if not batch:
            return windows
        position += len(batch)
        windows.fold(batch, position)
        due = windows.due()
        for _, state in due:
            durable.send(state)
        if due:
            durable.remember(windows.watermark)
        out = windows.settle(place for place, _ in due)
        if out is not None:
            assert not {(RULES.start_of(record), record.site_id) for record in log[:out]} & windows.open.keys()
            if commit:
                durable.commit(out)
    raise AssertionError("cycles don't end")


def undisturbed(log: Sequence[Source]) -> list[bytes]:
    """What one worker sends that takes record by record and never dies."""
    durable = Durable()
    windows = live(log, durable, [1], [True])
    assert len(windows.open) == 1  # the last record's own
    assert durable.committed == len(log) - 1
    return durable.sent


def parsed(sent: Sequence[bytes]) -> list[dict[str, object]]:
    """The records without the count of duplicates."""
    return [{name: value for name, value in json.loads(each).items() if name != "duplicates"} for each in sent]


makers = st.sampled_from([frame, rates])
sizes = st.lists(st.integers(1, 15), min_size=1, max_size=8)
commits = st.lists(st.booleans(), min_size=1, max_size=5)
lives = st.lists(st.tuples(st.integers(0, 25), sizes, commits), max_size=6)


@settings(max_examples=150, deadline=None)
@given(makers, drawn(any_delay), lives, sizes)
def test_a_worker_killed_anywhere_sends_the_same_bytes(
    make: Make, arrived: list[Drawn], lives: list[tuple[int, list[int], list[bool]]], last_sizes: list[int]
) -> None:
    log = as_log(make, arrived)
    durable = Durable()
    for strength, sizes, commits in lives:
        durable.strength = strength
        try:
            live(log, durable, sizes, commits)
        except _KilledError:
            continue
    durable.strength = math.inf
    live(log, durable, last_sizes, [True])
    assert durable.committed < len(log)  # the last record's window is open
    once = undisturbed(log)
    assert len(set(once)) == len(once)
    assert set(durable.sent) == set(once)  # a state holds its natural key


@settings(max_examples=50, deadline=None)
@given(makers, drawn(any_delay), sizes)
def test_batch_boundaries_never_matter(make: Make, arrived: list[Drawn], sizes: list[int]) -> None:
    log = as_log(make, arrived)
    durable = Durable()
    live(log, durable, sizes, [True])
    assert sorted(durable.sent) == sorted(undisturbed(log))


@settings(max_examples=80, deadline=None)
@given(makers, drawn(in_time))
def test_order_within_the_lateness_and_duplicates_change_nothing_but_their_count(
    make: Make, arrived: list[Drawn]
) -> None:
    in_order = as_log(make, arrived, duplicates=False)
    in_order.sort(key=lambda record: record.observed_at)
    assert parsed(undisturbed(as_log(make, arrived))) == parsed(undisturbed(in_order))


@settings(max_examples=50, deadline=None)
@given(makers, drawn(in_time), drawn(any_delay))
def test_what_comes_late_is_counted_and_changes_nothing(
    make: Make, arrived: list[Drawn], latecomers: list[Drawn]
) -> None:
    log = as_log(make, arrived)
    late = as_log(make, latecomers)[:-1]
    windows = live([*log, *late], durable := Durable(), [1], [True])
    assert durable.sent == undisturbed(log)
    assert windows.late >= len(late)
    assert durable.committed == len(log) - 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*BAD_READINGS, 0.0, 12.5, 700.125, 5_000.0]), min_size=1, max_size=30))
def test_a_masked_reading_is_counted_and_poisons_no_sum(readings: list[float | None]) -> None:
    good = [r for r in readings if r is not None and 0 <= r <= 5000]
    columns = dict.fromkeys(
        ("energy_joules", "utilization_ratio", "memory_used_ratio", "temperature_celsius"), [None] * len(readings)
    )
    one = frame(0, 1.0, 0, 0, 1, 1).model_copy(update={**columns, "power_watts": readings, "meter_power_watts": BLANK})
    windows = PartitionWindows(RULES, FLEETS)
    windows.fold([one, frame(1, 1000.0, 1, 0, 1, 1)], 2)
    ((_, state),) = windows.due()
    assert isinstance(state, PowerState)
    mean = sum(round(r * 1000) for r in good) / 1000 / len(good) if good else 0.0
    assert math.isclose(state.it_power_watts, mean * len(readings), abs_tol=1e-9)
    assert state.it_energy_joules == state.it_power_watts * RULES.window_seconds
    assert state.masked_values == len(readings) - len(good) + 4 * len(readings) + 1
    assert (state.gpus_reporting, state.gpu_samples) == (len(good), len(readings))
    assert state.meter_power_watts is state.utilization_ratio is state.temperature_celsius_max is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(records(TelemetryFrame, site_id=st.sampled_from(SITES)), max_size=4)
    | st.lists(records(RequestRates, site_id=st.sampled_from(SITES)), max_size=4)
)
def test_whatever_the_contract_allows_closes_into_a_record_that_it_allows(log: list[Source]) -> None:
    fitting = [record for record in log if RULES.refused(record) is None]
    windows = PartitionWindows(RULES, FLEETS)
    windows.fold(fitting, len(fitting))
    windows.watermark = datetime(2300, 1, 1, tzinfo=UTC)  # later than any drawn time
    for _, state in windows.due():
        assert type(state).model_validate_json(state.to_json()) == state
