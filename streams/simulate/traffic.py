"""Traffic of a scenario by seed: what arrives at each site in each tick, before the start and after the end too."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import FleetFile
from streams.collect.traces import RequestTrace
from streams.simulate.demand import ClassDemand, capacity, class_shares, peak_load
from streams.simulate.scenario import CONSTANT, Scenario

# The oracle looks beyond the end as the planner's forecasts do.
_BEYOND_SECONDS = 86_400.0
REQUESTS, PROMPT_TOKENS, TOKENS = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Whole requests, prompt tokens and tokens to generate, before any shift.

    `counts` has shape (sites, classes, history ticks + ticks + ticks beyond the end, 3); a class that a site may not
    serve has none there.
    """

    site_ids: tuple[str, ...]
    class_ids: tuple[str, ...]
    history_ticks: int
    counts: NDArray[np.int64]

    def at(self, tick: int) -> dict[str, dict[str, ClassDemand]]:
        """What arrives in tick number `tick` of the scenario, by site and class."""
        of_tick = self.counts[:, :, self.history_ticks + tick].tolist()
        return {
            site: {
                name: ClassDemand(*counts) for name, counts in zip(self.class_ids, by_class, strict=True) if any(counts)
            }
            for site, by_class in zip(self.site_ids, of_tick, strict=True)
        }

    def before(self, steps_of_ticks: int) -> NDArray[np.int64]:
        """The history in steps of so many ticks, the last of which ends at the start: (sites, classes, steps, 3)."""
        steps = self.history_ticks // steps_of_ticks
        first = self.history_ticks - steps * steps_of_ticks
        shape = (*self.counts.shape[:2], steps, steps_of_ticks, 3)
        return np.asarray(self.counts[:, :, first : self.history_ticks].reshape(shape).sum(axis=3))


def traffic_of(scenario: Scenario, fleet_file: FleetFile, trace: RequestTrace, seed: int) -> Traffic:
    """The traffic of a scenario's sites, all fed from one trace.

    Site k sees the trace k rotations later, scaled to its own capacity (`demand.spread` says how and why), with gamma
    noise of mean 1 where the scenario has jitter. A class gets its share of a site's traffic.

    Raises:
        ValueError: the trace holds no tokens, or a site may serve no class.
    """
    spec, step = scenario.traffic, scenario.step_seconds
    sites = [site for _, site in fleet_file.sites()]
    class_ids = tuple(service.id for service in fleet_file.service_classes)
    rng = np.random.default_rng([seed, 0x7AF])
    history = ceil(spec.history_seconds / step)
    places = np.arange(-history, scenario.ticks + ceil(_BEYOND_SECONDS / step))
    start = round((spec.start_seconds + rng.uniform(0, 1) * spec.start_jitter_seconds) / step)
    rotation = trace.steps / len(sites) if spec.rotation_seconds is None else spec.rotation_seconds / step
    columns = np.stack([trace.requests, trace.prompt_tokens, trace.tokens], axis=1)
    level = spec.load_ratio if spec.requests == CONSTANT else spec.peak_load_ratio
    assert level is not None
    counts = np.zeros((len(sites), len(class_ids), len(places), 3), dtype=np.int64)
    for number, site in enumerate(sites):
        scale = spec.site_load_ratio.get(site.id, level) / peak_load(trace, capacity(site, fleet_file.gpu_models))
        rows = scale * columns[(places + start + int(number * rotation)) % trace.steps]
        if spec.jitter_ratio > 0:
            shape = spec.jitter_ratio**-2
            rows = rows * rng.gamma(shape, 1 / shape, len(places))[:, None]
        _split(np.rint(rows), class_shares(site, fleet_file.service_classes), class_ids, counts[number])
    return Traffic(tuple(site.id for site in sites), class_ids, history, counts)


def _split(
    rows: NDArray[np.float64], shares: Sequence[tuple[str, float]], class_ids: tuple[str, ...], into: NDArray[np.int64]
) -> None:
    """Each class's whole part of each row; the parts of a row add up to it."""
    before = np.zeros(rows.shape, dtype=np.int64)
    for service_class, upto in shares:
        through = np.rint(rows * upto).astype(np.int64)
        into[class_ids.index(service_class)] = through - before
        before = through
