"""The power that follows from load, by the site's measured curves: quantiles of load to quantiles of power. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import GpuModel, Site


@dataclass(frozen=True, slots=True, eq=False)
class SitePower:
    """What a site's pools draw and can serve.

    work = tokens/s + c x prompt tokens/s, c the work of a prompt token (the pools' mean, weighted by tokens/s)
    u = min(1, work / tokens/s of all GPUs): the balancer loads every pool alike, and what is above waits
    power = min(import limit, PUE x sum over pools of gpus x max_power_watts x load_power(u))
    """

    tokens_per_second: float
    prompt_token_cost_ratio: float
    pue: float
    import_limit_watts: float
    pools: tuple[tuple[float, NDArray[np.float64], NDArray[np.float64]], ...]  # W of all GPUs; load_power's x, y

    @classmethod
    def of(cls, site: Site, models: Sequence[GpuModel]) -> "SitePower":
        """That of a site.

        Raises:
            KeyError: a pool's GPU model is not among `models`.
        """
        by_id = {model.id: model for model in models}
        pools = [(pool.gpus, by_id[pool.gpu_model]) for pool in site.pools]
        total = sum(gpus * model.tokens_per_second for gpus, model in pools)
        cost = sum(gpus * model.tokens_per_second * model.prompt_token_cost_ratio for gpus, model in pools) / total
        curves = tuple(
            (
                gpus * model.max_power_watts,
                np.array([load for load, _ in model.load_power]),
                np.array([power for _, power in model.load_power]),
            )
            for gpus, model in pools
        )
        return cls(total, cost, site.pue, site.import_limit_watts, curves)

    def watts(
        self, tokens_per_second: NDArray[np.float64], prefill_tokens_per_second: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Power at the meter (W) that the load draws uncapped, of the same shape; it never falls as load rises.

        Power is a rising function of work, so its quantiles are those of work put through it. Those of work are
        taken as the sums of the quantiles of its two parts: right where both rise and fall together, as tokens of the
        same requests do, and too wide otherwise.
        """
        work = tokens_per_second + self.prompt_token_cost_ratio * prefill_tokens_per_second
        load = np.minimum(1.0, work / self.tokens_per_second)
        it_watts = sum((watts * np.interp(load, x, y) for watts, x, y in self.pools), start=np.zeros_like(load))
        return np.minimum(self.import_limit_watts, self.pue * it_watts)

    def serveable_tokens_per_second(self, prefill_per_token: float) -> float:
        """The most generated tokens/s that the site keeps up with, each coming with so many prompt tokens.

        Above it a queue builds, and no objective on the time to the first token holds for long.
        """
        return self.tokens_per_second / (1 + self.prompt_token_cost_ratio * prefill_per_token)
