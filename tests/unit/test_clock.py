"""The run's clock: piecewise, never rewriting its past, waking who sleeps when it changes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra import clock as clock_module
from infra.clock import Clock, FollowedClock, wall_now
from infra.settings import ConfigurationError, Settings
from schemas.catalog import CLOCK
from schemas.clock import ClockAnchor
from tests.examples import NOON, after

DAY_BEFORE = timedelta(days=1)


def anchor(wall: float, shows: float, rate: float) -> ClockAnchor:
    """At `wall` seconds after noon the clock shows `shows` seconds after the noon before."""
    return ClockAnchor(run_id="replay-1", wall_anchor=after(wall), replay_anchor=after(shows) - DAY_BEFORE, rate=rate)


def shown(clock: Clock, wall: float) -> float:
    """What the clock shows at a wall time, in seconds after the noon before."""
    return (clock.at(after(wall)) - (NOON - DAY_BEFORE)).total_seconds()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The wall clock, which stands still at noon until a test moves it."""
    hands = [NOON]
    monkeypatch.setattr(clock_module, "wall_now", lambda: hands[0])
    return hands


def test_wall_now_is_aware_utc() -> None:
    assert wall_now().tzinfo is UTC


def test_a_clock_without_an_anchor_is_the_wall_clock() -> None:
    clock = Clock()
    assert clock.at(NOON) == clock.wall_at(NOON) == NOON
    assert clock.rate == 1.0
    assert not clock.anchored
    assert clock.at_timestamp(1_000_500) == datetime(1970, 1, 1, 0, 16, 40, 500_000, tzinfo=UTC)


def test_a_clock_goes_at_the_rate_of_its_anchor() -> None:
    clock = Clock(anchor(0, 0, 60.0))
    assert [shown(clock, at) for at in (-1, 0, 1, 10)] == [-60, 0, 60, 600]


def test_each_anchor_holds_from_its_own_wall_time_on() -> None:
    clock = Clock(anchor(0, 0, 60.0))
    clock.set(anchor(10, 600, 30.0))
    clock.set(anchor(20, 900, 120.0))
    assert [shown(clock, at) for at in (5, 10, 15, 20, 21)] == [300, 600, 750, 900, 1020]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2, 1)])
def test_the_order_in_which_anchors_come_never_matters(order: tuple[int, ...]) -> None:
    anchors = (anchor(0, 0, 60.0), anchor(10, 600, 30.0), anchor(20, 900, 120.0))
    clock = Clock()
    for place in order:
        clock.set(anchors[place])
    assert [shown(clock, at) for at in (5, 15, 21)] == [300, 750, 1020]


def test_what_a_past_wall_time_meant_never_changes() -> None:
    clock, past = Clock(anchor(0, 0, 60.0)), [n / 7 for n in range(70)]
    before = [clock.at_timestamp(round(after(at).timestamp() * 1000)) for at in past]
    for number in range(1, 5):
        clock.set(anchor(10 * number, 10_000 * number, 2.0**number))
        assert [clock.at_timestamp(round(after(at).timestamp() * 1000)) for at in past] == before


def test_the_rate_is_that_of_the_anchor_in_force(wall: list[datetime]) -> None:
    clock = Clock(anchor(0, 0, 60.0))
    clock.set(anchor(10, 600, 1.0))
    assert clock.rate == 60.0
    wall[0] = after(10)
    assert clock.rate == 1.0
    assert clock.now() == after(600) - DAY_BEFORE


def test_wall_at_is_the_first_wall_time_that_shows_it() -> None:
    clock = Clock(anchor(0, 0, 60.0))
    clock.set(anchor(10, 600, 1.0))
    clock.set(anchor(20, 5000, 10.0))  # a jump ahead
    seconds = [(clock.wall_at(after(at) - DAY_BEFORE) - NOON).total_seconds() for at in (-60, 300, 605, 4000, 5010)]
    assert seconds == [-1, 5, 15, 20, 21]


async def test_sleep_until_a_time_that_is_past_returns_at_once() -> None:
    await Clock().sleep_until(NOON)
    await Clock().sleep(0)


async def test_sleepers_wake_on_a_new_anchor(wall: list[datetime]) -> None:
    clock = Clock(anchor(0, 0, 1.0))
    sleepers = [asyncio.create_task(clock.sleep(3600.0 * hours)) for hours in (1, 2, 3)]
    await asyncio.sleep(0)
    clock.set(anchor(0, 2 * 3600, 1.0))
    await asyncio.gather(*sleepers[:2])
    assert not sleepers[2].done()
    clock.set(anchor(0, 3 * 3600, 1.0))
    await sleepers[2]


@pytest.mark.parametrize("steps", range(6))
async def test_a_sleeper_that_has_only_just_looked_misses_no_anchor(wall: list[datetime], steps: int) -> None:
    clock, target = Clock(anchor(0, 0, 1.0)), after(3600) - DAY_BEFORE
    waiting = asyncio.create_task(clock.sleep_until(target + timedelta(hours=1)))
    for _ in range(5):
        await asyncio.sleep(0)
    sleepers = []
    for _ in range(3):  # the anchor comes between any two steps of these
        sleepers.append(asyncio.create_task(clock.sleep_until(target)))
        for _ in range(steps):
            await asyncio.sleep(0)
        clock.set(anchor(0, 10, 1.0))
    clock.set(anchor(0, 3600, 1.0))
    await asyncio.gather(*sleepers)
    clock.set(anchor(0, 7200, 1.0))
    await waiting


class Consumer:
    """What of a Kafka consumer the clock uses: one partition that ends where `end` says."""

    def __init__(self, messages: list[bytes], end: int) -> None:
        self.messages, self.end, self.stopped = messages, end, False
        self.more: asyncio.Queue[bytes] = asyncio.Queue()

    def assign(self, places: list[Any]) -> None:
        self.places = places

    async def seek_to_beginning(self, place: Any) -> None: ...

    def highwater(self, place: Any) -> int:
        return self.end

    async def stop(self) -> None:
        self.stopped = True

    async def __aiter__(self) -> AsyncIterator[Any]:
        offset = 0
        for offset, value in enumerate(self.messages):
            yield Message(offset, value)
        while True:
            offset += 1
            yield Message(offset, await self.more.get())


class Message:
    """What of a Kafka message the clock looks at."""

    key = b"replay-1"

    def __init__(self, offset: int, value: bytes) -> None:
        self.offset, self.value = offset, value


def followed(monkeypatch: pytest.MonkeyPatch, consumer: Consumer, run_id: str = "replay-1") -> FollowedClock:
    """A clock that follows that consumer."""

    async def start_consumer(*_: Any, **__: Any) -> Consumer:
        return consumer

    monkeypatch.setattr(clock_module, "start_consumer", start_consumer)
    return FollowedClock(Settings(run_id=run_id))


async def test_the_live_run_follows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = followed(monkeypatch, consumer := Consumer([], 0), run_id="live")
    assert not (await clock.start()).anchored
    await clock.stop()
    assert not consumer.stopped


async def test_a_followed_clock_starts_with_every_anchor_so_far_and_takes_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anchors = [anchor(0, 0, 60.0), anchor(10, 600, 30.0), anchor(20, 900, 120.0)]
    consumer = Consumer([b"no anchor", *(each.to_json() for each in anchors)], end=4)
    follower = followed(monkeypatch, consumer)
    clock = await follower.start()
    assert [shown(clock, at) for at in (5, 15, 21)] == [300, 750, 1020]
    assert consumer.places[0].topic == CLOCK.on_bus("replay-1")
    sleeper = asyncio.create_task(clock.sleep_until(wall_now() + timedelta(days=4000)))
    now = wall_now()
    later = ClockAnchor(run_id="replay-1", wall_anchor=now, replay_anchor=now + timedelta(days=5000), rate=1.0)
    consumer.more.put_nowait(later.to_json())
    await sleeper
    await follower.stop()
    assert consumer.stopped


async def test_a_run_without_a_clock_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer([], 0)
    with pytest.raises(
        ConfigurationError, match=r"^run 'replay-1' has no clock on replay-1\.control\.clock\.v1: start"
    ):
        await followed(monkeypatch, consumer).start(patience_seconds=0.01)
    assert consumer.stopped
