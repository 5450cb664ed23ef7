"""The training set of an arm, to be written for another trainer."""

from __future__ import annotations

from equipoise.core import Case
from equipoise.errors import PlanError, did_you_mean
from equipoise.experiment.data import part_cases
from equipoise.experiment.fits import fit_engine
from equipoise.experiment.run import Finished
from equipoise.experiment.synthesis import sampled
from equipoise.workspace import Workspace
from equipoise.workspace.cases import case_from_bytes


def training_cases(finished: Finished, workspace: Workspace, arm: str) -> list[Case]:
    """Return the real and synthetic cases of an arm's first replicate, at its largest size.

    Streamed synthetic cases are drawn once, as many as the mix counts. Duplicates are written once.

    Raises
    ------
    PlanError
        No such arm, or one whose labels a model made (self-training).
    """
    prepared = finished.prepared
    named = [a for a in prepared.arms if a.arm.name == arm and (a, 0) in finished.trained]
    if not named:
        names = {a.arm.name for a in prepared.arms}
        raise PlanError(f"no arm is called {arm!r}.{did_you_mean(arm, names)}")
    chosen = max(named, key=lambda a: a.n)
    if chosen.arm.schedule == "self-training":
        raise PlanError("self-training has no fixed training set: its labels come from a model", fix="export `real`")
    patients = prepared.subset(chosen.n, 0)
    real = part_cases(prepared.context.source, patients)
    count = chosen.arm.mix.counts(len(real))[1]
    kept = real if chosen.arm.mix.real > 0 else []
    if not count or finished.weights.get((chosen, 0)) == 0:
        return kept
    name = chosen.arm.engine or ""
    frozen = finished.frozen.get((name, chosen.n, 0))
    if frozen:
        return kept + [case_from_bytes(workspace.objects.get(key)) for key in frozen[:count]]
    engine = fit_engine(prepared.context, name, real, 0).engine  # the arm's own fit, if it was kept
    return kept + list(sampled(engine, real[0], count, prepared.plan.seed, "export", name))
