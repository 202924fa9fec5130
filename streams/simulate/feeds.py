"""What comes from outside in a scenario: what markets and the utility say, and what somebody forges."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil

import numpy as np

from schemas.command import Throttle
from schemas.fleet import Fleet, FleetFile, Site
from schemas.offer import FlexibilityOffer, OfferedReduction
from schemas.signals import EventSignal, PriceSignal
from streams.capacity import least_power_watts
from streams.simulate.scenario import EventSpec, RandomTargets, Scenario
from streams.simulate.sources import PriceFile, Sources

_PUBLISHED_SECONDS = 15.0  # a real-time price is published so long after its interval has begun
_DAY_AHEAD_HOUR_UTC = 16  # day-ahead prices on the day before
_SHORT_MARKET = {"real-time": "rt", "day-ahead": "da"}
_SOURCE = "scenario"
# An epoch that no planner reaches: it would stand above all that the planner says.
_FORGED_EPOCH = 2**40


def price_feed(scenario: Scenario, fleet: Fleet, sources: Sources) -> list[PriceSignal]:
    """Every price that is known before the scenario ends, in the order of publication. A gap gives no signal."""
    found = [
        signal
        for file in sources.prices
        for point in dict.fromkeys(site.settlement_point for site in fleet.sites)
        for signal in _prices_of(scenario, fleet, file, point)
    ]
    return sorted(found, key=lambda signal: signal.published_at)


def _prices_of(scenario: Scenario, fleet: Fleet, file: PriceFile, point: str) -> list[PriceSignal]:
    trace, spec = file.trace, file.spec
    moved = scenario.starts_at - (spec.file_starts_at or scenario.starts_at)
    ends_at = scenario.starts_at + timedelta(seconds=scenario.duration_seconds)
    column = trace.prices_usd_per_mwh[:, trace.zones.index(file.zones[point])]
    signals = []
    for number in range(min(trace.steps, ceil((scenario.duration_seconds + 2 * 86_400) / trace.step_seconds))):
        starts_at = trace.starts_at + moved + timedelta(seconds=number * trace.step_seconds)
        published_at = _published_at(spec.market, spec.published_seconds, starts_at)
        if published_at >= ends_at or np.isnan(column[number]):
            continue
        signals.append(
            PriceSignal(
                run_id=scenario.name,
                fleet_id=fleet.id,
                signal_id=f"{_SHORT_MARKET[spec.market]}/{point}/{starts_at:%Y-%m-%dT%H:%M:%SZ}",
                source=f"trace/{trace.name}"[:120],
                published_at=published_at,
                starts_at=starts_at,
                ends_at=starts_at + timedelta(seconds=trace.step_seconds),
                market=spec.market,
                settlement_point=point,
                price_usd_per_mwh=float(column[number]),
            )
        )
    return signals


def _published_at(market: str, published_seconds: float | None, starts_at: datetime) -> datetime:
    if published_seconds is not None:
        return starts_at + timedelta(seconds=published_seconds)
    if market == "real-time":
        return starts_at + timedelta(seconds=_PUBLISHED_SECONDS)
    midnight = starts_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(hours=24 - _DAY_AHEAD_HOUR_UTC)


def event_feed(scenario: Scenario, fleet: Fleet) -> list[EventSignal]:
    """Announcements, revisions and withdrawals of the scenario's events, in the order of publication."""
    found = [
        signal
        for number, event in enumerate(scenario.events, start=1)
        for signal in _said_of(scenario, fleet, event, event.id or f"{event.kind}/{number}")
    ]
    return sorted(found, key=lambda signal: signal.published_at)


def _said_of(scenario: Scenario, fleet: Fleet, event: EventSpec, signal_id: str) -> list[EventSignal]:
    def at(seconds: float) -> datetime:
        return scenario.starts_at + timedelta(seconds=seconds)

    said = {
        "run_id": scenario.name,
        "fleet_id": fleet.id,
        "signal_id": signal_id,
        "source": _SOURCE,
        "published_at": at(event.announced),
        "starts_at": at(event.starts),
        "ends_at": at(event.ends),
        "kind": event.kind,
        "site_ids": list(event.sites),
        "reduction_ratio": event.reduction_ratio,
        "target_power_watts": event.target_power_watts,
        "ramp_seconds": event.ramp_seconds,
    }
    signals = [EventSignal.model_validate(said)]
    for revision in sorted(event.revised, key=lambda each: each.at):
        said |= {"published_at": at(revision.at)}
        said |= {} if revision.starts is None else {"starts_at": at(revision.starts)}
        said |= {} if revision.ends is None else {"ends_at": at(revision.ends)}
        said |= {} if revision.ramp_seconds is None else {"ramp_seconds": revision.ramp_seconds}
        if revision.reduction_ratio is not None or revision.target_power_watts is not None:
            said |= {
                "reduction_ratio": revision.reduction_ratio,
                "target_power_watts": revision.target_power_watts,
            }
        signals.append(EventSignal.model_validate(said))
    if event.cancelled_at is not None:
        said |= {"published_at": at(event.cancelled_at), "cancelled": True}
        signals.append(EventSignal.model_validate(said))
    return signals


def target_times(scenario: Scenario) -> list[float]:
    """When the random targets are announced, seconds from the start; those that end within the scenario."""
    spec = scenario.random_targets
    if spec is None:
        return []
    first = scenario.warm_up_seconds if spec.first is None else spec.first
    times = [first + number * spec.spacing_seconds for number in range(spec.count)]
    return [at for at in times if at + spec.spacing_seconds <= scenario.duration_seconds]


def random_target(
    scenario: Scenario, fleet: Fleet, number: int, now: datetime, offers: Mapping[str, FlexibilityOffer], seed: int
) -> EventSignal | None:
    """Random target number `number`, within the newest offers at `now`; None where nothing is offered.

    As long as was offered is given to respond, no longer than was offered is it held after that, and of the P90 that
    is offered for the two a drawn share is asked for.
    """
    spec = scenario.random_targets
    assert spec is not None
    rng = np.random.default_rng([seed, 0xD8A, number])
    valid = [offers[site.id] for site in fleet.sites if site.id in offers and now < offers[site.id].valid_until]
    if spec.scope == "site" and valid:
        valid = [valid[int(rng.integers(len(valid)))]]
    elif len(valid) < len(fleet.sites):
        return None  # a target for all needs an offer from each
    promised = _promised(valid, spec)
    if not promised:
        return None
    response, duration = promised[int(rng.integers(len(promised)))]
    of_each = [_reduction(offer, response, duration) for offer in valid]
    expected = sum(offer.expected_power_watts for offer in valid)
    depth = rng.uniform(*spec.depth_ratio) * sum(each.firm_power_watts_p90 for each in of_each if each)
    least, most = spec.duration_seconds
    held = round(rng.uniform(least, min(most, duration)))
    starts_at = now + timedelta(seconds=spec.notice_seconds)
    return EventSignal(
        run_id=scenario.name,
        fleet_id=fleet.id,
        signal_id=f"target/{number:03}",
        source=_SOURCE,
        published_at=now,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=response + held),
        kind="event",
        site_ids=[offer.site_id for offer in valid] if spec.scope == "site" else [],
        target_power_watts=expected - depth,
        ramp_seconds=response,
    )


def _promised(offers: Sequence[FlexibilityOffer], spec: RandomTargets) -> list[tuple[float, float]]:
    """Response and duration of the reductions that every one offers, and that last long enough to ask for."""
    promised = [
        {(each.response_seconds, each.duration_seconds) for each in offer.offers if each.firm_power_watts_p90 > 0}
        for offer in offers
    ]
    common = set.intersection(*promised) if promised else set()
    return sorted(each for each in common if each[1] >= spec.duration_seconds[0])


def _reduction(offer: FlexibilityOffer, response: float, duration: float) -> OfferedReduction | None:
    return next(
        (each for each in offer.offers if (each.response_seconds, each.duration_seconds) == (response, duration)), None
    )


def forged_command(scenario: Scenario, fleet_file: FleetFile, site: Site, number: int, now: datetime) -> Throttle:
    """Somebody's command that no planner gave: down to the site's least power for an hour, by the highest reason."""
    least, ends_at = least_power_watts(site, fleet_file), now + timedelta(hours=1)
    return Throttle(
        run_id=scenario.name,
        fleet_id=fleet_file.fleets[0].id,
        site_id=site.id,
        control_id=f"forged/{number}",
        epoch=_FORGED_EPOCH,
        sequence=number,
        issued_at=now,
        starts_at=now,
        ends_at=ends_at,
        lease_expires_at=ends_at,
        reason="emergency",
        target_power_watts=least,
        ramp_down_watts_per_second=site.ramp_down_watts_per_second,
        ramp_up_watts_per_second=site.ramp_up_watts_per_second,
        fallback_power_watts=least,
    )
