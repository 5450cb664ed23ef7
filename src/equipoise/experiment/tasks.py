"""The work of an experiment as small frozen tasks and pure functions that any runner can send anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from equipoise.core import (
    Arm,
    Augment,
    Case,
    FitRecord,
    Learner,
    Mix,
    Origin,
    Predictor,
    Split,
    TrainingSet,
    patients_of,
    rng_for,
)
from equipoise.core.registry import canonical, make
from equipoise.errors import EquipoiseError, LeakageError, TrainingError
from equipoise.experiment.context import Context, Progress, Result, Task, key_of
from equipoise.experiment.data import part_cases, with_test_truth
from equipoise.experiment.plan import Plan
from equipoise.experiment.scoring import score_cases
from equipoise.experiment.synthesis import fitted, sampled, stream_of
from equipoise.experiment.vault import Seal, Vault
from equipoise.workspace.cases import case_from_bytes, case_to_bytes


@dataclass(frozen=True, slots=True)
class Synthesise:
    """Fit an engine on an arm's patients and freeze ``count`` of its cases."""

    context: Context
    engine: str
    patients: tuple[str, ...]
    replicate: int
    count: int

    kind = "synthesise"

    @property
    def key(self) -> str:
        """Hash of all that decides the result."""
        engine = self.context.plan.engines[self.engine]
        return key_of(self.context, self.kind, self.engine, engine.spec, self.patients, self.replicate, self.count)

    def run(self) -> Result:
        """Return the objects of the frozen cases."""
        start = time.perf_counter()
        cases = part_cases(self.context.source, self.patients)
        engine, fit_seconds = _fit(self.context, self.engine, cases, self.replicate)
        made = sampled(
            engine, cases[0], self.count, self.context.plan.seed, *_stream(self.engine, cases, self.replicate)
        )
        parents: set[str] = set()
        names = []
        for case in made:
            parents |= case.origin.parents
            names.append(self.context.store.put(case_to_bytes(case)))
        facts = {"cases": names, "parents": sorted(parents), "fit_seconds": fit_seconds, "made": len(names)}
        return Result([], facts, time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Train:
    """Train one arm once, and score it on validation."""

    context: Context
    arm: Arm
    patients: tuple[str, ...]
    replicate: int
    budget: str
    steps: int
    select: bool
    frozen: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    teacher: str | None = None
    candidate: int | None = None

    kind = "train"

    @property
    def key(self) -> str:
        """Hash of all that decides the result."""
        plan = self.context.plan
        engine = plan.engines[self.arm.engine] if self.arm.engine else None
        return key_of(
            self.context,
            self.kind,
            asdict(self.arm),
            engine.model_dump() if engine else None,
            # Not the other candidates: a training with the same values is the same training.
            {**plan.training.model_dump(), "learner": plan.training.tuned(self.candidate), "tuning": "none"},
            plan.metric.model_dump(),
            [self.patients, self.replicate, self.budget, self.steps, self.select],
            [self.frozen, self.unlabelled, self.teacher],
        )

    def run(self) -> Result:
        """Return the model's object, its record, and the rows of the validation patients."""
        start, cpu = time.perf_counter(), time.process_time()
        validation = part_cases(self.context.source, self.context.split.validation)
        predictor, records = self.fit([with_test_truth(self.context.plan, case) for case in validation])
        rows = []
        for where, patients in _validation(self.context.split).items():
            cases = [with_test_truth(self.context.plan, c) for c in part_cases(self.context.source, patients)]
            rows += score_cases(predictor, cases, self.context.plan.metric, where=where)
        facts = {
            "model": self.context.store.put(predictor.to_bytes()),
            "parents": sorted(predictor.parents),
            "steps": sum(r.steps for r in records),
            "draws": sum(r.draws for r in records),
            "synthetic_draws": sum(r.synthetic_draws for r in records),
            "distinct_synthetic": sum(r.distinct_synthetic for r in records),
            "best_step": records[-1].best_step,
            # Of the last course: after pre-training on synthetic cases a model is fine-tuned at the real prevalence.
            "prevalence": records[-1].prevalence,
            "curves": [r.curve for r in records],
            "candidate": self.candidate,
            "cpu_seconds": time.process_time() - cpu,
        }
        return Result(rows, facts, time.perf_counter() - start)

    def fit(self, validation: Sequence[Case]) -> tuple[Predictor, list[FitRecord]]:
        """Return the trained model and the record of each course; validation may choose the checkpoint."""
        plan = self.context.plan
        learner = cast(Learner, make("learners", plan.training.tuned(self.candidate)))
        augment = cast(Augment, make("augmentations", plan.training.augment))
        rng = rng_for(plan.seed, "train", self.replicate, len(self.patients), self.arm.name, self.budget)
        start: Predictor | None = None
        records = []
        for training, steps in self._courses(learner):
            try:
                start = learner.fit(training, validation, steps, rng.spawn(1)[0], augment, start, self.select)
                records.append(start.record)
            except EquipoiseError:
                raise
            except Exception as error:  # a learner may be anybody's plug-in: its faults end in one clear message
                raise TrainingError(
                    f"arm {self.arm.name!r} (n = {len(self.patients)}, replicate {self.replicate}) failed: "
                    f"{type(error).__name__}: {error}",
                    fix="correct the learner's parameters in [training], then run the plan again",
                ) from error
        if start is None:
            raise TrainingError(f"arm {self.arm.name!r} has nothing to train on")
        seen = start.parents & self.context.split.held_out
        if seen:
            raise LeakageError(
                f"the model of arm {self.arm.name!r} was fitted on held-out patient(s) {sorted(seen)[:5]}",
                why="its weights, normaliser or filter have seen the test",
                fix="a learner must fit everything on the training set that it is given",
            )
        return start, records

    def _courses(self, learner: Learner) -> Iterator[tuple[TrainingSet, int]]:
        """Yield what is trained on, one after the other, and for how many steps."""
        arm, split = self.arm, self.context.split
        real = tuple(part_cases(self.context.source, self.patients))
        if arm.schedule == "self-training":
            pseudo = self._pseudo_labelled(learner)
            mix = replace(arm.mix, synthetic=min(arm.mix.synthetic, len(pseudo) / len(real)))
            extra = frozenset(self.unlabelled)
            yield TrainingSet(real, pseudo, mix, split, extra_parents=extra), self.steps
            return
        frozen = tuple(case_from_bytes(self.context.store.get(name)) for name in self.frozen)
        stream = None
        if arm.engine and not frozen:
            stream = stream_of(_fit(self.context, arm.engine, real, self.replicate)[0], real[0])
        if arm.schedule == "pretrain":
            half = self.steps // 2
            yield TrainingSet(real, frozen, Mix(real=0, synthetic=arm.mix.synthetic), split, stream), half
            yield TrainingSet(real, (), Mix(), split), self.steps - half
        else:
            yield TrainingSet(real, frozen, arm.mix, split, stream), self.steps

    def _pseudo_labelled(self, learner: Learner) -> tuple[Case, ...]:
        """Return the unlabelled images with the first model's prediction as label."""
        teacher = learner.load(self.context.store.get(self.teacher or ""))
        cases = part_cases(self.context.source, self.unlabelled, labelled=False)
        return tuple(
            replace(
                case.without_truth(),
                id=f"self-training-{case.id}",
                truth=teacher.predict(case.image),
                origin=Origin("synthetic", "self-training", parents=teacher.parents | {case.patient}),
            )
            for case in cases
        )


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Score a trained model on a sealed part; needs the token."""

    context: Context
    model: str
    part: str
    seal: Seal
    token: str = field(repr=False)

    kind = "evaluate"

    @property
    def key(self) -> str:
        """Hash of all that decides the result; the token is no part of it."""
        plan = self.context.plan
        truth = [plan.split.test_truth, plan.split.min_readers]
        return key_of(
            self.context, self.kind, self.model, self.part, self.seal.test_set, plan.metric.model_dump(), truth
        )

    def run(self) -> Result:
        """Return the rows of the sealed part."""
        start = time.perf_counter()
        where = {"test": "inside", "external": "target"}[self.part]
        learner = cast(Learner, make("learners", self.context.plan.training.learner))
        predictor = learner.load(self.context.store.get(self.model))
        cases = vault_of(self.context, self.seal).cases(self.part, self.token)
        rows = score_cases(predictor, cases, self.context.plan.metric, where=where)
        return Result(rows, {"cases": len(cases)}, time.perf_counter() - start)


def run_task(task: Task) -> Result:
    """Run a task; the function that runners send to workers."""
    return task.run()


def vault_of(context: Context, seal: Seal) -> Vault:
    """Return the vault of a plan."""
    return Vault(context.source, context.split, seal, _HeldOut(context.plan))


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The truth that held-out cases are scored against, as a function that can be sent to a worker."""

    plan: Plan

    def __call__(self, case: Case) -> Case:
        return with_test_truth(self.plan, case)


def _validation(split: Split) -> dict[str, frozenset[str]]:
    parts = {"validation": split.validation, "target validation": split.target_validation}
    return {where: patients for where, patients in parts.items() if patients}


def _fit(context: Context, name: str, cases: Sequence[Case], replicate: int) -> tuple[Any, float]:
    start = time.perf_counter()
    spec = canonical(context.plan.engines[name].spec)
    engine = fitted(spec, cases, context.split, context.plan.seed, *_stream(name, cases, replicate))
    return engine, time.perf_counter() - start


def _stream(name: str, cases: Sequence[Case], replicate: int) -> tuple[object, ...]:
    """Return the names of an engine's random stream: every arm of one size and replicate shares its fit."""
    return name, replicate, len(patients_of(cases))


__all__ = [
    "Context",
    "Evaluate",
    "Progress",
    "Result",
    "Synthesise",
    "Task",
    "Train",
    "key_of",
    "run_task",
    "vault_of",
]
