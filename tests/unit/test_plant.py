"""The plant's numbers on sites small enough to reckon by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from schemas.fleet import FleetFile, GpuModel, Pool, ServiceClass, Site, parse_fleet_file
from schemas.latency import BUCKETS, quantile_seconds
from schemas.telemetry import TelemetryFrame
from streams.simulate import plant
from streams.simulate.curves import interpolate, invert
from streams.simulate.demand import ClassDemand, route
from streams.simulate.plant import PlantModel, PlantState, PlantTruth, SitePlant, step
from streams.simulate.readings import ttft_counts, ttft_points

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILE: FleetFile = parse_fleet_file(Path(plant.__file__).with_name("demo_fleet.toml").read_text())

GPU = GpuModel(
    id="gpu",
    max_power_watts=400,
    cap_cliff_watts=200,
    tokens_per_second=100,
    prompt_token_cost_ratio=0.1,
    cap_throughput=((100, 0.2), (200, 0.8), (400, 1.0)),
    load_power=((0, 0.2), (0.1, 0.7), (1, 1)),
)
CLASSES = (
    ServiceClass(id="slow", flex=3, traffic_ratio=0.5, ttft_objective_seconds=60, itl_objective_seconds=1),
    ServiceClass(id="fast", flex=0, traffic_ratio=0.5, ttft_objective_seconds=1, itl_objective_seconds=0.1),
)


def a_site(gpus: int = 10, pue: float = 1.25) -> Site:
    return Site(
        id="site",
        settlement_point="NYC",
        pue=pue,
        import_limit_watts=10_000_000,
        minimum_on_watts=1,
        failsafe_watts=2,
        ramp_down_watts_per_second=10,
        ramp_up_watts_per_second=10,
        pools=(Pool(id="pool", gpu_model="gpu", gpus=gpus),),
    )


def a_model(gpus: int = 10) -> PlantModel:
    return PlantModel.of(a_site(gpus), [GPU], CLASSES)


def a_plant(gpus: int = 10, seed: int = 7) -> SitePlant:
    return SitePlant.start(a_site(gpus), [GPU], CLASSES, seed)


def full_load(seconds: float = 10.0) -> dict[str, ClassDemand]:
    return {"fast": ClassDemand(100, 0, int(1000 * seconds))}


def test_interpolate_is_exact_at_points_and_level_beyond() -> None:
    curve = ((1.0, 2.0), (3.0, 6.0), (4.0, 6.0))
    assert [interpolate(curve, x) for x in (0.0, 1.0, 2.0, 3.0, 3.5, 9.0)] == [2, 2, 4, 6, 6, 6]


def test_invert_takes_the_lowest_of_a_level_stretch() -> None:
    curve = ((1.0, 2.0), (3.0, 6.0), (4.0, 6.0))
    assert [invert(curve, y) for y in (0.0, 2.0, 4.0, 6.0, 7.0)] == [1, 1, 2, 3, 4]


def test_step_idle_draws_idle_power_times_pue() -> None:
    _, flow = step(a_model(), PlantState.empty(a_model()), {}, None, 10.0)
    assert flow.it_power_watts == pytest.approx(10 * 80)
    assert flow.meter_power_watts == pytest.approx(10 * 80 * 1.25)


def test_step_full_load_draws_full_power_and_serves_everything() -> None:
    _, flow = step(a_model(), PlantState.empty(a_model()), full_load(), None, 10.0)
    assert flow.it_power_watts == pytest.approx(4000)
    assert flow.classes["fast"].served == ClassDemand(100, 0, 10_000)


def test_step_counts_prompt_tokens_at_their_cost() -> None:
    demand = {"fast": ClassDemand(10, 50_000, 0)}
    _, flow = step(a_model(), PlantState.empty(a_model()), demand, None, 10.0)
    assert flow.pools[0].load_ratio == pytest.approx(0.5)


def test_step_under_a_cap_serves_what_the_cap_leaves_and_queues_the_rest() -> None:
    state, flow = step(a_model(), PlantState.empty(a_model()), full_load(), 200 * 10 * 1.25, 10.0)
    assert flow.meter_power_watts == pytest.approx(2500)
    assert flow.classes["fast"].served.tokens == 8000
    assert state.queues["fast"].tokens == 2000
    _, after = step(a_model(), state, {}, None, 10.0)
    assert after.classes["fast"].served.tokens == 2000


def test_step_cap_below_idle_leaves_idle_power() -> None:
    _, flow = step(a_model(), PlantState.empty(a_model()), full_load(), 0.0, 10.0)
    assert flow.it_power_watts == pytest.approx(800)
    assert flow.classes["fast"].served.tokens == 2000  # the curve is level below its first point


def test_step_serves_flex_0_first() -> None:
    demand = {"slow": ClassDemand(10, 0, 6000), "fast": ClassDemand(10, 0, 6000)}
    _, flow = step(a_model(), PlantState.empty(a_model()), demand, None, 10.0)
    assert (flow.classes["fast"].served.tokens, flow.classes["slow"].served.tokens) == (6000, 4000)


def test_step_mixed_pools_share_the_load_by_capacity() -> None:
    site = FILE.site("nyiso-north")
    assert site is not None
    model = PlantModel.of(site, FILE.gpu_models, FILE.service_classes)
    can = model.capacity
    demand = {"chat": ClassDemand(1000, 0, int(can.tokens_per_second * 5))}
    _, flow = step(model, PlantState.empty(model), demand, None, 10.0)
    assert [pool.load_ratio for pool in flow.pools] == pytest.approx([0.5, 0.5])


def test_step_turns_away_what_is_not_let_in_of_flexible_classes_and_never_of_flex_0() -> None:
    demand = {"slow": ClassDemand(10, 100, 4000), "fast": ClassDemand(10, 100, 4000)}
    state, flow = step(a_model(), PlantState.empty(a_model()), demand, None, 10.0, admission_ratio=0.25)
    assert flow.classes["fast"].refused == ClassDemand()
    assert flow.classes["slow"].refused == ClassDemand(8, 75, 3000)
    assert flow.classes["slow"].arrived == demand["slow"]
    assert flow.classes["slow"].served == ClassDemand(2, 25, 1000)
    assert state.queues["slow"] == ClassDemand()


@pytest.mark.parametrize(("cap", "seconds"), [(None, 0.0), (-1.0, 1.0)])
def test_step_refuses_impossible_arguments(cap: float | None, seconds: float) -> None:
    with pytest.raises(ValueError, match="dt_seconds must be positive"):
        step(a_model(), PlantState.empty(a_model()), {}, cap, seconds)


def test_step_refuses_unknown_class() -> None:
    with pytest.raises(ValueError, match="unknown service class 'video'"):
        step(a_model(), PlantState.empty(a_model()), {"video": ClassDemand()}, None, 1.0)


def test_step_time_to_first_token_grows_with_the_queue() -> None:
    demand, state, medians = {"fast": ClassDemand(120, 60_000, 12_000)}, PlantState.empty(a_model()), []
    for _ in range(3):  # 180 % of capacity: 8 s more of wait each 10 s
        state, flow = step(a_model(), state, demand, None, 10.0)
        medians.append(quantile_seconds(flow.classes["fast"].ttft_counts, 0.5))
    _, easy = step(a_model(), PlantState.empty(a_model()), {"fast": ClassDemand(10, 1000, 100)}, None, 10.0)
    calm = quantile_seconds(easy.classes["fast"].ttft_counts, 0.5)
    assert calm is not None
    assert calm < 0.2  # 100 prompt tokens at 1,000 a second, mean; the median of the spread is lower
    assert medians[0] is not None
    assert medians[1] is not None
    assert medians[2] is not None
    assert calm < medians[0] < medians[1] < medians[2]


@pytest.mark.parametrize("requests", [0, 1, 2, 7, 20, 1001])
def test_ttft_counts_counts_every_request_once(requests: int) -> None:
    counts = ttft_counts(requests, (0.0, 3.0), 0.2)
    assert len(counts) == BUCKETS
    assert sum(counts) == requests


@pytest.mark.parametrize("objective", [0.0, 0.05, 0.2, 0.5, 1.0, 3.0, 60.0])
def test_late_requests_are_those_above_the_objective(objective: float) -> None:
    demand, state = {"fast": ClassDemand(120, 60_000, 12_000)}, PlantState.empty(a_model())
    for _ in range(2):
        state, flow = step(a_model(), state, demand, None, 10.0)
        fast = flow.classes["fast"]
        points = ttft_points(fast.served.requests, fast.wait_seconds, fast.prefill_seconds)
        assert fast.late_requests(objective) == sum(requests for ttft, requests in points if ttft > objective)


def test_ttft_counts_puts_long_waits_into_the_open_bucket() -> None:
    assert ttft_counts(5, (500.0, 900.0), 0.2)[-1] == 5


def frames_of(each: SitePlant, seconds: int = 10) -> list[TelemetryFrame]:
    return each.advance(full_load(), 10.0, NOW + timedelta(seconds=seconds), "demo")[0]


def test_advance_frames_hold_256_gpus_and_one_meter() -> None:
    frames = frames_of(a_plant(gpus=600))
    assert [(frame.first_gpu, frame.gpus) for frame in frames] == [(0, 256), (256, 256), (512, 88)]
    assert len({frame.source for frame in frames}) == 3
    assert [frame.meter_power_watts is not None for frame in frames] == [True, False, False]
    assert {frame.run_id for frame in frames} == {"demo"}


def test_advance_sequences_rise_by_one() -> None:
    each = a_plant()
    stamps = [(frames_of(each)[0].sequence, each.sequence) for _ in range(3)]
    assert stamps == [(0, 0), (1, 1), (2, 2)]


def test_advance_gpu_powers_differ_but_add_up() -> None:
    each = a_plant(gpus=256)
    powers = [watts for watts in frames_of(each)[0].power_watts if watts is not None]
    assert each.flow is not None
    mean = each.flow.pools[0].power_watts
    assert np.mean(each.traits[0].power_factor) == pytest.approx(1)
    assert np.mean(powers) == pytest.approx(mean, rel=1e-3)
    assert 0.02 * mean < np.std(powers) < 0.04 * mean


def test_advance_energy_counters_are_power_times_time() -> None:
    each = a_plant(gpus=256)
    first, second = frames_of(each)[0], frames_of(each, 20)[0]
    rows = zip(first.energy_joules, second.energy_joules, second.power_watts, strict=True)
    known = [(a, b, watts) for a, b, watts in rows if a is not None and b is not None and watts is not None]
    assert len(known) > 250
    for before, after, watts in known:
        assert after - before == pytest.approx(watts * 10, abs=0.02)


def test_advance_blanks_a_few_readings() -> None:
    each = a_plant(gpus=4000)
    frames = [frame for _ in range(10) for frame in frames_of(each)]
    blank = sum(value is None for frame in frames for value in frame.power_watts)
    assert 5 <= blank <= 45  # 0.05 % of 40,000
    assert any(value is None for frame in frames for value in frame.temperature_celsius)


def test_advance_meter_noise_is_a_third_of_a_percent() -> None:
    each = a_plant()
    errors = []
    for _ in range(500):
        flow = each.tick(full_load(), 10.0)
        assert each.meter_power_watts is not None
        errors.append(each.meter_power_watts / flow.meter_power_watts - 1)
    assert abs(np.mean(errors)) < 0.0006
    assert 0.0025 < np.std(errors) < 0.0035


def test_advance_rates_report_arrived_served_and_queued() -> None:
    each = a_plant()
    each.set_power_cap(200 * 10 * 1.25)
    _, rates = each.advance(full_load(), 10.0, NOW, "demo")
    fast = next(one for one in rates.classes if one.service_class == "fast")
    assert (fast.tokens_arrived, fast.tokens_served, fast.tokens_queued) == (10_000, 8000, 2000)
    assert (fast.requests_arrived, fast.requests_served) == (100, 80)


def test_start_sites_of_one_seed_differ() -> None:
    one, other = FILE.sites().__next__()[1], FILE.site("nyiso-west")
    assert other is not None
    factors = [
        SitePlant.start(site, FILE.gpu_models, FILE.service_classes, 1).traits[0].power_factor[:5].tolist()
        for site in (one, other)
    ]
    assert factors[0] != factors[1]


def test_start_refuses_unknown_gpu_model() -> None:
    with pytest.raises(KeyError, match="gpu"):
        SitePlant.start(a_site(), [], CLASSES, 1)


@pytest.mark.parametrize("watts", [-1.0, float("nan"), float("inf")])
def test_set_power_cap_refuses_what_is_no_power(watts: float) -> None:
    with pytest.raises(ValueError, match="must be finite and not negative"):
        a_plant().set_power_cap(watts)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_set_admission_refuses_what_is_no_ratio(ratio: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        a_plant().set_admission(ratio)


def a_true_plant(**truth: float) -> SitePlant:
    """A plant of ten GPUs, 5 kW at the meter by the fleet file, without noise."""
    exact = {"meter_noise_ratio": 0.0, "actuator_lag_seconds": 0.0}
    return SitePlant.start(a_site(), [GPU], CLASSES, 7, PlantTruth(**(exact | truth)))


def test_truth_of_the_pue_and_of_the_curve_stand_above_what_the_cap_was_set_for() -> None:
    for truth, meter in (({}, 4000.0), ({"pue": 1.375}, 4400.0), ({"curve_error_ratio": 0.05}, 4200.0)):
        each = a_true_plant(**truth)
        each.set_power_cap(4000.0)
        assert each.tick(full_load(), 10.0).meter_power_watts == pytest.approx(meter)
        assert each.meter_power_watts == pytest.approx(meter)


def test_truth_of_a_lying_meter_is_in_the_reading_only() -> None:
    each = a_true_plant(meter_factor=0.8)
    assert each.tick(full_load(), 10.0).meter_power_watts == pytest.approx(5000)
    assert each.meter_power_watts == pytest.approx(4000)


@pytest.mark.parametrize("step_seconds", [1.0, 5.0, 10.0])
def test_truth_of_the_lag_lets_power_follow_the_cap_by_first_order(step_seconds: float) -> None:
    each = a_true_plant(actuator_lag_seconds=5.0)
    each.tick(full_load(step_seconds), step_seconds)
    each.set_power_cap(3000.0)
    powers = [each.tick(full_load(step_seconds), step_seconds).meter_power_watts for _ in range(int(10 / step_seconds))]
    # The mean over ten seconds of 3000 + 2000 exp(-t / 5), however it is cut into steps.
    assert np.mean(powers) == pytest.approx(3000 + 2000 * 0.5 * (1 - np.exp(-2)))
    assert each.cap_in_effect_watts == pytest.approx(3000 + 2000 * np.exp(-2))
    each.set_power_cap(None)
    for _ in range(10):
        each.tick(full_load(10.0), 10.0)
    assert each.cap_in_effect_watts is None
    assert each.flow is not None
    assert each.flow.meter_power_watts == pytest.approx(5000)


def test_set_shift_keeps_shares_that_route_can_use() -> None:
    each = a_plant()
    each.set_shift("slow", "b", 0.4)
    each.set_shift("slow", "c", 0.6)
    routed = route({"site": {"slow": ClassDemand(10, 10, 10)}, "b": {}, "c": {}}, {"site": each.shifts})
    assert routed["b"]["slow"] == ClassDemand(4, 4, 4)
    assert routed["c"]["slow"] == ClassDemand(6, 6, 6)
    assert routed["site"]["slow"] == ClassDemand()
    each.set_shift("slow", "b", 0.0)
    assert each.shifts == {"slow": {"c": 0.6}}


@pytest.mark.parametrize(("name", "to", "share"), [("slow", "b", 1.1), ("slow", "site", 0.1), ("video", "b", 0.1)])
def test_set_shift_refuses_impossible_shifts(name: str, to: str, share: float) -> None:
    each = a_plant()
    with pytest.raises(ValueError, match="site"):
        each.set_shift(name, to, share)
    assert each.shifts == {}


def test_demo_fleet_limits_fit_its_gpus() -> None:
    for _, site in FILE.sites():
        model = PlantModel.of(site, FILE.gpu_models, FILE.service_classes)
        most = model.max_it_power_watts * site.pue
        cliff = sum(pool.gpus * gpu.cap_cliff_watts for pool, gpu in model.pools) * site.pue
        assert 128 <= site.gpus <= 512
        assert most < site.import_limit_watts < 1.1 * most
        assert site.minimum_on_watts < cliff < site.failsafe_watts
        assert most * 0.25 / site.ramp_down_watts_per_second < 30  # a quarter is shed within 30 s
