"""One site's inference load over one window. Counts inside, divided once at the close: order never matters."""

from dataclasses import dataclass, field
from datetime import datetime

from schemas.envelope import LIVE_RUN
from schemas.latency import EMPTY_COUNTS, quantile_seconds
from schemas.requests import ClassRequests, RequestRates
from schemas.site import ClassLoad, LoadState

# The most that a record can hold. No load comes near it; a source that counts wildly must not stop the stage.
_MOST = 2**62


@dataclass(slots=True)
class _ClassSums:
    requests: int = 0
    prompt_tokens: int = 0
    tokens_arrived: int = 0
    tokens_served: int = 0
    ttft_counts: list[int] = field(default_factory=lambda: list(EMPTY_COUNTS))
    # What waits is a level, not a flow: the newest report of each source holds.
    queued: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    def add(self, source: str, observed_at: datetime, part: ClassRequests) -> None:
        self.requests += part.requests_arrived
        self.prompt_tokens += part.prompt_tokens_arrived
        self.tokens_arrived += part.tokens_arrived
        self.tokens_served += part.tokens_served
        self.ttft_counts = [a + b for a, b in zip(self.ttft_counts, part.ttft_seconds_counts, strict=True)]
        self.queued[source] = max(self.queued.get(source, (observed_at, 0)), (observed_at, part.tokens_queued))

    def close(self, service_class: str, seconds: float) -> ClassLoad:
        return ClassLoad(
            service_class=service_class,
            requests_per_second=self.requests / seconds,
            prompt_tokens_per_second=self.prompt_tokens / seconds,
            tokens_arrived_per_second=self.tokens_arrived / seconds,
            tokens_served_per_second=self.tokens_served / seconds,
            tokens_queued=min(_MOST, sum(queued for _, queued in self.queued.values())),
            ttft_seconds_counts=[min(_MOST, count) for count in self.ttft_counts],
            ttft_seconds_p50=quantile_seconds(self.ttft_counts, 0.5),
            ttft_seconds_p99=quantile_seconds(self.ttft_counts, 0.99),
        )


@dataclass(slots=True)
class LoadWindow:
    """Sums over a window's request rates, each (source, sequence) taken once."""

    taken: set[tuple[str, int]] = field(default_factory=set)
    duplicates: int = 0
    covered_milliseconds: dict[str, int] = field(default_factory=dict)
    classes: dict[str, _ClassSums] = field(default_factory=dict)

    def fold(self, rates: RequestRates) -> None:
        """Adds a record; one already taken is counted and changes nothing."""
        if (rates.source, rates.sequence) in self.taken:
            self.duplicates += 1
            return
        self.taken.add((rates.source, rates.sequence))
        covered = self.covered_milliseconds.get(rates.source, 0)
        self.covered_milliseconds[rates.source] = covered + round(rates.interval_seconds * 1000)
        for part in rates.classes:
            self.classes.setdefault(part.service_class, _ClassSums()).add(rates.source, rates.observed_at, part)

    def close(
        self, fleet_id: str, site_id: str, start: datetime, end: datetime, gpus_expected: int, run_id: str = LIVE_RUN
    ) -> LoadState:
        """The window's record: rates per second over [start, end)."""
        seconds = (end - start).total_seconds()
        classes = [self.classes[name].close(name, seconds) for name in sorted(self.classes)]
        covered = min(self.covered_milliseconds.values(), default=0) / 1000
        return LoadState(
            run_id=run_id,
            fleet_id=fleet_id,
            site_id=site_id,
            window_start=start,
            window_end=end,
            records=len(self.taken),
            duplicates=self.duplicates,
            requests_per_second=sum(load.requests_per_second for load in classes),
            tokens_arrived_per_second=sum(load.tokens_arrived_per_second for load in classes),
            tokens_served_per_second=sum(load.tokens_served_per_second for load in classes),
            tokens_queued=min(_MOST, sum(load.tokens_queued for load in classes)),
            covered_ratio=min(1.0, covered / seconds),
            classes=classes,
        )
