"""One trace spread over sites, and shifts between them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from schemas.fleet import FleetFile, parse_fleet_file
from streams.collect.traces import RequestTrace
from streams.simulate import plant
from streams.simulate.demand import ClassDemand, capacity, route, spread

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILE: FleetFile = parse_fleet_file(Path(plant.__file__).with_name("demo_fleet.toml").read_text())


def test_route_refuses_unknown_site_and_too_large_shares() -> None:
    demand = {"a": {"slow": ClassDemand(1, 1, 1)}, "b": {}}
    with pytest.raises(ValueError, match="no such site to shift between: x"):
        route(demand, {"a": {"slow": {"x": 0.5}}})
    with pytest.raises(ValueError, match="add up to 1 at most"):
        route(demand, {"a": {"slow": {"b": 1.5}}})


def a_trace(steps: int = 70) -> RequestTrace:
    tokens = np.arange(1.0, steps + 1)
    return RequestTrace("test", NOW, 10.0, tokens, 5 * tokens, 10 * tokens)


def test_spread_peak_minute_asks_for_85_percent_of_each_site() -> None:
    demand = spread(a_trace(), FILE)
    for _, site in FILE.sites():
        can = capacity(site, FILE.gpu_models)
        work = []
        for number in range(demand.steps):
            classes = demand.at(number)[site.id].values()
            work.append(sum(one.tokens + can.prompt_token_cost_ratio * one.prompt_tokens for one in classes))
        around = work + work[:5]  # the trace wraps
        peak = max(sum(around[first : first + 6]) for first in range(len(work))) / 60
        assert peak == pytest.approx(0.85 * can.tokens_per_second, rel=1e-4)


def test_spread_rotates_sites_and_wraps() -> None:
    demand = spread(a_trace(), FILE)
    at = [demand.at(number) for number in range(demand.steps)]
    peaks = [int(np.argmax([one[site.id]["chat"].tokens for one in at])) for _, site in FILE.sites()]
    assert peaks == [69, 59, 49, 39, 29, 19, 9]  # 70 steps over 7 sites
    assert demand.at(3) == demand.at(73)


def test_spread_splits_classes_by_their_traffic_ratio() -> None:
    classes = spread(a_trace(), FILE).at(10)["nyiso-nyc"]
    total = sum(one.tokens for one in classes.values())
    for service in FILE.service_classes:
        assert classes[service.id].tokens == pytest.approx(service.traffic_ratio * total, abs=1)


def test_spread_gives_a_site_only_its_classes() -> None:
    only = FILE.service_classes[0].model_copy(update={"sites": ("nyiso-nyc",)})
    demand = spread(a_trace(), FILE.model_copy(update={"service_classes": (only, *FILE.service_classes[1:])}))
    assert set(demand.at(0)["nyiso-nyc"]) == {"interactive", "chat", "batch"}
    assert set(demand.at(0)["campus-hall"]) == {"chat", "batch"}


def test_spread_refuses_an_empty_trace() -> None:
    nothing = np.zeros(3)
    with pytest.raises(ValueError, match="no tokens"):
        spread(RequestTrace("test", NOW, 10.0, nothing, nothing, nothing), FILE)
