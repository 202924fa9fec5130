"""The strike price: above it, long enough, a site gives up what its service classes can bear. Pure."""

from datetime import datetime, timedelta

from schemas.fleet import FleetFile
from schemas.plan import Baseline, Dwell, FleetPlan, Rejected, ThrottleControl
from streams.capacity import bearable_depth_ratio, least_power_watts
from streams.policy.baselines import ECONOMICS, baseline_watts, unthrottled_watts
from streams.policy.view import FleetView


def dwells_after(view: FleetView, previous: FleetPlan, now: datetime) -> list[Dwell]:
    """On which side of the strike price each site stands, and since when; hysteresis on the way down."""
    limits = view.fleet.limits
    before = {dwell.site_id: dwell for dwell in previous.dwells}
    dwells = []
    for site in view.fleet.sites:
        known, price = before.get(site.id), view.price_at(site.settlement_point, now)
        if price is None:
            # Price-blind: whatever held keeps to its last side no longer; nothing new is started.
            dwells.append(Dwell(site_id=site.id, above=False, since=known.since if known and not known.above else now))
            continue
        strike = limits.strike_price_usd_per_mwh
        was_above = known is not None and known.above
        line = strike - abs(strike) * limits.strike_hysteresis_ratio if was_above else strike
        above = price.price_usd_per_mwh > line
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
) -> list[ThrottleControl]:
    """Throttles for the sites whose price has stood above the strike price long enough.

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
        depth = min(limits.economic_depth_ratio, bearable_depth_ratio(site, fleet_file, fleet_file.service_classes))
        if depth < limits.economic_depth_ratio:
            why = f"service classes bear {depth:.0%} at most"
            rejected.append(Rejected(alternative=f"{site.id} down {limits.economic_depth_ratio:.0%}", why=why))
        target = max(base * (1 - depth), least_power_watts(site, fleet_file))
        if target >= base:
            rejected.append(Rejected(alternative=f"throttle {site.id}", why="it already draws its least power"))
            continue
        throttles.append(
            ThrottleControl(
                control_id=f"{ECONOMICS}/{site.id}/{dwell.since:%Y%m%dT%H%M%SZ}",
                site_id=site.id,
                reason="economics",
                target_power_watts=target,
                ramp_down_watts_per_second=site.ramp_down_watts_per_second,
                ramp_up_watts_per_second=site.ramp_up_watts_per_second,
                fallback_power_watts=target,
                starts_at=dwell.since + timedelta(seconds=limits.dwell_seconds),
                # It ends with its cause: the next plan extends it while the price stands.
                ends_at=max(price.ends_at, now) + timedelta(seconds=limits.lease_seconds),
                caused_by=[price.signal_id],
                explanation=(
                    f"{site.id} to {target / 1000:.1f} kW at {price.price_usd_per_mwh:.2f} USD/MWh, "
                    f"strike {limits.strike_price_usd_per_mwh:.2f}"
                ),
            )
        )
    return throttles
