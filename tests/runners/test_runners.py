from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from cluster_work import die_once

from equipoise.errors import EquipoiseError, PlanError, UnknownKindError, WorkspaceError
from equipoise.runners import InProcess, Processes, make_runner


def square(x: int) -> tuple[int, str]:
    return x * x, os.environ.get("OMP_NUM_THREADS", "")


def die_always(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(_: int) -> None:
    raise PlanError("no", fix="yes")


def test_results_are_the_same_in_one_process_and_in_two() -> None:
    one = {index: result[0] for index, result in InProcess().map(square, range(7))}
    two = {index: result[0] for index, result in Processes(2).map(square, range(7))}
    assert one == two == {i: i * i for i in range(7)}


def test_each_process_has_one_thread() -> None:
    assert {result[1] for _, result in Processes(2).map(square, range(4))} == {"1"}


def test_a_killed_worker_is_retried(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), number) for number in range(6)]
    assert sorted(result for _, result in Processes(2).map(die_once, tasks)) == list(range(6))
    assert (tmp_path / "3").exists()


def test_a_task_that_kills_every_worker_ends_in_one_clear_error() -> None:
    with pytest.raises(EquipoiseError, match="killed 2 times") as caught:
        list(Processes(1, attempts=2).map(die_always, [0]))
    assert "memory" in str(caught.value)


def test_an_error_comes_through_with_its_fix() -> None:
    with pytest.raises(PlanError) as caught:
        list(Processes(1).map(refuse, [0]))
    assert caught.value.fix == "yes"


def test_reading_only_refuses_work() -> None:
    assert list(InProcess(allowed=False).map(square, [])) == []
    with pytest.raises(WorkspaceError, match="not finished"):
        list(InProcess(allowed=False).map(square, [1]))


def test_an_unknown_runner_names_the_nearest() -> None:
    with pytest.raises(UnknownKindError, match="Did you mean 'processes'"):
        make_runner("proceses")
