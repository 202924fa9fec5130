"""The plant under any load, cap and step: physics' bounds hold, and no token is made or lost."""

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.fleet import FleetFile, parse_fleet_file
from streams.simulate import plant
from streams.simulate.curves import interpolate, invert
from streams.simulate.demand import ClassDemand, route
from streams.simulate.plant import PlantModel, PlantState, SitePlant

unhurried = settings(deadline=None)  # the machine may be busy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILE: FleetFile = parse_fleet_file(Path(plant.__file__).with_name("demo_fleet.toml").read_text())
SITES = [site for _, site in FILE.sites()]
CLASSES = [service.id for service in FILE.service_classes]

sites = st.sampled_from(SITES)
demands = st.builds(
    ClassDemand,
    st.integers(0, 10_000),
    st.integers(0, 30_000_000),
    st.integers(0, 30_000_000),
)
traffic = st.fixed_dictionaries({}, optional=dict.fromkeys(CLASSES, demands))
caps = st.none() | st.floats(0, 1e6)
steps = st.floats(0.1, 120)
admissions = st.just(1.0) | st.floats(0, 1)


def _curve(rises: list[tuple[float, float]]) -> list[tuple[float, float]]:
    points = [(0.0, 0.0)]
    for right, up in rises:
        points.append((points[-1][0] + right, points[-1][1] + up))
    return points


curves = st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 10)), min_size=1, max_size=8).map(_curve)


@unhurried
@given(curves, st.lists(st.floats(-10, 900), min_size=2, max_size=2))
def test_interpolate_never_falls_and_stays_between_ends(curve: list[tuple[float, float]], xs: list[float]) -> None:
    low, high = sorted(xs)
    assert curve[0][1] <= interpolate(curve, low) <= interpolate(curve, high) <= curve[-1][1]


@unhurried
@given(curves, st.floats(0, 1))
def test_invert_finds_where_the_curve_reaches_y(curve: list[tuple[float, float]], share: float) -> None:
    y = curve[0][1] + share * (curve[-1][1] - curve[0][1])
    x = invert(curve, y)
    assert curve[0][0] <= x <= curve[-1][0]
    # In floats a nearly level stretch can't name y to the last digit: between the neighbours of x lies y.
    slack = 1e-9 * (1 + x)
    assert interpolate(curve, x - slack) <= y + 1e-9
    assert y - 1e-9 <= interpolate(curve, x + slack) + 1e-6


@unhurried
@given(sites, st.lists(st.tuples(traffic, caps, steps, admissions), min_size=1, max_size=6))
def test_step_conserves_tokens_and_keeps_power_between_idle_and_cap(site, moments) -> None:  # type: ignore[no-untyped-def]
    model = PlantModel.of(site, FILE.gpu_models, FILE.service_classes)
    state = PlantState.empty(model)
    for demand, cap, dt, admission in moments:
        after, flow = plant.step(model, state, demand, cap, dt, admission)
        for name in CLASSES:
            arrived = demand.get(name, ClassDemand())
            seen = flow.classes[name]
            assert state.queues[name] + arrived == seen.served + seen.queued + seen.refused
            assert seen.arrived == arrived
            if admission == 1 or name not in model.flexible:
                assert seen.refused == ClassDemand()
            assert after.queues[name] == seen.queued
            for amount in (seen.served, seen.queued, seen.refused):
                assert min(amount.requests, amount.prompt_tokens, amount.tokens) >= 0
            assert sum(seen.ttft_counts) == seen.served.requests
        for (_, gpu), pool in zip(model.pools, flow.pools, strict=True):
            idle = gpu.load_power[0][1] * gpu.max_power_watts
            assert idle <= pool.power_watts <= gpu.max_power_watts
            assert 0 <= pool.load_ratio <= pool.throughput_ratio <= 1
        if cap is not None:
            floor = sum(p.gpus * g.load_power[0][1] * g.max_power_watts for p, g in model.pools) * site.pue
            assert flow.meter_power_watts <= max(cap, floor) * (1 + 1e-9)
        served = sum(f.served.tokens for f in flow.classes.values())
        assert served <= model.capacity.tokens_per_second * dt * (1 + 1e-9)
        state = after


@unhurried
@given(sites, traffic, traffic, st.floats(0, 1e6), st.floats(0, 1e6), steps)
def test_step_with_a_lower_cap_never_draws_or_serves_more(site, before, demand, one, other, dt) -> None:  # type: ignore[no-untyped-def]
    model = PlantModel.of(site, FILE.gpu_models, FILE.service_classes)
    low, high = sorted((one, other))
    state = PlantState({name: before.get(name, ClassDemand()) for name in CLASSES}, (0.0,) * len(model.pools))
    _, under_low = plant.step(model, state, demand, low, dt)
    _, under_high = plant.step(model, state, demand, high, dt)
    _, uncapped = plant.step(model, state, demand, None, dt)
    assert under_low.meter_power_watts <= under_high.meter_power_watts <= uncapped.meter_power_watts
    work = [
        sum(flow.served.tokens + model.capacity.prompt_token_cost_ratio * flow.served.prompt_tokens for flow in flows)
        for flows in (run.classes.values() for run in (under_low, under_high, uncapped))
    ]
    slack = 6.0 + 1e-9 * work[2]  # whole tokens: each class rounds down, by a prompt and a generated one at most
    assert work[0] <= work[1] + slack
    assert work[1] <= work[2] + slack


@unhurried
@given(sites, traffic, st.sampled_from(CLASSES), demands, caps, steps)
def test_step_with_more_traffic_never_draws_less(site, demand, service_class, extra, cap, dt) -> None:  # type: ignore[no-untyped-def]
    model = PlantModel.of(site, FILE.gpu_models, FILE.service_classes)
    more = {**demand, service_class: demand.get(service_class, ClassDemand()) + extra}
    _, less_flow = plant.step(model, PlantState.empty(model), demand, cap, dt)
    _, more_flow = plant.step(model, PlantState.empty(model), more, cap, dt)
    assert more_flow.meter_power_watts >= less_flow.meter_power_watts


@unhurried
@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), traffic, min_size=3),
    st.sampled_from(CLASSES),
    st.lists(st.floats(0, 0.5), min_size=2, max_size=2),
    st.floats(0, 1),
)
def test_route_loses_nothing_and_leaves_nothing_negative(demand, service_class, away, back) -> None:  # type: ignore[no-untyped-def]
    routed = route(demand, {"a": {service_class: {"b": away[0], "c": away[1]}}, "b": {service_class: {"a": back}}})
    for name in CLASSES:
        before = sum((site.get(name, ClassDemand()) for site in demand.values()), ClassDemand())
        assert sum((site.get(name, ClassDemand()) for site in routed.values()), ClassDemand()) == before
        for site in routed.values():
            left = site.get(name, ClassDemand())
            assert min(left.requests, left.prompt_tokens, left.tokens) >= 0


@settings(max_examples=50, deadline=None)
@given(sites, st.integers(0, 2**63), st.lists(st.tuples(traffic, caps), min_size=1, max_size=3))
def test_advance_repeats_itself_by_seed(site, seed, moments) -> None:  # type: ignore[no-untyped-def]
    def run() -> list[bytes]:
        each = SitePlant.start(site, FILE.gpu_models, FILE.service_classes, seed)
        said = []
        for demand, cap in moments:
            each.set_power_cap(cap)
            frames, rates = each.advance(demand, 10.0, NOW, "demo")
            said += [frame.to_json() for frame in frames] + [rates.to_json()]
        return said

    assert run() == run()
