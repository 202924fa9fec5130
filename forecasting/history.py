"""A site's load as equal steps: what a forecast rests on. A function of the site's own states, in order."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from schemas.site import LoadState

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

# A step counts when at least this share of it was observed; a rarer one is a gap.
_LEAST_COVERED_RATIO = 0.5

# More than all the world's GPUs make: such a state is taken as not observed, lest one poison two weeks of steps.
_PLAUSIBLE_TOKENS_PER_SECOND = 1e12


@dataclass(slots=True)
class SiteHistory:
    """The last closed steps of a site, the step that is filling, and the newest window taken.

    `steps` are mean tokens/s arriving, oldest first, None where a step was not observed; the last one ends at
    `end`, which is where the open step begins.
    """

    step_seconds: float
    keep_steps: int
    end: datetime | None = None
    steps: list[float | None] = field(default_factory=list)
    open_tokens: float = 0.0
    open_seconds: float = 0.0
    newest_window_start: datetime | None = None

    def fold(self, state: LoadState) -> bool:
        """Takes the next window; True if a step closed. A window not newer than the newest taken changes nothing."""
        if self.newest_window_start is not None and state.window_start <= self.newest_window_start:
            return False
        self.newest_window_start = state.window_start
        step_start = self._step_start(state.window_start)
        if self.end is None:
            self.end = step_start
        closed = step_start > self.end
        if closed:
            self._close_until(step_start)
        seconds = (state.window_end - state.window_start).total_seconds()
        if seconds > 0 and state.tokens_arrived_per_second <= _PLAUSIBLE_TOKENS_PER_SECOND:
            self.open_seconds += seconds * state.covered_ratio
            self.open_tokens += state.tokens_arrived_per_second * seconds
        return closed

    def _close_until(self, step_start: datetime) -> None:
        assert self.end is not None
        observed = self.open_seconds >= _LEAST_COVERED_RATIO * self.step_seconds
        self.steps.append(self.open_tokens / self.open_seconds if observed else None)
        missed = round((step_start - self.end).total_seconds() / self.step_seconds) - 1
        self.steps.extend([None] * min(missed, self.keep_steps))
        del self.steps[: -self.keep_steps]
        self.end, self.open_tokens, self.open_seconds = step_start, 0.0, 0.0

    def _step_start(self, at: datetime) -> datetime:
        since = (at - _BEGINNING).total_seconds()
        return _BEGINNING + timedelta(seconds=since // self.step_seconds * self.step_seconds)

    def to_json(self) -> bytes:
        """The history as a stage's memory keeps it."""
        return _ADAPTER.dump_json(self)

    @staticmethod
    def from_json(value: bytes) -> "SiteHistory":
        """The history that `to_json` wrote.

        Raises:
            pydantic.ValidationError: the bytes are none.
        """
        return _ADAPTER.validate_json(value)


_ADAPTER = TypeAdapter(SiteHistory)
