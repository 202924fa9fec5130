"""How long it takes to train on the given weeks, and to predict many sites on one core. Prints JSON.

    python -m benchmarks.forecast_speed DATA SITES

It trains with the threads that there are; it predicts in a process on one core, whose libraries have one thread.
"""

import json
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from forecasting.forecaster import Forecaster, SeriesHistory
from forecasting.series import LoadSeries
from forecasting.state import Track
from forecasting.train import train
from streams.collect.series import read_series

_STEP_SECONDS = 600.0
_WEEKS = (("azure2024_code_10min.csv.gz", "code_req_per_min"), ("servegen_m_large_10min.csv.gz", "rate_rps"))
_ROUNDS = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def histories(series: list[LoadSeries], sites: int) -> list[SeriesHistory]:
    """As many sites as asked for, each with a share of one of the series and its end at a step of its own."""
    found = []
    for site in range(sites):
        source, cut = series[site % len(series)], 1 + site % 144
        steps = [float(value) * (1 + site / sites) for value in source.values[:-cut]]
        end = source.starts_at + timedelta(seconds=source.step_seconds * len(steps))
        found.append(SeriesHistory(steps=list(steps), end=end, step_seconds=source.step_seconds, track=Track()))
    return found


def predict_seconds(forecaster: Forecaster, series: list[LoadSeries], sites: int) -> float:
    """The median of some rounds, on one core, on histories that were forecast once before."""
    asked = histories(series, sites)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    taken = []
    for _ in range(_ROUNDS + 1):
        began = perf_counter()
        forecaster.advance(asked, [None] * sites)
        taken.append(perf_counter() - began)
    return statistics.median(taken[1:])


def main() -> int:
    """Trains, predicts, prints."""
    data, sites = Path(sys.argv[1]), int(sys.argv[2])
    series = [read_series(data / "requests" / file, column, None, "zeros") for file, column in _WEEKS]
    began = perf_counter()
    forecaster = train(series, _STEP_SECONDS, "bench")
    trained = perf_counter() - began
    os.environ |= dict.fromkeys(_THREADS, "1")  # read when the child loads its libraries
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        seconds = pool.submit(predict_seconds, forecaster, series, sites).result()
    print(
        json.dumps({"train_seconds": trained, "predict_seconds": seconds, "horizons": len(forecaster.horizons_seconds)})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
