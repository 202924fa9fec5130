"""One site's power over one window. Integers inside (mW, counts), divided once at the close: order never matters."""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from schemas.envelope import LIVE_RUN
from schemas.site import PowerState
from schemas.telemetry import TelemetryFrame

# What a reading may be; anything else (null, NaN, DCGM's blank 9223372036854775794, a broken sensor) is masked.
_PLAUSIBLE = {
    "power_watts": (0.0, 5_000.0),
    "energy_joules": (0.0, 1e15),
    "utilization_ratio": (0.0, 1.0),
    "memory_used_ratio": (0.0, 1.0),
    "temperature_celsius": (-40.0, 150.0),
}
_PLAUSIBLE_METER_WATTS = 1e11  # a hundred gigawatts: no site, but a blank value of a meter is far above


@dataclass(slots=True)
class _Gpus:
    """The GPUs of one frame position: a run of places in one pool."""

    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    power_milliwatts: int = 0
    samples: int = 0

    def add(self, power_watts: NDArray[np.float64]) -> None:
        """Adds one reading a place, NaN where there is none; frames of one position may differ in length."""
        read = ~np.isnan(power_watts)
        if len(read) > len(self.seen):
            self.seen = np.pad(self.seen, (0, len(read) - len(self.seen)))
        self.seen[: len(read)] |= read
        self.power_milliwatts += int(np.rint(power_watts[read] * 1000).astype(np.int64).sum())
        self.samples += int(read.sum())

    def mean_watts(self) -> float:
        """Power of all the places, those never read counted at the mean of the others."""
        return self.power_milliwatts / self.samples * len(self.seen) / 1000 if self.samples else 0.0


@dataclass(slots=True)
class PowerWindow:
    """Sums over a window's frames, each (source, sequence) taken once."""

    taken: set[tuple[str, int]] = field(default_factory=set)
    duplicates: int = 0
    # A GPU is its pool and its place there, whoever read it: a collector that comes back under another name, or a
    # second one beside it, does not make more of them.
    gpus: dict[tuple[str, int], _Gpus] = field(default_factory=dict)
    samples: int = 0
    masked: int = 0
    utilization_millionths: int = 0
    utilization_samples: int = 0
    temperature_max_celsius: float | None = None
    meter_milliwatts: int = 0
    meter_readings: int = 0

    def fold(self, frame: TelemetryFrame) -> None:
        """Adds a frame; one already taken is counted and changes nothing."""
        if (frame.source, frame.sequence) in self.taken:
            self.duplicates += 1
            return
        self.taken.add((frame.source, frame.sequence))
        columns = {name: _masked(getattr(frame, name), *bounds) for name, bounds in _PLAUSIBLE.items()}
        self.masked += sum(int(np.isnan(column).sum()) for column in columns.values())
        self.samples += frame.gpus
        self.gpus.setdefault((frame.pool_id, frame.first_gpu), _Gpus()).add(columns["power_watts"])
        used = columns["utilization_ratio"]
        self.utilization_millionths += int(np.nansum(np.rint(used * 1_000_000)))
        self.utilization_samples += int((~np.isnan(used)).sum())
        self._add_temperature(columns["temperature_celsius"])
        self._add_meter(frame.meter_power_watts)

    def _add_meter(self, power_watts: float | None) -> None:
        if power_watts is None:
            return  # only some frames carry the meter
        if power_watts > _PLAUSIBLE_METER_WATTS:
            self.masked += 1
            return
        self.meter_milliwatts += round(power_watts * 1000)
        self.meter_readings += 1

    def _add_temperature(self, temperature_celsius: NDArray[np.float64]) -> None:
        read = temperature_celsius[~np.isnan(temperature_celsius)]
        if read.size:
            hottest = float(read.max())
            before = self.temperature_max_celsius
            self.temperature_max_celsius = hottest if before is None else max(before, hottest)

    def close(
        self, fleet_id: str, site_id: str, start: datetime, end: datetime, gpus_expected: int, run_id: str = LIVE_RUN
    ) -> PowerState:
        """The window's record: mean power in W over [start, end), `gpus_expected` as the fleet file has them."""
        it_power_watts = sum(self.gpus[place].mean_watts() for place in sorted(self.gpus))
        reporting = sum(int(gpus.seen.sum()) for gpus in self.gpus.values())
        return PowerState(
            run_id=run_id,
            fleet_id=fleet_id,
            site_id=site_id,
            window_start=start,
            window_end=end,
            records=len(self.taken),
            duplicates=self.duplicates,
            it_power_watts=it_power_watts,
            it_energy_joules=it_power_watts * (end - start).total_seconds(),
            meter_power_watts=self.meter_milliwatts / self.meter_readings / 1000 if self.meter_readings else None,
            utilization_ratio=min(1.0, self.utilization_millionths / self.utilization_samples / 1_000_000)
            if self.utilization_samples
            else None,
            temperature_celsius_max=self.temperature_max_celsius,
            gpu_samples=self.samples,
            masked_values=self.masked,
            gpus_reporting=reporting,
            reporting_ratio=min(1.0, reporting / gpus_expected),
        )


def _masked(readings: list[float | None], low: float, high: float) -> NDArray[np.float64]:
    """The readings as an array, NaN where nothing plausible was read."""
    values = np.array(readings, dtype=np.float64)  # None becomes NaN
    with np.errstate(invalid="ignore"):
        values[~((values >= low) & (values <= high))] = np.nan
    return values
