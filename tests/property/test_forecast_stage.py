"""Forecasts are a function of a site's own states: not of batches, of other sites, nor of how often a worker died."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting import online
from forecasting.forecaster import statistical
from forecasting.history import QUANTITIES, SiteHistory, history_for
from forecasting.power import SitePower
from forecasting.predict import Due, predict
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.forecast import SiteForecast
from schemas.site import LoadState, PowerState
from streams.forecast import partition
from streams.forecast.partition import PartitionHistories
from streams.intake import Arrived
from tests.examples import LOAD, POWER, after
from tests.forecasters import Fixed, Plain

STEP_SECONDS = 30.0
SITES = ("a", "b", "c")
DEMO = load_fleet_file(DEMO_FLEET_FILE)


@pytest.fixture(scope="module", autouse=True)
def _soon_scored() -> Iterator[None]:
    """Scores two and four steps ahead, so that logs of a few minutes have some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "SCORED_SECONDS", (60, 120))
        yield


def load(site: str, window: int, tokens: float, covered: float) -> LoadState:
    """The site's load over the window of that number."""
    fields = {"window_start": after(window * 10), "window_end": after(window * 10 + 10)}
    return LOAD.model_copy(
        update={**fields, "site_id": site, "tokens_arrived_per_second": tokens, "covered_ratio": covered}
    )


tokens = st.sampled_from([0.0, 0.1, 1e5]) | st.floats(0, 1e4)
covered = st.sampled_from([0.0, 0.3, 1.0, 1.0])


@st.composite
def logs(draw: st.DrawFn) -> list[LoadState | PowerState]:
    """The states of several sites, interleaved, with gaps, with earlier ones sent again, as aggregate may."""
    # Long enough for several steps of each site: left to itself, Hypothesis draws lists of a few.
    turns = draw(
        st.lists(st.tuples(st.sampled_from(SITES), st.integers(1, 5), tokens, covered), min_size=25, max_size=60)
    )
    log: list[LoadState | PowerState] = []
    window = dict.fromkeys(SITES, 0)
    for site, skipped, rate, ratio in turns:
        window[site] += 1 if skipped < 5 else 8
        log.append(load(site, window[site], rate, ratio))
        if skipped == 2:
            log.append(POWER)
    places = st.integers(0, len(log))
    for start, length, later in draw(st.lists(st.tuples(places, st.integers(1, 8), places), max_size=4)):
        # Sent again by a worker that had died: a stretch of the log, in its order, any time after.
        again = log[start : start + length]
        at = min(len(log), start + length + later)
        log[at:at] = again
    return log


class _KilledError(Exception):
    pass


@dataclass
class Durable:
    """What outlives a worker. Each write takes one of the `strength` that the worker has left before it is killed."""

    sent: list[bytes] = field(default_factory=list)
    memory: dict[str, bytes] = field(default_factory=dict)
    committed: int = 0
    strength: float = math.inf

    def write(self) -> None:
        if self.strength <= 0:
            raise _KilledError
        self.strength -= 1


Log = Sequence[LoadState | PowerState]


def live(log: Log, durable: Durable, sizes: Iterable[int], commits: Iterable[bool]) -> PartitionHistories:
    """One worker's life, in the order of `streams.forecast.agent`: sent, remembered, committed (at times)."""
    histories = {site: SiteHistory.from_json(value) for site, value in durable.memory.items()}
    state = PartitionHistories(STEP_SECONDS, "live", DEMO, Fixed(Plain()), histories)
    position = durable.committed
    for size, commit in zip(cycle(sizes), cycle(commits), strict=False):
        batch = log[position : position + size]
        if not batch:
            return state
        arrived = [Arrived(position + place, 0, record) for place, record in enumerate(batch)]
        position += len(batch)
        made = state.fold(arrived, position)
        for record in (*made.forecasts, *made.scores):
            durable.write()
            durable.sent.append(record.to_json())
        sites = state.to_remember(made)
        for site in sorted(sites):
            durable.write()
            durable.memory[site] = state.histories[site].to_json()
        out = state.held.release(sites)
        if out is not None and commit:
            durable.write()
            assert out >= durable.committed
            durable.committed = out
    raise AssertionError("cycles don't end")


def forecasts_of(log: Log) -> dict[tuple[str, str, int], bytes]:
    """By natural key, what one worker sends that takes record by record and never dies."""
    live(log, durable := Durable(), [1], [True])
    keyed = by_key(durable.sent)
    assert len(keyed) == len(durable.sent)
    return keyed


def by_key(sent: Iterable[bytes]) -> dict[tuple[str, str, int], bytes]:
    """Forecasts by (site, issued_at, 0), scores by their horizon; what was sent twice is the same bytes."""
    keyed: dict[tuple[str, str, int], bytes] = {}
    for each in sent:
        record = json.loads(each)
        key = (record["site_id"], record.get("scored_at", record["issued_at"]), record.get("horizon_seconds", 0))
        assert keyed.setdefault(key, each) == each
    return keyed


sizes = st.lists(st.integers(1, 12), min_size=1, max_size=6)
commits = st.lists(st.booleans(), min_size=1, max_size=4)
lives = st.lists(st.tuples(st.integers(0, 20), sizes, commits), max_size=5)


@settings(max_examples=40, deadline=None)
@given(logs(), lives, sizes, st.sampled_from([0, 1, 200]))
def test_a_worker_killed_anywhere_sends_the_same_forecasts(
    log: Log, lives: list[tuple[int, list[int], list[bool]]], last_sizes: list[int], patience: int
) -> None:
    durable, before = Durable(), partition._PATIENCE_BATCHES
    partition._PATIENCE_BATCHES = patience  # memory in the middle of a step, soon or never
    try:
        for strength, sizes, commits in lives:
            durable.strength = strength
            try:
                live(log, durable, sizes, commits)
            except _KilledError:
                continue
        durable.strength = math.inf
        live(log, durable, last_sizes, [True])
    finally:
        partition._PATIENCE_BATCHES = before
    assert by_key(durable.sent) == forecasts_of(log)


@settings(max_examples=25, deadline=None)
@given(logs(), st.randoms(use_true_random=False))
def test_how_sites_interleave_never_matters(log: Log, random: object) -> None:
    alone = {site: [record for record in log if record.site_id == site] for site in SITES}
    mixed: list[LoadState | PowerState] = []
    while any(alone.values()):
        site = random.choice([site for site, left in alone.items() if left])  # type: ignore[attr-defined]
        mixed.append(alone[site].pop(0))
    assert forecasts_of(mixed) == forecasts_of(log)


@settings(max_examples=25, deadline=None)
@given(logs())
def test_a_history_survives_its_memory(log: Log) -> None:
    for history in live(log, Durable(), [1], [True]).histories.values():
        assert SiteHistory.from_json(history.to_json()).to_json() == history.to_json()


levels = st.sampled_from([0.0, 1e-9, 1.0, 3e3, 1e12]) | st.floats(0, 1e12)
shapes = st.lists(st.tuples(st.none() | levels, st.integers(1, 120), st.sampled_from([1, 3])), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 2**32), st.floats(0, 0.5))
def test_quantiles_never_cross_and_are_finite_whatever_the_history(
    shape: list[tuple[float | None, int, int]], seed: int, noise_ratio: float
) -> None:
    history, rng = history_for(300.0), np.random.default_rng(seed)
    history.end = after(0)
    levels = []
    for level, length, factor in shape:  # gaps, zeros, levels that shift by three
        noise = 1 + noise_ratio * rng.standard_normal(length)
        levels.append(np.full(length, np.nan) if level is None else level * factor * np.abs(noise))
    steps = np.concatenate(levels)
    history.site.steps = np.tile(steps, (len(QUANTITIES), 1)).astype(np.float32)
    copied = SiteHistory.from_json(history.to_json())
    power = SitePower.of(next(DEMO.sites())[1], DEMO.gpu_models)
    forecasts, again = (
        predict(statistical(300.0), [Due("texas", "new-site", each, power)]) for each in (history, copied)
    )
    if np.isnan(steps).all():
        assert forecasts == again == []
        return
    (forecast,) = forecasts
    # Finite, never falling, never negative.
    assert SiteForecast.model_validate_json(forecast.to_json()).to_json() == forecast.to_json()
    assert [each.to_json() for each in again] == [forecast.to_json()]
    for spike in forecast.spikes:
        assert 0 <= spike.probability_ratio <= 1
