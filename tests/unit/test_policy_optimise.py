"""The optimiser on a fleet of three sites, small enough to solve by hand.

Each site serves 10,000 tokens/s at 50 kW, and 8,000 at its least, 25 kW. At 1,000 tokens/s it draws 35 kW, and 1.67 W
more for each token/s above. Seven tenths of its traffic may move, and an acceptor is filled to nine tenths.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from schemas.fleet import FleetFile, Link
from schemas.forecast import HorizonForecast, SiteForecast
from schemas.plan import FleetPlan, ShiftControl
from schemas.signals import EventSignal
from streams.policy.optimise import Solution, optimise
from streams.policy.pairing import Move
from streams.policy.problem import Problem, problem_of
from streams.policy.view import FleetView
from tests.policy_cases import (
    FLEET_FILE,
    FULL,
    LEAST,
    NOON,
    SITES,
    at,
    empty_plan,
    event,
    load,
    power,
    price,
    shift_control,
)


def uncapped_watts(tokens_per_second: float) -> float:
    return 1.25 * 100 * 400 * float(np.interp(tokens_per_second / 10_000, [0, 0.1, 1], [0.2, 0.7, 1]))


def with_limits(file: FleetFile = FLEET_FILE, **limits: object) -> FleetFile:
    fleet = file.fleets[0]
    changed = fleet.model_copy(update={"limits": fleet.limits.model_copy(update=limits)})
    return file.model_copy(update={"fleets": (changed,)})


SHORT = with_limits(horizon_seconds=1800.0)
DEAR = with_limits(horizon_seconds=1800.0, shift_cost_usd_per_mwh=15.0)


def linked(link: Link) -> FleetFile:
    fleet = SHORT.fleets[0].model_copy(update={"links": (link,)})
    return SHORT.model_copy(update={"fleets": (fleet,)})


def a_problem(
    loads: tuple[float, ...],
    prices: tuple[float, ...],
    file: FleetFile = SHORT,
    plan: FleetPlan | None = None,
    events: Sequence[EventSignal] = (),
) -> Problem:
    """What is asked at noon; every site draws what its load takes, and prices hold for all of the horizon."""
    view = FleetView(file.fleets[0])
    for site, tokens, usd in zip(SITES, loads, prices, strict=False):
        view.observe(load(site, 0, tokens))
        view.observe(power(site, 0, uncapped_watts(tokens)))
        view.observe(price(site, usd, 0, 36_000))
    for each in events:
        view.observe(each)
    problem = problem_of(view, plan or empty_plan(), file, NOON)
    assert problem is not None
    return problem


def solved(problem: Problem) -> Solution:
    solution = optimise(problem)
    assert solution is not None
    return solution


def moved(solution: Solution, donor: str, acceptor: str) -> dict[str, float]:
    ends = (donor, acceptor)
    return {
        move.service_class: move.share_ratio for move in solution.moves if (move.from_site_id, move.to_site_id) == ends
    }


def shifting(*shifts: ShiftControl) -> FleetPlan:
    return empty_plan().model_copy(update={"shifts": list(shifts)})


# --- Moves -----------------------------------------------------------------------------------------------------------


def test_optimise_moves_all_that_may_move_to_the_cheapest_site_with_room() -> None:
    solution = solved(a_problem((5000, 5000, 5000), (80, 20, 30), DEAR))
    assert solution.moves == (Move("alpha", "beta", "chat", 1.0), Move("alpha", "beta", "batch", 1.0))
    expected = [uncapped_watts(1500), uncapped_watts(8500), uncapped_watts(5000)]
    assert solution.power_watts[:, 0] == pytest.approx(expected)
    assert not solution.throttled.any()


def test_optimise_fills_an_acceptor_to_the_headroom_and_gives_the_next_one_the_rest() -> None:
    solution = solved(a_problem((5000, 8000, 5000), (80, 20, 30)))
    to_beta, to_gamma = (
        sum(share * {"chat": 1500, "batch": 2000}[name] for name, share in moved(solution, "alpha", site).items())
        for site in ("beta", "gamma")
    )
    assert to_beta == pytest.approx(1000, abs=40)  # shares are whole percents, rounded down
    assert to_gamma == pytest.approx(2500, abs=80)


@pytest.mark.parametrize(("usd", "moves"), [(34, False), (36, True)])
def test_optimise_moves_nothing_below_the_spread_that_a_move_is_worth(usd: float, moves: bool) -> None:
    # Alike sites: a token saves at the donor as much power as it takes at the acceptor.
    assert bool(solved(a_problem((5000, 5000, 5000), (usd, 20, 30), DEAR)).moves) is moves


def test_optimise_empties_a_site_though_half_of_it_would_save_nothing() -> None:
    # At one price 1,500 tokens/s draw 37.5 kW at alpha, and 2.8 kW more at beta: a line through it all sees less.
    solution = solved(a_problem((1500, 5000, 9000), (40, 40, 40)))
    assert sum(moved(solution, "alpha", "beta").values()) == pytest.approx(2.0)
    assert solution.power_watts[0, 0] == pytest.approx(uncapped_watts(450))


def test_optimise_takes_back_what_no_longer_fits() -> None:
    under_way = shift_control("active", since=-600, share_ratio=1.0, starts_at=at(-700))
    problem = a_problem((3000, 12_000, 5000), (80, 20, 75), plan=shifting(under_way))
    taken = sum(share * 2000 for share in moved(solved(problem), "alpha", "beta").values())
    assert problem.work.sum(axis=1)[1, 0] + taken < 10_000


def test_optimise_keeps_a_move_under_way_at_a_spread_that_is_worth_no_new_one() -> None:
    under_way = shift_control("active", since=-600, share_ratio=0.2, starts_at=at(-700))
    loads = (4600.0, 5400.0, 5000.0)  # as they are after a fifth of 2,000 tokens/s has moved
    assert solved(a_problem(loads, (26, 20, 20), DEAR)).moves == ()
    kept = solved(a_problem(loads, (26, 20, 20), DEAR, plan=shifting(under_way)))
    assert moved(kept, "alpha", "beta") == {"batch": 0.2}
    assert solved(a_problem(loads, (22, 20, 20), DEAR, plan=shifting(under_way))).moves == ()


def test_optimise_sees_through_its_own_moves() -> None:
    under_way = shift_control("active", since=-600, share_ratio=0.2, starts_at=at(-700))
    # Load states split traffic as the fleet file says: 0.4 of alpha's 5,000 is batch, all of it less a fifth.
    problem = a_problem((5000, 5000, 5000), (40, 40, 40), plan=shifting(under_way))
    batch = problem.class_ids.index("batch")
    assert problem.work[0, batch, 0] == pytest.approx(2000 / 0.8, rel=0.01)
    assert problem.work[1, batch, 0] == pytest.approx(2000 - 0.2 * 2000 / 0.8, rel=0.01)


def test_optimise_gives_room_that_is_promised_to_nobody_else() -> None:
    promised = shift_control("proposed", from_site_id="gamma", share_ratio=0.5)  # 1,000 of beta's 1,500
    solution = solved(a_problem((5000, 7500, 5000), (80, 20, 30), plan=shifting(promised)))
    assert (
        sum(share * {"chat": 1500, "batch": 2000}[name] for name, share in moved(solution, "alpha", "beta").items())
        <= 500 + 1
    )


def test_optimise_never_moves_flex_0_nor_over_a_way_that_is_too_slow() -> None:
    file = linked(Link(between=("alpha", "beta"), latency_seconds=0.5))
    solution = solved(a_problem((5000, 5000, 5000), (80, 20, 30), file))
    assert moved(solution, "alpha", "beta") == {}
    assert moved(solution, "alpha", "gamma") == {"chat": 1.0, "batch": 1.0}


def test_optimise_moves_no_more_than_a_link_carries() -> None:
    file = linked(Link(between=("alpha", "beta"), tokens_per_second_limit=500.0))
    solution = solved(a_problem((5000, 5000, 5000), (80, 20, 75), file))
    work = sum(share * {"chat": 1500, "batch": 2000}[name] for name, share in moved(solution, "alpha", "beta").items())
    assert 450 <= work <= 500


def test_optimise_fills_a_site_that_is_paid_to_draw_power() -> None:
    solution = solved(a_problem((5000, 5000, 5000), (-50, 30, 30)))
    assert solution.power_watts[0, 0] == pytest.approx(uncapped_watts(9000), rel=0.005)
    assert not solution.throttled[0].any()


def test_optimise_moves_nothing_for_a_site_not_heard_of() -> None:
    problem = a_problem((5000, 5000, 5000), (80, 20, 30), DEAR)
    silent = FleetView(DEAR.fleets[0])
    for site, usd in (("alpha", 80), ("beta", 20), ("gamma", 30)):
        silent.observe(load(site, -400 if site == "alpha" else 0, 5000))
        silent.observe(power(site, -400 if site == "alpha" else 0, uncapped_watts(5000)))
        silent.observe(price(site, usd, 0, 3600))
    without = problem_of(silent, empty_plan(), DEAR, NOON)
    assert without is not None
    assert solved(problem).moves
    assert solved(without).moves == ()


def test_optimise_makes_room_for_the_ninth_tenth_of_an_acceptors_load() -> None:
    problem = a_problem((5000, 7000, 5000), (80, 20, 30))
    view = FleetView(SHORT.fleets[0])
    for site, tokens, usd in (("alpha", 5000, 80), ("beta", 7000, 20), ("gamma", 5000, 30)):
        view.observe(load(site, 0, tokens))
        view.observe(power(site, 0, uncapped_watts(tokens)))
        view.observe(price(site, usd, 0, 3600))
    view.observe(a_forecast("beta", [6000, 6200, 6600, 7000, 7800, 8500, 8800]))
    forecast = problem_of(view, empty_plan(), SHORT, NOON)
    assert forecast is not None
    beta = SITES.index("beta")
    assert problem.room_work[beta, 0] == pytest.approx(7000)
    assert forecast.room_work[beta, 0] == pytest.approx(8500)
    taken = solved(forecast).served[beta].sum(axis=0)[0] - 7000
    assert taken == pytest.approx(10_000 - 8500, abs=40)  # the median leaves the headroom, which has room for more


def a_forecast(site: str, quantiles: list[float]) -> SiteForecast:
    horizons = [HorizonForecast(horizon_seconds=300 * step, tokens_per_second=quantiles) for step in range(1, 8)]
    return SiteForecast(
        fleet_id="trio",
        site_id=site,
        issued_at=NOON,
        model="test",
        history_steps=100,
        horizons=horizons,
        spikes=[],
    )


# --- Throttles -------------------------------------------------------------------------------------------------------


def two_rungs(**limits: object) -> FleetFile:
    """From 50 to 37.5 kW a site loses 1,000 tokens/s, to 25 kW 2,000 more: worth 14.40 and 28.80 USD/MWh.

    The classes bear 23 % less throughput: a cap of 235 W, 29.4 kW.
    """
    gpu = FLEET_FILE.gpu_models[0]
    curve = ((80.0, 0.0), (200.0, 0.7), (300.0, 0.9), (400.0, 1.0))
    file = FLEET_FILE.model_copy(update={"gpu_models": (gpu.model_copy(update={"cap_throughput": curve}),)})
    return with_limits(
        file,
        horizon_seconds=1800.0,
        strike_price_usd_per_mwh=None,
        **{"economic_depth_ratio": 1.0, "shift_cost_usd_per_mwh": 1000.0, **limits},
    )


@pytest.mark.parametrize(("usd", "watts"), [(14, 50_000), (15, 37_500), (28, 37_500), (29, 29_375), (900, 29_375)])
def test_optimise_throttles_rung_by_rung_as_the_price_passes_the_strike(usd: float, watts: float) -> None:
    solution = solved(a_problem((9999, 5000, 5000), (usd, 10, 10), two_rungs()))
    assert solution.power_watts[0, 0] == pytest.approx(watts, abs=5)
    assert solution.throttled[0, 0] == (watts < 50_000)
    assert not solution.throttled[1:].any()


def test_optimise_goes_no_deeper_for_money_than_the_fleet_allows() -> None:
    solution = solved(a_problem((9999, 5000, 5000), (900, 10, 10), two_rungs(economic_depth_ratio=0.1)))
    assert solution.power_watts[0, 0] == pytest.approx(45_000, abs=5)


def test_optimise_skips_the_rungs_above_what_a_site_draws() -> None:
    # At 6,250 tokens/s it draws 43.75 kW by itself: half of the first rung is not there to be given up.
    solution = solved(a_problem((6250, 5000, 5000), (20, 10, 10), two_rungs()))
    assert solution.power_watts[0, 0] == pytest.approx(37_500, abs=1)


def test_optimise_throttles_nothing_for_a_negative_price() -> None:
    assert not solved(a_problem((9999, 5000, 5000), (-900, -10, -10), two_rungs())).throttled.any()


# --- Events ----------------------------------------------------------------------------------------------------------


def test_optimise_meets_a_target_exactly_and_only_while_it_holds() -> None:
    problem = a_problem((9000, 8000, 9500), (40, 40, 40), events=[event(start=600, end=1500, reduction_ratio=0.25)])
    total = solved(problem).power_watts.sum(axis=0)
    asked = 0.75 * sum(uncapped_watts(tokens) for tokens in (9000, 8000, 9500))
    assert total[2:5] == pytest.approx([asked] * 3)
    assert (total[:2] > 1.2 * asked).all()
    assert (total[5:6] > 1.2 * asked).all()


def test_optimise_takes_from_whom_it_costs_no_work() -> None:
    # 25 kW leave 8,000 tokens/s: beta and gamma can go there for nothing, alpha to 43.75 kW.
    problem = a_problem(
        (9500, 5000, 5000), (40, 40, 40), events=[event(start=0, end=1800, target_power_watts=100_000.0)]
    )
    immovable = replace(problem, pairs=np.zeros_like(problem.pairs))
    solution = solved(immovable)
    assert solution.power_watts.sum(axis=0)[0] == pytest.approx(100_000)
    assert solution.unserved.sum() == pytest.approx(0, abs=1)
    assert solution.power_watts[0, 0] >= 43_750 - 1  # that leaves 9,500


def test_optimise_moves_work_out_of_an_event() -> None:
    ask = event(start=0, end=1800, target_power_watts=26_000.0, site_ids=["alpha"])
    problem = a_problem((9500, 4000, 4000), (40, 40, 40), events=[ask])
    solution = solved(problem)
    assert solution.power_watts[0, 0] == pytest.approx(26_000)
    assert solution.unserved.sum() == pytest.approx(0, abs=1)
    stays = solved(replace(problem, pairs=np.zeros_like(problem.pairs)))
    assert stays.unserved[:, :, 0].sum() == pytest.approx(9500 - 8000 - 2000 / 25_000 * 1000, rel=0.01)


def test_optimise_loses_the_most_flexible_class_first() -> None:
    ask = event(start=0, end=1800, target_power_watts=75_000.0)
    solution = solved(a_problem((9500, 9500, 9500), (40, 40, 40), events=[ask]))
    lost = dict(zip(solution.class_ids, solution.unserved[:, :, 0].sum(axis=0), strict=True))
    assert lost["batch"] == pytest.approx(3 * 1500, rel=0.01)
    assert lost["interactive"] == lost["chat"] == 0


def test_optimise_ramps_down_ahead_of_an_event() -> None:
    file = with_limits(SHORT, ramp_down_watts_per_second=50.0, ramp_up_watts_per_second=40.0)
    loads = (9000.0, 9000.0, 9000.0)
    asked = 3 * uncapped_watts(9000) - 40_000
    total = solved(
        a_problem(loads, (40, 40, 40), file, events=[event(start=900, end=1200, target_power_watts=asked)])
    ).power_watts.sum(axis=0)
    assert total[3] == pytest.approx(asked)
    changes = np.diff(total, prepend=3 * uncapped_watts(9000))
    assert changes.min() >= -50.0 * 300 - 1
    assert changes.max() <= 40.0 * 300 + 1
    assert total[3] < total[2] < total[1] <= 3 * uncapped_watts(9000)


def test_optimise_misses_an_impossible_target_by_the_least() -> None:
    solution = solved(
        a_problem((9000, 9000, 9000), (40, 40, 40), events=[event(start=0, end=1800, target_power_watts=1.0)])
    )
    assert solution.power_watts[:, :6] == pytest.approx(np.full((3, 6), LEAST))


def test_optimise_keeps_the_ramp_before_an_event_but_not_before_an_emergency() -> None:
    file = with_limits(SHORT, ramp_down_watts_per_second=10.0)
    asks = [
        event(kind, start=0, end=1800, kind=kind, target_power_watts=30_000.0, site_ids=[site])
        for kind, site in (("emergency", "alpha"), ("event", "beta"))
    ]
    solution = solved(a_problem((9000, 9000, 9000), (40, 40, 40), file, events=asks))
    assert solution.power_watts[0, 0] == pytest.approx(30_000)
    assert solution.power_watts[1, 0] > 40_000


def test_optimise_keeps_the_fleets_limit() -> None:
    file = with_limits(SHORT, power_limit_watts=120_000.0)
    solution = solved(a_problem((9000, 9000, 9000), (40, 40, 40), file))
    assert solution.power_watts.sum(axis=0) == pytest.approx(np.full(6, 120_000))


# --- What is asked, and how it ends ----------------------------------------------------------------------------------


def test_optimise_repeats_itself() -> None:
    problem = a_problem((9000, 6000, 3000), (80, 20, 30), events=[event()])
    first, second = solved(problem), solved(problem)
    assert first.moves == second.moves
    assert np.array_equal(first.power_watts, second.power_watts)


def test_optimise_gives_up_after_its_iterations() -> None:
    assert optimise(a_problem((9000, 6000, 3000), (80, 20, 30), events=[event()]), iterations=1) is None


def test_optimise_plans_a_site_of_unknown_load_at_what_it_draws() -> None:
    view = FleetView(SHORT.fleets[0])
    view.observe(power("alpha", 0, 41_000))
    view.observe(load("beta", 0, 5000))
    problem = problem_of(view, empty_plan(), SHORT, NOON)
    assert problem is not None
    solution = solved(problem)
    assert solution.power_watts[:, 0] == pytest.approx([41_000, uncapped_watts(5000), FULL])
    assert solution.moves == ()


def test_optimise_looks_to_the_end_of_an_event_in_steps_of_bounded_number() -> None:
    problem = a_problem((9000, 9000, 9000), (40, 40, 40), with_limits(), events=[event(start=600, end=36_000)])
    assert len(problem.spans) <= 36
    solution = solved(problem)
    assert solution.power_watts.shape[1] * solution.step_seconds >= 36_000
    asked = 0.75 * 3 * uncapped_watts(9000)
    assert solution.power_watts.sum(axis=0)[2:120] == pytest.approx(np.full(118, asked))
