"""The power that follows from load: on a site small enough to reckon by hand, and for any load."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.power import SitePower
from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.fleet import GpuModel, Pool, Site
from streams.capacity import full_power_watts
from streams.simulate.demand import ClassDemand
from streams.simulate.plant import PlantModel, PlantState, step

DEMO = load_fleet_file(DEMO_FLEET_FILE)
GPU = GpuModel(
    id="gpu",
    max_power_watts=400,
    cap_cliff_watts=200,
    tokens_per_second=1000,
    prompt_token_cost_ratio=0.1,
    cap_throughput=((100, 0), (400, 1)),
    load_power=((0, 0.2), (0.5, 0.8), (1, 1)),
)
HERE = Site(
    id="here",
    settlement_point="HB",
    pue=1.25,
    import_limit_watts=4500,
    minimum_on_watts=100,
    failsafe_watts=1000,
    ramp_down_watts_per_second=10,
    ramp_up_watts_per_second=5,
    pools=(Pool(id="pool", gpu_model="gpu", gpus=10),),
)
POWER = SitePower.of(HERE, [GPU])


def watts(tokens: float, prefill: float) -> float:
    return float(POWER.watts(np.array([tokens]), np.array([prefill]))[0])


def test_watts_is_the_curve_at_the_work_cooling_included() -> None:
    assert watts(0, 0) == pytest.approx(10 * 400 * 0.2 * 1.25)
    assert watts(5000, 0) == pytest.approx(10 * 400 * 0.8 * 1.25)
    assert watts(2500, 0) == watts(2000, 5000) == pytest.approx(10 * 400 * 0.5 * 1.25)


def test_watts_ends_at_the_import_limit() -> None:
    assert watts(10_000, 0) == watts(1e9, 1e9) == 4500


def test_watts_of_all_load_is_what_the_site_draws_at_full_power() -> None:
    for _, site in DEMO.sites():
        power = SitePower.of(site, DEMO.gpu_models)
        found = power.watts(np.array([1e12]), np.array([0.0]))[0]
        assert found == pytest.approx(full_power_watts(site, DEMO))


@given(st.sampled_from([site for _, site in DEMO.sites()]), st.integers(0, 40_000), st.integers(0, 40_000))
def test_watts_is_what_the_plant_draws_of_a_load_that_it_can_serve(site: Site, tokens: int, prefill: int) -> None:
    plant = PlantModel.of(site, DEMO.gpu_models, DEMO.service_classes)
    demand = {DEMO.service_classes[0].id: ClassDemand(100, prefill, tokens)}
    _, flow = step(plant, PlantState.empty(plant), demand, None, 1.0)
    power = SitePower.of(site, DEMO.gpu_models)
    found = power.watts(np.array([float(tokens)]), np.array([float(prefill)]))[0]
    assert found == pytest.approx(min(flow.meter_power_watts, site.import_limit_watts))


@given(st.lists(st.tuples(st.floats(0, 1e13), st.floats(0, 1e13)), min_size=2, max_size=20))
def test_watts_never_falls_as_load_rises(loads: list[tuple[float, float]]) -> None:
    tokens, prefill = (np.sort(np.array(column)) for column in zip(*loads, strict=True))
    found = POWER.watts(tokens, prefill)
    assert (np.diff(found) >= 0).all()
    assert ((found > 0) & (found <= 4500)).all()


def test_serveable_tokens_leave_room_for_their_prompts() -> None:
    assert POWER.serveable_tokens_per_second(0.0) == 10_000
    assert POWER.serveable_tokens_per_second(10.0) == 5_000


def test_of_refuses_an_unknown_gpu_model() -> None:
    with pytest.raises(KeyError):
        SitePower.of(HERE, [])
