"""Which faults are on at a time."""

from collections.abc import Iterable

from streams.simulate.scenario import Fault, FaultKind


class Faults:
    """A scenario's faults by kind; most runs have few."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._by_kind: dict[str, list[Fault]] = {}
        for fault in faults:
            self._by_kind.setdefault(fault.kind, []).append(fault)

    def of(self, kind: FaultKind) -> list[Fault]:
        """All of a kind, on or not."""
        return self._by_kind.get(kind, [])

    def on(self, kind: FaultKind, seconds: float, site_id: str | None = None) -> Fault | None:
        """The fault of a kind that is on at that time, of the site; with no site, only one of all sites."""
        for fault in self._by_kind.get(kind, ()):
            here = not fault.sites or site_id in fault.sites
            if here and fault.from_seconds <= seconds < fault.until_seconds:
                return fault
        return None

    def ratio(self, kind: FaultKind, seconds: float, site_id: str, usual: float) -> float:
        """The ratio of messages that a kind of fault concerns: the fault's while it is on, else the usual."""
        fault = self.on(kind, seconds, site_id)
        return usual if fault is None or fault.ratio is None else fault.ratio
