"""Label fidelity of every engine of an experiment: which tasks it takes, and what their rows say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from equipoise.core import rng_for
from equipoise.experiment.fidelity import CrossFit, Judge
from equipoise.experiment.obedience import Fidelity, LabelFidelity, compared
from equipoise.experiment.preparation import Prepared, labelled_cases
from equipoise.experiment.probe import Timed
from equipoise.experiment.screening import dropped
from equipoise.experiment.tasks import Synthesise
from equipoise.experiment.tuning import Run
from equipoise.workspace import Workspace

REPLICATE = 0
"""The one whose fits are looked at: label fidelity describes, and decides nothing."""

Frozen = Mapping[tuple[str, int, int], tuple[Synthesise, dict[str, Any]]]
"""Engine, size and replicate to the task that froze its cases, and the task's facts."""


def judge_engines(prepared: Prepared, frozen: Frozen, run: Run, workspace: Workspace) -> Fidelity:
    """Return how well each engine's labels fit its images at its largest size, and what its filter dropped.

    Parameters
    ----------
    prepared, frozen
        The experiment, and its frozen cases.
    run
        Runs the tasks that are not finished.
    workspace
        Where their rows are.
    """
    plan = prepared.plan
    by_engine = {name: [facts for (who, *_), (_, facts) in frozen.items() if who == name] for name in plan.engines}
    lost = [line for name, facts in by_engine.items() if (line := dropped(plan, name, facts))]
    if not plan.fidelity.on:
        return Fidelity([], lost, "Label fidelity was left out: the plan says fidelity = false.")
    crosses, told = _cross_fits(prepared)
    facts = run("cross-fitting segmenters", list(crosses.values()))
    for name, cross in list(crosses.items()):
        if "failed" in facts[cross.key]:
            told.append(f"{name}: {facts[cross.key]['failed']}")
            del crosses[name]
    judges = {
        name: _judge(prepared, name, cross, frozen, facts[cross.key]["models"]) for name, cross in crosses.items()
    }
    run("label fidelity", list(judges.values()))
    found = [
        line
        for name, judge in judges.items()
        for line in _lines(prepared, judge, workspace.rows([crosses[name].key]), workspace.rows([judge.key]))
    ]
    return Fidelity(found, lost, " ".join(told))


def fidelity_seconds(prepared: Prepared, timed: Timed) -> tuple[list[float], list[float]]:
    """Return what the tasks of both stages of `judge_engines` take: segmenters, and the cases that they predict.

    Parameters
    ----------
    prepared
        The experiment.
    timed
        What a probe without an engine took.
    """
    plan = prepared.plan
    if not plan.fidelity.on:
        return [], []
    groups = [cross.patients for cross in _cross_fits(prepared)[0].values()]
    folds, course = plan.fidelity.folds, timed.blind + plan.fidelity.steps_of(plan.training.steps) * timed.step
    fits = [
        min(folds, len(patients)) * course + labelled_cases(prepared, patients) * timed.score
        for patients in set(groups)
    ]
    return fits, [plan.fidelity.cases * min(folds, len(patients)) * timed.predict for patients in groups]


def _cross_fits(prepared: Prepared) -> tuple[dict[str, CrossFit], list[str]]:
    """Return the segmenters that each engine is judged by, and why some cannot be."""
    found, told = {}, []
    for name in prepared.plan.engines:
        sizes = [planned.n for planned in prepared.arms if planned.arm.engine == name]
        if not sizes:
            continue
        if max(sizes) < 2:
            told.append(f"{name}: one training patient cannot be held out from itself.")
            continue
        found[name] = CrossFit(prepared.context, prepared.subset(max(sizes), REPLICATE), REPLICATE)
    return found, told


def _judge(prepared: Prepared, name: str, cross: CrossFit, frozen: Frozen, models: Sequence[str]) -> Judge:
    made = frozen.get((name, len(cross.patients), REPLICATE))
    count = prepared.plan.fidelity.cases
    cases = tuple(made[1]["cases"][:count]) if made else ()
    return Judge(prepared.context, name, cross.patients, REPLICATE, tuple(models), cases, 0 if cases else count)


def _lines(prepared: Prepared, judge: Judge, real: pl.DataFrame, made: pl.DataFrame) -> list[LabelFidelity]:
    """Return the figures of one engine, a line per label."""
    plan, unit = prepared.plan, prepared.entries[0].unit
    steps = plan.fidelity.steps_of(plan.training.steps)
    found = []
    for label in dict.fromkeys(real["label"].to_list()):
        here, there = (rows.filter(pl.col("label") == label).to_dicts() for rows in (real, made))
        parts = compared(here, there, rng_for(plan.seed, "fidelity", label))
        about = (judge.engine, label, unit, len(judge.patients), judge.replicate, steps, not judge.cases)
        found.append(LabelFidelity(*about, *parts))
    return found


__all__ = ["fidelity_seconds", "judge_engines"]
