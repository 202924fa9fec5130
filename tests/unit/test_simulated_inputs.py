"""What comes into a scenario from outside: traffic, prices, events, random targets; and what the oracle is told."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from schemas.offer import FlexibilityOffer, OfferedReduction
from streams.collect.cells import TraceError
from streams.simulate.feeds import event_feed, price_feed, random_target, target_times
from streams.simulate.foresight import TrueForesight, price_of, real_time
from streams.simulate.loop import World
from streams.simulate.traffic import REQUESTS, TOKENS
from tests.simulations import START, event, read, seconds, text

CAPACITY = 100 * 100.0  # tokens/s of a site
SERIES = '[traffic]\nrequests = "week"\npeak_load_ratio = 0.8\n{more}\n'
PRICES = '\n[[prices]]\nfile = "prices.csv"\nzones = {{ ALPHA = "NYC", BETA = "WEST" }}\n{more}\n'
TARGETS = "\n[random_targets]\ncount = 3\nfirst = 300\nspacing_seconds = 400\nduration_seconds = [100, 300]\n"


def data_folder(folder: Path, header: str, rows: list[str], name: str = "requests/week_10min.csv") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]))
    return folder


def prices_file(folder: Path, minutes: range, gap: int = -1) -> None:
    rows = [
        f"2026-11-01T{12 + minute // 60}:{minute % 60:02}:00Z,{'' if minute == gap else minute},{-minute}"
        for minute in minutes
    ]
    (folder / "prices.csv").write_text("\n".join(["interval_start_utc,NYC_usd_mwh,WEST_usd_mwh", *rows]))


def tokens_per_second(world: World) -> np.ndarray:
    """By site and tick of the scenario, all classes."""
    counts = world.traffic.counts[:, :, world.traffic.history_ticks :, TOKENS].sum(axis=1)
    return np.asarray(counts / world.scenario.step_seconds)


def test_traffic_constant_is_the_share_of_capacity_asked_for_and_splits_by_class(tmp_path: Path) -> None:
    _, _, world = read(
        tmp_path, text().replace("load_ratio = 0.7", "load_ratio = 0.7\nsite_load_ratio = { beta = 0.2 }")
    )
    assert tokens_per_second(world)[0] == pytest.approx(
        np.full(world.traffic.counts.shape[2], 0.7 * CAPACITY), rel=0.01
    )
    assert tokens_per_second(world)[1] == pytest.approx(
        np.full(world.traffic.counts.shape[2], 0.2 * CAPACITY), rel=0.02
    )
    interactive, batch = world.traffic.at(0)["alpha"].values()
    assert interactive.tokens / (interactive.tokens + batch.tokens) == pytest.approx(0.3, abs=0.001)
    assert interactive.requests == pytest.approx(interactive.tokens / 100, abs=1)


def test_traffic_of_a_table_is_drawn_through_its_bins_scaled_and_rotated(tmp_path: Path) -> None:
    rows = [f"{600 * number},{rate},{10 * rate},{100 * rate}" for number, rate in enumerate([10, 20, 40, 20])]
    data = data_folder(tmp_path, "t_s,rate_rps,in_tok_per_s,out_tok_per_s", rows)
    _, _, world = read(tmp_path, text(duration=2400, traffic=SERIES.format(more="")), data)
    alpha, beta = tokens_per_second(world)[:, :240]
    assert np.argmax(alpha) * 10 == pytest.approx(1500, abs=10)  # the middle of the third bin
    assert np.convolve(alpha, np.full(6, 1 / 6)).max() == pytest.approx(0.8 * CAPACITY, rel=0.01)
    assert beta == pytest.approx(np.roll(alpha, -120), abs=1)  # half the span later
    counts = world.traffic.at(30)["alpha"]["batch"]
    assert counts.prompt_tokens == pytest.approx(counts.tokens / 10, abs=2)


def test_traffic_of_a_table_without_tokens_takes_the_lengths_given(tmp_path: Path) -> None:
    rows = [f"2024-05-10 00:{minute}0:00,{rate}" for minute, rate in enumerate([60, 120])]
    data = data_folder(tmp_path, "ts_utc,code_req_per_min", rows)
    lengths = "tokens_per_request = 50.0\nprompt_tokens_per_request = 500.0"
    _, _, world = read(tmp_path, text(duration=600, traffic=SERIES.format(more=lengths)), data)
    counts = world.traffic.counts.sum(axis=1)[0]
    assert counts[:60, TOKENS].sum() == pytest.approx(50 * counts[:60, REQUESTS].sum(), rel=0.01)


def test_traffic_of_raw_requests_is_counted_in_ticks(tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:17:{second:02}.5,100,{10 if second < 30 else 20}" for second in range(0, 60, 2)]
    data = data_folder(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens", rows)
    _, _, world = read(tmp_path, text(duration=600, traffic=SERIES.format(more="rotation_seconds = 0")), data)
    early, late = tokens_per_second(world)[0][:3].sum(), tokens_per_second(world)[0][3:5].sum()
    assert early / 3 * 2 == pytest.approx(late / 2, rel=0.01)


def test_traffic_of_a_table_without_requests_says_what_there_is(tmp_path: Path) -> None:
    data = data_folder(tmp_path, "t_s,temperature", ["0,1", "600,2"])
    with pytest.raises(TraceError, match=r"no column of requests by time, .* among temperature"):
        read(tmp_path, text(traffic=SERIES.format(more="")), data)


def test_traffic_jitter_is_noise_of_mean_one_by_seed(tmp_path: Path) -> None:
    written = text(duration=36_000).replace("load_ratio = 0.7", "load_ratio = 0.7\njitter_ratio = 0.1")
    scenario, file, world = read(tmp_path, written)
    drawn = tokens_per_second(world)
    assert drawn.mean() == pytest.approx(0.7 * CAPACITY, rel=0.01)
    assert drawn.std() == pytest.approx(0.07 * CAPACITY, rel=0.05)
    again, other = (World.of(scenario, file, world.sources, seed).traffic.counts for seed in (1, 2))
    assert (again == world.traffic.counts).all()
    assert (other != world.traffic.counts).any()


def test_prices_are_published_when_the_market_does_and_gaps_are_not(tmp_path: Path) -> None:
    prices_file(tmp_path, range(0, 120, 5), gap=10)
    day_ahead = PRICES.format(more='market = "day-ahead"')
    scenario, file, world = read(tmp_path, text(more=PRICES.format(more="") + day_ahead))
    feed = price_feed(scenario, file.fleets[0], world.sources)
    assert feed == sorted(feed, key=lambda signal: signal.published_at)
    real = [signal for signal in feed if signal.market == "real-time"]
    assert {seconds(signal.published_at) - seconds(signal.starts_at) for signal in real} == {15.0}
    alpha = [
        (seconds(signal.starts_at), signal.price_usd_per_mwh) for signal in real if signal.settlement_point == "ALPHA"
    ]
    assert alpha == [(0, 0), (300, 5), (900, 15), (1200, 20), (1500, 25)]
    ahead = [signal for signal in feed if signal.market == "day-ahead"]
    assert {signal.published_at for signal in ahead} == {START.replace(hour=16) - timedelta(days=1)}
    assert len(ahead) == 2 * 24 - 1  # all that are known, but for the gap


def test_prices_can_be_of_another_time(tmp_path: Path) -> None:
    prices_file(tmp_path, range(0, 120, 5))
    more = "file_starts_at = 2026-11-01T12:31:00Z\npublished_seconds = -60"
    scenario, file, world = read(tmp_path, text(more=PRICES.format(more=more)))
    first, *_ = [
        each for each in price_feed(scenario, file.fleets[0], world.sources) if each.settlement_point == "BETA"
    ]
    assert (seconds(first.starts_at), seconds(first.published_at), first.price_usd_per_mwh) == (-60, -120, -30)
    prices = real_time(world.sources)
    assert prices is not None
    assert price_of(prices, scenario, "BETA", np.array([0.0, 239.0, 240.0])).tolist() == [-30, -30, -35]


def test_events_are_announced_revised_and_withdrawn_under_one_name(tmp_path: Path) -> None:
    more = 'id = "storm"\nrevised = [{ at = 400, ends = 1200, target_power_watts = 5e4 }]\ncancelled_at = 900\n'
    scenario, file, _ = read(tmp_path, text(more=event(1500) + more))
    said = event_feed(scenario, file.fleets[0])
    assert [signal.signal_id for signal in said] == ["storm"] * 3
    assert [seconds(signal.published_at) for signal in said] == [300, 400, 900]
    assert [seconds(signal.ends_at) for signal in said] == [1500, 1200, 1200]
    assert [signal.reduction_ratio for signal in said] == [0.25, None, None]
    assert [signal.cancelled for signal in said] == [False, False, True]


def an_offer(site: str, expected: float, p90: float, duration: float = 900) -> FlexibilityOffer:
    reduction = OfferedReduction(
        response_seconds=30.0,
        duration_seconds=duration,
        firm_power_watts_p50=2 * p90,
        firm_power_watts_p90=p90,
        tokens_lost_per_mwh=0.0,
    )
    return FlexibilityOffer(
        fleet_id="pair",
        site_id=site,
        issued_at=START,
        valid_until=START + timedelta(seconds=400),
        expected_power_watts=expected,
        offers=[reduction],
    )


def test_random_target_lies_within_what_was_offered(tmp_path: Path) -> None:
    scenario, file, _ = read(tmp_path, text(more=TARGETS))
    assert target_times(scenario) == [300, 700, 1100]
    offers = {"alpha": an_offer("alpha", 40_000.0, 4_000.0), "beta": an_offer("beta", 30_000.0, 6_000.0)}
    now = START + timedelta(seconds=300)
    drawn = [
        random_target(scenario, file.fleets[0], number, now, offers, seed) for number in range(20) for seed in (1, 2)
    ]
    assert all(drawn)
    for target in drawn:
        assert target is not None
        assert 60_000 <= (target.target_power_watts or 0) <= 68_000  # between all and a fifth of what is firm
        assert 130 <= seconds(target.ends_at) - seconds(target.starts_at) <= 330  # half a minute to respond
        assert target.ramp_seconds == 30
    assert len({target.target_power_watts for target in drawn if target}) == len(drawn)


def test_random_target_needs_a_valid_offer_of_every_site_that_lasts(tmp_path: Path) -> None:
    scenario, file, _ = read(tmp_path, text(more=TARGETS))
    fleet, now = file.fleets[0], START + timedelta(seconds=300)
    both = {"alpha": an_offer("alpha", 40_000.0, 4_000.0), "beta": an_offer("beta", 30_000.0, 6_000.0)}
    assert random_target(scenario, fleet, 1, now, {"alpha": both["alpha"]}, 1) is None
    assert random_target(scenario, fleet, 1, START + timedelta(seconds=401), both, 1) is None
    short = {site: an_offer(site, 40_000.0, 4_000.0, duration=60) for site in both}
    assert random_target(scenario, fleet, 1, now, short, 1) is None


def test_foresight_is_what_comes(tmp_path: Path) -> None:
    prices_file(tmp_path, range(0, 120, 5), gap=10)
    scenario, file, world = read(tmp_path, text(more=PRICES.format(more="")))
    foresight = TrueForesight.of(scenario, file, world.sources, world.traffic)
    at = START + timedelta(seconds=300)
    assert foresight.price_usd_per_mwh("ALPHA", at, 600.0, 2).tolist() == [5, 17.5]  # in the gap the last price
    work = foresight.work_per_second("alpha", "batch", at, 300.0, 3)
    assert work == pytest.approx(np.full(3, 0.7 * 0.7 * CAPACITY), rel=0.01)
