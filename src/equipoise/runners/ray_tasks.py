"""The tasks that a Ray cluster has: on which machine each runs, and what came of it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from equipoise import __version__
from equipoise.errors import EquipoiseError
from equipoise.runners.ray_worker import place_forget, place_of


class UnderWay:
    """The tasks that Ray has, and on which machine each of them runs.

    Ray itself ends a task whose machine refuses the connection. Where a machine goes silent (its power or its network
    is gone) Ray strikes it off its list after about a minute, and the caller of a task there goes on waiting. So every
    worker leaves the name of its machine in the cluster's key-value store, and what ran on a machine that was struck
    off is taken for lost.

    Parameters
    ----------
    ray
        The module.
    submit
        Hands a task to Ray: from its index, the key under which it says where it runs, and the number of machines lost
        so far, to Ray's reference.
    look_every_s
        Seconds between two looks at the list of machines.
    """

    def __init__(self, ray: Any, submit: Callable[[int, str, int], Any], look_every_s: float) -> None:
        self.ray = ray
        self.submit = submit
        self.look_every_s = look_every_s
        self.tasks: dict[Any, int] = {}
        self._places: dict[Any, str] = {}
        self._prefix = f"equipoise-{secrets.token_hex(8)}-"
        self._submitted = 0
        self._losses = 0
        self._gone = self._dealt_with = self._dead_machines()
        self._look_at = time.monotonic() + self.look_every_s

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
        self._look_at = time.monotonic() + self.look_every_s
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


def fetched(ray: Any, reference: Any) -> bytes | Exception:
    """Return what a finished task sent, or the exception that says that its worker or machine is gone."""
    lost = ray.exceptions
    try:
        answer: bytes | Exception = ray.get(reference)
    except lost.RayTaskError as error:
        # `attempt` catches all that a task may raise, so it was the worker that could not even start it.
        last = str(error.cause).strip().splitlines()[-1:] or [type(error.cause).__name__]
        raise EquipoiseError(
            f"a worker of the Ray cluster cannot run equipoise: {last[0]}",
            fix=f"install the same version on every machine: pip install 'equipoise[ray]=={__version__}', in the "
            "environment that `ray start` was called in",
        ) from error
    except (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError, lost.ObjectLostError) as error:
        answer = error
    except lost.RayError as error:
        raise EquipoiseError(
            f"the Ray cluster failed: {type(error).__name__}: {str(error).strip().splitlines()[0]}",
            fix="look at `ray status` and at /tmp/ray/session_latest/logs on the head, then `equipoise resume`; "
            "finished tasks are kept",
        ) from error
    return answer
