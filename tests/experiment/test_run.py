from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toys

from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import planned_trainings, prepare
from equipoise.experiment.run import Finished, _validation_score, run
from equipoise.runners import InProcess
from equipoise.workspace import Workspace

Finish = Callable[..., Finished]


def test_every_arm_size_budget_and_replicate_has_its_rows(finish: Finish) -> None:
    finished = finish()
    rows = finished.rows
    split = finished.prepared.split
    for planned in finished.prepared.arms:
        for replicate in range(2):
            mine = rows.filter(
                (pl.col("arm") == planned.arm.name)
                & (pl.col("n") == planned.n)
                & (pl.col("budget") == planned.budget)
                & (pl.col("replicate") == replicate)
            )
            assert set(mine.filter(pl.col("where") == "inside")["patient"]) == split.test, planned.arm.name
            assert set(mine.filter(pl.col("where") == "validation")["patient"]) == split.validation
    names = {planned.arm.name for planned in finished.prepared.arms}
    assert {"real", "real duplicated to 1:1", "synthetic only", "mixed 0.5:1", "mixed 1:1"} <= names
    assert {"synthetic, then real", "weighted", "self-training"} <= names


def test_equal_steps_are_equal_and_equal_epochs_follow_the_count(finish: Finish) -> None:
    finished = finish()
    for (planned, _), facts in finished.trained.items():
        if planned.budget == "steps":
            assert facts["steps"] == 6, planned.arm.name
        else:
            assert facts["steps"] == round(6 * min(planned.arm.mix.per_real, 3.0)), planned.arm.name


def test_the_share_of_synthetic_draws_is_that_of_the_ratio(finish: Finish) -> None:
    finished = finish(training={**toys.plan_content()["training"], "steps": 60})
    for (planned, _), facts in finished.trained.items():
        share = facts["synthetic_draws"] / facts["draws"]
        if planned.arm.name == "mixed 1:1":
            assert share == pytest.approx(0.5, abs=0.02)
        if planned.arm.name == "synthetic only":
            assert share == 1
        if planned.family in ("real", "duplicate"):
            assert share == 0
        if planned.arm.name == "synthetic, then real":
            assert share == pytest.approx(0.5)


def test_frozen_sees_few_synthetic_images_and_streamed_sees_new_ones(finish: Finish) -> None:
    frozen = finish(arms={"sizes": [4], "replicates": 1, "ratios": [1.0]})
    streamed = finish(
        arms={"sizes": [4], "replicates": 1, "ratios": [1.0]},
        engines={"toy": {"kind": "toy-engine", "mode": "streamed"}},
    )

    def distinct(finished: Finished) -> int:
        return next(f for (p, _), f in finished.trained.items() if p.arm.name == "mixed 1:1")["distinct_synthetic"]

    assert distinct(frozen) == 4
    assert distinct(streamed) == 6


def test_an_arm_of_n_uses_synthetic_cases_of_those_n_only(finish: Finish) -> None:
    finished = finish()
    for (planned, replicate), facts in finished.trained.items():
        if planned.family != "self-training":
            assert set(facts["parents"]) <= set(finished.prepared.subset(planned.n, replicate)), planned.arm.name


def test_replicates_redraw_the_patients(finish: Finish) -> None:
    prepared = finish().prepared
    assert prepared.subset(4, 0) != prepared.subset(4, 1)
    assert prepared.subset(4, 0)[:2] == prepared.subset(2, 0)


def test_validation_chooses_no_synthetic_weight_where_the_engine_is_far_off(finish: Finish) -> None:
    bad = finish(engines={"toy": {"kind": "toy-engine", "gap": 3.0}})
    assert set(bad.weights.values()) == {0.0}


def test_the_target_site_has_its_own_rows_and_validation(finish: Finish) -> None:
    finished = finish(
        external={"kind": "toy-cases", "seed": 9, "site": "outside", "count": 9},
        target={"site": "outside", "validation_patients": 3},
    )
    places = set(finished.rows["where"])
    assert places == {"validation", "target validation", "inside", "target"}
    assert finished.rows.filter(pl.col("where") == "target")["patient"].n_unique() == 6


def test_self_training_takes_images_without_annotation(finish: Finish) -> None:
    finished = finish(data={"kind": "toy-cases", "unlabelled": 4})
    unlabelled = {e.patient for e in finished.prepared.entries if not e.labelled}
    assert not unlabelled & finished.prepared.split.train
    assert unlabelled <= set(finished.prepared.unlabelled(finished.prepared.subset(2, 0)))
    assert any(planned.family == "self-training" for planned, _ in finished.trained)


def test_self_training_without_unlabelled_images_is_declared_not_run(finish: Finish) -> None:
    finished = finish(arms={"sizes": [12], "replicates": 1, "ratios": [1.0]})
    assert "no unlabelled image" in finished.not_run["self-training"]


def test_other_sizes_run_real_only(finish: Finish) -> None:
    finished = finish(arms={"sizes": [2, 4], "all_arms_at": [4], "replicates": 1, "ratios": [1.0]})
    assert {planned.arm.name for planned in finished.prepared.arms if planned.n == 2} == {"real"}


def test_a_rerun_trains_nothing_and_gives_the_same_rows(workspace: Workspace) -> None:
    plan = parse_plan(toys.plan_content())
    prepared = prepare(plan, None, workspace.path / "objects")
    first = run(prepared, workspace, InProcess(), "", None)
    again = run(prepare(plan, None, workspace.path / "objects"), workspace, InProcess(allowed=False), "", None)
    assert first.rows.equals(again.rows)
    assert [o.number for o in workspace.openings(prepared.test_set)] == [1]


def test_another_seed_is_another_experiment(finish: Finish) -> None:
    assert not finish().rows.equals(finish(seed=1).rows)


def test_a_changed_recipe_trains_anew(workspace: Workspace) -> None:
    keys = []
    for noise in (0.05, 0.06):
        training = {"steps": 6, "learner": {"kind": "toy-learner", "noise": noise}, "augment": {"kind": "none"}}
        plan = parse_plan(toys.plan_content(training=training))
        prepared = prepare(plan, None, workspace.path / "objects")
        run(prepared, workspace, InProcess(), "", None)
        keys.append(plan.hash)
    assert keys[0] != keys[1]
    assert [entry.detail["number"] for entry in workspace.read_log() if entry.what == "opened the test set"] == [1, 2]


def test_a_validation_score_has_the_same_last_digit_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a tie between loss weights is broken another way when the experiment is read again."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"patient": [f"p{i % 12}" for i in range(48)], "dice": rng.random(48), "where": "validation"})
    monkeypatch.setattr(Workspace, "rows", lambda self, keys: table)
    task = types.SimpleNamespace(key="k")
    scores = {_validation_score(object.__new__(Workspace), task, "dice") for _ in range(300)}  # type: ignore[arg-type]
    assert len(scores) == 1
    assert scores.pop() == pytest.approx(float(table["dice"].to_numpy().mean()))


def test_planned_trainings_are_those_that_are_run(finish: Finish, workspace: Workspace) -> None:
    finished = finish(fidelity=False)  # whose segmenters have rows too
    trained = len(list((workspace.path / "results").rglob("*.parquet")))
    models = {facts["model"] for facts in finished.trained.values()}
    evaluations = len({(model, "test") for model in models})
    assert len(planned_trainings(finished.prepared)) == trained - evaluations


SCRIPT = """
import json, sys, pathlib
from dataclasses import asdict
sys.path[:0] = {paths!r}
import toys
toys.register()
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import prepare
from equipoise.experiment.run import run
from equipoise.experiment.tuning import tuned_arms
from equipoise.runners import InProcess
from equipoise.workspace import Workspace
folder = pathlib.Path(sys.argv[1])
plan = parse_plan(toys.plan_content(**json.loads(sys.argv[2])))
with Workspace(folder) as workspace, (folder / "told.txt").open("a", buffering=1) as told:
    told.write("started\\n")
    def tell(stage, done, total, left):
        told.write(f"{{stage}} {{done}}\\n")
    prepared = prepare(plan, None, workspace.path / "objects")
    finished = run(prepared, workspace, InProcess(), "", None, tell)
choices = [asdict(arm) for arm in tuned_arms(plan, finished.tuned)]
(folder / "choices.json").write_text(json.dumps(choices))
finished.rows.write_parquet(folder / "rows.parquet")
"""
SLOW = {"kind": "toy-learner", "slow": 0.05}


def _start(folder: Path, training: dict[str, Any], **changes: Any) -> subprocess.Popen[bytes]:
    """Start a toy experiment in a process of its own."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    content = {"training": {"steps": 6, "learner": SLOW, "augment": {"kind": "none"}, **training}, **changes}
    return subprocess.Popen([sys.executable, "-c", SCRIPT.format(paths=paths), str(folder), json.dumps(content)])


def _told(folder: Path) -> list[str]:
    """Return what the newest run in a folder has told of its progress."""
    file = folder / "told.txt"
    return file.read_text().rpartition("started\n")[2].splitlines() if file.exists() else []


def _kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.time() + 60
    while process.poll() is None and time.time() < deadline:
        if reached():
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


def _same(whole: Path, killed: Path) -> None:
    """Check that an interrupted experiment gave what the uninterrupted one gave, under one seal."""
    assert pl.read_parquet(whole / "rows.parquet").equals(pl.read_parquet(killed / "rows.parquet"))
    assert (whole / "choices.json").read_text() == (killed / "choices.json").read_text()
    with Workspace(killed) as workspace:
        assert len([e for e in workspace.read_log() if e.what == "sealed the plan"]) == 1


def test_killed_at_any_moment_and_resumed_gives_the_same_rows(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _start(whole, {}).wait() == 0
    for moment in (1, 9, 25, 50):
        _kill_when(_start(killed, {}), lambda n=moment: len(list((killed / "results").rglob("*.parquet"))) >= n)
        assert not (killed / "rows.parquet").exists()
    assert _start(killed, {}).wait() == 0
    _same(whole, killed)


@pytest.mark.slow
def test_killed_while_it_tunes_and_while_it_trains_gives_the_same_choices_and_rows(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    tuning = {"tuning": {"candidates": [{"noise": 0.5}, {"noise": 0.01}], "folds": 2}}
    arms = {"sizes": [4], "replicates": 1, "ratios": [1.0]}
    assert _start(whole, tuning, arms=arms).wait() == 0
    stages = ("tuning", "training", "tuning self-training", "self-training")
    assert set(stages) < {line.rpartition(" ")[0] for line in _told(whole)}
    kept: dict[str, int] = {}
    for stage, moment in (("tuning", 1), ("tuning", 9), ("training", 2), ("tuning self-training", 1)):
        _kill_when(
            _start(killed, tuning, arms=arms),
            lambda stage=stage, moment=moment: any(
                line.rpartition(" ")[0] == stage and int(line.split()[-1]) >= moment for line in _told(killed)
            ),
        )
        told = [(name, int(count)) for name, _, count in (line.rpartition(" ") for line in _told(killed))]
        assert told[-1][0] == stage, "it was killed in another stage"
        for name, finished in kept.items():
            assert next(count for at, count in told if at == name) >= finished, "finished trials were run again"
        kept |= dict(told)
        assert not (killed / "rows.parquet").exists()
    assert _start(killed, tuning, arms=arms).wait() == 0
    _same(whole, killed)
