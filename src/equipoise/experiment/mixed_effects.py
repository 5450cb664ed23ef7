"""The mixed-effects check: a second method, without resampling, for the headline's interval and its spread."""

from __future__ import annotations

import math

import numpy as np

from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.contrasts import Scores
from equipoise.experiment.findings import ArmResult, Check, Estimate, MixedEffects
from equipoise.experiment.plan import REPLICATES_TO_CLAIM
from equipoise.experiment.wording import words
from equipoise.stats import VarianceComponents, variance_components

TOLERANCE = 0.35
"""Share of the wider half-width by which the two intervals may differ, in their centres and in their half-widths."""


def mixed_effects(scores: Scores, headline: ArmResult | None) -> MixedEffects | None:
    """Return the check of the headline difference, or ``None`` without a headline or with too little to check it by.

    Differences of the headline arm from ``real``, replicates x patients, are taken as the sum of a mean, a replicate's
    and a patient's effect and a rest. At least two replicates and two patients with the metric are needed.
    """
    planned = _planned(scores, headline)
    if headline is None or headline.difference is None or planned is None:
        return None
    metric = scores.finished.prepared.plan.metric.primary
    ours, theirs = (scores.matrix(arm, headline.where, metric)[0] for arm in (planned, scores.real(planned)))
    if ours.shape != theirs.shape or ours.shape[0] < 2 or np.isfinite(ours - theirs).all(axis=0).sum() < 2:
        return None
    found = variance_components(ours - theirs, headline.difference.level)
    agrees = found.agrees_with(headline.difference.low, headline.difference.high, TOLERANCE)
    model = _estimate(found, found.mean, (found.low, found.high))
    return MixedEffects(
        difference=model,
        patient=_spread(found, found.patient, found.patient_interval),
        replicate=_spread(found, found.replicate, found.replicate_interval),
        residual=_spread(found, found.interaction, found.interaction_interval),
        agrees=agrees,
        sentence=_sentence(model, headline.difference, agrees),
    )


def disagreement(found: MixedEffects | None) -> list[Check]:
    """Return the warning of the first page, where the two intervals disagree."""
    return [] if found is None or found.agrees else [Check("Mixed-effects check", "warning", found.sentence)]


def _planned(scores: Scores, headline: ArmResult | None) -> PlannedArm | None:
    if headline is None:
        return None
    wanted = headline.arm, headline.n, headline.budget
    return next((a for a in scores.finished.prepared.arms if (a.arm.name, a.n, a.budget) == wanted), None)


def _estimate(found: VarianceComponents, value: float, bounds: tuple[float, float]) -> Estimate:
    few = found.replicates < REPLICATES_TO_CLAIM
    low, high = bounds
    return Estimate(value, low, high, found.level, [], found.patients, found.excluded, few)


def _spread(found: VarianceComponents, variance: float, bounds: tuple[float, float]) -> Estimate:
    """Return a standard deviation with its interval."""
    low, high = bounds
    return _estimate(found, math.sqrt(variance), (math.sqrt(low), math.sqrt(high)))


def _sentence(model: Estimate, bootstrap: Estimate, agrees: bool) -> str:
    rule = (
        "two intervals agree if neither their centres nor their half-widths differ by more than "
        f"{100 * TOLERANCE:.0f} % of the wider half-width"
    )
    said = (
        f"The mixed-effects model puts the headline difference at {words(model)} and the bootstrap at "
        f"{words(bootstrap)}: they {'agree' if agrees else 'disagree'} ({rule})."
    )
    if agrees:
        return said
    return f"{said} The differences are skewed, or a few patients carry them: read the interval with caution."
