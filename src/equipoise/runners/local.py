"""Runners on this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from equipoise.errors import EquipoiseError, WorkspaceError

Task = TypeVar("Task")
Result = TypeVar("Result")

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""Two OpenMP threads beside other work slow a training step several times, so each process has one."""


@dataclass(frozen=True)
class InProcess:
    """One task after the other, here.

    Parameters
    ----------
    allowed
        ``False`` to read a finished experiment only: a task that is still to be done raises `WorkspaceError`.
    """

    allowed: bool = True

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield results in the order of the tasks."""
        if tasks and not self.allowed:
            raise WorkspaceError(
                f"the experiment is not finished: {len(tasks)} task(s) of this stage are still to be done",
                fix="run `equipoise resume WORKSPACE` first",
            )
        for index, task in enumerate(tasks):
            yield index, function(task)

    def slots(self) -> int:
        """Return 1: one task after the other."""
        return 1

    def close(self) -> None:
        """Do nothing: there is nothing to end."""


class Processes:
    """Tasks side by side in processes of one thread each, which stay for the next call: they keep what they have read.

    Parameters
    ----------
    workers
        Number of processes; 0 is one per usable core.
    attempts
        How often a task is tried whose process was killed (out of memory, SIGKILL).
    """

    def __init__(self, workers: int = 0, attempts: int = 3) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self.attempts = attempts
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield results as they finish; tasks of a killed worker are run again."""
        left = dict.fromkeys(range(len(tasks)), 0)
        while left:
            yield from self._round(function, tasks, left)
            worst = max(left.values(), default=0)
            if worst >= self.attempts:
                raise EquipoiseError(
                    f"worker processes were killed {worst} times on the same tasks",
                    why="most often the machine ran out of memory",
                    fix="use fewer --workers or a smaller batch, then `equipoise resume`; finished tasks are kept",
                )

    def slots(self) -> int:
        """Return the number of processes."""
        return self.workers

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _round(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], left: dict[int, int]
    ) -> Iterator[tuple[int, Result]]:
        """Run what is left; a pool that breaks ends the round with the unfinished tasks still in ``left``."""
        pool = self._pool = self._pool or ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"))
        pending: dict[Future[Result], int] = {}
        queue = iter(list(left))
        try:
            # Few in flight, one of them waiting: when a worker dies only those lose an attempt, not the whole queue.
            self._submit(pool, function, tasks, queue, pending, self.workers + 1)
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    index = pending.pop(future)
                    del left[index]
                    # Handed over before the next submission, which raises if the pool has broken meanwhile.
                    yield index, result
                    self._submit(pool, function, tasks, queue, pending, 1)
        except BrokenProcessPool:
            for index in pending.values():
                left[index] += 1
            self.close()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            raise

    def _submit(
        self,
        pool: ProcessPoolExecutor,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        queue: Iterator[int],
        pending: dict[Future[Result], int],
        count: int,
    ) -> None:
        # A process is started by a submission and reads the number of threads when it loads its libraries.
        with _environment(ONE_THREAD):
            for index in islice(queue, count):
                pending[pool.submit(function, tasks[index])] = index


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables that the libraries of a new process read when they are loaded."""
    before: dict[str, Any] = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
