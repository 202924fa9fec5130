"""What each site should have been told by a plan: throttles, and both ends of every shift; unnumbered. Pure."""

from datetime import datetime, timedelta

from schemas.command import Release, Shift, Throttle
from schemas.fleet import Limits
from schemas.plan import FleetPlan, ShiftControl, ThrottleControl
from streams.policy.shifts import drained_until

LONGEST_EXPLANATION = 2000

OrderKey = tuple[str, str]  # control, site
AnyCommand = Throttle | Shift | Release


def orders_of(plan: FleetPlan, limits: Limits, now: datetime) -> dict[OrderKey, Throttle | Shift]:
    """What each site should have been told, by control and site; unnumbered."""
    orders: dict[OrderKey, Throttle | Shift] = {}
    for throttle in plan.throttles:
        if throttle.ends_at > now:
            orders[throttle.control_id, throttle.site_id] = _throttle(plan, throttle, limits, now)
    for shift in plan.shifts:
        # The acceptor keeps its reservation until the donor has come back; the donor drains only in between.
        if shift.phase in {"proposed", "reserved", "ramping", "active", "returning"}:
            orders[shift.control_id, shift.to_site_id] = _shift(plan, shift, "reserve", limits, now)
        if shift.phase in {"reserved", "ramping", "active"} and now < min(
            shift.ends_at, drained_until(shift, limits, now)
        ):
            orders[shift.control_id, shift.from_site_id] = _shift(plan, shift, "drain", limits, now)
    return orders


def not_let_go(plan: FleetPlan, limits: Limits, now: datetime) -> dict[OrderKey, Throttle | Shift]:
    """What donors may still do of shifts that return: they have not said that they let go."""
    return {
        (shift.control_id, shift.from_site_id): _shift(plan, shift, "drain", limits, now)
        for shift in plan.shifts
        if shift.phase == "returning" and shift.home_at is None and now < drained_until(shift, limits, now)
    }


def _throttle(plan: FleetPlan, control: ThrottleControl, limits: Limits, now: datetime) -> Throttle:
    return Throttle(
        run_id=plan.run_id,
        fleet_id=plan.fleet_id,
        site_id=control.site_id,
        control_id=control.control_id,
        epoch=plan.epoch,
        sequence=plan.sequence,
        issued_at=now,
        starts_at=control.starts_at,
        ends_at=control.ends_at,
        lease_expires_at=now + timedelta(seconds=limits.lease_seconds),
        reason=control.reason,
        priority=control.priority,
        caused_by=control.caused_by,
        explanation=control.explanation[:LONGEST_EXPLANATION],
        target_power_watts=control.target_power_watts,
        ramp_down_watts_per_second=control.ramp_down_watts_per_second,
        ramp_up_watts_per_second=control.ramp_up_watts_per_second,
        fallback_power_watts=control.fallback_power_watts,
    )


def _shift(plan: FleetPlan, control: ShiftControl, role: str, limits: Limits, now: datetime) -> Shift:
    reserve = role == "reserve"
    lease = timedelta(seconds=limits.lease_seconds)
    # The reservation outlives the donor's lease: traffic on its way always has a place to land.
    lease_expires_at = now + 2 * lease if reserve else drained_until(control, limits, now)
    kept = control.reserved_share_ratio or control.share_ratio
    return Shift(
        run_id=plan.run_id,
        fleet_id=plan.fleet_id,
        site_id=control.to_site_id if reserve else control.from_site_id,
        control_id=control.control_id,
        epoch=plan.epoch,
        sequence=plan.sequence,
        issued_at=now,
        starts_at=control.starts_at,
        ends_at=max(control.ends_at, now) + (2 * lease if reserve else timedelta(0)),
        lease_expires_at=lease_expires_at,
        reason="economics",
        caused_by=control.caused_by,
        explanation=control.explanation[:LONGEST_EXPLANATION],
        role="reserve" if reserve else "drain",
        from_site_id=control.from_site_id,
        to_site_id=control.to_site_id,
        service_class=control.service_class,
        share_ratio=kept if reserve else control.share_ratio,
        reserved_power_watts=control.reserved_power_watts,
        ramp_seconds=control.ramp_seconds,
    )
