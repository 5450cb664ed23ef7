"""Runners on this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Processes:
    """Tasks side by side in processes of one thread each.

    Parameters
    ----------
    workers
        Number of processes; 0 is one per usable core.
    attempts
        How often a task is tried whose process was killed (out of memory, SIGKILL).
    """

    workers: int = 0
    attempts: int = 3

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

    def _round(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], left: dict[int, int]
    ) -> Iterator[tuple[int, Result]]:
        """Run what is left in one pool; a broken pool ends the round with the unfinished tasks still in ``left``."""
        workers = min(self.workers or len(os.sched_getaffinity(0)), len(left))
        with _environment(ONE_THREAD), ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            pending: dict[Future[Result], int] = {}
            queue = iter(list(left))
            try:
                # Few in flight: when a worker dies only those lose an attempt, not the whole queue.
                for index in _next(queue, workers):
                    pending[pool.submit(function, tasks[index])] = index
                while pending:
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        result = future.result()
                        index = pending.pop(future)
                        del left[index]
                        # Handed over before the next submission, which raises if the pool has broken meanwhile.
                        yield index, result
                        for following in _next(queue, 1):
                            pending[pool.submit(function, tasks[following])] = following
            except BrokenProcessPool:
                for index in pending.values():
                    left[index] += 1
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _next(queue: Iterator[int], count: int) -> Iterator[int]:
    for _ in range(count):
        try:
            yield next(queue)
        except StopIteration:
            return


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
