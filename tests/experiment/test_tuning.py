from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import toys

from equipoise.core import Mix
from equipoise.core.mix import Arm
from equipoise.errors import LeakageError, PlanError, TrainingError
from equipoise.experiment.plan import parse_plan
from equipoise.experiment.preparation import Prepared, prepare
from equipoise.experiment.run import Finished, run
from equipoise.experiment.tasks import Synthesise, Train
from equipoise.experiment.tuning import Fold, Trial, fold_context, folds_of, planned_trials, tuned_arms
from equipoise.report.closing import reproduce
from equipoise.runners import InProcess
from equipoise.workspace import Workspace
from equipoise.workspace.cases import case_from_bytes

Finish = Callable[..., Finished]
CALM, WILD = {"noise": 0.01}, {"noise": 2.0}
REAL = Arm("real", Mix(), control=True)


def training(**tuning: Any) -> dict[str, Any]:
    return {**toys.plan_content()["training"], "tuning": {"candidates": [WILD, CALM], **tuning}}


def prepared_in(workspace: Workspace, **changes: Any) -> Prepared:
    return prepare(parse_plan(toys.plan_content(**changes)), None, workspace.path / "objects")


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({"candidates": [WILD]}, "at least two candidates"),
        ({"candidates": [CALM, CALM]}, "the same"),
        ({"candidates": [{}, {"kind": "other"}]}, "cannot name another kind"),
        ({"candidates": [{}, {"nois": 1.0}]}, "Did you mean 'noise'"),
        ({"candidates": [{}, {"noise": "loud"}]}, "noise must be float"),
        ({"candidates": 3}, "candidates"),
        ({"candidates": [{}, CALM], "folds": 6}, "folds"),
        ({"candidates": [{}, CALM], "fold": 3}, "Did you mean 'folds'"),
        ("some", "'none' or a table"),
    ],
)
def test_wrong_candidates_are_named_when_the_plan_is_read(tuning: Any, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(toys.plan_content(training={**toys.plan_content()["training"], "tuning": tuning}))
    assert words in str(caught.value)


def test_arms_of_one_patient_cannot_be_tuned() -> None:
    with pytest.raises(PlanError, match="leave the size 1 out"):
        parse_plan(toys.plan_content(training=training(), arms={"sizes": [1, 4]}))


def test_no_tuning_is_written_as_before_and_a_tuned_plan_survives_its_dump() -> None:
    plain = parse_plan(toys.plan_content())
    assert plain.model_dump(mode="json")["training"]["tuning"] == "none"
    assert parse_plan(toys.plan_content(training={**toys.plan_content()["training"], "tuning": "none"})) == plain
    tuned = parse_plan(toys.plan_content(training=training(folds=2)))
    assert parse_plan(tuned.model_dump(mode="json")).hash == tuned.hash != plain.hash


@pytest.mark.parametrize("mode", ["frozen", "streamed"])
def test_every_arm_chooses_the_better_candidate_and_is_trained_with_it(finish: Finish, mode: str) -> None:
    finished = finish(
        training=training(folds=2),
        arms={"sizes": [4], "replicates": 1, "ratios": [1.0]},
        engines={"toy": {"kind": "toy-engine", "mode": mode}},
    )
    assert set(finished.tuned) == set(finished.trained)
    assert {planned.family for planned, _ in finished.tuned} >= {"real", "mix", "synthetic", "self-training"}
    for at, choice in finished.tuned.items():
        assert choice.candidate == finished.trained[at]["candidate"] == 1
        assert len(choice.scores) == 2
        assert (choice.scores[1] or 0) > (choice.scores[0] or 0)


def test_the_report_lists_every_choice_with_its_scores(finish: Finish) -> None:
    finished = finish(training=training(folds=2), arms={"sizes": [4], "replicates": 2, "ratios": [1.0]})
    listed = tuned_arms(finished.prepared.plan, finished.tuned)
    assert len(listed) == len(finished.trained)
    for line in listed:
        assert line.candidates == ['{"noise":2.0}', '{"noise":0.01}']
        assert line.scores[line.chosen] == max(score for score in line.scores if score is not None)
    section = reproduce(SimpleNamespace(reproduce={}, plan="", plan_hash="", tuning=listed))  # type: ignore[arg-type]
    assert len(section.tables[0].rows) == len(listed)
    assert not reproduce(SimpleNamespace(reproduce={}, plan="", plan_hash="", tuning=[])).tables  # type: ignore[arg-type]


def test_equal_candidates_go_to_the_first(finish: Finish) -> None:
    candidates = [{}, {"noise": toys.ToyLearner.noise}]
    finished = finish(training=training(candidates=candidates), arms={"sizes": [4], "replicates": 1})
    for choice in finished.tuned.values():
        assert choice.scores[0] == choice.scores[1]
        assert choice.candidate == 0


def test_the_folds_part_the_patients_and_every_arm_spends_the_same(workspace: Workspace) -> None:
    prepared = prepared_in(workspace, training=training(folds=5))
    for n in (2, 4):
        patients = prepared.subset(n, 0)
        folds = folds_of(prepared.plan, patients, 0)
        assert len(folds) == 5
        assert {p for fold in folds for p in fold.held} == set(patients)
        for fold in folds:
            assert set(fold.held) | set(fold.train) == set(patients)
            assert not set(fold.held) & set(fold.train)
            assert len(fold.held) == 1
    with pytest.raises(TrainingError, match="cannot be cross-validated"):
        folds_of(prepared.plan, patients[:1], 0)


class Spy(InProcess):
    """Runs tasks and remembers them."""

    def map(self, function: Any, tasks: Any) -> Any:
        self.__dict__.setdefault("seen", []).extend(tasks)
        return super().map(function, tasks)


def test_the_same_effort_is_spent_in_every_arm_size_and_replicate(workspace: Workspace) -> None:
    prepared, spy = prepared_in(workspace, training=training(folds=3, steps=4)), Spy()
    run(prepared, workspace, spy, "", None)
    trials = [task for task in spy.__dict__["seen"] if isinstance(task, Trial)]
    arms = planned_trials(prepared)
    assert len(trials) == len(arms) * 3 * 2
    effort: dict[Any, int] = {}
    for trial in trials:
        at = trial.train.arm, len(trial.train.patients) + len(trial.held), trial.train.replicate
        effort[at] = effort.get(at, 0) + trial.train.steps
    assert set(effort) == set(arms)
    assert set(effort.values()) == {3 * 2 * 4}


def test_nothing_in_a_fold_has_seen_what_it_is_scored_on(workspace: Workspace) -> None:
    prepared, spy = prepared_in(workspace, training=training(folds=2)), Spy()
    run(prepared, workspace, spy, "", None)
    held_out = prepared.split.held_out
    trials = [task for task in spy.__dict__["seen"] if isinstance(task, Trial)]
    frozen = 0
    for trial in trials:
        arm = set(trial.train.patients) | trial.held
        assert arm <= prepared.split.train
        assert not arm & held_out
        assert not trial.held & (set(trial.train.patients) | set(trial.train.unlabelled))
        for name in trial.train.frozen:
            frozen += 1
            case = case_from_bytes(workspace.objects.get(name))
            assert case.origin.parents <= set(trial.train.patients)
    assert frozen
    students = [trial for trial in trials if trial.train.arm.schedule == "self-training"]
    assert students
    for trial in students:
        teacher = toys.ToyLearner().load(workspace.objects.get(trial.train.teacher or ""))
        assert not teacher.parents & (trial.held | held_out)


def test_a_resumed_run_tries_nothing_again_and_chooses_the_same(workspace: Workspace) -> None:
    changes = {"training": training(folds=2), "arms": {"sizes": [2, 4], "replicates": 1, "ratios": [1.0]}}
    first = run(prepared_in(workspace, **changes), workspace, InProcess(), "", None)
    again = run(prepared_in(workspace, **changes), workspace, InProcess(allowed=False), "", None)
    assert again.tuned == first.tuned
    assert again.rows.equals(first.rows)


def test_a_choice_does_not_hang_on_the_validation_or_test_patients(workspace: Workspace) -> None:
    prepared, spy = prepared_in(workspace, training=training(folds=2)), Spy()
    run(prepared, workspace, spy, "", None)
    trial = next(task for task in spy.__dict__["seen"] if isinstance(task, Trial))
    scored = trial.run().facts["scores"]
    assert set(scored) == trial.held <= prepared.split.train


# --- attempts to cheat -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("place", ["train", "held"])
def test_a_held_out_patient_in_a_fold(workspace: Workspace, part: str, place: str) -> None:
    prepared = prepared_in(workspace)
    stranger = sorted(prepared.split.parts()[part])[:1]
    a, b = prepared.subset(2, 0)
    fold = Fold(0, (a, *stranger), (b,)) if place == "train" else Fold(0, (a,), (b, *stranger))
    with pytest.raises(LeakageError, match="held-out patient"):
        fold_context(prepared.context, fold)


def trial_of(prepared: Prepared, arm: Arm = REAL, **changes: Any) -> Trial:
    a, b, c, d = prepared.subset(4, 0)
    context = fold_context(prepared.context, Fold(0, (a, b), (c, d)))
    return Trial(replace(Train(context, arm, (a, b), 0, "tuning", 2, False), **changes))


def test_a_fold_that_trains_on_what_it_holds_out(workspace: Workspace) -> None:
    prepared = prepared_in(workspace)
    with pytest.raises(LeakageError, match="held-out"):
        trial_of(prepared, patients=prepared.subset(4, 0)).run()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_trial_that_trains_on_a_held_out_patient(workspace: Workspace, part: str) -> None:
    prepared = prepared_in(workspace)
    with pytest.raises(LeakageError, match="held-out"):
        trial_of(prepared, patients=tuple(prepared.split.parts()[part])).run()


def test_frozen_cases_of_the_whole_arm_in_a_fold(workspace: Workspace) -> None:
    prepared = prepared_in(workspace)
    made = Synthesise(prepared.context, "toy", prepared.subset(4, 0), 0, 2).run().facts["cases"]
    arm = Arm("mixed 1:1", Mix(synthetic=1.0), engine="toy")
    with pytest.raises(LeakageError, match="held-out"):
        trial_of(prepared, arm, frozen=tuple(made)).run()


def test_an_engine_that_is_fitted_on_the_held_out_part(workspace: Workspace) -> None:
    prepared = prepared_in(workspace)
    trial = trial_of(prepared)
    with pytest.raises(LeakageError, match="fit of an engine"):
        Synthesise(trial.context, "toy", prepared.subset(4, 0), 0, 2).run()


# --- candidates that break ---------------------------------------------------------------------------------------


def test_a_candidate_that_cannot_be_trained_loses(finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = toys.ToyLearner.fit

    def fit(self: toys.ToyLearner, *rest: Any, **more: Any) -> toys.ToyModel:
        if self.noise == WILD["noise"]:
            raise RuntimeError("diverged")
        return honest(self, *rest, **more)

    monkeypatch.setattr(toys.ToyLearner, "fit", fit)
    arms = {"sizes": [4], "replicates": 1, "ratios": [1.0]}
    for choice in finish(training=training(folds=2), arms=arms).tuned.values():
        assert choice.candidate == 1
        assert "diverged" in choice.failed[0]
    with pytest.raises(TrainingError, match="none of the 2 candidates"):
        finish(training=training(candidates=[WILD, {**WILD, "slow": 0.001}]), arms=arms)
