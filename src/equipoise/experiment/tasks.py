"""The work of an experiment as small frozen tasks and pure functions that any runner can send anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import cast

from equipoise.core import (
    Arm,
    Case,
    FitRecord,
    Learner,
    Mix,
    Origin,
    Predictor,
    Split,
    TrainingSet,
    rng_for,
)
from equipoise.core.registry import make
from equipoise.engines.augmentation.search import Search
from equipoise.errors import EquipoiseError, LeakageError, TrainingError
from equipoise.experiment.context import Context, Progress, Result, Task, key_of
from equipoise.experiment.data import part_cases, with_test_truth
from equipoise.experiment.fits import Fit, fit_engine, stream_names
from equipoise.experiment.plan import Plan
from equipoise.experiment.policy import augmentation_of, searched, shortened
from equipoise.experiment.scoring import score_cases
from equipoise.experiment.screening import filter_key, sift
from equipoise.experiment.synthesis import sampled, stream_of
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
        # Not its name: it is fitted and draws from the stream that it shares with every other engine.
        parts = (engine.spec, self.patients, self.replicate, self.count)
        return key_of(self.context, self.kind, *parts, *filter_key(self.context.plan, self.engine))

    def run(self) -> Result:
        """Return the objects of the frozen cases."""
        start = time.perf_counter()
        cases = part_cases(self.context.source, self.patients)
        fit = fit_engine(self.context, self.engine, cases, self.replicate)
        made = sampled(fit.engine, cases[0], self.count, self.context.plan.seed, *stream_names(cases, self.replicate))
        told: dict[str, object] = {}
        if self.context.plan.engines[self.engine].filter.on:
            sifted = sift(self.context, self.engine, fit.engine, self.patients, self.count, self.replicate)
            made, told = iter(sifted.cases), sifted.facts
        parents: set[str] = set()
        names = []
        for case in made:
            parents |= case.origin.parents
            names.append(self.context.store.put(case_to_bytes(case)))
        facts = {"cases": names, "parents": sorted(parents), "fit_seconds": fit.seconds, "made": len(names)}
        facts |= {"training": fit.training, **told}
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
        streamed = self._streamed()
        predictor, records, policy = self.fit(
            [with_test_truth(self.context.plan, case) for case in validation], streamed
        )
        rows = []
        for where, patients in _validation(self.context.split).items():
            cases = [with_test_truth(self.context.plan, c) for c in part_cases(self.context.source, patients)]
            rows += score_cases(predictor, cases, self.context.plan.metric, where=where)
        facts = {
            "model": self.context.store.put(predictor.to_bytes()),
            "parents": sorted(predictor.parents),
            "steps": sum(r.steps for r in records) + (policy.steps if policy else 0),
            "policy": policy and policy.as_dict(),
            "draws": sum(r.draws for r in records),
            "synthetic_draws": sum(r.synthetic_draws for r in records),
            "distinct_synthetic": sum(r.distinct_synthetic for r in records),
            "best_step": records[-1].best_step,
            # Of the last course: after pre-training on synthetic cases a model is fine-tuned at the real prevalence.
            "prevalence": records[-1].prevalence,
            "curves": [r.curve for r in records],
            "candidate": self.candidate,
            "training": streamed and streamed.training,
            "cpu_seconds": time.process_time() - cpu,
        }
        return Result(rows, facts, time.perf_counter() - start)

    def fit(
        self, validation: Sequence[Case], streamed: Fit | None = None
    ) -> tuple[Predictor, list[FitRecord], Search | None]:
        """Return the trained model, the record of each course, and the search of its augmentation, if there was one.

        Validation may choose the augmentation and the checkpoint. ``streamed`` is the arm's engine, if it is fitted
        already.
        """
        plan = self.context.plan
        learner = cast(Learner, make("learners", plan.training.tuned(self.candidate)))
        names = (self.replicate, len(self.patients), self.arm.name, self.budget)
        rng = rng_for(plan.seed, "train", *names)
        courses = list(self._courses(learner, streamed or self._streamed()))
        policy = searched(plan, learner, courses[0][0], validation, self.steps, rng_for(plan.seed, "policy", *names))
        augment = policy.policy if policy else augmentation_of(plan)
        start: Predictor | None = None
        records = []
        for training, steps in shortened(courses, policy.steps) if policy else courses:
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
        return start, records, policy

    def _streamed(self) -> Fit | None:
        """Return the fitted engine of an arm whose synthetic cases are drawn while it trains."""
        if self.arm.engine is None or self.frozen:
            return None
        real = part_cases(self.context.source, self.patients)
        return fit_engine(self.context, self.arm.engine, real, self.replicate)

    def _courses(self, learner: Learner, streamed: Fit | None) -> Iterator[tuple[TrainingSet, int]]:
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
        stream = stream_of(streamed.engine, real[0]) if streamed else None
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
