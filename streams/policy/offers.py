"""Flexibility offers: how much power each site can give up now, how fast and for how long, and the tokens lost. Pure.

What a site can give is what lies between the power that it would draw by itself and the least that a target may ask
for, over the whole of a duration: a site that draws little gives little. Of that, what is promised already is left
out, and of what is promised firmly (P90) a margin, so that an event within an offer can be kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.fleet import FleetFile, Site
from schemas.forecast import QUANTILE_LEVELS, HorizonForecast, SiteForecast
from schemas.offer import FlexibilityOffer, OfferedReduction
from schemas.plan import FleetPlan, ThrottleControl
from streams.capacity import full_power_watts, least_power_watts, prompt_token_cost_ratio, work_per_second
from streams.policy.baselines import unthrottled_watts
from streams.policy.events import RESPONSE
from streams.policy.strike import tokens_per_second_at
from streams.policy.view import FleetView

# What is bought: a market interval of real-time energy, an hour of it, and the three hours of a long event (a quarter
# for three hours is the field's yardstick). Answered as a fast reserve is (30 s), or within a market interval (5 min).
DURATIONS_SECONDS: Final = (900.0, 3600.0, 10_800.0)
RESPONSES_SECONDS: Final = (30.0, 300.0)
# Of full power, left out of P90: three times the meter's noise (0.3 % of a reading, one sigma), and the half point of
# full power by which the demo's measured load-to-power curve errs at worst (streams/simulate/demo_fleet.toml).
MARGIN_RATIO: Final = 0.014
_MEDIAN = QUANTILE_LEVELS.index(0.5)
# Of nine durations in ten no step may fall below: errors of neighbouring steps go together, but not wholly, and the
# lowest of several steps is lower than any one of them. So each step is taken at a level under one in ten.
_LOW = QUANTILE_LEVELS.index(0.05)
_OVER = frozenset({"done", "aborted"})
_JOULES_PER_MWH = 3.6e9


@dataclass(frozen=True, slots=True)
class _Expected:
    """A site left to itself over a duration: meter power at its lowest, as the median and as P90 has it, and its load.

    `loads`: (work, tokens generated) a second in each step, prompts in the work at their cost.
    """

    power_watts: float
    low_power_watts: float
    loads: tuple[tuple[float, float], ...]


def offers(view: FleetView, plan: FleetPlan, fleet_file: FleetFile, now: datetime) -> list[FlexibilityOffer]:
    """One offer for each site of which recent power is known and that is not locked out locally, in file order.

    Each is valid until the second planning step after it: one may be lost. Where the fleet's ramp is limited, a site
    gets its part of it by its own ramp, so that what the sites offer adds up.
    """
    limits = view.fleet.limits
    found = []
    for site in view.fleet.sites:
        known = view.sites[site.id]
        by_itself = unthrottled_watts(view, plan.throttles, plan.baselines, fleet_file, site.id, now)
        locked_out = known.heartbeat is not None and known.heartbeat.locked_out
        if by_itself is None or locked_out or known.is_stale(now, limits.stale_seconds):
            continue
        steps = _steps_ahead(known.forecast, limits.stale_seconds, now)
        next_power = steps[0][1].power_watts if steps else None
        found.append(
            FlexibilityOffer(
                run_id=plan.run_id,
                fleet_id=view.fleet.id,
                site_id=site.id,
                issued_at=now,
                valid_until=now + timedelta(seconds=2 * limits.plan_interval_seconds),
                expected_power_watts=by_itself if next_power is None else next_power[_MEDIAN],
                offers=[
                    reduction
                    for seconds in DURATIONS_SECONDS
                    for reduction in _reductions(view, plan, site, fleet_file, by_itself, steps, seconds, now)
                ],
            )
        )
    return found


def _reductions(
    view: FleetView,
    plan: FleetPlan,
    site: Site,
    fleet_file: FleetFile,
    by_itself_watts: float,
    steps: Sequence[tuple[float, HorizonForecast]],
    duration_seconds: float,
    now: datetime,
) -> Iterator[OfferedReduction]:
    """What the site can hold for a duration, by each response."""
    # The slowest response begins last, and must hold as long; the others may count on no more.
    seconds = duration_seconds + max(RESPONSES_SECONDS)
    expected = _expected(view, site, fleet_file, by_itself_watts, steps, seconds)
    full, until = full_power_watts(site, fleet_file), now + timedelta(seconds=seconds)
    # What it is held to already, or will be, is promised: only what lies below that can be given.
    held = min([full, *(each.target_power_watts for each in plan.throttles if _holds(each, site, now, until))])
    # Room that is reserved for another site's traffic must stay: the site can't come down by it.
    reserved = sum(
        each.reserved_power_watts for each in plan.shifts if each.to_site_id == site.id and each.phase not in _OVER
    )
    begins, floor = min(expected.power_watts, held), least_power_watts(site, fleet_file) + reserved
    low = min(expected.low_power_watts, held) - MARGIN_RATIO * full
    for response_seconds in RESPONSES_SECONDS:
        reach = _ramp_watts_per_second(view, site) * max(0.0, response_seconds - RESPONSE.total_seconds())
        half = max(0.0, min(reach, begins - floor))
        lost = _lost_per_second(expected.loads, held, begins - half, site, fleet_file) if half > 0 else 0.0
        yield OfferedReduction(
            response_seconds=response_seconds,
            duration_seconds=duration_seconds,
            firm_power_watts_p50=half,
            firm_power_watts_p90=max(0.0, min(reach, low - floor)),
            tokens_lost_per_mwh=lost * _JOULES_PER_MWH / half if half > 0 else 0.0,
        )


def _holds(control: ThrottleControl, site: Site, now: datetime, until: datetime) -> bool:
    return control.site_id == site.id and control.starts_at < until and now < control.ends_at


def _ramp_watts_per_second(view: FleetView, site: Site) -> float:
    fleet_limit = view.fleet.limits.ramp_down_watts_per_second
    own = site.ramp_down_watts_per_second
    if fleet_limit is None:
        return own
    return min(own, fleet_limit * own / sum(each.ramp_down_watts_per_second for each in view.fleet.sites))


def _expected(
    view: FleetView,
    site: Site,
    fleet_file: FleetFile,
    by_itself_watts: float,
    steps: Sequence[tuple[float, HorizonForecast]],
    seconds: float,
) -> _Expected:
    """The site by itself over the next `seconds`.

    What it draws now counts too: an event's reduction is measured from there. What lies further ahead than the
    forecast reaches is taken to be like its last step; without a fresh forecast, all that comes like now.
    """
    within = sum(1 for ends_in, _ in steps if ends_in <= seconds)
    span = [step for _, step in steps[: within + 1]]  # the last one ends later
    powers = [step.power_watts for step in span if step.power_watts is not None]
    load, cost = view.sites[site.id].load, prompt_token_cost_ratio(site, fleet_file)
    loads = [_load(step, cost) for step in span]
    if not loads and load is not None:
        loads = [(work_per_second(load, site, fleet_file), load.tokens_arrived_per_second)]
    return _Expected(
        power_watts=min([by_itself_watts, *(power[_MEDIAN] for power in powers)]),
        low_power_watts=min([by_itself_watts, *(power[_LOW] for power in powers)]),
        loads=tuple(loads),
    )


def _steps_ahead(
    forecast: SiteForecast | None, stale_seconds: float, now: datetime
) -> list[tuple[float, HorizonForecast]]:
    """The steps of a fresh forecast that are not over, in order, with the seconds until each ends."""
    if forecast is None:
        return []
    age = (now - forecast.issued_at).total_seconds()
    horizons = sorted(forecast.horizons, key=lambda each: each.horizon_seconds)
    # It is fresh until the next one is overdue: one is issued every step, and the first horizon is a step.
    if not 0 <= age <= horizons[0].horizon_seconds + stale_seconds:
        return []
    return [(each.horizon_seconds - age, each) for each in horizons if each.horizon_seconds > age]


def _load(step: HorizonForecast, prompt_cost: float) -> tuple[float, float]:
    tokens = step.tokens_per_second[_MEDIAN]
    prompts = step.prefill_tokens_per_second[_MEDIAN] if step.prefill_tokens_per_second is not None else 0.0
    return tokens + prompt_cost * prompts, tokens


def _lost_per_second(
    loads: Sequence[tuple[float, float]], held_watts: float, power_watts: float, site: Site, fleet_file: FleetFile
) -> float:
    """Generated tokens/s lost at `power_watts` beside what `held_watts` let through, mean over the steps' loads.

    None are lost while the throughput under the cap still exceeds the load: at part load GPUs draw more than what the
    same tokens take under a cap.
    """
    before = tokens_per_second_at(held_watts, site, fleet_file)
    after = tokens_per_second_at(power_watts, site, fleet_file)
    lost = [(min(work, before) - min(work, after)) * tokens / work if work > 0 else 0.0 for work, tokens in loads]
    return max(0.0, sum(lost) / len(lost)) if lost else 0.0
