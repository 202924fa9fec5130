"""A fleet to measure with: its sites lie evenly in the partitions, each read by as many collectors as there are.

Or several fleets, where the policy is measured too; they lie evenly in the partitions as well.
"""

from dataclasses import dataclass
from pathlib import Path

from infra.bus import partition_of

FLEET_ID, POOL_ID, GPU_MODEL_ID = "bench", "h100", "h100"

_HEAD = """\
[[gpu_models]]
id = "{gpu_model}"
max_power_watts = 700.0
cap_cliff_watts = 350.0
tokens_per_second = 10000.0
cap_throughput = [[140.0, 0.0], [350.0, 0.78], [700.0, 1.0]]
load_power = [[0.0, 0.2], [0.5, 0.9], [1.0, 1.0]]

[[service_classes]]
id = "interactive"
flex = 0
traffic_ratio = 1.0
ttft_objective_seconds = 1.0
itl_objective_seconds = 0.1
"""

_FLEET = """
[[fleets]]
id = "{fleet}"
"""

_SITE = """
[[fleets.sites]]
id = "{site}"
settlement_point = "BENCH"
pue = 1.2
import_limit_watts = {limit}.0
minimum_on_watts = 0.0
failsafe_watts = 0.0
ramp_down_watts_per_second = 100000.0
ramp_up_watts_per_second = 50000.0
pools = [{{ id = "{pool}", gpu_model = "{gpu_model}", gpus = {gpus} }}]
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many sites, each with so many collectors, each of which reads `gpus` GPUs once a second."""

    gpus: int
    sites: int = 16
    collectors: int = 16
    partitions: int = 4
    fleets: int = 1

    @property
    def frames_per_second(self) -> int:
        """Frames that one second of event time has."""
        return self.sites * self.collectors

    def site_ids(self) -> list[str]:
        """Names whose partitions fill evenly: with few sites, chance alone would load one partition twice."""
        return _evenly("site", self.sites, self.partitions)

    def fleet_ids(self) -> list[str]:
        """The fleets' names; their partitions fill evenly too."""
        return [FLEET_ID] if self.fleets == 1 else _evenly(FLEET_ID, self.fleets, self.partitions)

    def fleets_and_sites(self) -> dict[str, list[str]]:
        """The sites of each fleet, as many in one as in the other."""
        sites, each = self.site_ids(), self.sites // self.fleets
        return {fleet: sites[place * each : (place + 1) * each] for place, fleet in enumerate(self.fleet_ids())}

    def write(self, folder: Path) -> Path:
        """The fleet file, in `folder`."""
        gpus = self.collectors * self.gpus
        text = _HEAD.format(gpu_model=GPU_MODEL_ID)
        for fleet, sites in self.fleets_and_sites().items():
            text += _FLEET.format(fleet=fleet)
            for site in sites:
                text += _SITE.format(site=site, limit=gpus * 1000, pool=POOL_ID, gpu_model=GPU_MODEL_ID, gpus=gpus)
        path = folder / "bench_fleet.toml"
        path.write_text(text, encoding="utf-8")
        return path


def _evenly(prefix: str, wanted: int, partitions: int) -> list[str]:
    most = -(-wanted // partitions)
    counts, names, number = [0] * partitions, list[str](), 0
    while len(names) < wanted:
        name = f"{prefix}-{number:05d}"
        place = partition_of(name.encode(), partitions)
        if counts[place] < most:
            counts[place] += 1
            names.append(name)
        number += 1
    return names
