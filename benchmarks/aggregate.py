"""What folding costs: GPU samples a second through decode and fold on one core, beside decode alone.

    python -m benchmarks.aggregate [--json FILE]

No broker: the pure core only. A sample is one GPU at one instant with five varying fields.
"""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.settings import DEMO_FLEET_FILE, load_fleet_file
from schemas.catalog import GPU_TELEMETRY
from schemas.telemetry import TelemetryFrame
from streams.aggregate.window import PartitionWindows, WindowRules

RUN, SITE, SECONDS = "bench", "nyiso-west", 2.0
SIZES = (1, 8, 64, 256)
FLEET_FILE = load_fleet_file(DEMO_FLEET_FILE)


def frames(gpus: int, count: int) -> list[bytes]:
    """Frames of one site, a second apart."""
    rng = np.random.default_rng(1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = []
    for number in range(count):
        frame = TelemetryFrame(
            run_id=RUN,
            site_id=SITE,
            pool_id="h100",
            source="bench",
            sequence=number,
            observed_at=start + timedelta(seconds=number),
            interval_seconds=1.0,
            power_watts=rng.uniform(200, 700, gpus).round(1).tolist(),
            energy_joules=rng.uniform(0, 1e9, gpus).round().tolist(),
            utilization_ratio=rng.uniform(0, 1, gpus).round(3).tolist(),
            memory_used_ratio=rng.uniform(0, 1, gpus).round(3).tolist(),
            temperature_celsius=rng.uniform(40, 80, gpus).round(1).tolist(),
        )
        made.append(frame.to_json())
    return made


def decode(messages: list[bytes]) -> list[TelemetryFrame]:
    """The peer: bytes to validated frames, and no more."""
    return [GPU_TELEMETRY.decode(SITE.encode(), message, RUN) for message in messages]  # type: ignore[misc]


def decode_and_fold(messages: list[bytes]) -> None:
    """Bytes to closed windows."""
    windows = PartitionWindows(WindowRules(10.0, 5.0), FLEET_FILE, RUN)
    for first in range(0, len(messages), 500):
        windows.fold(decode(messages[first : first + 500]), first + 500)
        windows.settle([place for place, _ in windows.due()])


def rate(work: Callable[[list[bytes]], object], messages: list[bytes], gpus: int) -> float:
    """GPU samples a second, over about SECONDS of repetitions."""
    samples, began = 0, perf_counter()
    while perf_counter() - began < SECONDS:
        work(messages)
        samples += len(messages) * gpus
    return samples / (perf_counter() - began)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    table = Table("GPUs a frame", "decode, M samples/s", "decode and fold", "ratio", title="aggregate, one core")
    figures = {}
    for gpus in SIZES:
        messages = frames(gpus, 2000 if gpus < 64 else 500)
        limit, ours = rate(decode, messages, gpus), rate(decode_and_fold, messages, gpus)
        figures[gpus] = {"decode_samples_per_second": limit, "fold_samples_per_second": ours, "ratio": ours / limit}
        table.add_row(str(gpus), f"{limit / 1e6:.2f}", f"{ours / 1e6:.2f}", f"{ours / limit:.0%}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
