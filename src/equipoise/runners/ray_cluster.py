"""Tasks on the machines of a Ray cluster (extra ``ray``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from equipoise.errors import MissingDependencyError
from equipoise.runners.local import ONE_THREAD

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RayCluster:
    """Tasks on a Ray cluster; killed workers and lost nodes are retried.

    Parameters
    ----------
    address
        Of the cluster's head, ``"auto"`` for the one on this machine; ``None`` starts a local one.
    attempts
        How often a task is tried whose worker or node died.
    """

    address: str | None = None
    attempts: int = 3

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Yield results as they finish."""
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "running on several machines needs ray", fix="pip install 'equipoise[ray]'"
            ) from error
        if not ray.is_initialized():
            ray.init(address=self.address, log_to_driver=False, runtime_env={"env_vars": ONE_THREAD})
        remote: Any = ray.remote(max_retries=self.attempts, num_cpus=1)(function)
        pending = {remote.remote(task): index for index, task in enumerate(tasks)}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                yield pending.pop(reference), ray.get(reference)
