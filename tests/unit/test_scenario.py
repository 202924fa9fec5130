"""Scenario files: what they may say, and the one line that a wrong one gets."""

from pathlib import Path

import pytest

from schemas.fleet import FleetFile
from streams.collect.cells import TraceError
from streams.simulate.plant import PlantTruth
from streams.simulate.scenario import Scenario
from streams.simulate.scenario_file import ScenarioError, read_scenario
from streams.simulate.site import truth_of
from streams.simulate.sources import read_sources
from tests.simulations import FLEETS, TRAFFIC, event, fault, text

PRICES = '\n[[prices]]\nfile = "{file}"\n{more}\n'


def read(folder: Path, written: str) -> tuple[Scenario, FleetFile]:
    path = folder / "scenario.toml"
    path.write_text(written)
    return read_scenario(path)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (text().replace("duration_seconds", "duraton_seconds"), "duration_seconds: Field required"),
        (text(more="\nnose = 1\n"), "traffic.nose: Extra inputs are not permitted (got 1)"),
        (text(duration=0), "duration_seconds: Input should be greater than 0"),
        (text(duration=1795), "duration_seconds must be a whole number of step_seconds"),
        (text().replace('name = "pair"', 'name = "pair"\nstep_seconds = 3', 1), "step_seconds: 10 s must be a whole"),
        (text().replace('name = "pair"', 'name = "pair"\nstep_seconds = 600', 1), "forecast_step_seconds must be"),
        (text().replace("warm_up_seconds = 0", "warm_up_seconds = 3600"), "warm_up_seconds must be less"),
        (text().replace("load_ratio = 0.7", ""), "traffic: load_ratio goes with requests = 'constant'"),
        (text().replace("12:00:00Z", "12:00:00"), "starts_at: Input should have timezone info"),
        (text(more=event(500)), "events[0]: ends must be after starts"),
        (
            text(more=event() + 'sites = ["gamma"]\n'),
            "events[0].sites: 'gamma' is not a site of the fleet: alpha, beta",
        ),
        (text(more=event() + "target_power_watts = 1e4\n"), "events[0]: exactly one of reduction_ratio and target"),
        (text(more=event() + "revised = [{ at = 700, ends = 100 }]\n"), "events[0]: revised: what is said at 700 s"),
        (text(more=fault("rain", 0, 9)), "faults[0].kind: Input should be 'loss'"),
        (text(more=fault("loss", 0, 9)), "faults[0]: ratio is missing for kind = 'loss'"),
        (text(more=fault("loss", 9, 9, "ratio = 0.1")), "faults[0]: until must be after from"),
        (text(more=fault("bus-lost", 0, 9, "ratio = 0.1")), "faults[0]: ratio has no meaning for kind = 'bus-lost'"),
        (
            text(more=fault("lying-meter", 0, 9)),
            "faults[0]: kind = 'lying-meter', and no other, needs either factor or",
        ),
        (text(more=fault("planner-crash", 0, 9, 'sites = ["beta"]')), "faults[0]: sites has no meaning for kind"),
        (text(more="[plant]\npue = 0.5\n"), "plant.pue: Input should be greater than or equal to 1 (got 0.5)"),
        (text(more="[plant.sites.gamma]\npue = 1.5\n"), "plant.sites: 'gamma' is not a site of the fleet"),
        (text(more=PRICES.format(file="x", more='zones = { NYC = "NYC" }')), "prices[0].zones: 'NYC' is not a"),
        (
            text().replace('gpu_model = "gpu"', 'gpu_model = "cpu"', 1),
            "fleets.sites.pools.gpu_model: 'cpu' at pair/alpha",
        ),
        (
            text().replace("gpus = 100", "gpus = true", 1),
            "fleets[0].sites[0].pools[0].gpus: Input should be a valid int",
        ),
        (text().replace(FLEETS, ""), "need either fleet_file or fleets"),
        ("name = ", "not TOML"),
    ],
)
def test_scenario_that_is_wrong_is_one_line_with_file_and_key(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        read(tmp_path, written)
    line = str(error.value)
    assert line.startswith(f"{tmp_path / 'scenario.toml'}: {said}")
    assert "\n" not in line


def test_scenario_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere.toml: No such file"):
        read_scenario(tmp_path / "nowhere.toml")


def test_scenario_takes_one_fleet_of_a_fleet_file_beside_it(tmp_path: Path) -> None:
    other = FLEETS.split("[[fleets]]")[1].replace('"pair"', '"other"').replace('"alpha"', '"gamma"')
    classes = FLEETS.replace('id = "batch"', 'id = "batch"\nsites = ["alpha", "gamma"]')
    (tmp_path / "fleets.toml").write_text(classes + "[[fleets]]" + other.replace('"beta"', '"delta"'))
    written = text().replace(FLEETS, "")
    head = 'fleet_file = "fleets.toml"\n'
    _, file = read(tmp_path, head + 'fleet = "other"\n' + written)
    assert [fleet.id for fleet in file.fleets] == ["other"]
    assert file.service_classes[1].sites == ("gamma",)
    with pytest.raises(ScenarioError, match="fleet: must name the one that is simulated, of pair, other"):
        read(tmp_path, head + written)


def test_scenario_without_models_and_classes_takes_the_demos(tmp_path: Path) -> None:
    fleets = "[[fleets]]" + FLEETS.split("[[fleets]]")[1].replace('"gpu"', '"a100"')
    _, file = read(tmp_path, text().replace(FLEETS, fleets))
    assert "a100" in {model.id for model in file.gpu_models}
    assert [service.id for service in file.service_classes] == ["interactive", "chat", "batch"]


def test_scenario_that_may_not_shift_lets_no_class_move(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text())
    _, file = read_scenario(path, {"shift": False})
    assert file.fleets[0].limits.shift_share_ratio == 0
    assert {service.added_latency_limit_seconds for service in file.service_classes} == {0}
    assert read_scenario(path)[1].fleets[0].limits.shift_share_ratio > 0


def test_scenario_says_what_is_true_of_plants_for_all_and_for_one(tmp_path: Path) -> None:
    scenario, _ = read(tmp_path, text(more="[plant]\nmeter_noise_ratio = 0.0\n[plant.sites.beta]\npue = 1.4\n"))
    assert truth_of(scenario, "alpha") == PlantTruth(meter_noise_ratio=0.0)
    assert truth_of(scenario, "beta") == PlantTruth(meter_noise_ratio=0.0, pue=1.4)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (text(traffic='[traffic]\nrequests = "azure"\n'), "requests: no such folder, for 'azure' of"),
        (text(traffic='[traffic]\nrequests = "sub/azure.csv"\n'), "sub/azure.csv: no such file"),
        (text(more=PRICES.format(file="nyiso", more="")), "prices: no such folder, for 'nyiso' of"),
        (text(more=PRICES.format(file="prices.csv", more="")), "no zone 'ALPHA' for ALPHA of"),
        (
            text(more=PRICES.format(file="prices.csv", more="file_starts_at = 2026-11-01T12:05:00Z")),
            "ends 0.2 h after 2026-11-01 12:05",
        ),
        (
            text(more=PRICES.format(file="prices.csv", more="file_starts_at = 2025-11-01T12:00:00Z")),
            "lies outside the file",
        ),
    ],
)
def test_scenario_whose_data_are_missing_says_so_in_one_line(tmp_path: Path, written: str, said: str) -> None:
    rows = [f"2026-11-01T12:{minute:02}:00Z,20" for minute in range(0, 20, 5)]
    prices = [*rows[:4], *(f"2026-11-01T12:{minute:02}:00Z,20" for minute in range(20, 35, 5))]
    lasting = prices if "no zone" in said else rows
    (tmp_path / "prices.csv").write_text("\n".join(["interval_start_utc,NYC_usd_mwh", *lasting]))
    scenario, file = read(tmp_path, written)
    with pytest.raises(TraceError) as error:
        read_sources(scenario, file, tmp_path / "scenario.toml", tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_scenario_of_a_trace_needs_no_load_ratio(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="load_ratio goes with"):
        read(tmp_path, text(traffic=TRAFFIC.replace("constant", "azure")))
