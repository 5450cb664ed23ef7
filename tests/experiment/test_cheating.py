"""Attempts to cheat. Each is refused, or stands on the first page of the report."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toys

from equipoise.core import Case, Image, LabelMap, Mix, Origin, Split, TrainingSet, rng_for
from equipoise.errors import (
    DataError,
    EngineError,
    EquipoiseError,
    LeakageError,
    PatientUnknownError,
    PlanError,
    UnreadableFileError,
    VaultError,
    WorkspaceError,
)
from equipoise.experiment import checks, conclude
from equipoise.experiment.contrasts import Scores, arm_results
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import prepare
from equipoise.experiment.run import Finished, run
from equipoise.experiment.synthesis import fitted, sampled
from equipoise.experiment.tasks import vault_of
from equipoise.experiment.vault import open_vault, seal
from equipoise.runners import InProcess
from equipoise.workspace import Workspace
from making import blob_case, synthetic

Finish = Callable[..., Finished]
SPLIT = Split(frozenset("ab"), frozenset("v"), frozenset("t"), frozenset("x"))
REAL = (blob_case("a", "a"), blob_case("b", "b"))


def first_page(finished: Finished, workspace: Workspace) -> dict[str, Any]:
    """The first page's checks, by name."""
    scores = Scores(finished)
    arms = arm_results(scores)
    return {c.name: c for c in checks.first_page(scores, arms, checks.gate(scores, arms), workspace)}


# --- held-out patients in what is trained --------------------------------------------------------------------------


@pytest.mark.parametrize("patient", ["t", "v", "x"], ids=["test", "validation", "external"])
def test_a_held_out_patient_among_the_real(patient: str) -> None:
    with pytest.raises(LeakageError, match="held-out"):
        TrainingSet((*REAL, blob_case("z", patient)), (), Mix(), SPLIT)


@pytest.mark.parametrize("parent", ["t", "v", "x"], ids=["test", "validation", "external"])
def test_a_held_out_patient_as_parent_of_a_synthetic_case(parent: str) -> None:
    with pytest.raises(LeakageError, match="held-out"):
        TrainingSet(REAL, (synthetic("s", "a", parent),), Mix(synthetic=0.5), SPLIT)


def test_a_test_patient_in_the_fit_of_an_engine() -> None:
    with pytest.raises(LeakageError, match="fit of an engine"):
        fitted('{"kind":"toy-engine"}', (*REAL, blob_case("t", "t")), SPLIT, 0, "x")


def test_a_held_out_patient_in_a_stream() -> None:
    stream = lambda rng: iter([synthetic("s", "t")])  # noqa: E731
    with pytest.raises(LeakageError):
        next(TrainingSet(REAL, (), Mix(real=0, synthetic=1), SPLIT, stream).draws(rng_for(0)))


def test_a_synthetic_case_that_wears_a_test_patients_name() -> None:
    case = blob_case("s", "t", origin=Origin("synthetic", "test", parents=frozenset("a")))
    with pytest.raises(LeakageError, match="held-out"):
        TrainingSet(REAL, (case,), Mix(synthetic=0.5), SPLIT)


def test_a_normaliser_or_filter_that_has_seen_validation(finish: Finish) -> None:
    training = {"steps": 2, "learner": {"kind": "toy-learner", "peeks": True}, "augment": {"kind": "none"}}
    with pytest.raises(LeakageError, match="fitted on held-out"):
        finish(training=training)


def test_a_split_with_one_patient_on_both_sides() -> None:
    with pytest.raises(LeakageError, match="in train and in test"):
        Split(frozenset("ab"), frozenset("v"), frozenset("bt"))


# --- synthetic cases that pass for something else ------------------------------------------------------------------


def test_more_parents_than_the_arm_pays_for() -> None:
    with pytest.raises(LeakageError, match="does not pay for"):
        TrainingSet(REAL[:1], (synthetic("s", "b"),), Mix(synthetic=1), SPLIT)


def test_an_engine_that_learned_from_strangers(finish: Finish) -> None:
    with pytest.raises(LeakageError, match="does not pay for"):
        finish(engines={"toy": {"kind": "toy-engine", "fault": "names a stranger"}})


@pytest.mark.parametrize("mode", ["frozen", "streamed"])
def test_an_engine_that_calls_its_cases_real(finish: Finish, mode: str) -> None:
    with pytest.raises(EngineError, match="not marked as synthetic"):
        finish(engines={"toy": {"kind": "toy-engine", "fault": "says real", "mode": mode}})


def test_a_synthetic_case_counted_as_real() -> None:
    with pytest.raises(PlanError, match="stand among the real"):
        TrainingSet((*REAL, synthetic("s", "a")), (), Mix(), SPLIT)


def test_a_real_case_smuggled_in_as_synthetic() -> None:
    with pytest.raises(PlanError, match="counted and paid for wrongly"):
        TrainingSet(REAL, (blob_case("a2", "a"),), Mix(synthetic=0.5), SPLIT)


def test_provenance_left_out() -> None:
    with pytest.raises(EngineError, match="must name the engine"):
        Origin("synthetic")
    with pytest.raises(EngineError, match="marked synthetic"):
        Origin("real", parents=frozenset("a"))


def test_a_synthetic_case_in_the_data_to_be_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toys.ToyCases, "read", lambda self: [blob_case(c) for c in "abcd"] + [synthetic("s", "a")])
    with pytest.raises(DataError, match="must be real"):
        prepare(parse_plan(toys.plan_content(data={"kind": "toy-cases", "seed": 77})), None, tmp_path)


# --- one patient under two names -----------------------------------------------------------------------------------


def twin(case: Case, change: Callable[[np.ndarray], np.ndarray]) -> Case:
    """The same picture under another id and patient, a little changed."""
    return replace(case, id="twin", patient="twin", image=Image(change(case.image.array).astype(np.float32)))


@pytest.mark.parametrize(
    "change",
    [lambda a: a, lambda a: 1.7 * a + 0.4, lambda a: a + 0.02 * np.random.default_rng(0).standard_normal(a.shape)],
    ids=["same bytes", "brighter", "re-encoded"],
)
def test_one_patient_under_two_ids(
    change: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    cases = [blob_case(f"c{i:02d}") for i in range(24)]
    refused = ""
    for number in range(24):
        doubled = [*cases, twin(cases[number], change)]
        monkeypatch.setattr(toys.ToyCases, "read", lambda self, doubled=doubled: doubled)
        content = toys.plan_content(data={"kind": "toy-cases", "seed": 2000 + number + id(change) % 1000})
        try:
            prepared = prepare(parse_plan(content), None, workspace.path / "objects")
        except LeakageError as error:
            refused = str(error)
            break
        assert ("twin" in prepared.split.train) == (f"patient-c{number:02d}" in prepared.split.train)
    assert "twin" in refused
    assert "accept_near_duplicates" in refused


def test_near_duplicates_that_the_plan_accepts_are_printed(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    cases = [blob_case(f"c{i:02d}") for i in range(24)]
    doubled = [*cases, twin(cases[0], lambda a: a)]
    monkeypatch.setattr(toys.ToyCases, "read", lambda self: doubled)
    split = {"accept_near_duplicates": [["c00", "twin"]]}
    plan = parse_plan(toys.plan_content(split=split, data={"kind": "toy-cases", "seed": 31}))
    finished = run(prepare(plan, None, workspace.path / "objects"), workspace, InProcess(), "", None)
    assert first_page(finished, workspace)["Accepted near-duplicates"].state == "warning"


def test_a_case_without_a_patient() -> None:
    with pytest.raises(PatientUnknownError, match="names no patient"):
        replace(REAL[0], patient="")


def test_one_image_one_patient_is_printed(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    finished = run(
        prepare(parse_plan(toys.plan_content()), None, workspace.path / "objects"), workspace, InProcess(), "", None
    )
    stated = {"kind": "toy-cases", "one_image_one_patient": True}
    plan = finished.prepared.plan.model_copy(update={"data": stated})
    context = replace(finished.prepared.context, plan=plan)
    named = {c.name for c in checks.assumptions(replace(finished.prepared, context=context))}
    assert "One image = one patient" in named


# --- the sealed test set -------------------------------------------------------------------------------------------


def test_the_vault_with_a_guessed_token(finish: Finish) -> None:
    finished = finish()
    vault = vault_of(finished.prepared.context, finished.seal)
    for token in ("", finished.seal.lock, finished.seal.plan):
        with pytest.raises(VaultError, match="does not open it"):
            vault.cases("test", token)


def test_the_vault_before_training(workspace: Workspace) -> None:
    prepared = prepare(parse_plan(toys.plan_content()), None, workspace.path / "objects")
    early = seal(workspace, prepared.plan.hash, prepared.test_set)
    with pytest.raises(VaultError, match="has not opened"):
        open_vault(workspace, early, prepared.test_set, again=True)


def test_the_token_of_another_workspace(finish: Finish, tmp_path: Path) -> None:
    finished = finish()
    with Workspace(tmp_path / "other") as other, pytest.raises(VaultError, match="not sealed in this workspace"):
        open_vault(other, finished.seal, finished.prepared.test_set)


def test_a_test_set_changed_after_the_sealing(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    cases = [blob_case(f"c{i:02d}") for i in range(24)]
    monkeypatch.setattr(toys.ToyCases, "read", lambda self: cases)
    plan = parse_plan(toys.plan_content(data={"kind": "toy-cases", "seed": 51}))
    prepared = prepare(plan, None, workspace.path / "objects")
    sealed = seal(workspace, plan.hash, prepared.test_set)
    easier = next(c for c in cases if c.patient in prepared.split.test)
    changed = replace(easier, truth=LabelMap(np.ones_like(easier.labels.array), easier.labels.scheme))
    monkeypatch.setattr(toys.ToyCases, "read", lambda self: [changed if c is easier else c for c in cases])
    again = prepare(plan, None, workspace.path / "objects")
    with pytest.raises(VaultError, match="not those that were sealed"):
        open_vault(workspace, sealed, again.test_set)


def test_the_test_set_opened_by_a_second_plan_is_numbered_and_its_deviations_printed(
    workspace: Workspace,
) -> None:
    for margin in (0.05, 0.2):
        plan = parse_plan(toys.plan_content(metric={"margin": margin}))
        finished = run(prepare(plan, None, workspace.path / "objects"), workspace, InProcess(), "", None)
    check = first_page(finished, workspace)["Test set"]
    assert check.state == "warning"
    assert "Opening number 2" in check.text
    assert "metric.margin: 0.05 became 0.2" in check.text


def test_an_opening_taken_back(finish: Finish, workspace: Workspace) -> None:
    finish()
    with closing(sqlite3.connect(workspace.path / "equipoise.db")) as raw:
        for statement in ("DELETE FROM opening", "UPDATE opening SET test_set = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(statement)


def test_a_log_written_anew(finish: Finish, workspace: Workspace) -> None:
    finish()
    with closing(sqlite3.connect(workspace.path / "equipoise.db")) as raw, raw:
        raw.execute("DROP TRIGGER log_no_update")
        raw.execute("UPDATE log SET detail = '{}' WHERE what = 'opened the test set'")
    with pytest.raises(WorkspaceError, match="was changed after"):
        workspace.read_log()


def test_scores_made_better_by_hand(finish: Finish, workspace: Workspace) -> None:
    finished = finish()
    for path in (workspace.path / "results").rglob("*.parquet"):
        pl.read_parquet(path).with_columns(dice=pl.lit(1.0)).write_parquet(path)
    with pytest.raises(UnreadableFileError, match="not the file that was written"):
        run(finished.prepared, workspace, InProcess(allowed=False), "", None)


def test_a_model_exchanged_for_a_better_one(finish: Finish, workspace: Workspace) -> None:
    finished = finish()
    name = next(iter(finished.trained.values()))["model"]
    workspace.objects.path(name).write_bytes(json.dumps([0.5, []]).encode())
    with pytest.raises(UnreadableFileError, match="another hash than its name"):
        workspace.objects.get(name)


# --- unfair arms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"engines": {"toy": {"kind": "toy-engine", "steps": 99}}},
        {"arms": {"sizes": [4], "steps": 99}},
        {"training": {"learner": {"kind": "toy-learner"}, "augment": {"kind": "none"}, "real_steps": 2}},
        {"arms": {"sizes": [4], "skip": ["real"]}},
        {"arms": {"sizes": [4], "skip": ["duplicate"]}},
        {"metric": {"margin": 0}},
        {"metric": {"primary": "fid"}},
        {"engines": {}},
        {"split": {"train": 0.9, "validation": 0.1, "test": 0.0}},
        {"arms": {"sizes": [400]}},
    ],
    ids=[
        "more steps for one engine",
        "steps per arm",
        "fewer steps for real",
        "no real arm",
        "no duplicate control",
        "no margin",
        "fidelity as the judge",
        "nothing to compare",
        "no test set",
        "more real cases than there are",
    ],
)
def test_a_plan_that_is_unfair_by_construction(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PlanError):
        prepare(parse_plan(toys.plan_content(**changes)), None, tmp_path)


def test_synthetic_cases_that_fill_batches_with_weight_zero() -> None:
    with pytest.raises(PlanError, match="fill the batches with nothing"):
        Mix(synthetic=1, weight=0)


def test_a_control_that_is_left_out_is_printed(finish: Finish, workspace: Workspace) -> None:
    arms = {"sizes": [4], "replicates": 2, "ratios": [1.0], "skip": ["synthetic only", "self-training"]}
    page = first_page(finish(arms=arms), workspace)
    assert page["Arm 'synthetic only'"].state == "not run"
    assert page["Arm 'self-training'"].state == "not run"


def test_too_few_replicates_are_printed(finish: Finish, workspace: Workspace) -> None:
    assert "conditional" in first_page(finish(), workspace)["Replicates"].text


def test_the_headline_is_chosen_on_validation_whatever_the_test_says(finish: Finish) -> None:
    finished = finish()
    scores = Scores(finished)
    chosen = conclude.headline(scores, arm_results(scores))
    assert chosen is not None
    others = [a for a in finished.prepared.arms if a.arm.engine and a.arm.name != chosen.arm]
    best_there = pl.col("arm").is_in([a.arm.name for a in others]) & (pl.col("where") == "inside")
    rows = finished.rows.with_columns(dice=pl.when(best_there).then(1.0).otherwise(pl.col("dice")))
    flattered = Scores(replace(finished, rows=rows))
    again = conclude.headline(flattered, arm_results(flattered))
    assert again is not None
    assert again.arm == chosen.arm


def test_a_rigged_duplicate_flags_the_whole_trial(finish: Finish, workspace: Workspace) -> None:
    finished = finish(arms={"sizes": [4], "replicates": 3, "ratios": [1.0]})
    assert first_page(finished, workspace)["A/A check"].state == "ok"
    duplicate = pl.col("arm").str.starts_with("real duplicated") & (pl.col("budget") == "steps")
    rows = finished.rows.with_columns(dice=pl.when(duplicate).then(pl.col("dice") - 0.3).otherwise(pl.col("dice")))
    check = first_page(replace(finished, rows=rows), workspace)["A/A check"]
    assert check.state == "failed"
    assert "whole trial is flagged" in check.text


def test_two_untrained_models_are_no_comparison(finish: Finish, workspace: Workspace) -> None:
    gate = {"reference": 0.99, "source": "a better team", "slack": 0.0}
    page = first_page(finish(gate=gate), workspace)
    assert page["Competence gate"].state == "warning"
    assert "not yet a competent model" in page["Competence gate"].text


def test_a_reference_without_its_source() -> None:
    with pytest.raises(PlanError, match="needs its source"):
        parse_plan(toys.plan_content(gate={"reference": 0.5}))


@pytest.mark.parametrize(
    ("fault", "mode"),
    [(fault, mode) for fault in ("raises in fit", "raises", "NaN") for mode in ("frozen", "streamed")]
    + [("makes too few", "frozen")],
)
def test_an_engine_that_fails_ends_in_one_clear_error_and_keeps_the_rest(
    fault: str, mode: str, workspace: Workspace
) -> None:
    content = toys.plan_content(engines={"toy": {"kind": "toy-engine", "fault": fault, "mode": mode}})
    prepared = prepare(parse_plan(content), None, workspace.path / "objects")
    with pytest.raises(EquipoiseError, match="toy-engine"):
        run(prepared, workspace, InProcess(), "", None)
    good = prepare(parse_plan(toys.plan_content()), None, workspace.path / "objects")
    assert run(good, workspace, InProcess(), "", None).rows.height > 0


def test_every_sample_of_a_broken_engine_is_looked_at() -> None:
    engine = fitted('{"kind":"toy-engine","fault":"NaN"}', REAL, SPLIT, 0, "x")
    with pytest.raises(EngineError, match="NaN or infinite"):
        list(sampled(engine, REAL[0], 2, 0, "x"))
