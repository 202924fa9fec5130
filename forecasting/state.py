"""What a series' forecasts have learnt from their own errors, as one flat row of float32 a series.

float32 always, in memory as on disk: what is read back after a restart is what was there before, to the bit.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

State = NDArray[np.float32]

RING = 150  # normalised errors remembered of each horizon
# Beside what each expert said, a forecast that waits for its time keeps: point, scale, spread, lower, upper bound.
_BESIDE_EXPERTS = 5
_NUMBERS = 1_000_000  # a step is known by its number modulo this, which float32 holds exactly


@dataclass(frozen=True)
class Layout:
    """Where what lies in a row, for horizons of so many steps, each forecast scored every `cadence_steps`."""

    horizon_steps: tuple[int, ...]
    cadence_steps: tuple[int, ...]
    experts: int

    @property
    def horizons(self) -> int:
        """How many horizons there are."""
        return len(self.horizon_steps)

    @cached_property
    def waiting(self) -> NDArray[np.int64]:
        """How many forecasts of each horizon wait at once, shape (A,)."""
        return np.array([-(-h // c) for h, c in zip(self.horizon_steps, self.cadence_steps, strict=True)])

    @cached_property
    def first_slot(self) -> NDArray[np.int64]:
        """The first slot of each horizon among all that wait, shape (A,)."""
        return np.concatenate([[0], np.cumsum(self.waiting)[:-1]])

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The fields of a row and their shapes, in their order."""
        slots, count = int(self.waiting.sum()), self.horizons
        return {
            "regret": (count, self.experts),
            "square": (count, self.experts),
            "fast_error": (count,),
            "slow_error": (count,),
            "widening": (count,),
            "scored": (count,),
            "ring": (count, RING),
            "pending": (slots, self.experts + _BESIDE_EXPERTS),
            "pending_number": (slots,),
        }

    @cached_property
    def size(self) -> int:
        """Length of a row."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def fields(self, states: State) -> dict[str, State]:
        """The fields of rows (S, size), as views: what is written there is written in the rows."""
        found, at = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            found[name] = states[:, at : at + size].reshape(len(states), *shape)
            at += size
        return found

    def slots(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where forecasts issued at these steps (S,) wait, shape (S, A)."""
        cadence = np.array(self.cadence_steps)
        return np.asarray(self.first_slot + numbers[:, None] // cadence % self.waiting)


def number_of(steps: NDArray[np.int64]) -> State:
    """The numbers of steps as rows hold them."""
    return (steps % _NUMBERS).astype(np.float32)


def _read(value: Any) -> State:
    if not isinstance(value, str):
        raise ValueError("must be base64")  # noqa: TRY004 - pydantic makes a validation error of this one alone
    return np.frombuffer(b64decode(value, validate=True), dtype="<f4").astype(np.float32)


_written: Callable[[State], str] = lambda state: b64encode(state.astype("<f4").tobytes()).decode()  # noqa: E731


@dataclass(slots=True, eq=False)
class Track:
    """One series' row; empty before its first forecast."""

    state: Annotated[State, PlainValidator(_read), PlainSerializer(_written, return_type=str)] = field(
        default_factory=lambda: np.empty(0, dtype=np.float32)
    )
