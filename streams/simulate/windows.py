"""A site's windows straight from what its plant did: the site states that the aggregate stage makes of its frames."""

from datetime import datetime
from functools import partial
from typing import Any

from schemas.fleet import Site
from schemas.latency import quantile_seconds
from schemas.site import ClassLoad, LoadState, PowerState
from streams.simulate.plant import PlantFlow
from streams.simulate.readings import ClassFlow


def _ours(model: Any) -> Any:
    """A maker of records whose values are known to be right: thousands are made, and checking costs the most."""
    return partial(model.model_construct, _fields_set=frozenset(model.model_fields))


_power_state, _load_state, class_load = _ours(PowerState), _ours(LoadState), _ours(ClassLoad)


def place_of(run_id: str, fleet_id: str, site_id: str) -> dict[str, Any]:
    """The fields of a state that say of which run and site it is."""
    return {"schema_version": 1, "run_id": run_id, "fleet_id": fleet_id, "site_id": site_id}


class SiteWindow:
    """The window that is filling at one site: plant steps of equal length, until `close`."""

    def __init__(self, site: Site, fleet_id: str, run_id: str) -> None:
        self._place = place_of(run_id, fleet_id, site.id)
        self._gpus = [pool.gpus for pool in site.pools]
        self._flows: list[PlantFlow] = []
        self._meter: list[float] = []

    def add(self, flow: PlantFlow, meter_power_watts: float | None) -> None:
        """Takes one step of the plant, and what the meter read at its end."""
        self._flows.append(flow)
        if meter_power_watts is not None:
            self._meter.append(meter_power_watts)

    def close(self, start: datetime, end: datetime) -> tuple[PowerState, LoadState]:
        """The states of the window, which the steps taken fill; the next one begins."""
        window = {**self._place, "window_start": start, "window_end": end}
        states = self._power(window, (end - start).total_seconds()), self._load(window, (end - start).total_seconds())
        self._flows, self._meter = [], []
        return states

    def _power(self, window: dict[str, Any], seconds: float) -> PowerState:
        steps, gpus = len(self._flows), sum(self._gpus)
        it_power = sum(flow.it_power_watts for flow in self._flows) / steps
        busy = sum(
            count * pool.busy_ratio for flow in self._flows for count, pool in zip(self._gpus, flow.pools, strict=True)
        )
        state: PowerState = _power_state(
            **window,
            kind="power",
            records=steps,
            duplicates=0,
            it_power_watts=it_power,
            it_energy_joules=it_power * seconds,
            meter_power_watts=sum(self._meter) / len(self._meter) if self._meter else None,
            utilization_ratio=min(1.0, busy / (gpus * steps)),
            temperature_celsius_max=None,
            gpu_samples=gpus * steps,
            masked_values=0,
            gpus_reporting=gpus,
            reporting_ratio=1.0,
        )
        return state

    def _load(self, window: dict[str, Any], seconds: float) -> LoadState:
        names = sorted(self._flows[0].classes)
        classes = [_class(name, [flow.classes[name] for flow in self._flows], seconds) for name in names]
        return load_of(window, len(self._flows), classes)


def load_of(window: dict[str, Any], records: int, classes: list[ClassLoad]) -> LoadState:
    """The load state of a window, from its classes; `window` has the fields of place and time."""
    state: LoadState = _load_state(
        **window,
        kind="load",
        records=records,
        duplicates=0,
        requests_per_second=sum(each.requests_per_second for each in classes),
        tokens_arrived_per_second=sum(each.tokens_arrived_per_second for each in classes),
        tokens_served_per_second=sum(each.tokens_served_per_second for each in classes),
        tokens_queued=sum(each.tokens_queued for each in classes),
        covered_ratio=1.0,
        classes=classes,
    )
    return state


def _class(name: str, flows: list[ClassFlow], seconds: float) -> ClassLoad:
    counts = flows[0].ttft_counts
    for flow in flows[1:]:
        counts = [a + b for a, b in zip(counts, flow.ttft_counts, strict=True)]
    load: ClassLoad = class_load(
        service_class=name,
        requests_per_second=sum(flow.arrived.requests for flow in flows) / seconds,
        prompt_tokens_per_second=sum(flow.arrived.prompt_tokens for flow in flows) / seconds,
        tokens_arrived_per_second=sum(flow.arrived.tokens for flow in flows) / seconds,
        tokens_served_per_second=sum(flow.served.tokens for flow in flows) / seconds,
        tokens_queued=flows[-1].queued.tokens,
        ttft_seconds_counts=counts,
        ttft_seconds_p50=quantile_seconds(counts, 0.5),
        ttft_seconds_p99=quantile_seconds(counts, 0.99),
    )
    return load
