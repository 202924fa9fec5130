"""The strike price: the ladder of a site small enough to reckon by hand, and the average of its pools as measured."""

from pathlib import Path
from typing import Any

import pytest

from schemas.fleet import FleetFile, Site, parse_fleet_file
from schemas.plan import Strike
from streams.capacity import full_power_watts, least_power_watts, tokens_per_second
from streams.policy.strike import Rung, earns_usd_per_token, strike_ladder, strikes, tokens_per_second_at
from streams.simulate import plant
from tests.policy_cases import ALPHA, FLEET_FILE, FULL, LEAST, a_view, load, power

DEMO = parse_fleet_file(Path(plant.__file__).with_name("demo_fleet.toml").read_text())


def file_with(*, strike: float | None = None, gpu: dict[str, Any] | None = None, site: Any = None) -> FleetFile:
    """The trio, with another strike price, GPU or first site. What a token earns is 0.05 USD a million, its default."""
    fleet = FLEET_FILE.fleets[0]
    limits = fleet.limits.model_copy(update={"strike_price_usd_per_mwh": strike})
    sites = (site or ALPHA, *fleet.sites[1:])
    fleets = (fleet.model_copy(update={"limits": limits, "sites": sites}),)
    models = tuple(model.model_copy(update=gpu or {}) for model in FLEET_FILE.gpu_models)
    return FLEET_FILE.model_copy(update={"fleets": fleets, "gpu_models": models})


def site_with(**changes: Any) -> Site:
    return ALPHA.model_copy(update=changes)


def total(ladder: tuple[Rung, ...]) -> float:
    return sum(rung.power_watts for rung in ladder)


def test_strike_ladder_is_that_of_the_worked_example() -> None:
    (rung,) = strike_ladder(ALPHA, file_with())
    assert (rung.power_watts, rung.tokens_per_second_lost) == pytest.approx((FULL - LEAST, 2_000.0))
    assert rung.price_usd_per_mwh == pytest.approx(14.40)


def test_strike_ladder_takes_the_price_that_the_limits_give() -> None:
    assert [rung.price_usd_per_mwh for rung in strike_ladder(ALPHA, file_with(strike=250.0))] == [250.0]


def test_strike_ladder_rises_with_the_curve_and_ends_at_the_least_power() -> None:
    curve = ((100.0, 0.0), (150.0, 0.5), (300.0, 0.95), (400.0, 1.0))
    ladder = strike_ladder(ALPHA, file_with(gpu={"cap_throughput": curve}))
    # 100 W of each GPU for 5 % of its tokens, and 100 W for 30 %, cut at the cliff.
    assert [rung.tokens_per_second_lost for rung in ladder] == pytest.approx([500.0, 3_000.0])
    assert [rung.power_watts for rung in ladder] == pytest.approx([12_500.0, 12_500.0])
    assert ladder[1].price_usd_per_mwh == pytest.approx(6 * ladder[0].price_usd_per_mwh)


def test_strike_ladder_makes_one_rung_of_what_only_comes_together() -> None:
    # From 400 to 300 W 20 % are lost, from 300 to 200 W none: the second slice can't be had without the first.
    curve = ((100.0, 0.0), (200.0, 0.8), (300.0, 0.8), (400.0, 1.0))
    (rung,) = strike_ladder(ALPHA, file_with(gpu={"cap_throughput": curve}))
    assert (rung.power_watts, rung.tokens_per_second_lost) == pytest.approx((25_000.0, 2_000.0))


def test_strike_ladder_leaves_out_what_the_import_limit_and_minimum_on_do() -> None:
    site = site_with(import_limit_watts=40_000.0, minimum_on_watts=30_000.0)
    (rung,) = strike_ladder(site, file_with(site=site))
    assert (rung.power_watts, rung.tokens_per_second_lost) == pytest.approx((10_000.0, 800.0))
    nothing = site_with(import_limit_watts=20_000.0, minimum_on_watts=20_000.0)
    assert strike_ladder(nothing, file_with(site=nothing)) == ()


@pytest.mark.parametrize("site_id", [site.id for _, site in DEMO.sites()])
def test_strike_ladder_of_the_demo_is_sensible(site_id: str) -> None:
    site = DEMO.site(site_id)
    assert site is not None
    ladder = strike_ladder(site, DEMO)
    prices = [rung.price_usd_per_mwh for rung in ladder]
    assert prices == sorted(prices)
    assert total(ladder) == pytest.approx(full_power_watts(site, DEMO) - least_power_watts(site, DEMO))
    # Above a usual price, and within what markets have seen: neither always throttled nor never.
    assert 200 < prices[0] < 500
    assert prices[-1] < 2000
    left = tokens_per_second(site, DEMO) - sum(rung.tokens_per_second_lost for rung in ladder)
    assert tokens_per_second_at(least_power_watts(site, DEMO), site, DEMO) == pytest.approx(left)


def test_tokens_per_second_at_follows_the_curve() -> None:
    assert tokens_per_second_at(FULL, ALPHA, FLEET_FILE) == 10_000.0
    assert tokens_per_second_at(2 * FULL, ALPHA, FLEET_FILE) == 10_000.0
    assert tokens_per_second_at(37_500.0, ALPHA, FLEET_FILE) == pytest.approx(9_000.0)
    assert tokens_per_second_at(LEAST, ALPHA, FLEET_FILE) == pytest.approx(8_000.0)


def test_earns_usd_per_token_weighs_the_classes_that_may_run_there() -> None:
    rates = (0.1, 0.2, 0.4)
    classes = [
        service.model_copy(update={"earns_usd_per_million_tokens": rate})
        for service, rate in zip(FLEET_FILE.service_classes, rates, strict=True)
    ]
    everywhere = FLEET_FILE.model_copy(update={"service_classes": tuple(classes)})
    assert earns_usd_per_token(ALPHA, everywhere) == pytest.approx((0.3 * 0.1 + 0.3 * 0.2 + 0.4 * 0.4) / 1e6)
    classes[2] = classes[2].model_copy(update={"sites": ("beta",)})
    two = FLEET_FILE.model_copy(update={"service_classes": tuple(classes)})
    assert earns_usd_per_token(ALPHA, two) == pytest.approx(0.15 / 1e6)
    elsewhere = tuple(service.model_copy(update={"sites": ("beta",)}) for service in classes)
    assert earns_usd_per_token(ALPHA, FLEET_FILE.model_copy(update={"service_classes": elsewhere})) == 0.0


def of_alpha(fleet_file: FleetFile, *records: Any) -> Strike:
    view = a_view()
    view.fleet = fleet_file.fleets[0]
    for record in records:
        view.observe(record)
    found = strikes(view, fleet_file)
    assert [(each.site_id, each.pool_id) for each in found] == [(site, "pool") for site in ("alpha", "beta", "gamma")]
    return found[0]


def test_strikes_are_as_rated_where_nothing_is_measured() -> None:
    found = of_alpha(file_with())
    assert found.tokens_per_kwh == pytest.approx(720_000.0)
    assert found.price_usd_per_mwh == pytest.approx(36.0)


def test_strikes_are_as_measured() -> None:
    found = of_alpha(file_with(), power("alpha", 10, 40_000.0), load("alpha", 20, 4_000.0))
    assert found.tokens_per_kwh == pytest.approx(360_000.0)
    assert found.price_usd_per_mwh == pytest.approx(18.0)
    assert of_alpha(file_with(strike=99.0), power("alpha", 10, 40_000.0)).price_usd_per_mwh == 99.0


@pytest.mark.parametrize(
    ("watts", "power_end", "tokens"),
    [
        (0.0, 20, 4_000.0),
        (5_000.0, 20, 4_000.0),  # less than idle
        (60_000.0, 20, 4_000.0),  # more than all GPUs draw
        (40_000.0, 20, 12_000.0),  # more than they can make
        (40_000.0, 20, 0.0),
        (40_000.0, 120, 4_000.0),  # of another time
    ],
)
def test_strikes_do_not_believe_what_can_not_be(watts: float, power_end: float, tokens: float) -> None:
    found = of_alpha(file_with(), power("alpha", power_end, watts), load("alpha", 20, tokens))
    assert found.tokens_per_kwh == pytest.approx(720_000.0)


def test_strikes_split_a_site_over_its_pools() -> None:
    north = DEMO.site("nyiso-north")
    assert north is not None
    full = full_power_watts(north, DEMO)
    view = a_view()
    view.fleet = DEMO.fleets[0]
    view.__post_init__()
    here = {"fleet_id": "nyiso", "site_id": north.id}
    view.observe(power("alpha", 10, full * 0.9).model_copy(update=here))
    view.observe(load("alpha", 10, 1e6).model_copy(update=here))
    h100, a100 = (each for each in strikes(view, DEMO) if each.site_id == north.id)
    # At part load both are further from their best than at full load, by as much; together they are what was measured.
    rated = [9806.0 / (688.3 * 1.12) * 3.6e6, 4300.0 / (368.4 * 1.12) * 3.6e6]
    assert h100.tokens_per_kwh / a100.tokens_per_kwh == pytest.approx(rated[0] / rated[1])
    assert a100.tokens_per_kwh < 1e6 / (full * 0.9) * 3.6e6 < h100.tokens_per_kwh < rated[0]
