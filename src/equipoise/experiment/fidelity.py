"""Label fidelity: whether a model of real images finds on an engine's images what their labels say is there.

A segmenter, the plan's learner, is cross-fitted on the training patients that an engine was fitted on: trained once per
fold without the patients of that fold. Held-out real cases are judged by the segmenter that has not seen their patient,
synthetic ones by all of them, and their figures averaged (`equipoise.experiment.obedience.figures`). What both have in
common, a segmenter that is not perfect, cancels in the difference. Only training patients are read, and the figures
decide nothing: an engine may be disobedient and useful, or obedient and useless.

A synthetic case that repeats a training image is judged by segmenters most of which have seen that image, so that an
engine that copies or changes real images looks a little better here than one that makes its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from equipoise.core import Case, Learner, Mix, Predictor, Split, TrainingSet, check_no_leak, rng_for
from equipoise.core.registry import make
from equipoise.errors import DataError, EquipoiseError, LeakageError, TrainingError
from equipoise.experiment.context import Context, Result, key_of
from equipoise.experiment.data import part_cases
from equipoise.experiment.fits import fit_engine
from equipoise.experiment.obedience import Row, figures
from equipoise.experiment.policy import augmentation_of
from equipoise.experiment.synthesis import sampled
from equipoise.workspace.cases import case_from_bytes


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Train the segmenters of a group of patients, and score each on the patients that it has not seen."""

    context: Context
    patients: tuple[str, ...]
    replicate: int

    kind = "cross-fit"

    @property
    def key(self) -> str:
        """Hash of all that decides the result."""
        plan = self.context.plan
        return key_of(
            self.context,
            self.kind,
            {**plan.training.model_dump(), "tuning": "none"},
            [plan.fidelity.folds, plan.fidelity.steps_of(plan.training.steps), list(plan.metric.labels)],
            [self.patients, self.replicate],
        )

    def run(self) -> Result:
        """Return the models' objects, and rows of the held-out real cases; what fails is told, and stops nothing."""
        start = time.perf_counter()
        try:
            models, rows = cross_fitted(self.context, self.patients, self.replicate)
        except (DataError, TrainingError) as error:
            return Result([], {"failed": error.message}, time.perf_counter() - start)
        names = [self.context.store.put(model.to_bytes()) for model in models]
        return Result(rows, {"models": names}, time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Judge:
    """Let segmenters predict an engine's synthetic cases.

    Parameters
    ----------
    engine
        Its name in the plan.
    models
        Objects of the segmenters.
    cases
        Objects of frozen cases; none for a streamed engine, of which ``count`` are drawn.
    """

    context: Context
    engine: str
    patients: tuple[str, ...]
    replicate: int
    models: tuple[str, ...]
    cases: tuple[str, ...]
    count: int

    kind = "fidelity"

    @property
    def key(self) -> str:
        """Hash of all that decides the result."""
        plan = self.context.plan
        spec = plan.engines[self.engine].spec
        labels = list(plan.metric.labels)
        about = [self.patients, self.replicate, self.models, self.cases, self.count]
        return key_of(self.context, self.kind, spec, labels, about)

    def run(self) -> Result:
        """Return a row per synthetic case and label."""
        start = time.perf_counter()
        split = self.context.split
        learner = cast(Learner, make("learners", self.context.plan.training.learner))
        models = [learner.load(self.context.store.get(name)) for name in self.models]
        rows: list[Row] = []
        for case in self._cases():
            check_no_leak((case,), split.held_out, frozenset(self.patients), "the label fidelity")
            rows += figures(models, case, self.context.plan.metric.labels)
        return Result(rows, {"cases": len({row["case"] for row in rows})}, time.perf_counter() - start)

    def _cases(self) -> Iterator[Case]:
        if self.cases:
            yield from (case_from_bytes(self.context.store.get(name)) for name in self.cases)
            return
        real = part_cases(self.context.source, self.patients)
        engine = fit_engine(self.context, self.engine, real, self.replicate).engine
        yield from sampled(engine, real[0], self.count, self.context.plan.seed, "fidelity", self.engine)


def cross_fitted(context: Context, patients: Sequence[str], replicate: int) -> tuple[list[Predictor], list[Row]]:
    """Return the segmenters of some training patients, one per fold, and the rows of the cases that each has not seen.

    Raises
    ------
    LeakageError
        A patient is not a training patient, or a segmenter has seen one whom it was not given.
    TrainingError
        Fewer than two patients, or the learner failed.
    """
    plan = context.plan
    models, rows = [], []
    for number, held in enumerate(_folds(context, patients, replicate)):
        train = tuple(patient for patient in patients if patient not in held)
        rest = frozenset(context.split.held_out - context.split.external)
        split = Split(frozenset(train), frozenset(held), rest, context.split.external)
        model = _segmenter(context, train, split, rng_for(plan.seed, "cross-fit", replicate, len(patients), number))
        models.append(model)
        for case in part_cases(context.source, held):
            rows += figures([model], case, plan.metric.labels)
    return models, rows


def _folds(context: Context, patients: Sequence[str], replicate: int) -> list[tuple[str, ...]]:
    strangers = set(patients) - context.split.train
    if strangers:
        part = "held-out" if strangers & context.split.held_out else "unknown"
        raise LeakageError(
            f"{part} patient(s) {', '.join(sorted(strangers)[:5])} are among those that segmenters are cross-fitted on",
            why="label fidelity and the filter would have seen the patients that validate or test",
            fix="cross-fit on the arm's own training patients",
        )
    if len(patients) < 2:
        raise TrainingError(
            "label fidelity needs 2 or more training patients: one to train on and one to hold out",
            fix="ask for a larger size in arms.sizes, or write fidelity = false",
        )
    names = np.array(sorted(patients), dtype=object)
    order = rng_for(context.plan.seed, "cross-fit", replicate, len(patients)).permutation(names).tolist()
    count = min(context.plan.fidelity.folds, len(order))
    return [tuple(order[start::count]) for start in range(count)]


def _segmenter(context: Context, train: tuple[str, ...], split: Split, rng: np.random.Generator) -> Predictor:
    plan = context.plan
    learner = cast(Learner, make("learners", plan.training.learner))
    augment = augmentation_of(plan)
    training = TrainingSet(tuple(part_cases(context.source, train)), (), Mix(), split)
    try:
        model = learner.fit(training, (), plan.fidelity.steps_of(plan.training.steps), rng, augment)
    except EquipoiseError:
        raise
    except Exception as error:  # a learner may be anybody's plug-in: its faults end in one clear message
        raise TrainingError(
            f"a segmenter for label fidelity failed: {type(error).__name__}: {error}",
            fix="correct the learner's parameters in [training], or write fidelity = false",
        ) from error
    seen = model.parents - set(train)
    if seen:
        raise LeakageError(
            f"a segmenter for label fidelity has seen patient(s) {sorted(seen)[:5]}, whom it is to judge",
            why="it would find their labels from memory",
            fix="a learner must fit everything on the training set that it is given",
        )
    return model


__all__ = ["CrossFit", "Judge", "cross_fitted"]
