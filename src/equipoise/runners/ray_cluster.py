"""Tasks on the machines of a Ray cluster (extra ``ray``); `docs/clusters.md` says how to start one.

Ray moves the tasks and notices when a worker or a machine dies. What makes the rows the same as in one process is ours:
every task has one thread, a worker with other library versions or another workspace folder is refused, and an error
arrives as the error that it was.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import platform
import secrets
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from equipoise.errors import EquipoiseError, PlanError, WorkspaceError
from equipoise.runners.local import ONE_THREAD
from equipoise.runners.ray_connection import import_ray, join
from equipoise.runners.ray_tasks import UnderWay, fetched
from equipoise.runners.ray_worker import Terms, attempt, opened, versions

Task = TypeVar("Task")
Result = TypeVar("Result")

_FOLDER = attrgetter("context.objects")
"""Where a task of an experiment names the folder that the driver and every worker must share."""

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 5.0
_PAUSE_BEFORE_RETRY_S = 1.0


@dataclass(frozen=True)
class RayCluster:
    """Tasks on a Ray cluster; those of killed workers and lost machines are run again.

    A Ray that the caller has initialised is used and left as it is. One that this runner has started or joined is left
    by `close`, at the end of a ``with`` block, or when the runner is dropped; it is kept between two calls of `map`.

    Parameters
    ----------
    address
        ``"HOST:6379"`` of the cluster's head, or ``"auto"`` for the cluster that this machine belongs to. ``None``
        takes the environment variable ``RAY_ADDRESS``, and without it starts Ray on this machine only.
    workers
        Tasks that run at the same time, of one thread each; 0 is one per CPU of the cluster.
    attempts
        How often a task is tried whose worker or machine died.
    gpus
        GPUs that a task needs, a fraction to share one. Ray hides the GPUs from a task that asks for none.
    patience
        Seconds to wait for a machine that can run a task while the cluster has none.
    """

    address: str | None = None
    workers: int = 0
    attempts: int = 3
    gpus: float = 0.0
    patience: float = 300.0
    _leave: list[Callable[[], object]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.workers < 0 or self.attempts < 1 or self.gpus < 0 or self.patience < 0:
            raise PlanError(
                f"got workers = {self.workers}, attempts = {self.attempts}, gpus = {self.gpus:g} and patience = "
                f"{self.patience:g}",
                fix="use workers >= 0 (0 is one per CPU of the cluster), attempts >= 1, gpus >= 0 and patience >= 0",
            )

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, or stop it if this runner started it; a Ray of the caller's is not touched."""
        while self._leave:
            self._leave.pop()()

    def slots(self) -> int:
        """Return how many tasks the cluster runs for this runner at once; joins it to see."""
        there = self._slots(self._joined())
        return min(self.workers, there) if self.workers else there

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield ``(index of the task, its result)`` as they finish, in any order.

        Parameters
        ----------
        function
            A module-level function that the workers can import.
        tasks
            Picklable; a task with ``context.objects`` names a folder that every worker must see.

        Raises
        ------
        MissingDependencyError
            Ray is not installed.
        WorkspaceError
            A worker does not see the folder that the tasks share.
        EquipoiseError
            The cluster cannot be reached, a worker has other versions, or a task was killed ``attempts`` times. An
            error that ``function`` raises arrives as it is; what was still running is cancelled.
        """
        if not tasks:
            return
        ray = self._joined()
        # Ray's own retries never end for a task that runs out of memory, and do not say how many there were.
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=0, scheduling_strategy="SPREAD")(attempt)
        with _marked(tasks) as mark:
            terms = pickle.dumps(Terms(versions(), mark, platform.node()))

            def submit(index: int, place: str, losses: int) -> Any:
                # Ray asks for workers kind by kind, and a request to a silent machine is never answered: after a loss
                # another environment makes another kind, which does not wait behind that request.
                kind = {"env_vars": {**ONE_THREAD, "EQUIPOISE_MACHINES_LOST": str(losses)}}
                work = pickle.dumps((function, tasks[index]))
                return remote.options(runtime_env=kind).remote(place, terms, work)

            yield from self._results(ray, UnderWay(ray, submit, _LOOK_EVERY_S), len(tasks))

    def _joined(self) -> Any:
        """Return Ray, connected to the cluster or started here."""
        ray = import_ray()
        if not ray.is_initialized():
            self._leave.append(weakref.finalize(self, join(ray, self.address, self.workers)))
        return ray

    def _results(self, ray: Any, under_way: UnderWay, count: int) -> Iterator[tuple[int, Any]]:
        """Keep the cluster busy, hand over what is finished, and submit again what was lost."""
        waiting, tried = deque(range(count)), Counter[int]()
        try:
            while waiting or under_way.tasks:
                for index in self._next(ray, waiting, len(under_way.tasks)):
                    under_way.add(index)
                done, _ = ray.wait(list(under_way.tasks), num_returns=1, timeout=_LOOK_EVERY_S)
                ended = [(under_way.tasks[reference], fetched(ray, reference)) for reference in done]
                under_way.forget(done)
                for index, answer in [*ended, *under_way.stranded()]:
                    if isinstance(answer, bytes):
                        yield index, opened(answer)
                        continue
                    if answer is not None:
                        tried[index] += 1
                        self._try_again(answer, tried[index])
                    waiting.append(index)
        finally:
            # Reached by an error, by Ctrl-C and when the caller stops asking: nothing may go on running.
            if ray.is_initialized():
                under_way.cancel(list(under_way.tasks))
                under_way.end()

    def _next(self, ray: Any, waiting: deque[int], running: int) -> Iterator[int]:
        """Take from ``waiting`` what may be submitted now.

        Twice the number of slots is submitted, so that a slot that becomes free finds its next task there, and a queue
        of thousands of tasks does not lie in the cluster's memory.
        """
        room = 2 * self._slots(ray) - running
        if self.workers:
            room = self.workers - running
        for _ in range(min(room, len(waiting))):
            yield waiting.popleft()

    def _slots(self, ray: Any) -> int:
        """Return how many tasks the cluster can run at once; wait for a machine where there is none."""
        give_up = time.monotonic() + self.patience
        while True:
            machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            slots = sum(
                int(min(m.get("CPU", 0), m.get("GPU", 0) / self.gpus if self.gpus else m.get("CPU", 0)))
                for m in machines
            )
            if slots:
                return slots
            if time.monotonic() > give_up:
                raise EquipoiseError(
                    f"for {self.patience:g} s no machine of the Ray cluster could run a task: a task needs 1 CPU"
                    + (f" and {self.gpus:g} GPU" if self.gpus else "")
                    + f", and the {len(machines)} machine(s) have "
                    + str([{kind: m.get(kind, 0) for kind in ("CPU", "GPU")} for m in machines]),
                    why="Ray would wait for ever for such a machine",
                    fix="start a worker on another machine with `ray start --address=HOST:6379`, see it in "
                    "`ray status`, then `equipoise resume`; finished tasks are kept",
                )
            time.sleep(min(1.0, self.patience))

    def _try_again(self, loss: Exception, times: int) -> None:
        """Wait a moment before a lost task is submitted again, or raise the one error when it is enough."""
        if times < self.attempts:
            _LOG.info("a task was lost on the Ray cluster (%s) and is tried again", type(loss).__name__)
            # A machine that has just died takes tasks until the cluster has noticed.
            time.sleep(_PAUSE_BEFORE_RETRY_S)
            return
        raise EquipoiseError(
            f"a task was lost {times} time(s) on the Ray cluster: its worker or its machine was killed while it ran "
            f"({type(loss).__name__})",
            why="most often a machine ran out of memory",
            fix="start Ray with fewer CPUs on that machine (`ray start --num-cpus=N`) or use a smaller batch, then "
            "`equipoise resume`; finished tasks are kept",
        )


@contextlib.contextmanager
def _marked(tasks: Sequence[Any]) -> Iterator[str | None]:
    """Put a file of a new name into the folder that the tasks share: only who sees this very folder sees it."""
    folder = None
    with contextlib.suppress(AttributeError):
        folder = Path(_FOLDER(tasks[0])).resolve()
    if folder is None or not folder.is_dir():  # a dry run has no workspace yet, and must not make one
        yield None
        return
    mark = folder / f".shared-{secrets.token_hex(8)}"
    try:
        mark.touch()
    except OSError as error:
        raise WorkspaceError(
            f"the workspace cannot be written ({error.strerror})",
            file=folder,
            fix="free some space or take another --workspace, then `equipoise resume`",
        ) from error
    try:
        yield str(mark)
    finally:
        mark.unlink(missing_ok=True)
