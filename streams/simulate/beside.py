"""The runs that a policy is held against, each in a process of its own while the policy's goes on in this one."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from ctypes import c_double
from dataclasses import replace
from multiprocessing import active_children, get_context
from multiprocessing.sharedctypes import SynchronizedArray

from streams.simulate.log import Outcome
from streams.simulate.loop import Policy, World, simulate

Tell = Callable[[float], None]
_LOOK_SECONDS = 0.5
_parts: "SynchronizedArray[float] | None" = None  # in a child: how far each of the runs is


class Beside:
    """Runs that are under way; `tell` passes on how far they are, `outcomes` waits for them."""

    def __init__(
        self, futures: Mapping[Policy, Future[Outcome]], parts: "SynchronizedArray[float]", tells: Mapping[Policy, Tell]
    ) -> None:
        self._futures, self._parts, self._tells = futures, parts, tells

    def tell(self) -> None:
        """Says how far each run is."""
        for place, tell in enumerate(self._tells.values()):
            tell(self._parts[place])

    def outcomes(self) -> dict[Policy, Outcome]:
        """What the sites did in each run; the logs stay behind, that of a month takes a gigabyte."""
        while wait(self._futures.values(), _LOOK_SECONDS).not_done:
            self.tell()
        self.tell()
        return {policy: future.result() for policy, future in self._futures.items()}


@contextmanager
def beside(world: World, tells: Mapping[Policy, Tell]) -> Iterator[Beside]:
    """Starts a run of the world under each of the policies; each is told the part that is done."""
    context, others = get_context("spawn"), set(active_children())
    parts = context.Array(c_double, len(tells))
    with ProcessPoolExecutor(max(1, len(tells)), context, initializer=_share, initargs=(parts,)) as pool:
        futures = {policy: pool.submit(_run, world, policy, place) for place, policy in enumerate(tells)}
        try:
            yield Beside(futures, parts, tells)
        except BaseException:
            for child in set(active_children()) - others:
                child.terminate()  # nobody will ask, and they would run for minutes
            raise


def _share(parts: "SynchronizedArray[float]") -> None:
    global _parts  # noqa: PLW0603 - shared memory reaches a spawned child only when it starts
    _parts = parts


def _run(world: World, policy: Policy, place: int) -> Outcome:
    def tell(part: float) -> None:
        assert _parts is not None
        _parts[place] = part

    return replace(simulate(world, policy, tell), log=[])
