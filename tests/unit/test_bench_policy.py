"""The policy benchmark's own decisions: what is run, what the table holds, what an ingredient is worth."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import policy
from benchmarks.policy import ABLATIONS, FULL, NOTHING, Case, Ran


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    for name, days, bar in (("phoenix", 3, "minutes_over_target"), ("prices", 60, "attained_saving_ratio")):
        (tmp_path / f"{name}.toml").write_text(f"duration_seconds = {days * 86400}\n[bars]\n{bar} = 0.9\n")
    (tmp_path / "quiet.toml").write_text("duration_seconds = 3600\n")
    return tmp_path


def cases(folder: Path, *arguments: str) -> list[Case]:
    return list(policy.cases_of(policy.options_of(["--scenarios", str(folder), *arguments])))


def verdict(value: float | None, met: bool, name: str = "tokens_ratio", direction: str = "at least") -> dict[str, Any]:
    return {"name": name, "value": value, "direction": direction, "bound": 0.92, "met": met}


def result(usd: float, missed: float = 0.01, compared: Mapping[str, Any] | None = None) -> dict[str, Any]:
    fleet = {"usd_per_million_tokens": usd, "slo_miss_ratio": missed, "tokens_lost_ratio": 0.0}
    return {"question": "", "fleet": fleet, "compared_with": compared or {"price-blind": None, "oracle": None}}


def test_cases_run_each_seed_and_compare_only_where_a_bar_is_about_money(scenarios: Path) -> None:
    found = cases(scenarios, "--seeds", "2")
    full = [(case.name, case.seed, case.compare, case.first_seconds) for case in found if case.variant == FULL]
    assert full == [
        ("phoenix", 1, False, None),
        ("phoenix", 2, False, None),
        ("prices", 1, True, None),
        ("prices", 2, False, 2 * 86400),  # of months another seed is run for its safety alone
        ("quiet", 1, False, None),
        ("quiet", 2, False, None),
    ]
    ablated = [case for case in found if case.variant != FULL]
    assert [case.variant for case in ablated] == list(ABLATIONS)
    assert {(case.name, case.seed, case.first_seconds) for case in ablated} == {("prices", 1, 7 * 86400)}
    assert [case.variant for case in ablated if case.compare] == [NOTHING]


def test_cases_are_those_asked_for_and_an_unknown_name_is_said(
    scenarios: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {case.name for case in cases(scenarios, "--only", "quiet,phoenix")} == {"quiet", "phoenix"}
    assert len(cases(scenarios, "--only", "prices", "--no-ablation")) == 1
    with pytest.raises(SystemExit):
        cases(scenarios, "--only", "phenix")
    assert "phenix; there are phoenix, prices, quiet" in capsys.readouterr().err


def test_measure_goes_on_after_a_run_that_fails(scenarios: Path) -> None:
    def simulate(case: Case) -> dict[str, Any]:
        if case.name == "phoenix":
            raise ValueError("no such trace")
        return {"seed": case.seed}

    told: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        ran = policy.measure(
            cases(scenarios, "--no-ablation"), pool, lambda each: told.append(each.case.name), simulate=simulate
        )
    assert [(each.case.name, each.failure) for each in ran] == [
        ("phoenix", "ValueError: no such trace"),
        ("prices", None),
        ("quiet", None),
    ]
    assert sorted(told) == ["phoenix", "prices", "quiet"]


def test_bars_are_held_against_the_worst_seed() -> None:
    seeds = [
        [verdict(0.97, True), verdict(0.0, True, "late_ratio", "at most")],
        [verdict(0.90, False), verdict(None, False)],
    ]
    ran = [
        Ran(Case(Path("a.toml"), seed, None, compare=False), {"question": "why?", "verdicts": each})
        for seed, each in enumerate(seeds, 1)
    ]
    first, second = policy.bars_of(ran)
    assert (first.bar, first.measured) == ("tokens_ratio at least 92.00 %", "90.00 %")
    assert (first.seeds_met, first.seeds, first.met) == (1, 2, False)
    assert (second.measured, second.met) == ("not measured", False)


def test_bars_about_money_are_held_against_the_seed_that_was_compared() -> None:
    saved = [[verdict(0.93, True, "attained_saving_ratio")], [verdict(None, False, "attained_saving_ratio")]]
    ran = [
        Ran(Case(Path("a.toml"), seed, None, compare=seed == 1), {"question": "", "verdicts": each})
        for seed, each in enumerate(saved, 1)
    ]
    (row,) = policy.bars_of(ran)
    assert (row.measured, row.seeds_met, row.seeds) == ("93.00 %", 1, 1)
    assert policy.bars_of(ran[1:]) == []


def test_ablation_holds_each_variant_against_what_the_whole_was_compared_with() -> None:
    def fleet(usd: float, missed: float) -> dict[str, Any]:
        return dict(result(usd, missed)["fleet"])

    compared = {"price-blind": fleet(100.0, 0.01), "oracle": fleet(90.0, 0.01)}
    ran = [
        Ran(Case(Path("p.toml"), 1, None, True), result(1.0, 0.5, compared)),  # of another span
        Ran(Case(Path("p.toml"), 1, None, True, NOTHING), result(91.0, 0.02, compared)),
        Ran(Case(Path("p.toml"), 1, None, False, "no forecast"), result(95.0, 0.01)),
        Ran(Case(Path("other.toml"), 1, None, False), result(1.0)),
    ]
    found = policy.ablation_of(ran)
    assert set(found) == {"p"}
    assert found["p"][NOTHING]["attained_saving_ratio"] == pytest.approx(0.9)
    assert found["p"][NOTHING]["slo_miss_vs_price_blind_ratio"] == pytest.approx(0.01)
    assert found["p"]["no forecast"]["saving_vs_price_blind_ratio"] == pytest.approx(0.05)
    assert found["p"]["no forecast"]["attained_saving_ratio"] == pytest.approx(0.5)


def test_tables_show_each_bar_and_variant() -> None:
    rows = [policy.Row("a", "why?", "tokens_ratio at least 92.00 %", "90.00 %", 1, 2)]
    console = Console(width=160)
    with console.capture() as capture:
        console.print(policy.bar_table(rows))
        console.print(policy.ablation_table("p", {"no forecast": policy_figures(95.0)}))
    text = capture.get()
    for shown in ("why?", "90.00 %", "NO (1 of 2)", "p: what each ingredient is worth", "95.0000", "no forecast"):
        assert shown in text


def policy_figures(usd: float) -> dict[str, float | None]:
    names = (
        "saving_vs_price_blind_ratio",
        "attained_saving_ratio",
        "slo_miss_vs_price_blind_ratio",
        "tokens_lost_ratio",
    )
    return {"usd_per_million_tokens": usd, **dict.fromkeys(names)}
