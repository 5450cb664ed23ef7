"""Short probes of an experiment's work on this machine: a few steps of training, a few cases scored and made."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from equipoise.core import Case, Learner, Mix, TrainingSet, rng_for
from equipoise.core.registry import make
from equipoise.experiment.data import part_cases, with_test_truth
from equipoise.experiment.engine_probe import EngineTimed, probe_engine
from equipoise.experiment.policy import augmentation_of
from equipoise.experiment.scoring import score_cases
from equipoise.experiment.synthesis import stream_of
from equipoise.experiment.tasks import Context
from equipoise.workspace.cases import case_to_bytes

STEPS = (8, 32)
"""Two short trainings; their difference is free of what is paid once. A learner looks at validation a few times however
many steps it takes, so both must be long enough for all of these looks."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A few steps of one engine's arm (or of ``real``), to be timed."""

    context: Context
    patients: tuple[str, ...]
    engine: str | None
    select: bool


@dataclass(frozen=True, slots=True)
class Timed:
    """What a probe took, in seconds and bytes.

    Parameters
    ----------
    whole
        The probe, from beginning to end.
    once
        What a worker pays once: listing the cases, loading and compiling.
    step
        One optimiser step.
    fixed, blind
        One training besides its steps, with and without validation.
    score, predict
        One case, scored (its prediction included) or predicted only.
    fit, refit, sample
        The engine: its whole fit, one that finds it finished on the disk, and one case.
    fit_memory, fit_disk, choices
        As in `equipoise.experiment.engine_probe.EngineTimed`.
    model_bytes, case_bytes, memory
        A model's file, a synthetic case's, and the process.
    process
        Its number.
    """

    whole: float
    once: float
    step: float
    fixed: float
    blind: float
    score: float
    predict: float
    fit: float
    refit: float
    sample: float
    model_bytes: float
    case_bytes: float
    memory: float
    process: int
    fit_memory: float = 0.0
    fit_disk: float = 0.0
    choices: tuple[str, ...] = ()


def run_probe(probe: Probe) -> Timed:
    """Train a few steps and score a few validation cases; the function that runners send to workers."""
    began = time.perf_counter()
    context, plan = probe.context, probe.context.plan
    real = tuple(part_cases(context.source, probe.patients))
    listing = time.perf_counter() - began
    validation = [with_test_truth(plan, c) for c in part_cases(context.source, context.split.validation)]
    learner = cast(Learner, make("learners", plan.training.learner))
    augment = augmentation_of(plan)
    engine = probe_engine(context, probe.engine, real) if probe.engine else None
    training = _training_set(probe, real, engine)

    def train(steps: int, seen: Sequence[Case]) -> tuple[Any, float]:
        start = time.perf_counter()
        rng = rng_for(plan.seed, "probe")
        model = learner.fit(training, seen, steps, rng, augment, None, probe.select and bool(seen))
        return model, time.perf_counter() - start

    # The first training also loads and compiles.
    first = train(2, validation)[1]
    short, (predictor, long) = train(STEPS[0], validation)[1], train(STEPS[1], validation)
    step = max((long - short) / (STEPS[1] - STEPS[0]), 1e-6)
    fixed = max(short - STEPS[0] * step, 0.0)
    blind = max(train(STEPS[0], ())[1] - STEPS[0] * step, 0.0) if plan.training.tuning.candidates else fixed
    few = validation[:3]
    scoring = seconds_of(lambda: score_cases(predictor, few[:1], plan.metric))
    score = seconds_of(lambda: score_cases(predictor, few, plan.metric)) / len(few)
    return Timed(
        whole=time.perf_counter() - began,
        once=listing + max(first - fixed - 2 * step, 0.0) + max(scoring - score, 0.0),
        step=step,
        fixed=fixed,
        blind=blind,
        score=score,
        predict=seconds_of(lambda: predictor.predict(few[0].image)),
        fit=engine.fit if engine else 0.0,
        refit=engine.refit if engine else 0.0,
        sample=engine.sample if engine else 0.0,
        model_bytes=len(predictor.to_bytes()),
        case_bytes=len(case_to_bytes(training.synthetic[0])) if training.synthetic else 0,
        memory=memory_held(),
        process=os.getpid(),
        fit_memory=engine.memory if engine else 0.0,
        fit_disk=engine.disk if engine else 0.0,
        choices=engine.choices if engine else (),
    )


def _training_set(probe: Probe, cases: tuple[Case, ...], engine: EngineTimed | None) -> TrainingSet:
    """Return what the probe trains on."""
    split = probe.context.split
    if probe.engine is None or engine is None:
        return TrainingSet(cases, (), Mix(), split)
    streamed = probe.context.plan.engines[probe.engine].mode == "streamed"
    stream = stream_of(engine.engine, cases[0]) if streamed else None
    return TrainingSet(cases, () if stream else engine.made, Mix(synthetic=1), split, stream)


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory_held() -> float:
    """Return the most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
