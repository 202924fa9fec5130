"""Forecasts are sound whatever came before, and depend on nothing but their own series."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from forecasting.adapt import default_plan
from forecasting.experts import EXPERTS, prior_weights
from forecasting.forecaster import Forecaster, SeriesForecast, SeriesHistory, statistical
from forecasting.state import Layout, Track
from tests.load_cases import HALF_HOUR_SECONDS, TWO_HOURS_SECONDS, history_of, trained, wave

STATISTICAL = statistical(HALF_HOUR_SECONDS)
TRACK = TypeAdapter(Track)

loads = st.one_of(
    st.none(), st.just(0.0), st.floats(0, 1e-9), st.floats(0, 1000), st.sampled_from([1.0, 3.0]), st.floats(0, 1e12)
)
pieces = st.lists(st.tuples(loads, st.integers(1, 60)), min_size=1, max_size=6)
steps = pieces.map(lambda found: [load for load, times in found for _ in range(times)]).filter(
    lambda found: any(load is not None for load in found)
)
LEARNT = ("regret", "square", "fast_error", "slow_error", "widening", "scored", "ring")
OTHER_DAY = timedelta(days=400)


def is_sound(forecast: SeriesForecast) -> bool:
    """Finite, not negative, quantiles that never fall, probabilities that are some."""
    quantiles, spike = forecast.quantiles, forecast.spike_probability
    return bool(
        np.isfinite(quantiles).all()
        and (quantiles >= 0).all()
        and (np.diff(quantiles, axis=-1) >= 0).all()
        and forecast.spike_threshold >= 0
        and ((spike >= 0) & (spike <= 1)).all()
        and spike[1] >= spike[0]
    )


def told(forecasts: Sequence[SeriesForecast]) -> list[tuple[bytes, bytes, float, tuple[str, ...]]]:
    """All that forecasts say, to be compared to the bit."""
    return [
        (each.quantiles.tobytes(), each.spike_probability.tobytes(), each.spike_threshold, each.flags)
        for each in forecasts
    ]


def step_on(site: SeriesHistory, load: float | None, jump: timedelta = timedelta(0)) -> None:
    site.steps = [*site.steps, load]
    site.end += timedelta(seconds=site.step_seconds) + jump


@settings(max_examples=40, deadline=None)
@given(steps, st.lists(loads, max_size=8), st.booleans(), st.none() | st.floats(0, 1e12))
@example([0.0], [0.0] * 8, False, None)
@example([5.0], [], False, 0.0)
@example([None] * 300 + [7.0], [None] * 8, False, None)
@example([7.0] + [None] * 400, [None, 7.0, None], False, None)  # silent for longer than a forecast looks back
@example([1e12] * 100, [1e-12, 1e12] * 3, True, None)
@example([100.0] * 100, [300.0] * 8, True, 50.0)
def test_advance_is_sound_whatever_came(
    before: list[float | None], after: list[float | None], jumps: bool, threshold: float | None
) -> None:
    site = history_of(before, HALF_HOUR_SECONDS)
    assert is_sound(STATISTICAL.advance([site], [threshold])[0])
    for place, load in enumerate(after):
        step_on(site, load, OTHER_DAY if jumps and place == 3 else timedelta(0))
        assert is_sound(STATISTICAL.advance([site], [threshold])[0])
    learnt = STATISTICAL.plan.layout.fields(site.track.state[None])
    assert all(np.isfinite(learnt[name]).all() for name in LEARNT)


@settings(max_examples=8, deadline=None)
@given(steps)
def test_advance_is_sound_whatever_came_to_what_is_learned(before: list[float | None]) -> None:
    assert is_sound(trained().advance([history_of(before, TWO_HOURS_SECONDS)], [None])[0])


@settings(max_examples=6, deadline=None)
@given(st.lists(steps, min_size=2, max_size=5), st.data())
def test_advance_tells_a_series_the_same_alone_and_among_others(
    before: list[list[float | None]], data: st.DataObject
) -> None:
    forecaster = data.draw(st.sampled_from([STATISTICAL, trained()]))
    chosen = data.draw(st.integers(0, len(before) - 1))
    alone = history_of(before[chosen], forecaster.step_seconds)
    sites = [history_of(each, forecaster.step_seconds) for each in before]
    for load in (10.0, None, 80.0):
        by_itself = forecaster.advance([alone], [None])
        among = forecaster.advance(sites, [None] * len(sites))
        assert told(by_itself) == told([among[chosen]])
        assert alone.track.state.tobytes() == sites[chosen].track.state.tobytes()
        for each in (alone, *sites):
            step_on(each, load)


def test_advance_tells_one_series_the_same_among_fifty() -> None:
    sites = [history_of(wave(100, TWO_HOURS_SECONDS, seed), TWO_HOURS_SECONDS) for seed in range(50)]
    alone = history_of(sites[31].steps, TWO_HOURS_SECONDS)
    assert told(trained().advance(sites, [None] * 50))[31:32] == told(trained().advance([alone], [None]))


@settings(max_examples=10, deadline=None)
@given(steps, st.lists(loads, min_size=2, max_size=6))
def test_track_read_back_changes_no_later_byte(before: list[float | None], after: list[float | None]) -> None:
    kept, restarted = history_of(before, HALF_HOUR_SECONDS), history_of(before, HALF_HOUR_SECONDS)
    for load in after:
        assert told(STATISTICAL.advance([kept], [None])) == told(STATISTICAL.advance([restarted], [None]))
        restarted.track = TRACK.validate_json(TRACK.dump_json(restarted.track))
        assert restarted.track.state.tobytes() == kept.track.state.tobytes()
        step_on(kept, load)
        step_on(restarted, load)


STEP_SECONDS = 6 * 3600.0
cadences = st.integers(1, 4).flatmap(
    lambda cadence: st.tuples(st.integers(1, 4).map(lambda n: n * cadence), st.just(cadence))
)
# Of each step: whether its load was observed, how often it was forecast from (a message may come twice).
days = st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 1, 1, 2])), min_size=4, max_size=24)


@settings(max_examples=25, deadline=None)
@given(st.lists(cadences, min_size=1, max_size=3), days)
def test_advance_scores_each_forecast_once_at_its_time(
    horizons: list[tuple[int, int]], days: list[tuple[bool, int]]
) -> None:
    ahead, cadence = (tuple(each) for each in zip(*horizons, strict=True))
    layout = Layout(ahead, cadence, len(EXPERTS))
    plan = default_plan(layout, STEP_SECONDS, prior_weights([STEP_SECONDS * steps for steps in ahead]))
    forecaster = Forecaster("any", STEP_SECONDS, (None,) * len(ahead), plan)
    site, issued, expected = history_of([1.0], STEP_SECONDS), set[int](), [0] * len(ahead)
    number = round(site.end.timestamp() / STEP_SECONDS) - 1
    for observed, times in days:
        step_on(site, 1.0 if observed else None)
        number += 1
        for _ in range(times):
            forecaster.advance([site], [None])
        if times:
            for place, (horizon, every) in enumerate(horizons):
                expected[place] += observed and number % every == 0 and number - horizon in issued
            issued.add(number)
    scored = layout.fields(site.track.state[None])["scored"][0] if len(site.track.state) else np.zeros(len(ahead))
    assert scored.tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(cadences, min_size=1, max_size=6), st.integers(0, 10**7))
def test_slots_of_waiting_forecasts_never_collide(horizons: list[tuple[int, int]], first: int) -> None:
    ahead, cadence = (tuple(each) for each in zip(*horizons, strict=True))
    layout = Layout(ahead, cadence, 1)
    numbers = np.arange(first, first + max(ahead))
    slots = layout.slots(numbers)
    taken = set[int]()
    for place, (horizon, every) in enumerate(horizons):
        on_beat = numbers[:horizon][numbers[:horizon] % every == 0]
        mine = set(slots[on_beat - first, place].tolist())
        assert len(mine) == len(on_beat) == layout.waiting[place]
        assert not mine & taken
        taken |= mine
    assert taken == set(range(int(layout.waiting.sum())))
