"""What the optimiser is asked: all that is known of a fleet, as arrays. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import FleetFile, ServiceClass
from schemas.forecast import QUANTILE_LEVELS
from schemas.plan import FleetPlan
from streams.capacity import (
    SLOWDOWN_RATIO,
    bearable_depth_ratio,
    full_power_watts,
    least_power_watts,
    tokens_per_second,
)
from streams.policy.horizon import Target, spans_of, targets_of
from streams.policy.load_outlook import load_ahead
from streams.policy.price_outlook import mean_price, prices_ahead, spanned
from streams.policy.routes import Moving, link_limits_of, moving_of, pairs_of
from streams.policy.site_curves import Floats, SiteCurves
from streams.policy.strike import strike_ladder
from streams.policy.view import FleetView

# Room is made for this quantile of the load at most, and for the median at least.
_MOST_ROOM_LEVEL = 0.9
# Missing an objective costs what the work earns, over the slow-down that its class allows; Flex 0 allows none.
_FLEX_0_MISS_RATIO = 20.0


class Foresight(Protocol):
    """Perfect knowledge of what comes, for the oracle that a planner is held against."""

    def price_usd_per_mwh(
        self, settlement_point: str, starts_at: datetime, step_seconds: float, steps: int
    ) -> NDArray[np.float64]:
        """Real-time prices, means over steps, shape (steps,)."""

    def work_per_second(
        self, site_id: str, service_class: str, starts_at: datetime, step_seconds: float, steps: int
    ) -> NDArray[np.float64]:
        """Tokens/s that arrive before any shift, prompts at their cost, means over steps, shape (steps,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One fleet's S sites and C service classes over T spans. Powers are in W at the meter, work in tokens/s."""

    starts_at: datetime
    step_seconds: float
    spans: tuple[int, ...]  # (T,) steps in each span
    site_ids: tuple[str, ...]
    class_ids: tuple[str, ...]
    price_usd_per_mwh: Floats  # (S, T)
    work: Floats  # (S, C, T) that arrives before any shift: the median, under a target as `room_work`
    room_work: Floats  # (S, T) of all classes, at the quantile that room is made for
    seen_work: Floats  # (S,) of all classes, as it arrives now; NaN where unknown
    curves: SiteCurves
    capacity: Floats  # (S,) work at full power
    import_limit_watts: Floats  # (S,)
    least_watts: Floats  # (S,) below it no throttle goes
    bearable_watts: Floats  # (S,) below it no throttle goes for money
    economic_depth_ratio: float  # nor deeper than this share of what the site draws by itself
    rung_watts: Floats  # (S, R) of the strike ladder, from full power down
    rung_price_usd_per_mwh: Floats  # (S, R)
    power_now_watts: Floats  # (S,) NaN where unknown
    ramp_watts_per_second: Floats  # (2, S) down, up
    fleet_ramp_watts_per_second: tuple[float | None, float | None]  # down, up
    power_limit_watts: float | None
    targets: tuple[Target, ...]
    flex: NDArray[np.int64]  # (C,)
    loss_usd_per_token: Floats  # (C,) of work that is not served: what it earns, and the miss
    pairs: NDArray[np.bool_]  # (C, S, S) from, to: may the class move so
    link_limits: tuple[tuple[int, int, float], ...]  # two sites, the most work between them, all classes together
    moving: tuple[Moving, ...]
    headroom_ratio: float
    move_usd_per_mwh: float  # what a new move costs, by the energy of what moves

    @property
    def span_seconds(self) -> Floats:
        """Length of each span, shape (T,)."""
        return self.step_seconds * np.array(self.spans, dtype=float)

    @property
    def may_give(self) -> NDArray[np.bool_]:
        """Sites and classes (S, C) that may send work away."""
        return np.asarray(self.pairs.any(axis=2)).T

    @property
    def may_take(self) -> NDArray[np.bool_]:
        """Sites and classes (S, C) that may take work in."""
        return np.asarray(self.pairs.any(axis=1)).T


def problem_of(
    view: FleetView,
    plan: FleetPlan,
    fleet_file: FleetFile,
    now: datetime,
    *,
    flat_prices: bool = False,
    foresight: Foresight | None = None,
) -> Problem | None:
    """What is to be planned at `now`; None where neither power nor load is known of any site.

    `flat_prices`: every price is one constant, the mean of those known; whoever plans so is price-blind.
    A site whose load is not known draws what it last drew, and moves nothing.
    """
    fleet, limits = view.fleet, view.fleet.limits
    if all(site.power is None and site.load is None and site.forecast is None for site in view.sites.values()):
        return None
    step_seconds = limits.step_seconds
    spans = spans_of(view, now)
    steps = sum(spans)
    if flat_prices:
        price = np.full((len(fleet.sites), steps), mean_price(view))
    elif foresight is not None:
        price = np.array(
            [foresight.price_usd_per_mwh(site.settlement_point, now, step_seconds, steps) for site in fleet.sites]
        )
    else:
        price = prices_ahead(view, now, step_seconds, steps)
    curves = SiteCurves.of(fleet.sites, fleet_file)
    capacity = np.array([tokens_per_second(site, fleet_file) for site in fleet.sites])
    full = np.array([full_power_watts(site, fleet_file) for site in fleet.sites])
    losses = np.array([_loss_usd_per_token(service) for service in fleet_file.service_classes])
    work, room_work, seen_work, known = _work(
        view, plan, fleet_file, now, steps, foresight, (losses, price, full / capacity)
    )
    power_now = _power_now(view)
    curves, work = _where_load_is_unknown(curves, work, known, np.where(np.isnan(power_now), full, power_now))
    targets = targets_of(view, plan, fleet_file, now, spans)
    work, room_work = spanned(work, spans), spanned(room_work, spans)
    work = _held_at_room(work, room_work, targets)
    ladders = [strike_ladder(site, fleet_file) for site in fleet.sites]
    fresh = known & ~np.isin([site.id for site in fleet.sites], view.stale_sites(now))
    return Problem(
        starts_at=now,
        step_seconds=step_seconds,
        spans=spans,
        site_ids=tuple(site.id for site in fleet.sites),
        class_ids=tuple(service.id for service in fleet_file.service_classes),
        price_usd_per_mwh=spanned(price, spans),
        work=work,
        room_work=room_work,
        seen_work=seen_work,
        curves=curves,
        capacity=capacity,
        import_limit_watts=np.array([site.import_limit_watts for site in fleet.sites]),
        least_watts=np.array([least_power_watts(site, fleet_file) for site in fleet.sites]),
        bearable_watts=curves.cap_watts[:, -1]
        * (1 - np.array([bearable_depth_ratio(site, fleet_file, fleet_file.service_classes) for site in fleet.sites])),
        economic_depth_ratio=limits.economic_depth_ratio,
        rung_watts=_padded([[rung.power_watts for rung in ladder] for ladder in ladders]),
        rung_price_usd_per_mwh=_padded([[rung.price_usd_per_mwh for rung in ladder] for ladder in ladders]),
        power_now_watts=power_now,
        ramp_watts_per_second=np.array(
            [
                [site.ramp_down_watts_per_second for site in fleet.sites],
                [site.ramp_up_watts_per_second for site in fleet.sites],
            ]
        ),
        fleet_ramp_watts_per_second=(limits.ramp_down_watts_per_second, limits.ramp_up_watts_per_second),
        power_limit_watts=limits.power_limit_watts,
        targets=targets,
        flex=np.array([service.flex for service in fleet_file.service_classes]),
        loss_usd_per_token=losses,
        pairs=pairs_of(fleet, fleet_file, fresh),
        link_limits=link_limits_of(fleet),
        moving=moving_of(fleet, fleet_file, plan, now),
        headroom_ratio=limits.site_headroom_ratio,
        move_usd_per_mwh=limits.shift_cost_usd_per_mwh,
    )


def _loss_usd_per_token(service: ServiceClass) -> float:
    bearable = SLOWDOWN_RATIO[service.flex]
    miss_ratio = 1 / bearable if bearable > 0 else _FLEX_0_MISS_RATIO
    return service.earns_usd_per_million_tokens * 1e-6 * (1 + miss_ratio)


def _work(
    view: FleetView,
    plan: FleetPlan,
    fleet_file: FleetFile,
    now: datetime,
    steps: int,
    foresight: Foresight | None,
    costs: tuple[Floats, Floats, Floats],
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Work (S, C, steps), the whole at the quantile that room is made for (S, steps) and as seen (S,), where known."""
    sites, step_seconds = view.fleet.sites, view.fleet.limits.step_seconds
    if foresight is not None:
        work = np.array(
            [
                [
                    foresight.work_per_second(site.id, service.id, now, step_seconds, steps)
                    for service in fleet_file.service_classes
                ]
                for site in sites
            ]
        )
        return work, work.sum(axis=1), work[:, :, 0].sum(axis=1), np.ones(len(sites), dtype=bool)
    ahead = load_ahead(view, plan.shifts, fleet_file, now, step_seconds, steps)
    losses, price, joules_per_token = costs
    level = _room_level(ahead.work, losses, price, joules_per_token)
    place = np.interp(level, QUANTILE_LEVELS, np.arange(len(QUANTILE_LEVELS)))
    lower = np.minimum(place.astype(int), len(QUANTILE_LEVELS) - 2)
    each = np.arange(len(sites))
    part = (place - lower)[:, None]
    ratio = (1 - part) * ahead.spread[each, :, lower] + part * ahead.spread[each, :, lower + 1]
    return ahead.work, ahead.work.sum(axis=1) * np.maximum(1.0, ratio), ahead.seen, ahead.known


def _room_level(work: Floats, losses: Floats, price: Floats, joules_per_token: Floats) -> Floats:
    """The quantile (S,) of its load that room is made for at each site: the newsvendor's critical ratio.

    Too little room costs the loss of a token, too much the energy that a token takes (Arrow, Harris, Marschak 1951).
    """
    traffic = work.sum(axis=2)
    loss = np.divide(
        traffic @ losses, traffic.sum(axis=1), out=np.full(len(traffic), losses.mean()), where=traffic.sum(axis=1) > 0
    )
    energy = np.maximum(0.0, price.mean(axis=1)) * joules_per_token / 3.6e9
    ratio = np.divide(loss, loss + energy, out=np.full(len(traffic), 0.5), where=loss + energy > 0)
    return np.clip(ratio, 0.5, _MOST_ROOM_LEVEL)


def _where_load_is_unknown(
    curves: SiteCurves, work: Floats, known: NDArray[np.bool_], watts: Floats
) -> tuple[SiteCurves, Floats]:
    """Such a site draws `watts` whatever comes."""
    drawn = np.where(known[:, None], curves.load_watts, watts[:, None])
    return replace(curves, load_watts=drawn), np.where(known[:, None, None], work, 0.0)


def _power_now(view: FleetView) -> Floats:
    """What each site drew over the newest minute, W (S,); NaN where unknown."""
    drawn = [view.sites[site.id].minute_watts() for site in view.fleet.sites]
    return np.array([np.nan if watts is None else watts for watts in drawn])


def _held_at_room(work: Floats, room_work: Floats, targets: Sequence[Target]) -> Floats:
    """Under a target a site is planned for the load that room is made for: its cap stands whatever comes."""
    held = np.zeros(room_work.shape, dtype=bool)
    for target in targets:
        held[target.sites] |= np.isfinite(target.watts)
    whole = work.sum(axis=1)
    more = np.divide(room_work, whole, out=np.ones_like(whole), where=held & (whole > 0))
    return np.asarray(work * more[:, None, :])


def _padded(rows: Sequence[Sequence[float]]) -> Floats:
    """Rows of one length, filled up with zeros: rungs of no width."""
    width = max(1, *(len(row) for row in rows))
    return np.array([[*row, *[0.0] * (width - len(row))] for row in rows])
