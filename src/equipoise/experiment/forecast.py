"""What an experiment will take on this machine, measured on a few steps before it is started.

Counted: reading the data, starting the workers and what each of them loads once, making synthetic cases, tuning,
training (an engine's fit, looks at validation, a policy's search and scoring included), labels of self-training,
scoring the sealed test, keeping the results, and drawing intervals for the report. Left out: pictures of the report,
reading the further images of arms that are larger than the probe's, and whatever else the machine is doing when the
experiment runs.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core import Arm, rng_for
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.judging import fidelity_seconds
from equipoise.experiment.policy import evaluations_of
from equipoise.experiment.preparation import Prepared, labelled_cases, planned_trainings
from equipoise.experiment.probe import Probe, Timed, memory_held, run_probe, seconds_of
from equipoise.experiment.tuning import folds_of, planned_trials
from equipoise.runners import Runner
from equipoise.stats import paired_difference
from equipoise.workspace import Workspace

ROW_BYTES = 120
"""A scored case in Parquet, measured on the demo."""

_FitOf = tuple[str, tuple[str, ...], int]
"""A fit: engine, patients, replicate."""

REPORT_SHARE = 3.0
"""Intervals per arm and place in a report, in paired differences: the mean, the difference, other metrics, strata."""


@dataclass(frozen=True, slots=True)
class EngineCost:
    """What the fits of an engine will take that trains a network.

    Parameters
    ----------
    name, kind
        In the plan.
    fits
        How many: one per size and replicate, and per fold where the plan tunes.
    hours
        Of all fits, one after the other; the whole forecast has them side by side.
    memory
        Bytes of one fit, in use at a time.
    disk
        Bytes that all fits keep.
    choices
        What the engine chose by itself to fit this machine.
    """

    name: str
    kind: str
    fits: int
    hours: float
    memory: int
    disk: int
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What the whole experiment will take.

    Parameters
    ----------
    arms, trainings, trials
        Arms at their sizes and budgets, trainings of models that are compared, and trainings that tune them.
    workers
        Tasks that run at the same time.
    hours
        Wall-clock time with this runner.
    memory
        Bytes, all processes together.
    disk
        Bytes added to the workspace.
    money
        Of annotation and synthetic cases, by the plan's price book.
    engines
        Those that train a network.
    """

    arms: int
    trainings: int
    trials: int
    workers: int
    hours: float
    memory: int
    disk: int
    money: float
    currency: str
    engines: tuple[EngineCost, ...] = ()


def estimate_cost(prepared: Prepared, runner: Runner) -> Cost:
    """Run short probes as the experiment would run its tasks, and add up.

    Parameters
    ----------
    prepared
        The experiment; nothing is written.
    runner
        Where it would run. As many probes run at once as workers would, since they share memory bandwidth.
    """
    plan, workers, began = prepared.plan, runner.slots(), time.perf_counter()
    # The size that most models are trained at.
    n = Counter(planned.n for planned, _, _ in planned_trainings(prepared)).most_common(1)[0][0]
    select = any(planned.select for planned in prepared.arms)
    names: list[str | None] = [None, *plan.engines]
    probes = [Probe(prepared.context, prepared.subset(n, 0), name, select) for name in names for _ in range(workers)]
    found: dict[str | None, list[Timed]] = {name: [] for name in names}
    for index, result in runner.map(run_probe, probes):
        found[probes[index].engine].append(result)
    waited = time.perf_counter() - began
    forecast = _Forecast(prepared, {name: _mean(timed) for name, timed in found.items()}, _keeping(prepared))
    every = [timed for results in found.values() for timed in results]
    # Starting the workers is what the probes did not do themselves.
    starting = max(waited - sum(t.whole for t in every) / workers, 0.0)
    seconds = prepared.seconds + starting + sum(t.once for t in every) / workers
    seconds += sum(_wall(stage, workers) for stage in forecast.stages()) + forecast.report()
    here = 0.0 if any(t.process == os.getpid() for t in every) else memory_held()
    size = max(plan.arms.sizes)
    synthetic = max((arm.arm.mix.synthetic for arm in prepared.arms if arm.arm.engine), default=0.0) * size
    return Cost(
        arms=len(prepared.arms),
        trainings=len(planned_trainings(prepared)),
        trials=forecast.trials,
        workers=workers,
        hours=seconds / 3600,
        memory=round(workers * max(t.memory for t in every) + here),
        disk=forecast.disk(),
        money=size * plan.prices.real_case + synthetic * plan.prices.synthetic_case + plan.prices.engine_fit,
        currency=plan.prices.currency,
        engines=forecast.engines(),
    )


@dataclass(frozen=True, slots=True)
class _Forecast:
    """The seconds of every task, from the means of the probes.

    Parameters
    ----------
    mean
        By engine; ``None`` is an arm without.
    keeping
        Seconds to keep the result of one task.
    """

    prepared: Prepared
    mean: dict[str | None, Timed]
    keeping: float

    @property
    def trials(self) -> int:
        """Trainings that tune."""
        tuning = self.prepared.plan.training.tuning
        return len(planned_trials(self.prepared)) * tuning.folds * len(tuning.candidates)

    def stages(self) -> list[list[float]]:
        """Return the tasks of each stage, which ends before the next one begins."""
        trainings = planned_trainings(self.prepared)
        met: set[_FitOf] = set()  # streamed arms of one size and replicate share a fit, which the first one waits for
        first = [self._training(p, r, arm, met) for p, r, arm in trainings if arm.schedule != "self-training"]
        last = [self._training(p, r, arm, met) for p, r, arm in trainings if arm.schedule == "self-training"]
        sealed = [self._sealed(part) for part in ("test", "external") if self.prepared.split.parts()[part]]
        # Of the weights of a weighted arm one is tested, or an arm that is tested anyway.
        tested = len({(arm, planned.n, planned.budget, r) for planned, r, arm in trainings if not planned.weights})
        judged = fidelity_seconds(self.prepared, self.mean[None])
        stages = [self._syntheses(), *judged, self._trials("joint"), first, self._trials("self-training"), last]
        return [[seconds + self.keeping for seconds in stage] for stage in (*stages, sealed * tested)]

    def report(self) -> float:
        """Return the seconds of the report's intervals."""
        plan, split = self.prepared.plan, self.prepared.split
        places = [len(patients) for name, patients in split.parts().items() if name != "train" and len(patients) > 1]
        rng = rng_for(plan.seed, "probe", "report")
        seconds = 0.0
        for patients in places:
            a, b = rng.standard_normal((2, plan.arms.replicates, patients))
            seconds += seconds_of(partial(paired_difference, a, b, rng))
        return REPORT_SHARE * seconds * len(self.prepared.arms)

    def disk(self) -> int:
        """Return the bytes of models, synthetic cases and rows."""
        trainings = len(planned_trainings(self.prepared))
        scored = self._cases("validation", "target_validation", "test", "external")
        made = sum(count * self.mean[name].case_bytes for (name, *_), count in self._frozen().items())
        kept = sum(self.mean[name].fit_disk for name, *_ in self._fits())
        return round(trainings * (self.mean[None].model_bytes + scored * ROW_BYTES) + made + kept)

    def engines(self) -> tuple[EngineCost, ...]:
        """Return what the fits of each engine take that trains a network."""
        fits, found = Counter(name for name, *_ in self._fits()), []
        for name, engine in self.prepared.plan.engines.items():
            timed = self.mean[name]
            if timed.fit_memory or timed.fit_disk:
                found.append(
                    EngineCost(
                        name,
                        str(engine.spec["kind"]),
                        fits[name],
                        fits[name] * timed.fit / 3600,
                        round(timed.fit_memory),
                        round(fits[name] * timed.fit_disk),
                        timed.choices,
                    )
                )
        return tuple(found)

    def _fits(self) -> set[_FitOf]:
        """Return all fits of engines: by engine, patients and replicate."""
        found = set(self._frozen())
        for planned, replicate, arm in planned_trainings(self.prepared):
            if arm.engine and self.prepared.plan.engines[arm.engine].mode == "streamed":
                groups = self._groups(planned.n, replicate)
                found |= {(arm.engine, patients, replicate) for patients in groups}
        return found

    def _groups(self, n: int, replicate: int) -> list[tuple[str, ...]]:
        """Return the patients that an arm's engine is fitted on: its own, and those of its folds where it is tuned."""
        own = self.prepared.subset(n, replicate)
        if not self.prepared.plan.training.tuning.candidates:
            return [own]
        return [own, *(fold.train for fold in folds_of(self.prepared.plan, own, replicate))]

    def _training(self, planned: PlannedArm, replicate: int, arm: Arm, met: set[_FitOf]) -> float:
        searched = evaluations_of(self.prepared.plan) * self._cases("validation")
        looked = (self._cases("validation", "target_validation") + searched) * self.mean[None].score
        patients = self.prepared.subset(planned.n, replicate)
        engine = self._streamed(arm, patients, replicate, met)
        return self._fitting(arm, planned.n, planned.steps) + engine + self.mean[arm.engine].fixed + looked

    def _streamed(self, arm: Arm, patients: tuple[str, ...], replicate: int, met: set[_FitOf]) -> float:
        """Return the seconds of an arm's streamed engine: its fit for the first arm, finding it for the others."""
        if arm.engine is None or self.prepared.plan.engines[arm.engine].mode != "streamed":
            return 0.0
        fit = (arm.engine, patients, replicate)
        seconds = self.mean[arm.engine].refit if fit in met else self.mean[arm.engine].fit
        met.add(fit)
        return seconds

    def _fitting(self, arm: Arm, n: int, steps: int) -> float:
        """Return the seconds of an arm's steps, and of its labels of self-training."""
        timed, real = self.mean[arm.engine], self.mean[None]
        # Pre-training takes half of its steps on synthetic cases only.
        share = 0.5 if arm.schedule == "pretrain" else arm.mix.synthetic / arm.mix.per_real
        # The probe drew half of each batch from the engine; what a synthetic draw costs more than a real one scales.
        step = real.step + max(timed.step - real.step, 0.0) * share / 0.5 if arm.engine else real.step
        taught = len(self.prepared.unlabelled(self.prepared.subset(n, 0))) if arm.schedule == "self-training" else 0
        return steps * step + taught * real.predict

    def _trials(self, schedule: str) -> list[float]:
        plan = self.prepared.plan
        seconds: list[float] = []
        met: set[_FitOf] = set()
        for arm, n, replicate in planned_trials(self.prepared):
            if (arm.schedule == "self-training") != (schedule == "self-training"):
                continue
            for fold in folds_of(plan, self.prepared.subset(n, replicate), replicate):
                steps = plan.training.tuning.steps or plan.training.steps
                held = labelled_cases(self.prepared, fold.held) * self.mean[None].score
                each = self._fitting(arm, n, steps) + self.mean[arm.engine].blind + held
                seconds += [
                    each + self._streamed(arm, fold.train, replicate, met) for _ in plan.training.tuning.candidates
                ]
        return seconds

    def _syntheses(self) -> list[float]:
        return [self.mean[name].fit + made * self.mean[name].sample for (name, *_), made in self._frozen().items()]

    def _frozen(self) -> dict[_FitOf, int]:
        """Return how many cases are frozen, by engine, parents and replicate; those of the folds are among them."""
        prepared = self.prepared
        counts: dict[_FitOf, int] = {}
        for planned, replicate, arm in planned_trainings(prepared):
            if arm.engine is None or prepared.plan.engines[arm.engine].mode == "streamed":
                continue
            for patients in self._groups(planned.n, replicate):
                at = (arm.engine, patients, replicate)
                made = arm.mix.counts(labelled_cases(prepared, patients))[1]
                counts[at] = max(counts.get(at, 0), made)
        return counts

    def _sealed(self, part: str) -> float:
        return self._cases(part) * self.mean[None].score

    def _cases(self, *parts: str) -> int:
        return sum(labelled_cases(self.prepared, tuple(self.prepared.split.parts()[part])) for part in parts)


def _wall(tasks: Sequence[float], workers: int) -> float:
    """Return the time until the last of some tasks is done, each taken by the worker that is free first."""
    free = [0.0] * workers
    for seconds in tasks:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _keeping(prepared: Prepared) -> float:
    """Return the seconds that the result of one task takes to reach the disk, measured in a folder beside the system's.

    The driver keeps results one after the other while the workers go on; a slow disk still holds up short tasks.
    """
    scored = [entry for entry in prepared.entries if entry.patient in prepared.split.validation]
    rows = [{"case": entry.id, "patient": entry.patient, **dict.fromkeys("abcdefgh", 0.5)} for entry in scored]
    with tempfile.TemporaryDirectory() as folder, Workspace(Path(folder)) as workspace:
        took = [seconds_of(partial(workspace.finish, f"{i:064d}", "probe", rows, {}, 0.0)) for i in range(4)]
    return min(took)


def _mean(found: Sequence[Timed]) -> Timed:
    numbers = [f.name for f in fields(Timed) if f.name != "choices"]
    means: dict[str, Any] = {name: float(np.mean([getattr(t, name) for t in found])) for name in numbers}
    return Timed(**means, choices=found[0].choices)
