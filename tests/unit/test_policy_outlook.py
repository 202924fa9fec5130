"""What the optimiser expects: prices blended from market to market, loads as forecast, events as targets."""

from datetime import timedelta
from math import exp

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.forecast import ClassForecast, HorizonForecast, SiteForecast
from streams.policy.horizon import COARSE_STEPS, FINE_STEPS, spans_of, targets_of
from streams.policy.load_outlook import load_ahead, moving_share
from streams.policy.price_outlook import UNKNOWN_PRICE_USD_PER_MWH, mean_price, prices_ahead, spanned
from streams.policy.problem import problem_of
from streams.policy.view import FleetView
from tests.policy_cases import FLEET, FLEET_FILE, FULL, NOON, at, empty_plan, event, load, power, price, shift_control

STEP = 300.0


def a_view(*records: object) -> FleetView:
    view = FleetView(FLEET)
    for record in records:
        view.observe(record)  # type: ignore[arg-type]
    return view


def day_ahead(site: str, usd: float, start: float = 0, end: float = 7200) -> object:
    return price(site, usd, start, end, market="day-ahead", published_at=at(-36_000))


def a_forecast(site: str, medians: list[float], issued: float = 0, classes: bool = False) -> SiteForecast:
    """Quantiles 20 % below to 20 % above the medians, a step of 300 s each."""
    spread = (0.8, 0.85, 0.9, 1.0, 1.1, 1.15, 1.2)
    horizons = [
        HorizonForecast(horizon_seconds=300 * (step + 1), tokens_per_second=[median * part for part in spread])
        for step, median in enumerate(medians)
    ]
    return SiteForecast(
        fleet_id="trio",
        site_id=site,
        issued_at=at(issued),
        model="test",
        history_steps=10,
        horizons=horizons,
        spikes=[],
        classes=[ClassForecast(service_class="batch", horizons=horizons, spikes=[])] if classes else [],
    )


# --- Prices ----------------------------------------------------------------------------------------------------------


def test_prices_ahead_begin_with_the_real_time_price_and_fall_back_to_the_day_ahead_one() -> None:
    found = prices_ahead(a_view(price("alpha", 100.0), day_ahead("alpha", 40.0)), NOON, STEP, 24)[0]
    assert found[0] == 100.0
    assert found[1] == pytest.approx(40 + 60 * 0.8 * exp(-450 / 2700))
    assert found[23] == pytest.approx(40 + 60 * 0.8 * exp(-(23.5 * 300) / 2700))
    assert (np.diff(found) < 0).all()


def test_prices_ahead_weigh_a_price_that_ends_within_a_step() -> None:
    found = prices_ahead(a_view(price("alpha", 100.0, -200, 100), day_ahead("alpha", 40.0)), NOON, STEP, 2)[0]
    beyond = 40 + 60 * 0.8 * exp(-150 / 2700)
    assert found[0] == pytest.approx(100 / 3 + beyond * 2 / 3)


def test_prices_ahead_follow_the_day_ahead_hours() -> None:
    hours = [day_ahead("alpha", 40.0, 0, 3600), day_ahead("alpha", 90.0, 3600, 7200)]
    assert prices_ahead(a_view(*hours), NOON, STEP, 24)[0].tolist() == [40.0] * 12 + [90.0] * 12


def test_prices_ahead_without_a_day_ahead_price_fall_back_to_the_mean_seen() -> None:
    found = prices_ahead(a_view(price("alpha", 100.0), price("alpha", 20.0, -300, 0)), NOON, STEP, 288)[0]
    assert found[0] == 100.0
    assert found[-1] == pytest.approx(60.0, abs=0.1)


def test_prices_ahead_take_what_is_told_for_later() -> None:
    found = prices_ahead(a_view(price("alpha", 100.0), price("alpha", 7.0, 600, 900)), NOON, STEP, 4)[0]
    assert found[2] == 7.0
    assert found[3] > 7.0


def test_prices_ahead_of_an_unknown_point_are_the_mean_of_the_others() -> None:
    found = prices_ahead(a_view(price("alpha", 100.0), price("beta", 50.0)), NOON, STEP, 3)
    assert found[2].tolist() == [75.0] * 3
    assert mean_price(a_view()) == UNKNOWN_PRICE_USD_PER_MWH


def test_spanned_takes_means() -> None:
    assert spanned(np.array([[1.0, 2.0, 3.0, 5.0]]), (1, 1, 2)).tolist() == [[1.0, 2.0, 4.0]]


# --- Loads -----------------------------------------------------------------------------------------------------------


def test_load_ahead_persists_without_a_forecast() -> None:
    ahead = load_ahead(a_view(load("alpha", 0, 1000)), [], FLEET_FILE, NOON, STEP, 3)
    np.testing.assert_allclose(ahead.work[0], np.outer([300, 300, 400], np.ones(3)))
    assert (ahead.spread == 1).all()
    assert ahead.known.tolist() == [True, False, False]


def test_load_ahead_reads_a_forecast_between_its_steps() -> None:
    view = a_view(load("alpha", 0, 9999), a_forecast("alpha", [1000, 2000, 3000], issued=-150))
    ahead = load_ahead(view, [], FLEET_FILE, NOON, STEP, 3)
    np.testing.assert_allclose(ahead.work[0].sum(axis=0), [1500, 2500, 3000])
    np.testing.assert_allclose(ahead.spread[0, 0], [0.8, 0.85, 0.9, 1.0, 1.1, 1.15, 1.2])


def test_load_ahead_reads_classes_where_they_are_forecast() -> None:
    ahead = load_ahead(a_view(a_forecast("alpha", [1000] * 3, classes=True)), [], FLEET_FILE, NOON, STEP, 2)
    assert ahead.work[0, :, 0].tolist() == [0, 0, 1000]


def test_load_ahead_leaves_a_forecast_that_is_out_of_date() -> None:
    view = a_view(load("alpha", 0, 500), a_forecast("alpha", [1000] * 6, issued=-901))
    assert load_ahead(view, [], FLEET_FILE, NOON, STEP, 1).work[0].sum() == pytest.approx(500)


def test_load_ahead_gives_a_drained_class_a_share_of_what_is_seen_elsewhere() -> None:
    drained = shift_control("active", since=-600, share_ratio=1.0, starts_at=at(-700))
    view = a_view(load("alpha", 0, 0), load("beta", 0, 9000), load("gamma", 0, 6000))
    batch = load_ahead(view, [drained], FLEET_FILE, NOON, STEP, 1).work[:, 2, 0]
    # 6,000 tokens/s of batch over three alike sites; gamma's own 2,400 are known.
    assert batch == pytest.approx([1800, 1800, 2400], rel=0.06)
    assert batch.sum() == pytest.approx(6000, rel=0.01)


@pytest.mark.parametrize(
    ("phase", "home", "at_seconds", "part"),
    [
        ("reserved", None, 90, 0.0),
        ("ramping", None, 30, 0.5),
        ("active", None, 30, 1.0),
        ("active", None, -30, 0.5),
        ("returning", None, 90, 1.0),
        ("returning", 120, 90, 0.5),
        ("done", None, 90, 0.0),
    ],
)
def test_moving_share_follows_the_saga(phase: str, home: float | None, at_seconds: float, part: float) -> None:
    home_at = None if home is None else NOON + timedelta(seconds=home)
    shift = shift_control(phase, 0, ramp_seconds=60.0, home_at=home_at)
    assert moving_share(shift, at(at_seconds)) == pytest.approx(part * 0.2)


# --- Events and horizon ----------------------------------------------------------------------------------------------


def test_spans_of_stay_few_however_long_an_event_is() -> None:
    assert spans_of(a_view(), NOON) == (1,) * 24
    for hours in (3, 10, 200):
        spans = spans_of(a_view(event(end=3600 * hours)), NOON)
        assert spans[:FINE_STEPS] == (1,) * FINE_STEPS
        assert len(spans) <= FINE_STEPS + COARSE_STEPS
        assert sum(spans) * STEP >= min(24, hours) * 3600


def test_targets_of_hold_once_the_ramp_is_over_until_the_end() -> None:
    asked = event(start=600, end=1500, ramp_seconds=400, target_power_watts=1.0)
    (target,) = targets_of(a_view(asked), empty_plan(), FLEET_FILE, NOON, (1,) * 8)
    assert np.isfinite(target.watts).tolist() == [False, False, False, True, True, False, False, False]


def test_targets_of_take_a_reduction_off_what_the_sites_draw() -> None:
    view = a_view(event(reduction_ratio=0.25, site_ids=["alpha", "beta"]), power("alpha", 0, 40_000))
    (target,) = targets_of(view, empty_plan(), FLEET_FILE, NOON, (1,) * 8)
    assert target.sites.tolist() == [0, 1]
    assert target.watts[4] == pytest.approx(0.75 * (40_000 + FULL))


# --- The whole -------------------------------------------------------------------------------------------------------


def test_problem_of_nothing_known_is_none() -> None:
    assert problem_of(a_view(price("alpha", 10)), empty_plan(), FLEET_FILE, NOON) is None


def test_problem_of_a_price_blind_policy_has_one_price() -> None:
    view = a_view(load("alpha", 0, 100), price("alpha", 10), price("beta", 50), day_ahead("gamma", 90))
    problem = problem_of(view, empty_plan(), FLEET_FILE, NOON, flat_prices=True)
    assert problem is not None
    assert (problem.price_usd_per_mwh == 50).all()


class Foreseen:
    """Prices rise by 1 USD/MWh a step, work by 10 tokens/s."""

    def price_usd_per_mwh(self, point: str, starts_at: object, step_seconds: float, steps: int) -> NDArray[np.float64]:
        return np.arange(steps, dtype=float)

    def work_per_second(
        self, site_id: str, service_class: str, starts_at: object, step_seconds: float, steps: int
    ) -> NDArray[np.float64]:
        return 10.0 * np.arange(steps, dtype=np.float64)


def test_problem_of_an_oracle_has_what_comes() -> None:
    view = a_view(load("alpha", 0, 100), price("alpha", 10))
    problem = problem_of(view, empty_plan(), FLEET_FILE, NOON, foresight=Foreseen())
    assert problem is not None
    np.testing.assert_allclose(problem.price_usd_per_mwh, np.tile(np.arange(24.0), (3, 1)))
    np.testing.assert_allclose(problem.work[2, 1], 10 * np.arange(24.0))
    np.testing.assert_allclose(problem.room_work, problem.work.sum(axis=1))


def test_problem_of_makes_room_for_the_p90_where_a_miss_costs_more_than_the_energy() -> None:
    view = a_view(*(a_forecast(site.id, [1000.0] * 30) for site in FLEET.sites), event(start=0, end=600))
    dear = problem_of(view, empty_plan(), FLEET_FILE, NOON)
    worthless = FLEET_FILE.model_copy(
        update={
            "service_classes": tuple(
                each.model_copy(update={"earns_usd_per_million_tokens": 0.0}) for each in FLEET_FILE.service_classes
            )
        }
    )
    cheap = problem_of(view, empty_plan(), worthless, NOON)
    assert dear is not None
    assert cheap is not None
    np.testing.assert_allclose(dear.room_work, 1150)
    np.testing.assert_allclose(cheap.room_work, 1000)
    # Under the event a site is planned for that too, before and after it for the median.
    np.testing.assert_allclose(dear.work.sum(axis=1)[0], [1150, 1150, *[1000] * 22])
