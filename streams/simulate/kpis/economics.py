"""What a run cost and what it gave: energy, tokens, service misses, and the saving beside two other policies. Pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.fleet import FleetFile
from streams.simulate.kpis.moves import Move, arrivals_where_served, moves_of
from streams.simulate.kpis.span import Floats, counted_ticks, number, ratio
from streams.simulate.log import Outcome, Trajectory

_JOULES_PER_KWH = 3.6e6
# Savings of less than this share of what was paid are noise: no share of them is told.
_LEAST_ATTAINABLE_RATIO = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Books:
    """A run's sums after its warm-up, by site (S) and class (C).

    `tokens_arrived` and `requests_arrived` are counted at the site that the traffic was sent to; a request is missed
    that was late or never served.
    """

    energy_kwh: Floats  # (S,)
    cost_usd: Floats  # (S,), NaN where a site's price was never known
    tokens_arrived: Floats  # (S, C)
    tokens_served: Floats  # (S, C)
    tokens_young: Floats  # (S, C): arrived so shortly before the end that they may still wait
    requests_arrived: Floats  # (S, C)
    requests_late: Floats  # (S, C)

    @property
    def usd_per_million_tokens(self) -> float | None:
        """What a million generated tokens served cost in energy, over all sites."""
        return _per_million(float(self.cost_usd.sum()), float(self.tokens_served.sum()))

    def lost_ratios(self) -> Floats:
        """By class (C), over all sites: tokens that arrived and were not served, of those that arrived."""
        return _lost(*(each.sum(axis=0) for each in (self.tokens_arrived, self.tokens_served, self.tokens_young)))

    def misses(self) -> Floats:
        """By class (C), over all sites: requests late or never served."""
        return _missed(self.requests_arrived.sum(axis=0), self.requests_late.sum(axis=0), self.lost_ratios())

    def slo_miss_ratio(self) -> float | None:
        """Requests late or never served, of those that arrived."""
        return ratio(float(self.misses().sum()), float(self.requests_arrived.sum()))


def books(outcome: Outcome, fleet_file: FleetFile, moved: list[Move] | None = None) -> Books:
    """The sums of a run after its warm-up. A gap of the prices takes the last price before it, else the next."""
    trajectory, counted = outcome.trajectory, counted_ticks(outcome)
    moved = moves_of(outcome) if moved is None else moved
    joules = trajectory.meter_power_watts[:, counted] * trajectory.step_seconds
    usd_per_kwh = filled(trajectory.price_usd_per_mwh)[:, counted] / 1000
    arrived = arrivals_where_served(trajectory.tokens_arrived, moved)[:, counted]
    return Books(
        energy_kwh=joules.sum(axis=1) / _JOULES_PER_KWH,
        cost_usd=(joules / _JOULES_PER_KWH * usd_per_kwh).sum(axis=1),
        tokens_arrived=arrived.sum(axis=1),
        tokens_served=trajectory.tokens_served[:, counted].sum(axis=1),
        tokens_young=_young(arrived, trajectory, fleet_file),
        requests_arrived=arrivals_where_served(trajectory.requests_arrived, moved)[:, counted].sum(axis=1),
        requests_late=trajectory.requests_late[:, counted].sum(axis=1),
    )


def filled(prices: Floats) -> Floats:
    """Prices (S, K) with each gap (NaN) at the last price known; before the first one at that."""
    rows = []
    for row in prices:
        known = np.flatnonzero(~np.isnan(row))
        if not len(known):
            rows.append(row)
            continue
        last = np.searchsorted(known, np.arange(len(row)), side="right") - 1
        rows.append(row[known[np.maximum(last, 0)]])
    return np.array(rows)


def fleet_figures(own: Books, blind: Books | None, oracle: Books | None) -> dict[str, Any]:
    """The KPIs of all sites together, beside the price-blind policy and the one that knows the future."""
    slo, blind_slo = own.slo_miss_ratio(), blind.slo_miss_ratio() if blind else None
    lost = own.lost_ratios() @ own.tokens_arrived.sum(axis=0)
    usd, of_blind, of_oracle = (None if each is None else each.usd_per_million_tokens for each in (own, blind, oracle))
    return {
        "energy_cost_usd": number(float(own.cost_usd.sum())),
        "energy_kwh": float(own.energy_kwh.sum()),
        "tokens": float(own.tokens_served.sum()),
        "tokens_arrived": float(own.tokens_arrived.sum()),
        "tokens_lost_ratio": ratio(float(lost), float(own.tokens_arrived.sum())),
        "usd_per_million_tokens": usd,
        **savings(usd, of_blind, of_oracle),
        "slo_miss_ratio": slo,
        "slo_miss_vs_price_blind_ratio": None if slo is None or blind_slo is None else slo - blind_slo,
    }


def savings(own: float | None, blind: float | None, oracle: float | None) -> dict[str, float | None]:
    """The saving over a price-blind policy, and how much of the oracle's it is, all from USD per million tokens.

    Compared per token served, so that a policy which serves less does not look cheaper for it. Null where the
    comparison is missing, where power was given away (a price-blind cost of 0 or less has no share), or where the
    oracle could save nothing.
    """
    saved = None if own is None or blind is None or blind <= 0 else 1 - own / blind
    attained = None
    if own is not None and blind is not None and oracle is not None:
        attainable = blind - oracle
        attained = (blind - own) / attainable if attainable > _LEAST_ATTAINABLE_RATIO * abs(blind) else None
    return {
        "saving_vs_price_blind_ratio": saved,
        "attained_saving_ratio": attained,
        "regret_vs_oracle_ratio": None if attained is None else 1 - attained,
    }


def site_figures(own: Books, site_ids: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The KPIs of each site, its traffic being what was sent to it."""
    arrived = own.tokens_arrived
    lost = _lost(arrived, own.tokens_served, own.tokens_young)
    missed = _missed(own.requests_arrived, own.requests_late, lost)
    return {
        site_id: {
            "energy_cost_usd": number(float(own.cost_usd[row])),
            "energy_kwh": float(own.energy_kwh[row]),
            "tokens": float(own.tokens_served[row].sum()),
            "tokens_lost_ratio": ratio(float(lost[row] @ arrived[row]), float(arrived[row].sum())),
            "usd_per_million_tokens": _per_million(float(own.cost_usd[row]), float(own.tokens_served[row].sum())),
            "slo_miss_ratio": ratio(float(missed[row].sum()), float(own.requests_arrived[row].sum())),
        }
        for row, site_id in enumerate(site_ids)
    }


def class_figures(own: Books, blind: Books | None, class_ids: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The KPIs of each service class over all sites."""
    lost, slo = own.lost_ratios(), _slo_by_class(own)
    of_blind = _slo_by_class(blind) if blind else [None] * len(class_ids)
    figures = {}
    for column, class_id in enumerate(class_ids):
        ours, theirs = slo[column], of_blind[column]
        figures[class_id] = {
            "tokens": float(own.tokens_served[:, column].sum()),
            "tokens_lost_ratio": number(float(lost[column])) if own.tokens_arrived[:, column].any() else None,
            "slo_miss_ratio": ours,
            "slo_miss_vs_price_blind_ratio": None if ours is None or theirs is None else ours - theirs,
        }
    return figures


def _slo_by_class(own: Books) -> list[float | None]:
    arrived = own.requests_arrived.sum(axis=0)
    return [ratio(float(missed), float(of)) for missed, of in zip(own.misses(), arrived, strict=True)]


def _per_million(usd: float, tokens: float) -> float | None:
    per_token = ratio(usd, tokens)
    return None if per_token is None else per_token * 1e6


def _young(arrived: Floats, trajectory: Trajectory, fleet_file: FleetFile) -> Floats:
    """By site and class (S, C): what arrived in the last `ttft_objective_seconds`; a part of a tick counts in part."""
    objectives = {service.id: service.ttft_objective_seconds for service in fleet_file.service_classes}
    ages = np.arange(arrived.shape[1])[::-1]  # in ticks, of the end of each tick before the end of the run
    young = np.empty((arrived.shape[0], arrived.shape[2]))
    for column, class_id in enumerate(trajectory.class_ids):
        weights = np.clip(objectives[class_id] / trajectory.step_seconds - ages, 0, 1)
        young[:, column] = arrived[:, :, column] @ weights
    return young


def _lost(arrived: Floats, served: Floats, young: Floats) -> Floats:
    # What was served of a queue from before can outweigh what is left: then nothing was lost.
    unserved = np.maximum(0.0, arrived - served)
    lost: Floats = np.divide(np.maximum(0.0, unserved - young), arrived, out=np.zeros_like(arrived), where=arrived > 0)
    return lost


def _missed(requests: Floats, late: Floats, lost_ratios: Floats) -> Floats:
    """Those late and those never served; of these only the tokens were counted, at the class's own mean size."""
    return np.minimum(requests, late + requests * lost_ratios)
