"""Virtual time: what happens next, and in which order where several things happen at once."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

# At one instant: what arrives is heard, then the planner plans, then the sites tick.
HEAR, PLAN, TICK = range(3)


class Agenda:
    """Things to do, each at its time (seconds from the scenario's start); equals in the order they were noted."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._numbers = count()

    def note(self, seconds: float, rank: int, do: Callable[[], None]) -> None:
        """Notes something to do; what should have been done before is done now."""
        heappush(self._heap, (max(seconds, self.now), rank, next(self._numbers), do))

    def run(self, until_seconds: float) -> None:
        """Does everything before `until_seconds`."""
        while self._heap and self._heap[0][0] < until_seconds:
            self.now, _, _, do = heappop(self._heap)
            do()
        self.now = until_seconds
