"""Economic throttles: where power costs more than its tokens earn, long enough, a site draws less of it. Pure.

How deep is decided rung by rung (streams/policy/strike.py), and goes no deeper than the service classes bear. A rung
waits for the price to have stood above it for the dwell, and is given back when the price falls below it by the
hysteresis: a price that wanders about a rung moves nothing.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from schemas.fleet import FleetFile, Limits, Site
from schemas.plan import Baseline, Dwell, FleetPlan, Rejected, ThrottleControl
from schemas.signals import PriceSignal
from streams.capacity import bearable_depth_ratio, full_power_watts, least_power_watts
from streams.policy.baselines import ECONOMICS, baseline_watts, unthrottled_watts
from streams.policy.strike import Rung, strike_ladder
from streams.policy.view import FleetView

# Targets that differ by less are the same, as rounding has it.
_SAME_WATTS = 1.0


def dwells_after(view: FleetView, previous: FleetPlan, fleet_file: FleetFile, now: datetime) -> list[Dwell]:
    """On which side of its lowest rung's price each site stands, and since when; hysteresis on the way down."""
    limits = view.fleet.limits
    before = {dwell.site_id: dwell for dwell in previous.dwells}
    dwells = []
    for site in view.fleet.sites:
        known, price = before.get(site.id), view.price_at(site.settlement_point, now)
        ladder = strike_ladder(site, fleet_file)
        if price is None or not ladder:
            # Price-blind: whatever held keeps to its last side no longer; nothing new is started.
            dwells.append(Dwell(site_id=site.id, above=False, since=known.since if known and not known.above else now))
            continue
        strike = ladder[0].price_usd_per_mwh
        was_above = known is not None and known.above
        above = price.price_usd_per_mwh > (_lowered(strike, limits) if was_above else strike)
        since = known.since if known is not None and known.above == above else now
        dwells.append(Dwell(site_id=site.id, above=above, since=since))
    return dwells


def economic_throttles(
    view: FleetView,
    previous: FleetPlan,
    dwells: list[Dwell],
    baselines: list[Baseline],
    fleet_file: FleetFile,
    now: datetime,
    rejected: list[Rejected],
    planned_watts: Mapping[str, float] | None = None,
) -> list[ThrottleControl]:
    """Throttles for the sites whose price has stood above their lowest rung's long enough.

    How deep is said by the rungs; where the optimiser has planned, by `planned_watts` of the sites that it would hold.
    Pins the baseline that each is measured from into `baselines`.
    """
    limits, throttles = view.fleet.limits, []
    for dwell in dwells:
        if not dwell.above or (now - dwell.since).total_seconds() < limits.dwell_seconds:
            continue
        site = view.site(dwell.site_id)
        price = view.price_at(site.settlement_point, now)
        pinned = baseline_watts(baselines, ECONOMICS, site.id)
        base = pinned
        if base is None:
            base = unthrottled_watts(view, previous.throttles, baselines, fleet_file, site.id, now)
        if price is None or base is None:
            continue
        if pinned is None and view.sites[site.id].is_stale(now, limits.stale_seconds):
            rejected.append(Rejected(alternative=f"throttle {site.id}", why="no recent power is known of it"))
            continue
        if pinned is None:
            baselines.append(Baseline(signal_id=ECONOMICS, site_id=site.id, power_watts=base))
        ladder = strike_ladder(site, fleet_file)
        if planned_watts is None:
            stood = _stood_usd_per_mwh(view, site, price, now)
            held = _held_watts(previous, site, full_power_watts(site, fleet_file))
            dearer = _dearer_watts(ladder, price.price_usd_per_mwh, stood, held, limits)
            wanted = full_power_watts(site, fleet_file) - dearer
        else:
            wanted = planned_watts.get(site.id, base)
        target = max(_bearable_watts(wanted, site, fleet_file, rejected), base * (1 - limits.economic_depth_ratio))
        if target >= base:
            at_least = base <= least_power_watts(site, fleet_file)
            why = "it already draws its least power" if at_least else f"it draws no more than {target:.0f} W by itself"
            rejected.append(Rejected(alternative=f"throttle {site.id}", why=why))
            continue
        throttles.append(_throttle(dwell, site, target, price, ladder, limits, now))
    return throttles


def _throttle(
    dwell: Dwell,
    site: Site,
    target_watts: float,
    price: PriceSignal,
    ladder: tuple[Rung, ...],
    limits: Limits,
    now: datetime,
) -> ThrottleControl:
    return ThrottleControl(
        control_id=f"{ECONOMICS}/{site.id}/{dwell.since:%Y%m%dT%H%M%SZ}",
        site_id=site.id,
        reason="economics",
        target_power_watts=target_watts,
        ramp_down_watts_per_second=site.ramp_down_watts_per_second,
        ramp_up_watts_per_second=site.ramp_up_watts_per_second,
        fallback_power_watts=target_watts,
        starts_at=dwell.since + timedelta(seconds=limits.dwell_seconds),
        # It ends with its cause: the next plan extends it while the price stands.
        ends_at=max(price.ends_at, now) + timedelta(seconds=limits.lease_seconds),
        caused_by=[price.signal_id],
        explanation=(
            f"{site.id} to {target_watts / 1000:.1f} kW at {price.price_usd_per_mwh:.2f} USD/MWh, "
            f"strike {ladder[0].price_usd_per_mwh:.2f} and up"
        ),
    )


def _dearer_watts(
    ladder: tuple[Rung, ...], price_usd_per_mwh: float, stood_usd_per_mwh: float, held_watts: float, limits: Limits
) -> float:
    """The power of the rungs that cost more than they earn: those taken before, within the hysteresis, and new ones."""
    taken = sum(rung.power_watts for rung in ladder if stood_usd_per_mwh > rung.price_usd_per_mwh)
    kept = sum(rung.power_watts for rung in ladder if price_usd_per_mwh > _lowered(rung.price_usd_per_mwh, limits))
    return min(max(held_watts, taken), kept)


def _lowered(strike_usd_per_mwh: float, limits: Limits) -> float:
    return strike_usd_per_mwh - abs(strike_usd_per_mwh) * limits.strike_hysteresis_ratio


def _stood_usd_per_mwh(view: FleetView, site: Site, price: PriceSignal, now: datetime) -> float:
    """The lowest price at the site over the dwell that ends now: what the price has stood at, or above."""
    since = now - timedelta(seconds=view.fleet.limits.dwell_seconds)
    lately = [
        each.price_usd_per_mwh
        for each in view.prices.values()
        if each.settlement_point == site.settlement_point and each.starts_at <= now and each.ends_at > since
    ]
    return min([price.price_usd_per_mwh, *lately])


def _held_watts(previous: FleetPlan, site: Site, full_watts: float) -> float:
    """How far below its full power the plan before holds the site for the same reason, in W; 0 where it does not."""
    for control in previous.throttles:
        if control.site_id == site.id and control.reason == "economics":
            return full_watts - control.target_power_watts
    return 0.0


def _bearable_watts(wanted_watts: float, site: Site, fleet_file: FleetFile, rejected: list[Rejected]) -> float:
    """The target wanted, or the lowest that the site can hold and its service classes bear."""
    bearable = bearable_depth_ratio(site, fleet_file, fleet_file.service_classes)
    lowest = max(full_power_watts(site, fleet_file) * (1 - bearable), least_power_watts(site, fleet_file))
    if lowest > wanted_watts + _SAME_WATTS:
        why = f"service classes bear {bearable:.0%} at most, and the site no less than its least power"
        rejected.append(Rejected(alternative=f"{site.id} at {wanted_watts:.0f} W", why=why))
    return max(wanted_watts, lowest)
