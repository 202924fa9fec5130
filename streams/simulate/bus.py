"""The bus in virtual time: appended messages reach readers inside at once and in order, sites over a way that loses.

Kafka delivers what it has at least once and in order of a key; its clients try again. So "loss" is a message that was
lost on the way between a site and the bus, for good; nothing is lost once it is on the bus.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

import numpy as np

from schemas.catalog import SITE_COMMANDS
from schemas.envelope import Record
from streams.simulate.agenda import HEAR, Agenda
from streams.simulate.faults import Faults
from streams.simulate.log import NO_HEADERS, Entry
from streams.simulate.scenario import Network, Scenario

# From one process to another beside the broker.
INSIDE_SECONDS = 0.05

Reader = Callable[[Record, Mapping[str, str]], None]


class Way:
    """The way between the sites and the bus: when the copies of a message arrive."""

    def __init__(self, network: Network, faults: Faults, seed: int) -> None:
        self._network, self._faults = network, faults
        self._rng = np.random.default_rng([seed, 0xB05])
        self._last: dict[tuple[str, str], float] = {}

    def arrivals(self, site_id: str, topic: str, seconds: float, *, to_site: bool) -> list[float]:
        """When a message sent at `seconds` arrives, seconds from the start; none if it is lost, two if copied."""
        network, faults = self._network, self._faults
        lost, held, copied, hurry, late, later = self._rng.random(6).tolist()  # as many a message, whatever happens
        outage = faults.on("bus-lost", seconds, site_id)
        if not to_site and (outage or faults.on("site-silent", seconds, site_id)):
            return []
        if lost < faults.ratio("loss", seconds, site_id, network.loss_ratio):
            return []
        # The site's consumer goes on where it was when the bus is back.
        leaves = seconds if outage is None else outage.until_seconds
        delay = faults.on("delay", seconds, site_id)
        arrival = leaves + network.latency_seconds * (0.5 + hurry) + (delay.seconds or 0.0 if delay else 0.0)
        if held < faults.ratio("reordering", seconds, site_id, network.reorder_ratio):
            arrival += late * network.delay_seconds
        else:
            arrival = self._last[site_id, topic] = max(arrival, self._last.get((site_id, topic), 0.0))
        if copied < faults.ratio("duplication", seconds, site_id, network.duplicate_ratio):
            return [arrival, arrival + later * network.delay_seconds]
        return [arrival]


class Bus:
    """Topics, who reads them, and the log of all that was appended."""

    def __init__(
        self, scenario: Scenario, agenda: Agenda, faults: Faults, seed: int, note: Callable[[Entry], None]
    ) -> None:
        self._starts_at, self._agenda, self._faults, self._note = scenario.starts_at, agenda, faults, note
        self._way = Way(scenario.network, faults, seed)
        self._readers: dict[str, list[Reader]] = {}
        self._sites: dict[str, Reader] = {}

    def read(self, topic: str, reader: Reader) -> None:
        """Lets a reader inside have the topic's records."""
        self._readers.setdefault(topic, []).append(reader)

    def read_at_site(self, site_id: str, reader: Reader) -> None:
        """Lets a site have the commands that are for it."""
        self._sites[site_id] = reader

    def now(self) -> datetime:
        """The time as the bus stamps it."""
        return self._starts_at + timedelta(seconds=self._agenda.now)

    def put(self, topic: str, record: Record, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Appends a record; while the whole bus is lost its producer tries again until it is back."""
        seconds = self._agenda.now
        outage = self._faults.on("bus-lost", seconds)
        if outage is not None:
            self._agenda.note(outage.until_seconds, HEAR, partial(self.put, topic, record, headers))
            return
        self._note(Entry(self.now(), topic, record, headers))
        for reader in self._readers.get(topic, ()):
            self._agenda.note(seconds + INSIDE_SECONDS, HEAR, partial(reader, record, headers))
        if topic == SITE_COMMANDS.name:
            site_id: str = record.site_id  # type: ignore[attr-defined]  # every command has one
            for arrival in self._way.arrivals(site_id, topic, seconds, to_site=True):
                self._agenda.note(arrival, HEAR, partial(self._sites[site_id], record, headers))

    def put_from_site(self, site_id: str, topic: str, record: Record) -> None:
        """Sends a site's record on its way to the bus."""
        for arrival in self._way.arrivals(site_id, topic, self._agenda.now, to_site=False):
            self._agenda.note(arrival, HEAR, partial(self.put, topic, record))
