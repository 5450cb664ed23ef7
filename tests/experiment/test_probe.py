from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import toys

from equipoise.experiment.data import _KEPT, SOURCES_KEPT, Source, part_cases
from equipoise.experiment.forecast import _wall, estimate_cost
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import Prepared, planned_trainings, prepare
from equipoise.experiment.run import run
from equipoise.runners import InProcess, make_runner
from equipoise.workspace import Workspace
from making import blob_case

SLOW = {"kind": "toy-learner", "slow": 0.1}
TUNING = {"candidates": [{"noise": 0.01}, {"noise": 0.5}], "folds": 2}


def prepared_in(folder: Path, tuning: Any = "none", **changes: Any) -> Prepared:
    training = {"steps": 6, "learner": SLOW, "augment": {"kind": "none"}, "tuning": tuning}
    content = {"arms": {"sizes": [4], "replicates": 1, "ratios": [1.0], "budgets": ["steps"]}, "training": training}
    return prepare(parse_plan(toys.plan_content(**{**content, **changes})), None, folder / "objects")


class Wide(InProcess):
    """Says that it runs many tasks at once, as a cluster would."""

    def slots(self) -> int:
        return 8


@pytest.mark.parametrize("tuning", ["none", TUNING], ids=["plain", "tuned"])
def test_the_forecast_is_what_then_happens(tmp_path: Path, tuning: Any) -> None:
    cost = estimate_cost(prepared_in(tmp_path, tuning), InProcess())
    start = time.perf_counter()
    with Workspace(tmp_path / "w") as workspace:
        prepared = prepared_in(workspace.path, tuning)
        run(prepared, workspace, InProcess(), "", None)
    took = time.perf_counter() - start
    # A wide band: the machine may be busy; what is wrong by a factor is found.
    assert 0.5 < 3600 * cost.hours / took < 2


def test_tuning_is_counted(tmp_path: Path) -> None:
    plain, tuned = (estimate_cost(prepared_in(tmp_path, tuning), InProcess()) for tuning in ("none", TUNING))
    assert plain.trials == 0
    assert tuned.trials == len(planned_trainings(prepared_in(tmp_path))) * 2 * 2
    assert tuned.trainings == plain.trainings
    # Each trial sleeps as long as a training.
    assert 3600 * (tuned.hours - plain.hours) > 0.8 * SLOW["slow"] * tuned.trials


def test_the_runner_says_how_many_tasks_run_at_once(tmp_path: Path) -> None:
    prepared = prepared_in(tmp_path)
    one, many = estimate_cost(prepared, InProcess()), estimate_cost(prepared, Wide())
    assert (one.workers, many.workers) == (1, 8)
    assert many.memory > 4 * one.memory
    assert make_runner("processes", 3).slots() == 3


@pytest.mark.parametrize(
    ("tasks", "workers", "seconds"),
    [([], 2, 0), ([3, 3, 3], 1, 9), ([3, 3, 3], 2, 6), ([1, 1, 4], 2, 5), ([4, 1, 1], 2, 4), ([2], 9, 2)],
)
def test_a_stage_ends_with_its_last_task(tasks: list[float], workers: int, seconds: float) -> None:
    assert _wall(tasks, workers) == seconds


def test_a_forecast_writes_nothing(tmp_path: Path) -> None:
    estimate_cost(prepared_in(tmp_path, TUNING), InProcess())
    assert not list(tmp_path.iterdir())


# --- the cases that a process remembers --------------------------------------------------------------------------


def test_files_that_changed_between_two_preparations_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for seed in (1, 2):
        cases = [blob_case(f"c{i:02d}", seed=seed) for i in range(24)]
        monkeypatch.setattr(toys.ToyCases, "read", lambda self, cases=cases: cases)
        prepared = prepared_in(tmp_path)
        first = part_cases(prepared.context.source, prepared.subset(1, 0))[0]
        assert first in cases
        found.append((prepared.context.source, prepared.context.content))
    assert found[0][0].specs == found[1][0].specs
    assert found[0] != found[1]


def test_a_worker_that_stays_takes_the_cases_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(self: toys.ToyCases) -> list[Any]:
        reads.append(self.seed)
        return [blob_case("a")]

    monkeypatch.setattr(toys.ToyCases, "read", read)
    before, after = (Source(('{"kind":"toy-cases","seed":505}',), content) for content in ("before", "after"))
    assert before.cases() is before.cases()
    assert reads == [505]
    assert after.cases() is not before.cases()
    assert reads == [505, 505]
    Source(('{"kind":"toy-cases","seed":506}',), "x").cases()
    assert len(_KEPT) == SOURCES_KEPT
