"""What an experiment will take on this machine, measured on a few steps before it is started."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass
from typing import cast

import numpy as np

from equipoise.core import Arm, Augment, Case, Learner, Mix, TrainingSet, rng_for
from equipoise.core.registry import canonical, make
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.data import part_cases, with_test_truth
from equipoise.experiment.preparation import Prepared, planned_trainings
from equipoise.experiment.scoring import score_cases
from equipoise.experiment.synthesis import fitted, sampled, stream_of
from equipoise.experiment.tasks import Context
from equipoise.runners import Runner

STEPS = (8, 32)
"""Two short trainings; their difference is free of what is paid once. A learner looks at validation a few times however
many steps it takes, so both must be long enough for all of these looks."""

ROW_BYTES = 120
"""A scored case in Parquet, measured on the demo."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A few steps of one engine's arm (or of ``real``), to be timed."""

    context: Context
    patients: tuple[str, ...]
    engine: str | None


@dataclass(frozen=True, slots=True)
class Timed:
    """What a probe took, in seconds and bytes."""

    start: float
    step: float
    fixed: float
    case: float
    fit: float
    sample: float
    model_bytes: int
    memory: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What the whole experiment will take.

    Parameters
    ----------
    hours
        Wall-clock time with this runner.
    memory
        Bytes, all processes together.
    disk
        Bytes added to the workspace.
    money
        Of annotation and synthetic cases, by the plan's price book.
    """

    arms: int
    trainings: int
    hours: float
    memory: int
    disk: int
    money: float
    currency: str


def estimate_cost(prepared: Prepared, runner: Runner, workers: int) -> Cost:
    """Run short probes as the experiment would run its tasks, and add up.

    Parameters
    ----------
    prepared
        The experiment; nothing is written.
    runner, workers
        Where it would run. As many probes run at once as workers would, since they share memory bandwidth.
    """
    plan = prepared.plan
    began = time.perf_counter()
    patients = prepared.subset(max(plan.arms.sizes), 0)
    names: list[str | None] = [None, *plan.engines]
    probes = [Probe(prepared.context, patients, name) for name in names for _ in range(workers)]
    timed: dict[str | None, list[Timed]] = {name: [] for name in names}
    for index, result in runner.map(run_probe, probes):
        timed[probes[index].engine].append(result)
    waited = time.perf_counter() - began
    mean = {name: _mean(found) for name, found in timed.items()}
    busy = sum(t.start for found in timed.values() for t in found) / workers
    trainings = planned_trainings(prepared)
    seconds = sum(_training_seconds(prepared, mean, planned, arm) for planned, _, arm in trainings)
    seconds += sum(_synthesis_seconds(prepared, mean).values())
    sealed = _labelled(prepared, prepared.split.test | prepared.split.external)
    seconds += len(trainings) * sealed * mean[None].case
    rows = len(trainings) * (sealed + _labelled(prepared, prepared.split.validation | prepared.split.target_validation))
    size = max(plan.arms.sizes)
    synthetic = max((arm.arm.mix.synthetic for arm in prepared.arms if arm.arm.engine), default=0.0) * size
    return Cost(
        arms=len(prepared.arms),
        trainings=len(trainings),
        hours=(max(waited - busy, 0.0) + seconds / workers) / 3600,
        memory=workers * max(t.memory for t in mean.values()),
        disk=len(trainings) * mean[None].model_bytes + rows * ROW_BYTES,
        money=size * plan.prices.real_case + synthetic * plan.prices.synthetic_case + plan.prices.engine_fit,
        currency=plan.prices.currency,
    )


def run_probe(probe: Probe) -> Timed:
    """Train a few steps and score a few validation cases; the function that runners send to workers."""
    began = time.perf_counter()
    context, plan = probe.context, probe.context.plan
    real = tuple(part_cases(context.source, probe.patients))
    validation = [with_test_truth(plan, c) for c in part_cases(context.source, context.split.validation)]
    learner = cast(Learner, make("learners", plan.training.learner))
    augment = cast(Augment, make("augmentations", plan.training.augment))
    training, fit, sample = _training_set(probe, real)
    took = []
    # The first training also loads and compiles; it is not counted.
    for steps in (2, *STEPS):
        start = time.perf_counter()
        predictor = learner.fit(training, validation, steps, rng_for(plan.seed, "probe"), augment)
        took.append(time.perf_counter() - start)
    step = max((took[2] - took[1]) / (STEPS[1] - STEPS[0]), 1e-6)
    start = time.perf_counter()
    few = validation[:3]
    score_cases(predictor, few, plan.metric)
    return Timed(
        start=time.perf_counter() - began,
        step=step,
        fixed=max(took[1] - STEPS[0] * step, 0.0),
        case=(time.perf_counter() - start) / len(few),
        fit=fit,
        sample=sample,
        model_bytes=len(predictor.to_bytes()),
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _training_set(probe: Probe, cases: tuple[Case, ...]) -> tuple[TrainingSet, float, float]:
    """Return what the probe trains on, and the seconds of a fit and of one synthetic case."""
    context = probe.context
    if probe.engine is None:
        return TrainingSet(cases, (), Mix(), context.split), 0.0, 0.0
    chosen = context.plan.engines[probe.engine]
    start = time.perf_counter()
    engine = fitted(canonical(chosen.spec), cases, context.split, context.plan.seed, "probe")
    fit = time.perf_counter() - start
    # The first case compiles kernels.
    made = tuple(sampled(engine, cases[0], 1, context.plan.seed, "probe", "first"))
    start = time.perf_counter()
    made += tuple(sampled(engine, cases[0], 4, context.plan.seed, "probe"))
    sample = (time.perf_counter() - start) / 4
    stream = stream_of(engine, cases[0]) if chosen.mode == "streamed" else None
    return TrainingSet(cases, () if stream else made, Mix(synthetic=1), context.split, stream), fit, sample


def _training_seconds(prepared: Prepared, mean: dict[str | None, Timed], planned: PlannedArm, arm: Arm) -> float:
    timed, real = mean[arm.engine], mean[None]
    share = arm.mix.synthetic / arm.mix.per_real
    # The probe drew half of each batch from the engine; what a synthetic draw costs more than a real one scales.
    step = real.step + max(timed.step - real.step, 0.0) * share / 0.5 if arm.engine else real.step
    validation = _labelled(prepared, prepared.split.validation | prepared.split.target_validation)
    fit = timed.fit if arm.engine and prepared.plan.engines[arm.engine].mode == "streamed" else 0.0
    checks = 8 * min(validation, 16) * real.case if planned.select else 0.0
    return planned.steps * step + timed.fixed + validation * real.case + fit + checks


def _synthesis_seconds(prepared: Prepared, mean: dict[str | None, Timed]) -> dict[tuple[str, int], float]:
    """Return the seconds of freezing cases, per engine and size, over all replicates."""
    found: dict[tuple[str, int], float] = {}
    for planned in prepared.arms:
        name = planned.arm.engine
        if name is not None and prepared.plan.engines[name].mode == "frozen":
            made = planned.arm.mix.counts(planned.n)[1]
            seconds = prepared.plan.arms.replicates * (mean[name].fit + made * mean[name].sample)
            found[name, planned.n] = max(found.get((name, planned.n), 0.0), seconds)
    return found


def _labelled(prepared: Prepared, patients: frozenset[str]) -> int:
    return sum(e.patient in patients and e.labelled for e in prepared.entries)


def _mean(found: list[Timed]) -> Timed:
    values = {name: float(np.mean([getattr(t, name) for t in found])) for name in Timed.__slots__}
    memory = max(t.memory for t in found)
    seconds = {name: values[name] for name in ("start", "step", "fixed", "case", "fit", "sample")}
    return Timed(**seconds, model_bytes=math.ceil(values["model_bytes"]), memory=memory)
