"""What a site can do: the least power that makes sense, and the tokens it can serve. Pure."""

import numpy as np

from schemas.fleet import FleetFile, ServiceClass, Site
from schemas.site import LoadState

# Slow-down that each Flex level allows (Emerald AI's Flex 0-3).
SLOWDOWN_RATIO = (0.0, 0.10, 0.25, 0.50)


def least_power_watts(site: Site, fleet_file: FleetFile) -> float:
    """The lowest meter power a target may ask for: minimum-on, and the cap cliff of every GPU, cooling included."""
    cliff = sum(pool.gpus * fleet_file.gpu_model(pool.gpu_model).cap_cliff_watts for pool in site.pools)
    return min(site.import_limit_watts, max(site.minimum_on_watts, cliff * site.pue))


def full_power_watts(site: Site, fleet_file: FleetFile) -> float:
    """The highest meter power: every GPU at its maximum, within the import limit."""
    gpus = sum(pool.gpus * fleet_file.gpu_model(pool.gpu_model).max_power_watts for pool in site.pools)
    return min(site.import_limit_watts, gpus * site.pue)


def tokens_per_second(site: Site, fleet_file: FleetFile) -> float:
    """Generated tokens/s at full power, all batches full, no prompts."""
    return sum(pool.gpus * fleet_file.gpu_model(pool.gpu_model).tokens_per_second for pool in site.pools)


def work_per_second(load: LoadState, site: Site, fleet_file: FleetFile) -> float:
    """The arriving load as generated tokens/s, prompts counted at their cost."""
    prompts = sum(each.prompt_tokens_per_second for each in load.classes)
    return load.tokens_arrived_per_second + prompt_token_cost_ratio(site, fleet_file) * prompts


def class_work_per_second(load: LoadState | None, site: Site, fleet_file: FleetFile, service_class: str) -> float:
    """The class's part of the work that arrives at a site, tokens/s, prompts at their cost; 0 where unknown."""
    total = 0.0 if load is None else sum(each.tokens_arrived_per_second for each in load.classes)
    if load is None or not total:
        return 0.0
    of_class = sum(each.tokens_arrived_per_second for each in load.classes if each.service_class == service_class)
    return work_per_second(load, site, fleet_file) * of_class / total


def prompt_token_cost_ratio(site: Site, fleet_file: FleetFile) -> float:
    """The work of a prompt token at the site, of a generated token's: that of the pool to which it costs most."""
    return max(fleet_file.gpu_model(pool.gpu_model).prompt_token_cost_ratio for pool in site.pools)


def bearable_depth_ratio(site: Site, fleet_file: FleetFile, classes: tuple[ServiceClass, ...]) -> float:
    """The share of full power that can go without slowing any class by more than its Flex level allows.

    The allowed slow-downs, weighted by traffic, are the throughput that may be lost; the pools' measured curves say
    which cap still leaves the rest. The most restrictive pool decides.
    """
    here = [service for service in classes if not service.sites or site.id in service.sites]
    traffic = sum(service.traffic_ratio for service in here)
    if traffic <= 0:
        return 0.0
    lost = sum(service.traffic_ratio * SLOWDOWN_RATIO[service.flex] for service in here) / traffic
    depths = []
    for pool in site.pools:
        model = fleet_file.gpu_model(pool.gpu_model)
        caps, throughputs = zip(*model.cap_throughput, strict=True)
        cap_watts = float(np.interp(1 - lost, throughputs, caps))
        depths.append(1 - max(cap_watts, model.cap_cliff_watts) / model.max_power_watts)
    return max(0.0, min(depths))
