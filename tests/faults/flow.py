"""The input of the fault drills: two and a half minutes of seven sites, with bad, late and out-of-order records.

Made once and with fixed event times, so that the same bytes go through every run of a session and what comes out can
be compared byte for byte.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from itertools import chain
from random import Random

from infra.bus import partition_of
from infra.clock import wall_now
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.catalog import GPU_TELEMETRY, INFERENCE_REQUESTS, Topic
from schemas.latency import BUCKETS
from schemas.requests import ClassRequests, RequestRates
from schemas.telemetry import TelemetryFrame
from tests.stream.rig import PARTITIONS

SOURCES = (GPU_TELEMETRY, INFERENCE_REQUESTS)
KINDS = {GPU_TELEMETRY.name: "power", INFERENCE_REQUESTS.name: "load"}
MADE = "made"  # the run's name in the bytes, until they are fed to one
WINDOW_SECONDS = 10.0  # the defaults of the settings
LATENESS_SECONDS = 5.0
SLICES = 12  # of one window each, before the gap and after it
FIRST_LATE = 3
GAP_AFTER = 8
GAP_SECONDS = 30.0

Window = tuple[int, str, str]  # number of the window since the beginning of the flow, site, kind


@dataclass(frozen=True)
class Item:
    """A message to be fed: in which order, where to, and which window it feeds (None: it is rejected or late)."""

    order_seconds: float
    topic: Topic
    key: bytes
    value: bytes
    observed_seconds: float | None = None  # since the flow's beginning; None: it moves no watermark
    window: Window | None = None
    misplaced: bool = False

    @property
    def partition(self) -> int:
        """Where it goes."""
        return (partition_of(self.key, PARTITIONS) + self.misplaced) % PARTITIONS


@dataclass(frozen=True)
class Flow:
    """Slices to be fed one after the other, then what closes their last windows, then what closes that."""

    starts_at: datetime
    slices: Sequence[Sequence[Item]]
    closers: Sequence[Item]
    tail: Sequence[Item]

    @cached_property
    def windows(self) -> set[Window]:
        """All windows whose states come out in the end."""
        return windows_of(chain(*self.slices, self.closers))

    def closed(self, slices: int) -> int:
        """How many windows are closed when so many slices have been read."""
        return len(closed_by(list(chain(*self.slices[:slices]))))

    def key_of(self, window: Window) -> tuple[str, str, str]:
        """The natural key of a window's state, as it stands in the record."""
        number, site_id, kind = window
        start = self.starts_at + timedelta(seconds=number * WINDOW_SECONDS)
        return start.isoformat().replace("+00:00", "Z"), site_id, kind


def windows_of(items: Iterable[Item]) -> set[Window]:
    """The windows that these items feed."""
    return {item.window for item in items if item.window is not None}


def closed_by(items: Sequence[Item]) -> set[Window]:
    """The windows of these items that the watermark of their partition has passed when all have been read."""
    newest: dict[tuple[str, int], float] = {}
    for item in items:
        if item.observed_seconds is not None:
            place = (item.topic.name, item.partition)
            newest[place] = max(newest.get(place, 0.0), item.observed_seconds)
    return {
        item.window
        for item in items
        if item.window is not None
        and (item.window[0] + 1) * WINDOW_SECONDS <= newest[item.topic.name, item.partition] - LATENESS_SECONDS
    }


class Maker:
    """Makes the items of a flow; every source numbers its records."""

    def __init__(self, starts_at: datetime, seed: int) -> None:
        self.rng = Random(seed)
        self.starts_at = starts_at
        self._sequences: dict[tuple[str, str], int] = {}

    def frame(self, site_id: str, pool_id: str, collector: int, at: float, order: float, late: bool = False) -> Item:
        """A frame of four GPUs at `at` seconds; now and then a reading is missing."""
        rng = self.rng

        def column(low: float, high: float) -> list[float | None]:
            return [None if rng.random() < 0.02 else round(rng.uniform(low, high), 3) for _ in range(4)]

        source = f"collector/{collector}"
        record = TelemetryFrame(
            run_id=MADE,
            site_id=site_id,
            pool_id=pool_id,
            source=source,
            sequence=self._next(site_id, source),
            observed_at=self.starts_at + timedelta(seconds=at),
            interval_seconds=2.5,
            first_gpu=4 * collector,
            power_watts=column(100, 650),
            energy_joules=column(1e6, 2e6),
            utilization_ratio=column(0, 1),
            memory_used_ratio=column(0, 1),
            temperature_celsius=column(30, 80),
            meter_power_watts=round(rng.uniform(1e5, 2e5), 1) if collector == 0 else None,
        )
        number = int(at // WINDOW_SECONDS)
        return self._item(GPU_TELEMETRY, record, at, order, number, late)

    def rates(self, site_id: str, router: int, at: float, order: float, late: bool = False) -> Item:
        """The requests of the five seconds before `at`."""
        rng, source = self.rng, f"router/{router}"
        record = RequestRates(
            run_id=MADE,
            site_id=site_id,
            source=source,
            sequence=self._next(site_id, source),
            observed_at=self.starts_at + timedelta(seconds=at),
            interval_seconds=5.0,
            classes=[
                ClassRequests(
                    service_class=name,
                    requests_arrived=rng.randint(0, 50),
                    requests_served=rng.randint(0, 50),
                    prompt_tokens_arrived=rng.randint(0, 50_000),
                    tokens_arrived=rng.randint(0, 20_000),
                    tokens_served=rng.randint(0, 20_000),
                    tokens_queued=rng.randint(0, 5_000),
                    ttft_seconds_counts=[rng.randint(0, 3) for _ in range(BUCKETS)],
                )
                for name in ("interactive", "chat", "batch")
            ],
        )
        # A report belongs where the last instant of its interval lies.
        number = int((at - 1e-6) // WINDOW_SECONDS)
        return self._item(INFERENCE_REQUESTS, record, at, order, number, late)

    def _item(
        self, topic: Topic, record: TelemetryFrame | RequestRates, at: float, order: float, number: int, late: bool
    ) -> Item:
        window = None if late else (number, record.site_id, KINDS[topic.name])
        return Item(order, topic, topic.key_of(record), record.to_json(), at, window)

    def _next(self, site_id: str, source: str) -> int:
        place = (site_id, source)
        self._sequences[place] = self._sequences.get(place, -1) + 1
        return self._sequences[place]


def sites() -> list[tuple[str, str]]:
    """Every site of the demo's three fleets, with its first pool."""
    return [(site.id, site.pools[0].id) for _, site in load_fleet_file(DEMO_FLEET_FILE).sites()]


def site_of_each_partition() -> list[tuple[str, str]]:
    """One site for each partition."""
    return list({partition_of(site.encode(), PARTITIONS): (site, pool) for site, pool in sites()}.values())


@lru_cache(maxsize=1)
def flow_of_the_past() -> Flow:
    """The flow of the session. Event time is free, but not the future's."""
    return make_flow(wall_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2))


def whole_window(at: datetime) -> datetime:
    """The beginning of the window that holds an instant."""
    return at.replace(second=at.second - at.second % int(WINDOW_SECONDS), microsecond=0)


def make_flow(starts_at: datetime) -> Flow:
    """A flow that begins then, at the beginning of a window."""
    maker = Maker(starts_at, seed=11)
    end = _starts(SLICES)
    return Flow(
        starts_at,
        [_slice(maker, number) for number in range(SLICES)],
        closers=_one_a_partition(maker, end + LATENESS_SECONDS + 1),
        tail=_one_a_partition(maker, end + 10 * WINDOW_SECONDS),
    )


def _starts(number: int) -> float:
    """When a slice begins, in event seconds. Before the gap everything closes at once, by the first beyond it."""
    return number * WINDOW_SECONDS + (GAP_SECONDS if number >= GAP_AFTER else 0.0)


def _slice(maker: Maker, number: int) -> list[Item]:
    begins, items = _starts(number), []
    for site_id, pool_id in sites():
        for collector in (0, 1):
            for tick in range(4):
                at = begins + 2.5 * tick + 1.2 * collector + 0.1
                items.append(maker.frame(site_id, pool_id, collector, at, at + maker.rng.uniform(0, 3)))
        for router in (0, 1):
            for tick in range(2):
                at = begins + 5.0 * (tick + 1) - 1.3 * router
                items.append(maker.rates(site_id, router, at, at + maker.rng.uniform(0, 3)))
    # The first of the slice: where a restart begins to read again, a late record must still be a late one.
    late = late_items(maker, number) if number >= FIRST_LATE else []
    return sorted([*late, *items, *_rejects(maker, number)], key=lambda item: item.order_seconds)


def late_items(maker: Maker, number: int) -> list[Item]:
    """For the beginning of a slice: a record of each source and partition for a window that is closed by then."""
    begins = _starts(number)
    at = begins - 2.5 * WINDOW_SECONDS - (GAP_SECONDS if number == GAP_AFTER else 0.0)
    return [
        item
        for site_id, pool_id in site_of_each_partition()
        for item in (
            maker.frame(site_id, pool_id, 2, at, begins, late=True),
            maker.rates(site_id, 2, at, begins, late=True),
        )
    ]


def _rejects(maker: Maker, number: int) -> list[Item]:
    """What must go to the dead letters: one of each kind in turn."""
    site_id, pool_id = maker.rng.choice(sites())
    at = _starts(number) + 5.0
    good = maker.frame(site_id, pool_id, 3, at, at)
    tomorrow = (maker.starts_at + timedelta(hours=26)).isoformat().replace("+00:00", "Z").encode()
    stamp = (maker.starts_at + timedelta(seconds=at)).isoformat().replace("+00:00", "Z").encode()
    bad = replace(good, observed_seconds=None, window=None)
    kinds = [
        replace(bad, value=b"{not json"),
        replace(bad, misplaced=True),
        replace(bad, value=good.value.replace(site_id.encode(), b"nowhere"), key=b"nowhere"),
        replace(bad, value=good.value.replace(stamp, tomorrow)),
        replace(bad, value=good.value.replace(b'"sequence":', b'"sequence":-1')),
    ]
    return [kinds[number % len(kinds)]]


def _one_a_partition(maker: Maker, at: float) -> list[Item]:
    return [
        item
        for site_id, pool_id in site_of_each_partition()
        for item in (maker.frame(site_id, pool_id, 0, at, at), maker.rates(site_id, 0, at, at))
    ]
