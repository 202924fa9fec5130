"""What a site can do, on a site small enough to reckon by hand, and on the demo's."""

from pathlib import Path

import pytest

from schemas.fleet import ServiceClass, Site, parse_fleet_file
from streams.capacity import (
    bearable_depth_ratio,
    full_power_watts,
    least_power_watts,
    tokens_per_second,
    work_per_second,
)
from streams.simulate import plant
from tests.policy_cases import ALPHA, FLEET_FILE, load

DEMO = parse_fleet_file(Path(plant.__file__).with_name("demo_fleet.toml").read_text())


def classes(*flexes: int) -> tuple[ServiceClass, ...]:
    return tuple(
        ServiceClass(
            id=f"flex-{flex}",
            flex=flex,
            traffic_ratio=1 / len(flexes),
            ttft_objective_seconds=1,
            itl_objective_seconds=1,
        )
        for flex in flexes
    )


def test_power_at_full_and_least_counts_cooling() -> None:
    assert full_power_watts(ALPHA, FLEET_FILE) == 100 * 400 * 1.25
    assert least_power_watts(ALPHA, FLEET_FILE) == 100 * 200 * 1.25


def test_least_power_is_minimum_on_where_that_is_above_the_cliff() -> None:
    assert least_power_watts(ALPHA.model_copy(update={"minimum_on_watts": 30_000.0}), FLEET_FILE) == 30_000


def test_powers_stay_within_the_import_limit() -> None:
    small = ALPHA.model_copy(update={"import_limit_watts": 20_000.0})
    assert full_power_watts(small, FLEET_FILE) == 20_000
    assert least_power_watts(small, FLEET_FILE) == 20_000


@pytest.mark.parametrize("site", [site for _, site in DEMO.sites()], ids=lambda site: site.id)
def test_powers_of_the_demo_are_in_order(site: Site) -> None:
    least, full = least_power_watts(site, DEMO), full_power_watts(site, DEMO)
    assert 0 < site.minimum_on_watts <= least < full <= site.import_limit_watts
    assert 0 <= bearable_depth_ratio(site, DEMO, DEMO.service_classes) < 1


def test_tokens_per_second_adds_up_the_pools() -> None:
    assert tokens_per_second(ALPHA, FLEET_FILE) == 10_000


def test_work_counts_prompts_at_their_cost() -> None:
    model = FLEET_FILE.gpu_models[0].model_copy(update={"prompt_token_cost_ratio": 0.1})
    costly = FLEET_FILE.model_copy(update={"gpu_models": (model,)})
    state = load("alpha", 0, 500.0)
    prompts = [each.model_copy(update={"prompt_tokens_per_second": 100.0}) for each in state.classes]
    state = state.model_copy(update={"classes": prompts})
    assert work_per_second(state, ALPHA, costly) == pytest.approx(500 + 0.1 * 300)
    assert work_per_second(state, ALPHA, FLEET_FILE) == pytest.approx(500)


def test_bearable_depth_is_nothing_for_flex_0() -> None:
    assert bearable_depth_ratio(ALPHA, FLEET_FILE, classes(0)) == 0
    assert bearable_depth_ratio(ALPHA, FLEET_FILE, ()) == 0


def test_bearable_depth_follows_the_curve_down_to_the_cliff() -> None:
    # A tenth of the tokens may go: 90 % are left at 300 W of 400 W.
    assert bearable_depth_ratio(ALPHA, FLEET_FILE, classes(1)) == pytest.approx(0.25)
    # Half of them may go, but below 200 W throughput collapses.
    assert bearable_depth_ratio(ALPHA, FLEET_FILE, classes(3)) == pytest.approx(0.5)


def test_bearable_depth_counts_only_classes_served_at_the_site() -> None:
    (elsewhere,) = classes(3)
    elsewhere = elsewhere.model_copy(update={"sites": ("beta",)})
    assert bearable_depth_ratio(ALPHA, FLEET_FILE, (elsewhere, *classes(0))) == 0
