"""The policy benchmark's own decisions: what is run, what the table holds, what an ingredient is worth."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import policy
from benchmarks.policy import ABLATIONS, FULL, Case, Ran


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    (tmp_path / "phoenix.toml").write_text("[bars]\nminutes_over_target = 0\n")
    (tmp_path / "prices.toml").write_text("[bars]\nattained_saving_ratio = 0.9\n")
    (tmp_path / "quiet.toml").write_text("")
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
    assert [(case.name, case.seed, case.compare) for case in found if case.variant == FULL] == [
        ("phoenix", 1, False),
        ("phoenix", 2, False),
        ("prices", 1, True),
        ("prices", 2, True),
        ("quiet", 1, False),
        ("quiet", 2, False),
    ]
    ablated = [case for case in found if case.variant != FULL]
    assert [case.variant for case in ablated] == list(ABLATIONS)
    assert {(case.name, case.seed, case.compare) for case in ablated} == {("prices", 1, False)}


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


def test_ablation_holds_each_variant_against_what_the_full_run_was_compared_with() -> None:
    def fleet(usd: float, missed: float) -> dict[str, Any]:
        return dict(result(usd, missed)["fleet"])

    compared = {"price-blind": fleet(100.0, 0.01), "oracle": fleet(90.0, 0.01)}
    case = {variant: Case(Path("p.toml"), 1, None, False, variant) for variant in (FULL, "no forecast")}
    ran = [
        Ran(case[FULL], result(91.0, 0.02, compared)),
        Ran(case["no forecast"], result(95.0, 0.01)),
        Ran(Case(Path("p.toml"), 2, None, True), result(1.0, 0.5, compared)),
        Ran(Case(Path("other.toml"), 1, None, False), result(1.0)),
    ]
    found = policy.ablation_of(ran)
    assert set(found) == {"p"}
    assert found["p"][FULL]["attained_saving_ratio"] == pytest.approx(0.9)
    assert found["p"][FULL]["slo_miss_vs_price_blind_ratio"] == pytest.approx(0.01)
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
