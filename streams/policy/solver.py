"""The optimiser in a process of its own, so that a long solve never holds up the planner's event loop."""

import asyncio
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread

import structlog
from threadpoolctl import threadpool_limits

from streams.policy.optimise import Solution, optimise
from streams.policy.problem import Problem

logger = structlog.get_logger(__name__)


class Solver:
    """Solves one problem after the other in one worker, which starts with the first and again if it dies."""

    def __init__(self) -> None:
        self._pool = _new_pool()

    def start(self) -> None:
        """Starts the worker before there is a problem, which need not wait for it then."""
        self._pool.submit(_nothing)

    async def solve(self, problem: Problem) -> Solution | None:
        """The solution; None where there is none within the optimiser's iterations, or the worker died over it."""
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, optimise, problem)
        except BrokenProcessPool:
            logger.warning("solver_died")
            if pool is self._pool:
                self._pool = _new_pool()
            pool.shutdown(wait=False)
            return None

    def close(self) -> None:
        """Ends the worker, after the problem that it is at; what still waits is not solved."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _new_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_set_up)


def _set_up() -> None:
    """In the worker: one thread for the libraries, Ctrl-C left to the parent, and no life after the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _nothing() -> None:
    """What a worker does to show that it is there."""


def _end_with_parent() -> None:
    # A killed parent closes nothing: the pool's own pipes stay open in the worker, which would wait for ever.
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
