"""The way between sites and bus: what is lost, doubled, held up; and the order of everything else."""

from collections import Counter

import pytest

from streams.simulate.agenda import HEAR, PLAN, TICK, Agenda
from streams.simulate.bus import Way
from streams.simulate.faults import Faults
from streams.simulate.scenario import Fault, Network

ACKS = "site.command-acks.v1"


def a_way(network: Network | None = None, *faults: dict[str, object], seed: int = 1) -> Way:
    """`from` and `until` are 100 and 200 s."""
    found = [Fault.model_validate({"from": 100.0, "until": 200.0, **fault}) for fault in faults]
    return Way(network or Network(), Faults(found), seed)


def arrivals(
    way: Way, at: float, count: int = 1000, *, to_site: bool = False, site: str = "alpha"
) -> list[list[float]]:
    return [way.arrivals(site, ACKS, at + number * 1e-3, to_site=to_site) for number in range(count)]


def test_way_takes_its_latency_and_keeps_the_order() -> None:
    times = [time for sent in arrivals(a_way(Network(latency_seconds=2.0)), 0.0) for time in sent]
    assert len(times) == 1000
    assert times == sorted(times)
    assert min(times) >= 1.0
    assert max(times) <= 1.0 + 3.0


@pytest.mark.parametrize("kind", ["loss", "duplication"])
def test_way_loses_and_doubles_as_many_as_said(kind: str) -> None:
    way = a_way(None, {"kind": kind, "ratio": 0.2})
    assert Counter(map(len, arrivals(way, 0.0))) == {1: 1000}
    copies = Counter(map(len, arrivals(way, 150.0)))
    assert copies[{"loss": 0, "duplication": 2}[kind]] == pytest.approx(200, abs=40)
    assert Counter(map(len, arrivals(way, 200.0))) == {1: 1000}


def test_way_lets_what_is_reordered_be_overtaken() -> None:
    way = a_way(Network(latency_seconds=0.0, delay_seconds=5.0), {"kind": "reordering", "ratio": 0.1})
    times = [sent[0] for sent in arrivals(way, 150.0)]
    assert times != sorted(times)
    late = [time for number, time in enumerate(times) if time > 150 + number * 1e-3 + 0.01]
    assert len(late) == pytest.approx(100, abs=40)
    assert max(late) < 156.1


def test_way_is_slower_while_delayed_of_the_sites_named() -> None:
    way = a_way(Network(latency_seconds=0.0), {"kind": "delay", "seconds": 30.0, "sites": ["alpha"]})
    assert way.arrivals("alpha", ACKS, 150.0, to_site=False) == [180.0]
    assert way.arrivals("beta", ACKS, 150.0, to_site=False) == [150.0]


def test_way_to_a_site_without_bus_ends_when_the_bus_is_back_and_from_it_nowhere() -> None:
    way = a_way(Network(latency_seconds=0.0), {"kind": "bus-lost", "sites": ["alpha"]})
    assert way.arrivals("alpha", ACKS, 150.0, to_site=True) == [200.0]
    assert way.arrivals("alpha", ACKS, 150.0, to_site=False) == []
    assert way.arrivals("beta", ACKS, 150.0, to_site=False) == [150.0]


def test_way_from_a_silent_site_ends_nowhere_and_to_it_goes_on() -> None:
    way = a_way(Network(latency_seconds=0.0), {"kind": "site-silent", "sites": ["alpha"]})
    assert way.arrivals("alpha", ACKS, 150.0, to_site=False) == []
    assert way.arrivals("alpha", ACKS, 150.0, to_site=True) == [150.0]


def test_way_is_drawn_by_seed() -> None:
    network = Network(loss_ratio=0.1, duplicate_ratio=0.1, reorder_ratio=0.1)
    assert arrivals(a_way(network), 0.0) == arrivals(a_way(network), 0.0)
    assert arrivals(a_way(network), 0.0) != arrivals(a_way(network, seed=2), 0.0)


def test_agenda_goes_by_time_then_rank_then_order_of_noting() -> None:
    agenda, done = Agenda(), list[str]()
    for seconds, rank, name in (
        (2.0, TICK, "c"),
        (2.0, HEAR, "a"),
        (3.0, HEAR, "late"),
        (2.0, HEAR, "b"),
        (2.0, PLAN, "p"),
    ):
        agenda.note(seconds, rank, lambda name=name: done.append(name))  # type: ignore[misc]
    agenda.note(1.0, TICK, lambda: agenda.note(0.5, HEAR, lambda: done.append(f"at {agenda.now:g}")))
    agenda.run(3.0)
    assert done == ["at 1", "a", "b", "p", "c"]
    agenda.run(4.0)
    assert done[-1] == "late"
