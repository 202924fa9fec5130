"""A window's sums as Faust and Quix keep them: a plain list that a table or a state store can write.

The same quantities as `streams.aggregate.power`, but for the list of the frames already taken: neither framework drops
duplicates by itself, so their windows do a little less. Written for speed, in whichever way a frame's size favours.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.telemetry import TelemetryFrame

# What a reading may be, column by column; the same bounds as the stage's.
_LOW = (0.0, 0.0, 0.0, 0.0, -40.0)
_HIGH = (5_000.0, 1e15, 1.0, 1.0, 150.0)
_LOW_ARRAY, _HIGH_ARRAY = np.array(_LOW), np.array(_HIGH)
# Up to here a loop in Python costs less than numpy's calls.
_FEW_GPUS = 32

Sums = list[Any]
Column = list[float | None]


def empty() -> Sums:
    """Frames, power in mW, power readings, samples, masked, utilisation in millionths, its readings, hottest, seen."""
    return [0, 0, 0, 0, 0, 0, 0, None, 0]


def add(sums: Sums, frame: TelemetryFrame) -> Sums:
    """Adds a frame, in place; `seen` is a number with a bit for each GPU of the site that was read."""
    columns = (
        frame.power_watts,
        frame.energy_joules,
        frame.utilization_ratio,
        frame.memory_used_ratio,
        frame.temperature_celsius,
    )
    gpus = len(frame.power_watts)
    sums[0] += 1
    sums[3] += gpus
    if not (_add_few(sums, columns) if gpus <= _FEW_GPUS else _add_many(sums, columns)):
        sums[8] |= _add_masked(sums, columns) << frame.first_gpu
        return sums
    sums[2] += gpus
    sums[6] += gpus
    sums[8] |= ((1 << gpus) - 1) << frame.first_gpu
    return sums


def _add_few(sums: Sums, columns: tuple[Any, ...]) -> bool:
    """Adds a small frame if all of it is there and plausible."""
    try:
        for column, low, high in zip(columns, _LOW, _HIGH, strict=True):
            total = sum(column)  # which a NaN makes one, unlike min and max; a null raises
            if not (total == total and low <= min(column) and max(column) <= high):  # noqa: PLR0124
                return False
    except TypeError:
        return False
    power, _, utilization, _, temperature = columns
    sums[1] += sum([round(value * 1000) for value in power])
    sums[5] += sum([round(value * 1_000_000) for value in utilization])
    _heat(sums, max(temperature))
    return True


def _add_many(sums: Sums, columns: tuple[Any, ...]) -> bool:
    """Adds a large frame if all of it is there and plausible."""
    readings: NDArray[np.float64] = np.array(columns, dtype=np.float64)  # None becomes NaN, and so does its row's min
    highest = readings.max(axis=1)
    if not ((readings.min(axis=1) >= _LOW_ARRAY) & (highest <= _HIGH_ARRAY)).all():
        return False
    sums[1] += int(np.rint(readings[0] * 1000).sum())
    sums[5] += int(np.rint(readings[2] * 1_000_000).sum())
    _heat(sums, float(highest[4]))
    return True


def _add_masked(sums: Sums, columns: tuple[Any, ...]) -> int:
    """Adds a frame of which some readings can't be taken; returns a bit for each GPU whose power was read."""
    readings: NDArray[np.float64] = np.array(columns, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        good = (readings >= _LOW_ARRAY[:, None]) & (readings <= _HIGH_ARRAY[:, None])
    sums[4] += int(good.size - good.sum())
    power, utilization, temperature = (readings[row][good[row]] for row in (0, 2, 4))
    sums[1] += int(np.rint(power * 1000).sum())
    sums[2] += len(power)
    sums[5] += int(np.rint(utilization * 1_000_000).sum())
    sums[6] += len(utilization)
    if temperature.size:
        _heat(sums, float(temperature.max()))
    return int.from_bytes(np.packbits(good[0], bitorder="little").tobytes(), "little")


def _heat(sums: Sums, hottest: float) -> None:
    if sums[7] is None or hottest > sums[7]:
        sums[7] = hottest


def state(sums: Sums, site_id: str, start_seconds: int, window_seconds: int) -> dict[str, Any]:
    """The closed window: the fields of a `PowerState` that are compared."""
    frames, power_mw, power_read, samples, masked, utilization, utilization_read, hottest, seen = sums
    gpus = seen.bit_count()
    power_watts = power_mw / power_read * gpus / 1000 if power_read else 0.0
    return {
        "site_id": site_id,
        "window_start": datetime.fromtimestamp(start_seconds, UTC).isoformat(),
        "records": frames,
        "it_power_watts": power_watts,
        "it_energy_joules": power_watts * window_seconds,
        "utilization_ratio": utilization / utilization_read / 1_000_000 if utilization_read else None,
        "temperature_celsius_max": hottest,
        "gpu_samples": samples,
        "masked_values": masked,
        "gpus_reporting": gpus,
    }
