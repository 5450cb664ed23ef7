"""The pictures of the quiz: real training cases beside synthetic ones of every engine, in identical frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.core import Case
from equipoise.core.registry import load
from equipoise.experiment.data import part_cases
from equipoise.experiment.findings import Picture
from equipoise.experiment.fits import fit_engine
from equipoise.experiment.run import Finished
from equipoise.experiment.synthesis import sampled
from equipoise.report.frames import Shown, framed
from equipoise.workspace import Workspace
from equipoise.workspace.cases import case_from_bytes

OF_EACH = 6
"""Real and synthetic pictures, of each."""


def side_by_side(finished: Finished, workspace: Workspace, simulated: bool) -> list[Picture]:
    """Return real training cases beside synthetic ones of every engine, in equal numbers.

    Frozen cases are shown as they were trained on; a streamed engine draws new ones, as it was fitted on the patients
    of the largest size: once more if its fit was not kept.

    Parameters
    ----------
    finished, workspace
        The experiment, and where its frozen cases are.
    simulated
        Whether the real cases' pixels are simulated.
    """
    prepared = finished.prepared
    size = max(arm.n for arm in prepared.arms)
    real = part_cases(prepared.context.source, prepared.subset(size, 0))
    shown = [Shown(case, "real", simulated) for case in _spread(real, OF_EACH)]
    each = max(1, OF_EACH // len(prepared.plan.engines))
    for name, engine in prepared.plan.engines.items():
        frozen = [facts["cases"] for who, facts in finished.syntheses if who == name]
        if frozen:
            made = [case_from_bytes(workspace.objects.get(key)) for key in frozen[-1][:each]]
        else:
            maker = fit_engine(prepared.context, name, real, 0).engine
            made = list(sampled(maker, real[0], each, prepared.plan.seed, "report", name))
        physics = simulated or getattr(load("engines", str(engine.spec["kind"])), "simulates", False)
        shown += [Shown(case, "synthetic", physics) for case in made]
    return framed(shown, prepared.plan.seed)


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    """Return ``count`` cases evenly over the sequence."""
    if len(cases) <= count:
        return list(cases)
    return [cases[i] for i in np.linspace(0, len(cases) - 1, count).astype(int)]
