"""Frames as a fleet's collectors would send them, by the million, with what their windows must come to."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from numpy.typing import NDArray

from benchmarks.fleet import POOL_ID, Fleet
from benchmarks.totals import Place, Totals
from infra.bus import client_options, partition_of
from infra.clock import wall_now
from infra.settings import Settings
from schemas.catalog import GPU_TELEMETRY, MAX_MESSAGE_BYTES, Rejected

BATCH_BYTES = 64 * 1024  # before compression; what `infra.bus.start_producer` sends
COMPRESSION = "lz4"

# So many different readings are made; frames take them at random. Too many for one batch to hold one twice, which
# would compress as no real readings do.
_VARIANTS = 512
# One collector a site has a GPU whose thermometer is broken: real columns have gaps, and they are where GPUs are.
_BROKEN = 0
_BROKEN_VARIANTS = 32


@dataclass(frozen=True, slots=True)
class Frame:
    """One record of the telemetry topic."""

    partition: int
    key: bytes
    value: bytes


@dataclass
class _Readings:
    """Readings of `gpus` GPUs in `count` variants: as JSON, and what each comes to."""

    gpus: int
    count: int
    broken: bool
    rng: np.random.Generator
    power: list[bytes] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    milliwatts: NDArray[np.int64] = field(init=False)
    millionths: NDArray[np.int64] = field(init=False)
    hottest: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        shape, rng = (self.count, self.gpus), self.rng
        # An H100 at work, with the digits that its exporter gives.
        power = rng.normal(520, 90, shape).clip(90, 700).round(1)
        utilization = rng.beta(6, 2, shape).round(3)
        memory = rng.normal(0.82, 0.05, shape).clip(0, 1).round(3)
        temperature = (32 + 45 * power / 700 + rng.normal(0, 2, shape)).round()
        self.milliwatts = np.rint(power * 1000).astype(np.int64).sum(axis=1)
        self.millionths = np.rint(utilization * 1_000_000).astype(np.int64).sum(axis=1)
        if self.broken:
            temperature[:, 0] = np.nan
        self.hottest = np.fmax.reduce(temperature, axis=1, initial=-np.inf)
        for row in range(self.count):
            self.power.append(_json(power[row]))
            columns = (
                f'"utilization_ratio":[{_json(utilization[row]).decode()}],'
                f'"memory_used_ratio":[{_json(memory[row]).decode()}],'
                f'"temperature_celsius":[{_json(temperature[row]).decode()}],"meter_power_watts":null}}'
            )
            self.others.append(columns.encode())


def _json(values: NDArray[np.float64]) -> bytes:
    return ",".join("null" if value != value else repr(value) for value in values.tolist()).encode()  # noqa: PLR0124


class Feed:
    """The frames of a fleet, a second of event time after the other, and the totals of the windows they fill.

    All collectors of a site read within the second, one after the other; records stand in the order of their times.
    """

    def __init__(self, fleet: Fleet, run_id: str, begins_at: datetime, window_seconds: int, seed: int = 1) -> None:
        """Makes the readings. `begins_at` is the start of a window."""
        self.fleet, self.run_id, self.begins_at, self.window_seconds = fleet, run_id, begins_at, window_seconds
        self.seconds = 0
        self._rng = np.random.default_rng(seed)
        self._sites = fleet.site_ids()
        self._partitions = [partition_of(site.encode(), fleet.partitions) for site in self._sites]
        whole = _Readings(fleet.gpus, _VARIANTS, False, self._rng)
        broken = _Readings(fleet.gpus, _BROKEN_VARIANTS, True, self._rng)
        self._power, self._others = whole.power + broken.power, whole.others + broken.others
        self._milliwatts = np.concatenate([whole.milliwatts, broken.milliwatts])
        self._millionths = np.concatenate([whole.millionths, broken.millionths])
        self._hottest = np.concatenate([whole.hottest, broken.hottest])
        shape = (fleet.sites, fleet.collectors, fleet.gpus)
        self._energy = self._rng.integers(10**8, 10**9, shape)
        self._draw = self._rng.integers(400, 600, shape)
        self._power_sums: list[NDArray[np.int64]] = []
        self._utilization_sums: list[NDArray[np.int64]] = []
        self._maxima: list[NDArray[np.float64]] = []

    def second(self) -> Iterator[Frame]:
        """The frames of the next second."""
        fleet, number = self.fleet, self.seconds
        chosen = self._rng.integers(0, _VARIANTS, (fleet.sites, fleet.collectors))
        chosen[:, _BROKEN] = _VARIANTS + self._rng.integers(0, _BROKEN_VARIANTS, fleet.sites)
        self._power_sums.append(self._milliwatts[chosen].sum(axis=1))
        self._utilization_sums.append(self._millionths[chosen].sum(axis=1))
        self._maxima.append(self._hottest[chosen].max(axis=1))
        self._energy += self._draw
        self.seconds += 1
        for collector in range(fleet.collectors):
            middle = self._middle(number, collector)
            energies = self._energy[:, collector].tolist()
            for site, variant in enumerate(chosen[:, collector].tolist()):
                name = self._sites[site]
                head = (
                    f'{{"schema_version":1,"run_id":"{self.run_id}","site_id":"{name}","pool_id":"{POOL_ID}",'
                    f'"source":"{name}/{collector}","sequence":{number}{middle}'
                )
                energy = str(energies[site])[1:-1].replace(", ", ".0,")
                value = b"%b%b%b%b%b" % (
                    head.encode(),
                    self._power[variant],
                    b'],"energy_joules":[',
                    energy.encode(),
                    b".0]," + self._others[variant],
                )
                yield Frame(self._partitions[site], name.encode(), value)

    def _middle(self, number: int, collector: int) -> str:
        at = self.begins_at + timedelta(seconds=number, microseconds=1_000_000 * collector // self.fleet.collectors)
        stamp = at.replace(tzinfo=None).isoformat() + "Z"
        first = collector * self.fleet.gpus
        return f',"observed_at":"{stamp}","interval_seconds":1.0,"first_gpu":{first},"power_watts":['

    def expected(self, lateness_seconds: int) -> dict[Place, Totals]:
        """The totals of every window that the frames so far close."""
        fleet, window = self.fleet, self.window_seconds
        samples = window * fleet.collectors * fleet.gpus
        found: dict[Place, Totals] = {}
        # The newest frame of a second is stamped before the next one: the window closes a second later than that.
        for number in range(max(0, (self.seconds - 1 - lateness_seconds) // window)):
            part = slice(number * window, (number + 1) * window)
            start = self.begins_at + timedelta(seconds=number * window)
            power = np.sum(self._power_sums[part], axis=0).tolist()
            used = np.sum(self._utilization_sums[part], axis=0).tolist()
            hottest = np.max(self._maxima[part], axis=0).tolist()
            for site, name in enumerate(self._sites):
                found[name, start] = Totals(
                    gpu_samples=samples,
                    masked_values=window,  # the broken thermometer, once a second
                    gpus_reporting=fleet.collectors * fleet.gpus,
                    power_milliwatts=power[site],
                    utilization_millionths=used[site],
                    temperature_celsius_max=hottest[site],
                )
        return found


def long_ago(span_seconds: float, now: datetime | None = None) -> datetime:
    """A midnight from which `span_seconds` of event time end well before now: a stage refuses what is yet to come."""
    latest = (now or wall_now()) - timedelta(seconds=span_seconds, days=1)
    return datetime(latest.year, latest.month, latest.day, tzinfo=UTC)


def check_frame(feed_frame: Frame, run_id: str) -> None:
    """Makes sure that a frame is what the contract would write, byte for byte."""
    record = GPU_TELEMETRY.decode(feed_frame.key, feed_frame.value, run_id)
    assert not isinstance(record, Rejected), record
    assert record.to_json() == feed_frame.value, (record.to_json(), feed_frame.value)


async def fill(settings: Settings, feed: Feed, seconds: int, told: Callable[[int], None] = lambda _: None) -> None:
    """Puts so many seconds of event time on the telemetry topic, as fast as it goes; `told` of each second."""
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        compression_type=COMPRESSION,
        max_batch_size=BATCH_BYTES,
        max_request_size=MAX_MESSAGE_BYTES,
    )
    await producer.start()
    try:
        await _fill(producer, GPU_TELEMETRY.on_bus(settings.run_id), feed, seconds, told)
    finally:
        await producer.stop()


async def _fill(producer: AIOKafkaProducer, topic: str, feed: Feed, seconds: int, told: Callable[[int], None]) -> None:
    open_batches: dict[int, BatchBuilder] = {}
    sent: list[asyncio.Future[object]] = []
    for _ in range(seconds):
        now_ms = int(wall_now().timestamp() * 1000)
        for frame in feed.second():
            batch = open_batches.get(frame.partition)
            if batch is None or batch.append(timestamp=now_ms, key=frame.key, value=frame.value) is None:
                if batch is not None:
                    sent.append(await producer.send_batch(batch, topic, partition=frame.partition))
                batch = open_batches[frame.partition] = producer.create_batch()
                batch.append(timestamp=now_ms, key=frame.key, value=frame.value)
        told(1)
    for partition, batch in open_batches.items():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)
