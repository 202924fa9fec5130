"""Perfect knowledge, for the oracle: the prices and the arrivals as they will be."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import FleetFile
from streams.simulate.demand import capacity
from streams.simulate.scenario import Scenario
from streams.simulate.sources import PriceFile, Sources
from streams.simulate.traffic import PROMPT_TOKENS, TOKENS, Traffic


def real_time(sources: Sources) -> PriceFile | None:
    """The file of the real-time prices; None where the scenario has none."""
    return next((file for file in sources.prices if file.spec.market == "real-time"), None)


def price_of(file: PriceFile, scenario: Scenario, point: str, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The price (USD/MWh) at these seconds from the scenario's start, of the same shape; NaN where there is none.

    Beyond the file's end its last price stands.
    """
    trace, start = file.trace, file.spec.file_starts_at or scenario.starts_at
    offset = (start - trace.starts_at).total_seconds()
    steps = ((seconds + offset + 1e-6) // trace.step_seconds).astype(np.int64)
    column = trace.prices_usd_per_mwh[:, trace.zones.index(file.zones[point])]
    return np.asarray(column[np.clip(steps, 0, trace.steps - 1)])


@dataclass(frozen=True, slots=True, eq=False)
class TrueForesight:
    """What comes, as the optimiser asks for it; `policy.problem.Foresight`."""

    scenario: Scenario
    prices: PriceFile | None
    # Work that has arrived by the end of each tick, generated tokens, prompts at their cost: (ticks + 1,).
    work_by: dict[tuple[str, str], NDArray[np.float64]]

    @classmethod
    def of(cls, scenario: Scenario, fleet_file: FleetFile, sources: Sources, traffic: Traffic) -> "TrueForesight":
        """What comes in a scenario."""
        work_by = {}
        for number, (_, site) in enumerate(fleet_file.sites()):
            cost = capacity(site, fleet_file.gpu_models).prompt_token_cost_ratio
            for place, service_class in enumerate(traffic.class_ids):
                counts = traffic.counts[number, place, traffic.history_ticks :]
                work = counts[:, TOKENS] + cost * counts[:, PROMPT_TOKENS]
                work_by[site.id, service_class] = np.concatenate([[0.0], np.cumsum(work)])
        return cls(scenario, real_time(sources), work_by)

    def price_usd_per_mwh(
        self, settlement_point: str, starts_at: datetime, step_seconds: float, steps: int
    ) -> NDArray[np.float64]:
        """The mean real-time price of each step (T,); in a gap of the market the last price before it, else 0."""
        if self.prices is None:
            return np.zeros(steps)
        sub = max(1, round(step_seconds / self.prices.trace.step_seconds))
        since = (starts_at - self.scenario.starts_at).total_seconds()
        seconds = since + (np.arange(steps * sub) + 0.5) * step_seconds / sub
        fine = price_of(self.prices, self.scenario, settlement_point, seconds)
        known = np.maximum.accumulate(np.where(np.isnan(fine), -1, np.arange(len(fine))))
        fine = np.where(known < 0, np.nan_to_num(fine[0]), fine[np.maximum(known, 0)])
        return np.asarray(fine.reshape(steps, sub).mean(axis=1))

    def work_per_second(
        self, site_id: str, service_class: str, starts_at: datetime, step_seconds: float, steps: int
    ) -> NDArray[np.float64]:
        """The mean work that arrives in each step (T,), tokens/s, prompts at their cost, before any shift."""
        arrived = self.work_by[site_id, service_class]
        since = (starts_at - self.scenario.starts_at).total_seconds()
        edges = (since + np.arange(steps + 1) * step_seconds) / self.scenario.step_seconds
        return np.diff(np.interp(edges, np.arange(len(arrived)), arrived)) / step_seconds
