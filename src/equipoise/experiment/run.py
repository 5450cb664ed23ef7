"""The driver: seals, trains, opens the vault once, scores; every finished task is kept and never done again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.data import to_json
from equipoise.experiment.fits import watched
from equipoise.experiment.judging import judge_engines
from equipoise.experiment.obedience import Fidelity
from equipoise.experiment.preparation import Prepared, candidates, labelled_cases
from equipoise.experiment.tasks import Evaluate, Progress, Synthesise, Task, Train, run_task
from equipoise.experiment.tuning import Choice, arm_at, tune
from equipoise.experiment.vault import Seal, open_vault, seal
from equipoise.runners import Runner
from equipoise.stats import by_patient
from equipoise.workspace import Opening, Workspace

Trained = tuple[PlannedArm, int]
"""A planned arm and a replicate."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An experiment whose rows are all there.

    Parameters
    ----------
    trained
        Arm and replicate to the facts of its training (for ``weighted``: of the weight that validation chose).
    rows
        One row per arm, replicate, place, case and label.
    syntheses
        Facts of every frozen synthesis, with the engine's name.
    frozen
        Objects of the frozen cases, by engine, size and replicate.
    weights
        Loss weight that validation chose, for ``weighted``.
    not_run
        Controls that could not be run, and why.
    tuned
        What each arm and replicate chose by cross-validation, where the plan tunes.
    fidelity
        Whether labels fit the engines' images, and what filters dropped.
    """

    prepared: Prepared
    seal: Seal
    opening: Opening
    trained: dict[Trained, dict[str, Any]]
    rows: pl.DataFrame
    syntheses: list[tuple[str, dict[str, Any]]]
    frozen: dict[tuple[str, int, int], list[str]]
    weights: dict[Trained, float]
    not_run: dict[str, str]
    tuned: dict[Trained, Choice] = field(default_factory=dict)
    fidelity: Fidelity = field(default_factory=Fidelity)


def run(
    prepared: Prepared,
    workspace: Workspace,
    runner: Runner,
    toml: str,
    root: Path | None,
    progress: Progress | None = None,
    command: str = "",
) -> Finished:
    """Seal the plan, train every arm, open the vault once, and score; what is finished is not done again."""
    plan = prepared.plan
    with workspace.writing():
        sealed = _seal(prepared, workspace, toml, root, command)
        driver = _Driver(workspace, runner, progress)
        frozen = _synthesise(prepared, driver)
        fidelity = judge_engines(prepared, frozen, driver.run, workspace)
        tasks, not_run = _trainings(prepared, frozen)
        tuned = tune(prepared, [t for t in tasks.values() if t.arm.schedule != "self-training"], driver.run)
        tasks = {at: tuned.applied(task) for at, task in tasks.items()}
        facts = driver.run("training", [t for t in tasks.values() if t.arm.schedule != "self-training"])
        students = _self_trainings(prepared, tasks, facts)
        tuned_students = tune(prepared, list(students.values()), driver.run, tuned)
        tasks |= {at: tuned_students.applied(task) for at, task in students.items()}
        facts |= driver.run("self-training", [tasks[at] for at in students])
        chosen, weights = _choose_weights(prepared, tasks, workspace)
        choices = tuned.choices | tuned_students.choices
        token, opening = open_vault(workspace, sealed, prepared.test_set)
        evaluations = _evaluations(prepared, sealed, token, chosen, facts)
        driver.run("testing", [e for _, e in evaluations])
        rows = _collect(workspace, chosen, evaluations)
        workspace.log("finished", plan=plan.hash, rows=rows.height)
    return Finished(
        prepared,
        sealed,
        opening,
        {at: facts[task.key] for at, task in chosen.items()},
        rows,
        [(task.engine, found) for task, found in frozen.values()],
        {at: found["cases"] for at, (_, found) in frozen.items()},
        weights,
        not_run,
        {at: choices[arm_at(task)] for at, task in chosen.items() if arm_at(task) in choices},
        fidelity,
    )


def _seal(prepared: Prepared, workspace: Workspace, toml: str, root: Path | None, command: str) -> Seal:
    """Write the plan, its split and its test set before anything is trained."""
    plan = prepared.plan
    fresh = seal(workspace, plan.hash, prepared.test_set)
    content = {
        "seal": asdict(fresh),
        "plan": plan.model_dump(mode="json"),
        "root": None if root is None else str(root),
        "command": command,
        "split": {name: sorted(patients) for name, patients in prepared.split.parts().items()},
        "inventory": workspace.objects.put(to_json(prepared.entries)),
    }
    known = {name for name, _ in workspace.plans()}
    kept = workspace.add_plan(plan.hash, toml, content)
    if plan.hash not in known:
        workspace.log("sealed the plan", plan=plan.hash, test_set=prepared.test_set)
    return Seal(**kept["seal"])


@dataclass(frozen=True, slots=True)
class _Driver:
    """Runs the tasks that are not finished yet; the only writer of the database."""

    workspace: Workspace
    runner: Runner
    progress: Progress | None

    def run(self, stage: str, tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
        """Return the facts of every task, by key."""
        unique = {task.key: task for task in tasks}
        facts = {key: found for key, (found, _) in self.workspace.finished(list(unique)).items()}
        left = [task for key, task in unique.items() if key not in facts]
        start = time.perf_counter()
        self._tell(stage, len(facts), len(unique), 0, start)
        with watched(self.workspace.path / "engines", self.progress):
            for done, (index, result) in enumerate(self.runner.map(run_task, left), 1):
                task = left[index]
                self.workspace.finish(task.key, task.kind, result.rows, result.facts, result.seconds)
                facts[task.key] = result.facts
                self._log_dropped(task, result.facts)
                self._tell(stage, len(facts), len(unique), done, start)
        return facts

    def _log_dropped(self, task: Task, facts: Mapping[str, Any]) -> None:
        if isinstance(task, Synthesise) and "dropped" in facts:
            where = {"engine": task.engine, "n": len(task.patients), "replicate": task.replicate}
            self.workspace.log("filtered synthetic cases", **where, made=facts["made"], dropped=facts["dropped"])

    def _tell(self, stage: str, finished: int, total: int, done: int, start: float) -> None:
        if self.progress and total:
            each = (time.perf_counter() - start) / done if done else 0.0
            self.progress(stage, finished, total, each * (total - finished))


def _synthesise(prepared: Prepared, driver: _Driver) -> dict[tuple[str, int, int], tuple[Synthesise, dict[str, Any]]]:
    """Return the frozen cases of each engine, size and replicate: as many as its largest mix asks for."""
    tasks: dict[tuple[str, int, int], Synthesise] = {}
    for planned in prepared.arms:
        name = planned.arm.engine
        if name is None or prepared.plan.engines[name].mode == "streamed":
            continue
        for replicate in range(prepared.plan.arms.replicates):
            patients = prepared.subset(planned.n, replicate)
            count = planned.arm.mix.counts(labelled_cases(prepared, patients))[1]
            at = (name, planned.n, replicate)
            if at not in tasks or tasks[at].count < count:
                tasks[at] = Synthesise(prepared.context, name, patients, replicate, count)
    facts = driver.run("making synthetic cases", list(tasks.values()))
    return {at: (task, facts[task.key]) for at, task in tasks.items()}


def _trainings(
    prepared: Prepared, frozen: Mapping[tuple[str, int, int], tuple[Synthesise, dict[str, Any]]]
) -> tuple[dict[Trained, Train], dict[str, str]]:
    """Return a training per arm and replicate; several per ``weighted`` arm, under arms named by their weight."""
    tasks: dict[Trained, Train] = {}
    not_run: dict[str, str] = {}
    for planned in prepared.arms:
        for replicate in range(prepared.plan.arms.replicates):
            patients = prepared.subset(planned.n, replicate)
            if planned.arm.schedule == "self-training" and not prepared.unlabelled(patients):
                not_run[planned.arm.name] = f"no unlabelled image is left at n = {planned.n}"
                continue
            made = frozen.get((planned.arm.engine or "", planned.n, replicate))
            count = planned.arm.mix.counts(labelled_cases(prepared, patients))[1]
            names = tuple(made[1]["cases"][:count]) if made else ()
            for candidate in candidates(prepared.plan, planned):
                at = (replace(planned, arm=candidate), replicate)
                own = names if candidate.engine else ()
                tasks[at] = Train(
                    prepared.context, candidate, patients, replicate, planned.budget, planned.steps, planned.select, own
                )
    return tasks, not_run


def _self_trainings(
    prepared: Prepared, tasks: Mapping[Trained, Train], facts: Mapping[str, dict[str, Any]]
) -> dict[Trained, Train]:
    """Return the self-training tasks with the model of ``real`` at the same size and replicate as teacher."""
    real = {
        (at.n, replicate): task
        for (at, replicate), task in tasks.items()
        if at.family == "real" and at.budget == "steps"
    }
    return {
        (at, replicate): replace(
            task,
            unlabelled=prepared.unlabelled(task.patients),
            teacher=facts[real[at.n, replicate].key]["model"],
        )
        for (at, replicate), task in tasks.items()
        if at.family == "self-training"
    }


def _choose_weights(
    prepared: Prepared, tasks: Mapping[Trained, Train], workspace: Workspace
) -> tuple[dict[Trained, Train], dict[Trained, float]]:
    """Return one training per planned arm and replicate, and the weights that validation chose."""
    chosen: dict[Trained, Train] = {}
    weights: dict[Trained, float] = {}
    metric = prepared.plan.metric.primary
    for planned in prepared.arms:
        for replicate in range(prepared.plan.arms.replicates):
            options = [
                (weight, tasks[at])
                for weight, arm in zip(planned.weights or (1.0,), candidates(prepared.plan, planned), strict=True)
                if (at := (replace(planned, arm=arm), replicate)) in tasks
            ]
            if not options:
                continue
            scores = [_validation_score(workspace, task, metric) for _, task in options] if len(options) > 1 else [0.0]
            # A tie goes to the smaller weight: synthetic cases must earn their place.
            best = max(range(len(options)), key=lambda i: (scores[i], -options[i][0]))
            chosen[planned, replicate] = options[best][1]
            if planned.weights:
                weights[planned, replicate] = options[best][0]
    return chosen, weights


def _validation_score(workspace: Workspace, task: Train, metric: str) -> float:
    rows = workspace.rows([task.key]).filter(pl.col("where") == "validation", pl.col(metric).is_not_nan())
    if rows.is_empty():
        return float("-inf")
    # Not a polars group: their order changes from call to call, and a last digit may break a tie another way.
    return float(by_patient(rows[metric].to_numpy(), rows["patient"].to_list())[0].mean())


def _evaluations(
    prepared: Prepared,
    sealed: Seal,
    token: str,
    chosen: Mapping[Trained, Train],
    facts: Mapping[str, dict[str, Any]],
) -> list[tuple[Trained, Evaluate]]:
    parts = [part for part in ("test", "external") if prepared.split.parts()[part]]
    return [
        (at, Evaluate(prepared.context, facts[task.key]["model"], part, sealed, token))
        for at, task in chosen.items()
        for part in parts
    ]


def _collect(
    workspace: Workspace, chosen: Mapping[Trained, Train], evaluations: Sequence[tuple[Trained, Evaluate]]
) -> pl.DataFrame:
    """Return all rows with the arm, size, budget and replicate that they belong to."""
    keyed: list[tuple[Trained, str]] = [(at, task.key) for at, task in chosen.items()]
    keyed += [(at, task.key) for at, task in evaluations]
    frames = []
    for (planned, replicate), key in keyed:
        rows = workspace.rows([key])
        frames.append(
            rows.with_columns(
                arm=pl.lit(planned.arm.name),
                n=pl.lit(planned.n),
                budget=pl.lit(planned.budget),
                replicate=pl.lit(replicate),
            )
        )
    return pl.concat(frames, how="diagonal_relaxed")
