"""Grid events, one fleet after the other, each taking the place of the one before; and the load of every site."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from time import monotonic

from aiokafka import AIOKafkaProducer

from benchmarks.fleet import Fleet
from benchmarks.live.schedule import Schedule, microseconds_of
from infra.bus import partition_of
from infra.clock import wall_now
from infra.keys import Keys
from infra.settings import Settings
from infra.signing import Owner
from schemas.catalog import COMMAND_ACKS, GRID_SIGNALS, INFERENCE_REQUESTS, Topic
from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.envelope import Record
from schemas.latency import BUCKETS
from schemas.requests import ClassRequests, RequestRates
from schemas.signals import EventSignal

_EVENT = timedelta(minutes=5)  # none runs so long: the fleet's next one takes its place
_RATIOS = (0.1, 0.15, 0.2, 0.25, 0.3)
RATES_SECONDS = 5.0


class Signals:
    """What the market, the inference servers and the sites' controllers say."""

    def __init__(self, settings: Settings, fleet: Fleet, producer: AIOKafkaProducer, loads: Schedule) -> None:
        self._settings, self._producer, self._loads = settings, producer, loads
        self._fleets, self._sites = fleet.fleet_ids(), fleet.site_ids()
        self._keys = Keys(settings)
        self._keys.make_ready(signs=[Owner("site", site_id) for site_id in self._sites])
        self._in_force: dict[str, EventSignal] = {}
        self._count = self._reports = 0

    async def events(self, every_seconds: float) -> None:
        """Publishes events until cancelled. Each withdraws the fleet's last one, so that each asks for a change."""
        due = monotonic()
        while True:
            fleet, now = self._fleets[self._count % len(self._fleets)], wall_now()
            event = EventSignal(
                run_id=self._settings.run_id,
                fleet_id=fleet,
                signal_id=f"bench/{self._count:06d}",
                source="bench",
                published_at=now,
                starts_at=now,
                ends_at=now + _EVENT,
                kind="event",
                reduction_ratio=_RATIOS[self._count // len(self._fleets) % len(_RATIOS)],
            )
            last = self._in_force.get(fleet)
            # One request carries both, so that the site goes from one to the other and is never free between.
            over = [last.model_copy(update={"cancelled": True, "published_at": now})] if last else []
            self._in_force[fleet] = event
            self._count += 1
            await self._send(GRID_SIGNALS, [*over, event])
            due += every_seconds
            await asyncio.sleep(max(0.0, due - monotonic()))

    async def rates(self) -> None:
        """Reports every site's load, over and over, until cancelled."""
        due = monotonic()
        while True:
            now = wall_now()
            await self._send(INFERENCE_REQUESTS, [self._rates(site, now) for site in self._sites])
            observed_us = microseconds_of(now)
            for site in self._sites:
                place = partition_of(site.encode(), self._settings.partitions)
                self._loads.note(place, [site], observed_us, observed_us - 1)
            due += RATES_SECONDS
            await asyncio.sleep(max(0.0, due - monotonic()))

    async def answer(self, commands: Iterable[Throttle | Shift | Release]) -> None:
        """Accepts commands as their sites would: what nobody answers is sent again, and never forgotten."""
        await self._send(
            COMMAND_ACKS,
            [
                CommandAck(
                    run_id=command.run_id,
                    fleet_id=command.fleet_id,
                    site_id=command.site_id,
                    control_id=command.control_id,
                    epoch=command.epoch,
                    sequence=command.sequence,
                    status="accepted",
                    observed_at=wall_now(),
                    highest_epoch=command.epoch,
                    highest_sequence=command.sequence,
                )
                for command in commands
            ],
        )

    def _rates(self, site: str, now: object) -> RequestRates:
        self._reports += 1
        served = ClassRequests(
            service_class="interactive",
            requests_arrived=500,
            requests_served=500,
            prompt_tokens_arrived=500_000,
            tokens_arrived=100_000,
            tokens_served=100_000,
            tokens_queued=0,
            ttft_seconds_counts=[500, *[0] * (BUCKETS - 1)],
        )
        return RequestRates.model_validate(
            {
                "run_id": self._settings.run_id,
                "site_id": site,
                "source": f"{site}/gateway",
                "sequence": self._reports,
                "observed_at": now,
                "interval_seconds": RATES_SECONDS,
                "classes": [served],
            }
        )

    async def _send(self, topic: Topic, records: Iterable[Record]) -> None:
        name, sent = topic.on_bus(self._settings.run_id), []
        for record in records:
            key = topic.key_of(record)
            place = partition_of(key, self._settings.partitions)
            value = record.to_json()
            signed = self._keys.sign(topic, record, value)
            sent.append(await self._producer.send(name, value, key=key, partition=place, headers=signed))
        await asyncio.gather(*sent)
