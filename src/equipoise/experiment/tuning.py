"""Choosing the learner's parameters for each arm by cross-validation inside the arm's own training patients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from equipoise.core import Arm, Split, rng_for
from equipoise.core.registry import canonical
from equipoise.errors import LeakageError, TrainingError
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.data import part_cases
from equipoise.experiment.findings import TunedArm
from equipoise.experiment.plan import Plan
from equipoise.experiment.preparation import Prepared, labelled_cases, planned_trainings
from equipoise.experiment.scoring import score_cases
from equipoise.experiment.tasks import Context, Result, Synthesise, Task, Train, key_of

Run = Callable[[str, Sequence[Task]], dict[str, dict[str, Any]]]
"""Runs the tasks of a stage that are not finished, and returns the facts of all of them by key."""

ArmAt = tuple[Arm, int, int]
"""An arm, its number of patients, and a replicate. Both budgets share a choice: what is tried takes the same steps."""


@dataclass(frozen=True, slots=True)
class Fold:
    """A part of an arm's patients that is held out, and the others, who train.

    Parameters
    ----------
    number
        From 0; an arm with fewer patients than folds holds out some of them again, with another initialisation, so
        that every arm spends the same effort.
    """

    number: int
    train: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What an arm chose.

    Parameters
    ----------
    candidate
        Its position in the plan.
    scores
        Mean of the primary metric over the held-out patients, per candidate; ``None`` where nothing could be scored.
    failed
        Position to the error message of each candidate that could not be trained in some fold.
    """

    candidate: int
    scores: tuple[float | None, ...]
    failed: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """Train one candidate without one fold, and score it on that fold.

    Parameters
    ----------
    train
        The training, in a context whose split says that the fold is held out: an engine, a normaliser or a frozen
        synthetic case that has seen one of its patients is refused there.
    keep
        Whether the model is kept, to be the teacher of self-training in the same fold.
    """

    train: Train
    keep: bool = False

    kind = "trial"

    @property
    def context(self) -> Context:
        """Where the cases and the objects are."""
        return self.train.context

    @property
    def held(self) -> frozenset[str]:
        """The patients of the fold that is held out."""
        return self.context.split.validation

    @property
    def key(self) -> str:
        """Hash of all that decides the result."""
        return key_of(self.context, self.kind, self.train.key, sorted(self.held), self.keep)

    def run(self) -> Result:
        """Return the score of each held-out patient; a candidate that cannot be trained scores 0, the worst value.

        The learner is not shown the fold, and the truth is the one that the arm pays for.
        """
        start, metric = time.perf_counter(), self.context.plan.metric
        cases = part_cases(self.context.source, self.held)
        try:
            predictor, *_ = self.train.fit(())
        except TrainingError as error:
            facts: dict[str, Any] = {"scores": dict.fromkeys(sorted(self.held), 0.0), "failed": error.message}
            return Result([], facts, time.perf_counter() - start)
        found: dict[str, list[float]] = {}
        for row in score_cases(predictor, cases, metric):
            if np.isfinite(row[metric.primary]):
                found.setdefault(row["patient"], []).append(row[metric.primary])
        facts = {"scores": {patient: float(np.mean(values)) for patient, values in found.items()}}
        if self.keep:
            facts["model"] = self.context.store.put(predictor.to_bytes())
        return Result([], facts, time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Tuned:
    """The choices of some arms, and the facts of the trials behind them.

    Parameters
    ----------
    choices
        Per arm, size and replicate.
    trials
        Facts by arm, fold and candidate.
    """

    choices: dict[ArmAt, Choice]
    trials: dict[tuple[ArmAt, int, int], dict[str, Any]]

    def applied(self, task: Train) -> Train:
        """Return a training with the parameters that its arm chose."""
        choice = self.choices.get(arm_at(task))
        return task if choice is None else replace(task, candidate=choice.candidate)


def arm_at(task: Train) -> ArmAt:
    """Return whose choice a training takes."""
    return task.arm, len(task.patients), task.replicate


def folds_of(plan: Plan, patients: Sequence[str], replicate: int) -> list[Fold]:
    """Return the folds of an arm's patients, the same for every arm of one size and replicate.

    Raises
    ------
    TrainingError
        Fewer than two patients.
    """
    if len(patients) < 2:
        raise TrainingError(
            f"{len(patients)} patient(s) cannot be cross-validated",
            fix="leave the size 1 out of arms.sizes, or write tuning = 'none' under [training]",
        )
    count = plan.training.tuning.folds
    order = rng_for(plan.seed, "folds", replicate, len(patients)).permutation(np.array(patients, dtype=object)).tolist()
    parts = [order[start :: min(count, len(order))] for start in range(min(count, len(order)))]
    return [
        Fold(number, tuple(p for p in patients if p not in held), tuple(sorted(held)))
        for number, held in ((number, parts[number % len(parts)]) for number in range(count))
    ]


def fold_context(context: Context, fold: Fold) -> Context:
    """Return the context of a fold: its held-out part is the validation set, every other held-out patient is sealed.

    Raises
    ------
    LeakageError
        The fold has patients who are not training patients.
    """
    strangers = (frozenset(fold.train) | frozenset(fold.held)) - context.split.train
    if strangers:
        part = "held-out" if strangers & context.split.held_out else "unknown"
        raise LeakageError(
            f"{part} patient(s) {', '.join(sorted(strangers)[:5])} are in a fold of the tuning",
            why="parameters chosen on the patients that validate or test are fitted to them",
            fix="tune inside the arm's own training patients",
        )
    known = context.split
    sealed = known.test | known.validation | known.target_validation
    split = Split(frozenset(fold.train), frozenset(fold.held), sealed, known.external)
    return replace(context, split=split)


def planned_trials(prepared: Prepared) -> list[tuple[Arm, int, int]]:
    """Return the arm, size and replicate of every arm that is tuned; each is trained folds x candidates times."""
    if not prepared.plan.training.tuning.candidates:
        return []
    return list(dict.fromkeys((arm, planned.n, replicate) for planned, replicate, arm in planned_trainings(prepared)))


def tune(prepared: Prepared, tasks: Sequence[Train], run: Run, before: Tuned | None = None) -> Tuned:
    """Return what each training's arm chooses among the plan's candidates.

    Parameters
    ----------
    prepared
        The experiment.
    tasks
        The trainings that are to be tuned.
    run
        Runs trials, and the making of the synthetic cases that they need.
    before
        For self-training: what ``real`` chose. In each fold its model of that fold is the teacher.

    Raises
    ------
    TrainingError
        No candidate of an arm could be trained.
    """
    if not prepared.plan.training.tuning.candidates:
        return Tuned({}, {})
    arms = {arm_at(task): task for task in tasks}
    stage = "tuning" if before is None else "tuning self-training"
    frozen = _synthesised(prepared, list(arms.values()), run)
    taught = {planned.n for planned in prepared.arms if planned.arm.schedule == "self-training"}
    trials = {
        (at, fold, candidate): trial
        for at, task in arms.items()
        for fold, candidate, trial in _trials(prepared, task, frozen, before, at[0].name == "real" and at[1] in taught)
    }
    facts = run(stage, list(trials.values()))
    found = {at: facts[trial.key] for at, trial in trials.items()}
    return Tuned({at: _choice(prepared.plan, at, found) for at in arms}, found)


def tuned_arms(plan: Plan, tuned: Mapping[tuple[PlannedArm, int], Choice]) -> list[TunedArm]:
    """Return the choices as the report lists them."""
    candidates = [canonical(candidate) for candidate in plan.training.tuning.candidates]
    return [
        TunedArm(
            planned.arm.name,
            planned.n,
            planned.budget,
            replicate,
            candidates,
            [None if position in choice.failed else score for position, score in enumerate(choice.scores)],
            choice.candidate,
        )
        for (planned, replicate), choice in tuned.items()
    ]


def _trials(
    prepared: Prepared,
    task: Train,
    frozen: Mapping[tuple[str, tuple[str, ...], int], Sequence[str]],
    before: Tuned | None,
    keep: bool,
) -> Iterator[tuple[int, int, Trial]]:
    """Yield fold, candidate and trial of one arm; its candidates share the random stream of a fold."""
    plan, tuning = prepared.plan, prepared.plan.training.tuning
    for fold in folds_of(plan, task.patients, task.replicate):
        count = task.arm.mix.counts(labelled_cases(prepared, fold.train))[1]
        names = frozen.get((task.arm.engine or "", fold.train, task.replicate), ())
        train = replace(
            task,
            context=fold_context(prepared.context, fold),
            patients=fold.train,
            budget=f"tuning, fold {fold.number}",
            steps=tuning.steps or plan.training.steps,
            select=False,
            frozen=tuple(names[:count]),
            teacher=_teacher(before, task, fold) if before else None,
        )
        for candidate in range(len(tuning.candidates)):
            yield fold.number, candidate, Trial(replace(train, candidate=candidate), keep)


def _teacher(before: Tuned, task: Train, fold: Fold) -> str:
    """Return the model of ``real`` that has not seen the fold, with the parameters that ``real`` chose."""
    at = next(at for at in before.choices if at[0].name == "real" and at[1:] == arm_at(task)[1:])
    facts = before.trials[at, fold.number, before.choices[at].candidate]
    return str(facts["model"])


def _synthesised(
    prepared: Prepared, tasks: Sequence[Train], run: Run
) -> dict[tuple[str, tuple[str, ...], int], list[str]]:
    """Return the frozen cases of every engine whose parents are the training part of a fold only."""
    makers: dict[tuple[str, tuple[str, ...], int], Synthesise] = {}
    for task in tasks:
        name = task.arm.engine
        if name is None or prepared.plan.engines[name].mode == "streamed":
            continue
        for fold in folds_of(prepared.plan, task.patients, task.replicate):
            count = task.arm.mix.counts(labelled_cases(prepared, fold.train))[1]
            at = (name, fold.train, task.replicate)
            if at not in makers or makers[at].count < count:
                makers[at] = Synthesise(fold_context(prepared.context, fold), name, fold.train, task.replicate, count)
    facts = run("making synthetic cases to tune on", list(makers.values())) if makers else {}
    return {at: facts[maker.key]["cases"] for at, maker in makers.items()}


def _choice(plan: Plan, at: ArmAt, found: Mapping[tuple[ArmAt, int, int], Mapping[str, Any]]) -> Choice:
    """Return the candidate with the best mean over patients; each patient counts once however often it was held out."""
    scores: list[float | None] = []
    failed: dict[int, str] = {}
    for candidate in range(len(plan.training.tuning.candidates)):
        by_patient: dict[str, list[float]] = {}
        for fold in range(plan.training.tuning.folds):
            facts = found[at, fold, candidate]
            if "failed" in facts:
                failed.setdefault(candidate, facts["failed"])
            for patient, score in facts["scores"].items():
                by_patient.setdefault(patient, []).append(score)
        means = [float(np.mean(values)) for values in by_patient.values()]
        scores.append(float(np.mean(means)) if means else None)
    if len(failed) == len(scores):
        raise TrainingError(
            f"none of the {len(scores)} candidates could be trained in every fold of arm {at[0].name!r} (n = {at[1]}): "
            f"{failed[0]}",
            fix="correct the candidates under [training.tuning]",
        )
    # Dice and NSD are 0 or more: what could not be scored comes after every score, what could not be trained last.
    ranked = [-2.0 if position in failed else -1.0 if score is None else score for position, score in enumerate(scores)]
    return Choice(int(np.argmax(ranked)), tuple(scores), failed)
