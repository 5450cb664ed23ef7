"""Tasks on the machines of a Ray cluster (extra ``ray``); `docs/clusters.md` says how to start one.

Ray moves the tasks and notices when a worker or a machine dies. What makes the rows the same as in one process is ours:
every task has one thread, a worker with other library versions or another workspace folder is refused, and an error
arrives as the error that it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import platform
import secrets
import signal
import socket
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from equipoise import __version__
from equipoise.errors import EquipoiseError, MissingDependencyError, PlanError, WorkspaceError
from equipoise.runners.local import ONE_THREAD
from equipoise.runners.ray_worker import Terms, attempt, opened, place_forget, place_of, versions

Task = TypeVar("Task")
Result = TypeVar("Result")

_FOLDER = attrgetter("context.objects")
"""Where a task of an experiment names the folder that the driver and every worker must share."""

_LOG = logging.getLogger(__name__)
_ANSWER_WITHIN_S = 10.0
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
        ray = _ray()
        self._join(ray)
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

            yield from self._results(ray, _UnderWay(ray, submit), len(tasks))

    def _results(self, ray: Any, under_way: _UnderWay, count: int) -> Iterator[tuple[int, Any]]:
        """Keep the cluster busy, hand over what is finished, and submit again what was lost."""
        waiting, tried = deque(range(count)), Counter[int]()
        try:
            while waiting or under_way.tasks:
                for index in self._next(ray, waiting, len(under_way.tasks)):
                    under_way.add(index)
                done, _ = ray.wait(list(under_way.tasks), num_returns=1, timeout=_LOOK_EVERY_S)
                ended = [(under_way.tasks[reference], _fetched(ray, reference)) for reference in done]
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

    def _join(self, ray: Any) -> None:
        """Connect to the cluster, or start one here; nothing to do where Ray is initialised."""
        if ray.is_initialized():
            return
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        here: dict[str, Any] = {}
        if address == "local":
            here = {"num_cpus": self.workers or len(os.sched_getaffinity(0)), "include_dashboard": False}
            _own_token()
        before = signal.getsignal(signal.SIGTERM)
        _talk(ray, False)
        try:
            _require_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # Ray raises a bare Exception in some of its ways to fail
            _leave(ray, before)
            _refuse_address(ray, address, error)
        self._leave.append(weakref.finalize(self, _leave, ray, before))

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


class _UnderWay:
    """The tasks that Ray has, and on which machine each of them runs.

    Ray itself ends a task whose machine refuses the connection. Where a machine goes silent (its power or its network
    is gone) Ray strikes it off its list after about a minute, and the caller of a task there goes on waiting. So every
    worker leaves the name of its machine in the cluster's key-value store, and what ran on a machine that was struck
    off is taken for lost.
    """

    def __init__(self, ray: Any, submit: Callable[[int, str, int], Any]) -> None:
        self.ray = ray
        self.submit = submit
        self.tasks: dict[Any, int] = {}
        self._places: dict[Any, str] = {}
        self._prefix = f"equipoise-{secrets.token_hex(8)}-"
        self._submitted = 0
        self._losses = 0
        self._gone = self._dealt_with = self._dead_machines()
        self._look_at = time.monotonic() + _LOOK_EVERY_S

    def add(self, index: int) -> None:
        """Submit a task."""
        self._submitted += 1
        place = f"{self._prefix}{self._submitted}"
        reference = self.submit(index, place, self._losses)
        self.tasks[reference], self._places[reference] = index, place

    def forget(self, references: Sequence[Any]) -> None:
        """Drop tasks that have ended."""
        for reference in references:
            del self.tasks[reference]
            place_forget(self._places.pop(reference))

    def cancel(self, references: Sequence[Any]) -> None:
        """End tasks, those that run by killing their worker."""
        for reference in references:
            self.ray.cancel(reference, force=True)

    def stranded(self) -> list[tuple[int, Exception | None]]:
        """Return the tasks that a lost machine has taken with it: with an error if they had begun there, else None."""
        if time.monotonic() < self._look_at:
            return []
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        before, self._gone = self._gone, self._dead_machines()
        # Gone for one look already: by now the other machines have heard of it and send nothing there any more.
        fresh = (self._gone & before) - self._dealt_with
        if not fresh:
            return []
        self._dealt_with = self._dealt_with | fresh
        self._losses += 1
        # A task that has told no machine may wait for an answer of the lost one: it is submitted anew, at no cost.
        places = {reference: place_of(place) for reference, place in self._places.items()}
        left = [reference for reference, machine in places.items() if machine is None or machine in self._gone]
        error = self.ray.exceptions.NodeDiedError("the machine went silent")
        found = [(self.tasks[reference], error if places[reference] else None) for reference in left]
        self.cancel(left)
        self.forget(left)
        return found

    def end(self) -> None:
        """Remove what the workers have left in the key-value store."""
        with contextlib.suppress(Exception):  # of no weight, and must not hide the error that led here
            for place in self._places.values():
                place_forget(place)

    def _dead_machines(self) -> set[str]:
        return {node["NodeID"] for node in self.ray.nodes() if not node["Alive"]}


def _fetched(ray: Any, reference: Any) -> bytes | Exception:
    """Return what a finished task sent, or the exception that says that its worker or machine is gone."""
    lost = ray.exceptions
    try:
        answer: bytes | Exception = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # `attempt` catches all that a task may raise, so it was the worker that could not even start it.
        last = str(error.cause).strip().splitlines()[-1:] or [type(error.cause).__name__]
        raise EquipoiseError(
            f"a worker of the Ray cluster cannot run equipoise: {last[0]}",
            fix=f"install the same version on every machine: pip install 'equipoise[ray]=={__version__}', in the "
            "environment that `ray start` was called in",
        ) from error
    except (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError, lost.ObjectLostError) as error:
        answer = error
    except ray.exceptions.RayError as error:
        raise EquipoiseError(
            f"the Ray cluster failed: {type(error).__name__}: {str(error).strip().splitlines()[0]}",
            fix="look at `ray status` and at /tmp/ray/session_latest/logs on the head, then `equipoise resume`; "
            "finished tasks are kept",
        ) from error
    return answer


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


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingDependencyError(
            "running on several machines needs ray", fix="pip install 'equipoise[ray]'"
        ) from error
    return ray


def _own_token() -> None:
    """Give a Ray of our own a password that lives in this process, where nobody has set another.

    Ray would write one into the home folder for good.
    """
    known = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(name in os.environ for name in known) and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _leave(ray: Any, before: Any) -> None:
    """Disconnect, stop what we started, and give back the SIGTERM handler that Ray took."""
    ray.shutdown()
    _talk(ray, True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _talk(ray: Any, aloud: bool) -> None:
    """Let Ray print what its machines tell about lost workers, or not.

    It goes to the standard output, where ``--json`` has its place, and ``log_to_driver`` does not turn it off; this is
    the switch that Ray's own debugger uses. What a user must know is in our error; the rest is in Ray's log files.
    """
    ray._private.worker._worker_logs_enabled = aloud


def _require_answer(address: str) -> None:
    """Raise `OSError` where nothing listens at ``HOST:PORT``: Ray would try for minutes, and say so line by line."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_WITHIN_S).close()


def _refuse_address(ray: Any, address: str, error: Exception) -> NoReturn:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if address == "local":
        raise EquipoiseError(
            f"Ray could not be started on this machine: {said}", fix="use `--on processes`, which needs no Ray"
        ) from error
    if isinstance(error, getattr(ray.exceptions, "AuthenticationError", ())):
        raise EquipoiseError(
            f"the Ray cluster at {address} wants its token: {said}",
            fix="export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN with the token that the head was started with",
        ) from error
    if type(error) is ConnectionError:  # something listens there, or `_require_answer` had raised one of its subclasses
        raise EquipoiseError(
            f"what answers at {address} does not let us in: {said}",
            fix="export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN with the token that the head was started with; if they "
            "are right, look at `ray status` on the head",
        ) from error
    raise EquipoiseError(
        f"no Ray cluster can be joined at {address}: {said}",
        fix="start its head with `ray start --head --port=6379`, join this machine with "
        "`ray start --address=HOST:6379`, then export RAY_ADDRESS=HOST:6379; without RAY_ADDRESS Ray runs on this "
        "machine only",
    ) from error
