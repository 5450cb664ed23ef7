"""Where tasks run: in this process, in several, or on several machines. The results are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from equipoise.errors import UnknownKindError, did_you_mean
from equipoise.runners.local import InProcess, Processes

Task = TypeVar("Task")
Result = TypeVar("Result")

NAMES = ("process", "processes", "ray")


class Runner(Protocol):
    """Runs a pure module-level function over tasks."""

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield ``(index of the task, its result)`` as they finish, in any order."""

    def slots(self) -> int:
        """Return how many tasks run at the same time."""

    def close(self) -> None:
        """End the processes that were started."""


def make_runner(name: str, workers: int = 0) -> Runner:
    """Return a runner by name: ``"process"``, ``"processes"`` or ``"ray"``; 0 workers is one per core."""
    if name == "process":
        return InProcess()
    if name == "processes":
        return Processes(workers)
    if name == "ray":
        from equipoise.runners.ray_cluster import RayCluster

        return RayCluster(workers=workers)
    raise UnknownKindError(f"there is no runner {name!r}.{did_you_mean(name, NAMES)}")


__all__ = ["InProcess", "Processes", "Runner", "make_runner"]
