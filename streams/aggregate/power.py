"""One site's power over one window. Integers inside (mW, counts), divided once at the close: order never matters."""

from dataclasses import dataclass, field
from datetime import datetime

from schemas.envelope import LIVE_RUN
from schemas.site import PowerState
from streams.aggregate.columns import FrameSums

_PLAUSIBLE_METER_WATTS = 1e11  # a hundred gigawatts: no site, but a blank value of a meter is far above


@dataclass(slots=True)
class _Gpus:
    """The GPUs of one frame position: a run of places in one pool."""

    places: int = 0
    read: int = 0  # a bit for each place read at least once
    power_milliwatts: int = 0
    samples: int = 0

    def add(self, sums: FrameSums) -> None:
        """Adds a frame; frames of one position may differ in length."""
        self.places = max(self.places, sums.frame.gpus)
        self.read |= sums.power_read
        self.power_milliwatts += sums.power_milliwatts
        self.samples += sums.power_read.bit_count()

    def mean_watts(self) -> float:
        """Power of all the places, those never read counted at the mean of the others."""
        return self.power_milliwatts / self.samples * self.places / 1000 if self.samples else 0.0


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

    def fold(self, sums: FrameSums) -> None:
        """Adds a frame; one already taken is counted and changes nothing."""
        frame = sums.frame
        taken = (frame.source, frame.sequence)
        if taken in self.taken:
            self.duplicates += 1
            return
        self.taken.add(taken)
        self.masked += sums.masked
        self.samples += frame.gpus
        position = (frame.pool_id, frame.first_gpu)
        gpus = self.gpus.get(position)
        if gpus is None:
            gpus = self.gpus[position] = _Gpus()
        gpus.add(sums)
        self.utilization_millionths += sums.utilization_millionths
        self.utilization_samples += sums.utilization_samples
        hottest, before = sums.temperature_max_celsius, self.temperature_max_celsius
        if hottest is not None and (before is None or hottest > before):
            self.temperature_max_celsius = hottest
        self._add_meter(frame.meter_power_watts)

    def _add_meter(self, power_watts: float | None) -> None:
        if power_watts is None:
            return  # only some frames carry the meter
        if power_watts > _PLAUSIBLE_METER_WATTS:
            self.masked += 1
            return
        self.meter_milliwatts += round(power_watts * 1000)
        self.meter_readings += 1

    def close(
        self, fleet_id: str, site_id: str, start: datetime, end: datetime, gpus_expected: int, run_id: str = LIVE_RUN
    ) -> PowerState:
        """The window's record: mean power in W over [start, end), `gpus_expected` as the fleet file has them."""
        it_power_watts = sum(self.gpus[place].mean_watts() for place in sorted(self.gpus))
        reporting = sum(gpus.read.bit_count() for gpus in self.gpus.values())
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
