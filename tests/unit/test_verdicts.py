"""Bars, and what people and programs are shown of a run."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from streams.simulate.kpis import kpis
from streams.simulate.page import page
from streams.simulate.plot import plot
from streams.simulate.verdicts import BARS, BarError, verdicts
from tests.kpi_cases import (
    EVENT,
    POWER,
    a_trajectory,
    an_outcome,
    held,
    judged,
    pinned,
    planned,
    said,
    sent,
)
from tests.policy_cases import FLEET_FILE, shift_control, throttle


def test_verdicts_know_which_side_of_a_bound_is_the_right_one() -> None:
    bars = {"minutes_over_target": 0, "tokens_ratio": 1.0, "ramp_violations": 0, "attained_saving_ratio": 0.9}
    outcome = an_outcome(held(30_000.0), said(1200, EVENT), planned(1200, baselines=pinned(POWER)), **bars)
    result = kpis(outcome, FLEET_FILE, None, None)
    met = {each["name"]: each["met"] for each in result["verdicts"]}
    assert met["minutes_over_target"]
    assert met["tokens_ratio"]
    assert met["ramp_violations"]
    assert met["attained_saving_ratio"] is False  # not compared with anything: not known, so not met
    result["events_summary"] |= {"minutes_over_target": 1, "tokens_ratio": 0.99}
    assert [each.met for each in verdicts(result, {"minutes_over_target": 0, "tokens_ratio": 1.0})] == [False, False]


def test_verdicts_find_the_value_of_every_bar_there_is() -> None:
    result = judged(a_trajectory())
    assert {each.name for each in verdicts(result, dict.fromkeys(BARS, 0.0))} == BARS


def test_verdicts_refuse_a_bar_for_what_is_not_measured() -> None:
    with pytest.raises(BarError, match=r"'minutes_over'; there are .*minutes_over_target"):
        judged(a_trajectory(), minutes_over=0)


def test_kpis_are_ready_for_json_and_for_people() -> None:
    outcome = an_outcome(
        held(30_000.0),
        said(1200, EVENT),
        planned(1200, baselines=pinned(POWER), shifts=[shift_control("ramping", 1200)]),
        sent(1201, throttle()),
        minutes_over_target=0,
        attained_saving_ratio=0.9,
    )
    result = kpis(outcome, FLEET_FILE, an_outcome(a_trajectory()), None)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    console = Console(width=160, record=True, file=StringIO())
    console.print(page(result))
    text = console.export_text()
    for shown in ("test under planner", "does it hold?", "price-blind", "alpha", "e1", "0 of 28", "1 throttle (event)"):
        assert shown in text
    assert "not measured" in text
    assert text.count("NO") == 1


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_writes_the_same_picture_each_time(tmp_path: Path, suffix: str) -> None:
    outcome = an_outcome(held(30_000.0), said(1200, EVENT), planned(1200, baselines=pinned(POWER)), warm_up_seconds=600)
    pictures = []
    for name in ("a", "b"):
        plot(outcome, FLEET_FILE, tmp_path / f"{name}{suffix}")
        pictures.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0][:8] == b"\x89PNG\r\n\x1a\n" if suffix == ".png" else b"<svg" in pictures[0]
