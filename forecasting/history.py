"""A site's load as equal steps: what its forecasts rest on. A function of the site's own states, in order."""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from forecasting.online import Scorecard, StepScore
from forecasting.quality import CLOCK_JUMP
from forecasting.state import Track
from schemas.site import LoadState

# What is forecast of a site and of each of its classes, in the order of a part's rows.
QUANTITIES = ("requests_per_second", "prefill_tokens_per_second", "tokens_per_second")
REQUESTS, PREFILL, DECODE = range(3)

# The name of the part that is the whole site: no service class can have it.
SITE = ""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)

# Two weeks of the site, so that last week's shape is known twice; of a class enough to know it once, a day ahead.
# Fewer of shorter steps: with its tracks and scores, a history of all its classes must fit in one record of a stage's
# memory.
_SITE_SPAN, _MOST_SITE_STEPS = timedelta(days=14), 8_064
_CLASS_SPAN, _MOST_CLASS_STEPS = timedelta(days=8), 2_880

# Those that are heard of later are in the site's total alone: names come from outside, and memory has an end.
_MOST_CLASSES = 8

# A step counts when at least this share of it was observed; a rarer one is a gap.
_LEAST_COVERED_RATIO = 0.5

# More than all the world's GPUs make: such a state is taken as not observed, lest one poison two weeks of steps.
_PLAUSIBLE_PER_SECOND = 1e12

# A window that lies further ahead is a clock that was set, not a site that was silent; said for a day.
_JUMP = _DAY


def _in_rows(value: Any) -> NDArray[np.float32]:
    if not isinstance(value, str):
        raise ValueError("must be base64")  # noqa: TRY004 - pydantic makes a validation error of this one alone
    return np.frombuffer(b64decode(value, validate=True), dtype="<f4").reshape(len(QUANTITIES), -1).astype(np.float32)


def _in_base64(rows: NDArray[np.float32]) -> str:
    return b64encode(rows.astype("<f4").tobytes()).decode()


# float32: seven digits, at a third of what they take as text.
_Rows = Annotated[NDArray[np.float32], PlainValidator(_in_rows), PlainSerializer(_in_base64, return_type=str)]


def _new_tracks() -> list[Track]:
    return [Track() for _ in QUANTITIES]


def _or_new(value: Any, read: ValidatorFunctionWrapHandler) -> list[Track]:
    """What was learnt by a forecaster of another version is dropped, so that the steps are not lost with it."""
    try:
        tracks: list[Track] = read(value)
    except ValidationError:
        return _new_tracks()
    return tracks if len(tracks) == len(QUANTITIES) else _new_tracks()


_Tracks = Annotated[list[Track], WrapValidator(_or_new)]


def _no_steps() -> NDArray[np.float32]:
    return np.empty((len(QUANTITIES), 0), dtype=np.float32)


@dataclass(slots=True, eq=False)
class LoadPart:
    """Load of the whole site, or of one service class of it.

    `steps` has shape (3, n): a row for each of QUANTITIES (1/s), a column for each closed step, oldest first, NaN
    where it was not observed; the last one ends where the site's history does. `tracks` are what each row's forecasts
    have learnt from their own errors.
    """

    steps: _Rows = field(default_factory=_no_steps)
    tracks: _Tracks = field(default_factory=_new_tracks)
    open_sums: list[float] = field(default_factory=lambda: [0.0] * len(QUANTITIES))

    def add(self, rates: Sequence[float], seconds: float) -> None:
        """Takes these rates (1/s, in the order of QUANTITIES) into the open step."""
        for row, rate in enumerate(rates):
            self.open_sums[row] += rate * seconds

    def close(self, open_seconds: float | None, gaps: int, keep_steps: int) -> None:
        """Ends the open step, of which so much was observed (None: too little), and so many gaps after it."""
        new = np.full((len(QUANTITIES), 1 + gaps), np.nan, dtype=np.float32)
        if open_seconds is not None:
            new[:, 0] = np.array(self.open_sums) / open_seconds
        self.steps = np.concatenate([self.steps, new], axis=1)[:, -keep_steps:]
        self.open_sums = [0.0] * len(QUANTITIES)

    def is_known(self) -> bool:
        """Whether any step was observed."""
        return not bool(np.isnan(self.steps[DECODE]).all())

    def is_silent(self, keep_steps: int) -> bool:
        """Whether nothing was heard of it in all that is kept."""
        return self.steps.shape[1] >= keep_steps and not np.nan_to_num(self.steps).any()


@dataclass(frozen=True, slots=True)
class Closing:
    """A step that closed: when it ended, how good the forecasts of it were, and how many gaps closed after it."""

    ended_at: datetime
    scores: list[StepScore]
    gaps: int = 0


@dataclass(slots=True, eq=False)
class SiteHistory:
    """The last closed steps of a site, the step that is filling, and the newest window taken.

    `end` is the end of the last closed step, which is where the open one begins. A class that was not heard of in a
    step had no load in it, if the site was observed.
    """

    step_seconds: float
    keep_steps: int
    keep_class_steps: int
    end: datetime | None = None
    newest_window_start: datetime | None = None
    jumped_at: datetime | None = None
    open_seconds: float = 0.0
    parts: dict[str, LoadPart] = field(default_factory=lambda: {SITE: LoadPart()})
    scores: Scorecard = field(default_factory=Scorecard)

    def is_news(self, state: LoadState) -> bool:
        """Whether the window is newer than the newest taken."""
        return self.newest_window_start is None or state.window_start > self.newest_window_start

    def closes(self, state: LoadState) -> bool:
        """Whether taking this window would close a step."""
        return self.is_news(state) and self.end is not None and self._step_start(state.window_start) > self.end

    def fold(self, state: LoadState) -> Closing | None:
        """Takes the next window; None if no step closed. A window not newer than the newest changes nothing."""
        if not self.is_news(state):
            return None
        closing = None
        step_start = self._step_start(state.window_start)
        if self.end is None:
            self.end = step_start
        elif step_start > self.end:
            closing = self._close_until(step_start)
        self.newest_window_start = state.window_start
        seconds = (state.window_end - state.window_start).total_seconds()
        rates = _rates(state)
        if seconds > 0 and all(rate <= _PLAUSIBLE_PER_SECOND for each in rates.values() for rate in each):
            self.open_seconds += seconds * state.covered_ratio
            for name, each in rates.items():
                if name in self.parts or len(self.parts) <= _MOST_CLASSES:
                    self.parts.setdefault(name, LoadPart()).add(each, seconds)
        return closing

    def _close_until(self, step_start: datetime) -> Closing:
        assert self.end is not None
        closed = round((step_start - self.end).total_seconds() / self.step_seconds)
        observed = self.open_seconds >= _LEAST_COVERED_RATIO * self.step_seconds
        for name, part in self.parts.items():
            keep = self.keep_steps if name == SITE else self.keep_class_steps
            part.close(self.open_seconds if observed else None, min(closed - 1, keep), keep)
        silent = [name for name, part in self.parts.items() if name != SITE and part.is_silent(self.keep_class_steps)]
        for name in silent:
            del self.parts[name]
        scores = self.scores.close(self.site.steps[DECODE], self.last_step() + 1, closed, self.step_seconds)
        ended_at = self.end + timedelta(seconds=self.step_seconds)
        if step_start - self.end > _JUMP:
            self.jumped_at = step_start
        self.end, self.open_seconds = step_start, 0.0
        return Closing(ended_at, scores, closed - 1)

    def _step_start(self, at: datetime) -> datetime:
        since = (at - _BEGINNING).total_seconds()
        return _BEGINNING + timedelta(seconds=since // self.step_seconds * self.step_seconds)

    @property
    def site(self) -> LoadPart:
        """The whole site's load."""
        return self.parts[SITE]

    def classes(self) -> Iterator[tuple[str, LoadPart]]:
        """The service classes of which a step is known, by name."""
        return ((name, part) for name, part in sorted(self.parts.items()) if name != SITE and part.is_known())

    def last_step(self) -> int:
        """The number of the last closed step, counted since 1970."""
        assert self.end is not None
        return round((self.end - _BEGINNING).total_seconds() / self.step_seconds) - 1

    def flags(self) -> list[str]:
        """What is out of the ordinary about the history itself."""
        jumped = self.jumped_at is not None and self.end is not None and self.end - self.jumped_at < _DAY
        return [CLOCK_JUMP] if jumped else []

    def to_json(self) -> bytes:
        """The history as a stage's memory keeps it."""
        return _ADAPTER.dump_json(self)

    @staticmethod
    def from_json(value: bytes) -> "SiteHistory":
        """The history that `to_json` wrote.

        Raises:
            pydantic.ValidationError: the bytes are none, or an earlier version's.
        """
        return _ADAPTER.validate_json(value)


def history_for(step_seconds: float) -> SiteHistory:
    """An empty history, of as much of the past as is kept of steps of this length."""
    step = timedelta(seconds=step_seconds)
    return SiteHistory(
        step_seconds,
        keep_steps=min(round(_SITE_SPAN / step), _MOST_SITE_STEPS),
        keep_class_steps=min(round(_CLASS_SPAN / step), _MOST_CLASS_STEPS),
    )


def _rates(state: LoadState) -> dict[str, tuple[float, float, float]]:
    """The rates of the site and of each class heard of, in the order of QUANTITIES."""
    prefill = sum(each.prompt_tokens_per_second for each in state.classes)
    rates = {SITE: (state.requests_per_second, prefill, state.tokens_arrived_per_second)}
    for each in state.classes:
        rates[each.service_class] = (
            each.requests_per_second,
            each.prompt_tokens_per_second,
            each.tokens_arrived_per_second,
        )
    return rates


_ADAPTER = TypeAdapter(SiteHistory)
