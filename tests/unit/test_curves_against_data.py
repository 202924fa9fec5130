"""The demo fleet's curves against the measurements that they are said to come from, with the errors stated there."""

import csv
import gzip
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from schemas.fleet import FleetFile, parse_fleet_file
from streams.simulate import plant
from streams.simulate.curves import interpolate

FILE: FleetFile = parse_fleet_file(Path(plant.__file__).with_name("demo_fleet.toml").read_text())
DATA = Path(os.environ.get("GRIDTIDE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "telemetry"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no measurements at {DATA}; set GRIDTIDE_DATA to the folder that holds telemetry/"
)


def sweep(workload: str) -> list[tuple[float, float]]:
    """Watts drawn by a GPU and its throughput, in percent, by rising cap."""
    with (DATA / "emerald_dvfs_sweep.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["Workload"] == workload]
    rows.sort(key=lambda row: float(row["GPU power cap"]))
    return [(float(row["power per GPU"]), 100 * float(row["normalized throughput"])) for row in rows]


def load_curves() -> dict[tuple[str, str, int], list[tuple[float, float, float]]]:
    """By task, model and GPUs: batch size, tokens/s and W of every configuration, sorted by batch."""
    curves: dict[tuple[str, str, int], list[tuple[float, float, float]]] = defaultdict(list)
    with gzip.open(DATA / "mlenergy_h100_configs.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            batch, watts = float(row["max_num_seqs"]), float(row["avg_power_watts"])
            tokens = float(row["output_throughput_tokens_per_sec"])
            curves[row["task"], row["model_id"], int(row["num_gpus"])].append((batch, tokens, watts))
    return {key: sorted(points) for key, points in curves.items()}


def load_errors(points: list[tuple[float, float, float]]) -> np.ndarray:
    """Curve less measurement, in points of full power, for every configuration of a sweep."""
    curve = FILE.gpu_model("h100").load_power
    _, most, full = max(points, key=lambda point: point[1])
    return np.array([100 * (interpolate(curve, tokens / most) - watts / full) for _, tokens, watts in points])


def test_a100_cap_curve_meets_the_sweep_within_a_tenth_of_a_percent() -> None:
    model = FILE.gpu_model("a100")
    measured = sweep("infer_llama_8b")
    assert model.max_power_watts == pytest.approx(measured[-1][0], abs=0.05)
    for watts, throughput in measured:
        assert 100 * interpolate(model.cap_throughput, watts) == pytest.approx(throughput, abs=0.1)


def test_a100_cap_curve_left_out_points_are_missed_as_stated() -> None:
    measured = sweep("infer_llama_8b")
    errors = []
    for place in range(1, len(measured) - 1):
        rest = measured[:place] + measured[place + 1 :]
        errors.append(abs(interpolate(rest, measured[place][0]) - measured[place][1]))
    assert 10 < errors[0] < 12.5  # the knee
    assert max(errors[1:]) < 1.6


def test_a100_cap_curve_other_workloads_differ_as_stated() -> None:
    model = FILE.gpu_model("a100")
    worst = {}
    for workload in ("ft_llama_8b_dolly", "ft_llama_8b_p3", "pt_mpt_13b_lg", "pt_mpt_13b_sm", "pt_mpt_7b_fast"):
        above = [(watts, rate) for watts, rate in sweep(workload) if watts >= model.cap_cliff_watts - 1]
        worst[workload] = max(abs(100 * interpolate(model.cap_throughput, watts) - rate) for watts, rate in above)
    assert max(error for workload, error in worst.items() if workload.startswith("ft_")) < 3.5
    assert max(worst.values()) < 16.5


def test_a100_256_gpus_draw_what_the_field_demonstration_drew() -> None:
    with (DATA / "emerald_SRP_total_power.csv").open() as file:
        before = float(next(csv.DictReader(file))["total"])
    assert 256 * FILE.gpu_model("a100").max_power_watts == pytest.approx(before, rel=0.005)


def test_h100_rate_and_power_are_those_of_batch_512() -> None:
    model = FILE.gpu_model("h100")
    points = {batch: (tokens, watts) for batch, tokens, watts in load_curves()[SOURCE]}
    assert (model.tokens_per_second, model.max_power_watts) == pytest.approx(points[512], rel=1e-4)


SOURCE = ("lm-arena-chat", "meta-llama/Llama-3.1-8B-Instruct", 1)


def test_h100_load_curve_meets_its_source_within_half_a_point() -> None:
    errors = np.abs(load_errors(load_curves()[SOURCE]))
    assert len(errors) == 11
    assert errors.max() < 0.5
    assert errors.mean() < 0.13


def test_h100_load_curve_other_models_differ_as_stated() -> None:
    errors = {
        key: np.abs(load_errors(points))
        for key, points in load_curves().items()
        if key[2] == 1 and len(points) >= 8 and key != SOURCE
    }
    assert len(errors) >= 7
    assert max(each.mean() for each in errors.values()) < 6.15
    assert max(each.max() for each in errors.values()) < 14.2


def test_h100_cap_curve_is_the_a100s_by_share_of_full_power() -> None:
    a100, h100 = FILE.gpu_model("a100"), FILE.gpu_model("h100")
    for (x, y), (other_x, other_y) in zip(a100.cap_throughput, h100.cap_throughput, strict=True):
        assert other_x / h100.max_power_watts == pytest.approx(x / a100.max_power_watts, abs=2e-4)
        assert other_y == y
