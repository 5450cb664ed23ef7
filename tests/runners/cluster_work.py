"""What the tests let the workers of a cluster do; apart, because every new worker imports it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from equipoise.errors import PlanError

FOR_EVER_S = 600


def node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def square(x: int) -> tuple[int, str, str]:
    time.sleep(0.2)
    return x * x, os.environ.get("NUMBA_NUM_THREADS", ""), node_id()


def halves(x: float) -> np.ndarray:
    return np.full(200_000, x) / 2


def second(task: tuple[str, int]) -> int:
    return task[1]


def die_once(task: tuple[str, int]) -> int:
    folder, number = task
    mark = Path(folder) / f"{number}"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_always(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def last_for_ever(task: tuple[str, int]) -> int:
    folder, number = task
    if number:
        (Path(folder) / str(os.getpid())).touch()
        time.sleep(FOR_EVER_S)
    return number


class Odd(Exception):
    """Pickles, and cannot be read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


def refuse(how: str) -> None:
    raise {"ours": PlanError("no", fix="yes"), "plain": ValueError("minus"), "odd": Odd(1, 2)}[how]


class InFolder:
    """A task as an experiment's are: its context names the folder of the objects."""

    def __init__(self, folder: Path, erase: bool = False) -> None:
        self.context = SimpleNamespace(objects=str(folder))
        self.erase = erase


def sees(task: InFolder) -> bool:
    marks = list(Path(task.context.objects).glob(".shared-*"))
    if task.erase:
        for mark in marks:
            mark.unlink()
    return bool(marks)


def toy_task(task: Any) -> Any:
    """Run a task of a toy experiment, in a process that may not know the toys yet."""
    import toys

    from equipoise.experiment.tasks import run_task

    toys.register()
    return run_task(task)


def hang_there(task: tuple[str, Any]) -> Any:
    """Return the second; on the node named in the folder never end, and on others not before one hangs there."""
    folder, answer = task
    hangs = Path(folder) / "hangs"
    if (Path(folder) / node_id()).exists():
        hangs.touch()
        time.sleep(FOR_EVER_S)
    deadline = time.monotonic() + FOR_EVER_S
    while not hangs.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def toy_task_that_hangs(work: tuple[str, Any]) -> Any:
    return toy_task(hang_there(work))
