"""Lesions found and made up, and whether probabilities mean what they say at the real prevalence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from equipoise.core import rng_for
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.contrasts import RESAMPLES, Scores, secondary
from equipoise.experiment.measurements import (
    ArmResult,
    CurvePoint,
    DetectionAndCalibration,
    Estimate,
    Prevalence,
    Reliability,
    Secondary,
)
from equipoise.experiment.plan import REPLICATES_TO_CLAIM
from equipoise.experiment.scoring import DETECTION_RULE
from equipoise.metrics import ReliabilityBins
from equipoise.stats import patient_bootstrap

SEALED = ("inside", "target")
SEVERAL = 0.1
"""Share of cases with several parts from which on a label is counted in lesions; stray voxels make fewer."""

CORRECTED = ", prevalence corrected"
COLUMNS = {
    "sensitivity": "lesions found",
    "alarms": "false alarms",
    "diameter_error": "diameter error",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "brier_shifted": f"Brier score{CORRECTED}",
    "calibration_error_shifted": f"calibration error{CORRECTED}",
}
"""Columns of the rows, or made from them here, to what the report calls them."""

BINS = ["bin_count", "bin_predicted", "bin_positive"]

Prevalences = dict[tuple[PlannedArm, int, str], tuple[float, float]]
"""Arm, replicate and label to the prevalence that the arm and that ``real`` was trained at."""


def detection_and_calibration(scores: Scores, best: ArmResult | None) -> DetectionAndCalibration:
    """Return what every arm at the headline size finds, measures and claims on the sealed places."""
    finished = scores.finished
    plan = finished.prepared.plan
    run = [arm for arm in finished.prepared.arms if (arm, 0) in finished.trained]
    n, budget = (best.n, best.budget) if best else (max(arm.n for arm in run), plan.arms.budgets[0])
    arms = [arm for arm in run if (arm.n, arm.budget) == (n, budget)]
    rows = finished.rows.filter(pl.col("where").is_in(SEALED), n=n, budget=budget)
    if "bin_count" not in rows.columns or rows["bin_count"].null_count() == rows.height:
        message = (
            "These rows were scored before lesions and probabilities were part of them; run the plan in a new "
            "workspace to have them."
        )
        return DetectionAndCalibration([], [], [], [], "", message)
    rows = rows.filter(pl.col("bin_count").is_not_null())
    labels, rule = _lesion_labels(rows)
    known = prevalences(scores, arms)
    extended = Scores(replace(finished, rows=_extended(rows, arms, labels, known)))
    shown = [a for a in arms if a.family == "real" or (best is not None and a.arm.name == best.arm)]
    return DetectionAndCalibration(
        metrics=list(_metrics(extended, arms, labels)),
        reliability=[
            r for where in scores.places() if where in SEALED for r in _curves(rows, shown, where, known, plan.seed)
        ],
        prevalence=_prevalence(known, arms),
        lesion_labels=labels,
        rule=rule,
        message=""
        if known
        else "The learner does not count the prevalence that it was trained at, so calibration is "
        "shown as it is and not corrected for it.",
    )


def prevalences(scores: Scores, arms: Sequence[PlannedArm]) -> Prevalences:
    """Return, where the learner counts them, the prevalences of each arm's training and of its real-only twin's."""
    labels = list(next(e for e in scores.finished.prepared.entries if e.labelled).foreground)
    found: Prevalences = {}
    for arm in arms:
        real = scores.real(arm)
        for replicate in range(scores.finished.prepared.plan.arms.replicates):
            facts = [scores.finished.trained.get((a, replicate), {}) for a in (arm, real)]
            own, twin = (tuple(f.get("prevalence") or ()) for f in facts)
            for label, a, b in zip(labels, own, twin, strict=False):
                # A label that was never drawn has no prevalence to correct.
                if 0 < a < 1 and 0 < b < 1:
                    found[arm, replicate, label] = (float(a), float(b))
    return found


def _prevalence(known: Prevalences, arms: Sequence[PlannedArm]) -> list[Prevalence]:
    found = []
    for arm in arms:
        for label in dict.fromkeys(label for _, _, label in known):
            pairs = [pair for (a, _, name), pair in known.items() if (a, name) == (arm, label)]
            if pairs:
                trained, real = np.mean(pairs, axis=0)
                found.append(Prevalence(arm.arm.name, arm.n, arm.budget, label, float(trained), float(real)))
    return found


def _lesion_labels(rows: pl.DataFrame) -> tuple[list[str], str]:
    """Return the labels that are counted in lesions, and the rule that says so."""
    cases = rows.unique(["where", "case", "label"], maintain_order=True)
    counts = cases.group_by("label", maintain_order=True).agg(
        several=(pl.col("lesions") > 1).mean(), absent=(pl.col("lesions") == 0).any()
    )
    labels = counts.filter((pl.col("several") >= SEVERAL) | pl.col("absent"))["label"].to_list()
    rule = (
        f"Lesions are counted for a label that has several parts in at least {SEVERAL:.0%} of the sealed cases, or "
        f"none in some: here {', '.join(labels) or 'for no label'}. They are matched {DETECTION_RULE}."
    )
    return labels, rule


def _extended(
    rows: pl.DataFrame, arms: Sequence[PlannedArm], labels: Sequence[str], known: Prevalences
) -> pl.DataFrame:
    """Return the rows with the share of lesions found, false alarms, and calibration after the shift of prevalence."""
    counted = pl.col("label").is_in(list(labels))
    by_name = {arm.arm.name: arm for arm in arms}
    shifted = []
    for row in rows.select("arm", "replicate", "label", "brier", *BINS).iter_rows():
        name, replicate, label, brier, *sums = row
        bins, pair = _bins(sums), known.get((by_name[name], replicate, label)) if name in by_name else None
        moved = bins.shifted(*pair) if pair else None
        shifted.append(
            (brier + moved.brier_score() - bins.brier_score(), moved.calibration_error()) if moved else (None, None)
        )
    return rows.drop(BINS).with_columns(
        sensitivity=pl.when(counted & (pl.col("lesions") > 0)).then(pl.col("found") / pl.col("lesions")),
        alarms=pl.when(counted).then(pl.col("false_alarms").cast(pl.Float64)),
        brier_shifted=pl.Series([b for b, _ in shifted], dtype=pl.Float64),
        calibration_error_shifted=pl.Series([e for _, e in shifted], dtype=pl.Float64),
    )


def _metrics(scores: Scores, arms: Sequence[PlannedArm], labels: Sequence[str]) -> Iterable[Secondary]:
    unit = {"diameter_error": scores.finished.prepared.entries[0].unit}
    unit["alarms"] = "per case" if len(labels) == 1 else "per case and label"
    for column, name in COLUMNS.items():
        for where in scores.places():
            for arm in arms:
                found = secondary(scores, arm, where, column, name, unit.get(column, ""))
                if found is not None:
                    yield found


def _bins(sums: Sequence[Sequence[float]]) -> ReliabilityBins:
    count, predicted, positive = sums
    return ReliabilityBins(np.array(count, np.int64), np.array(predicted, np.float64), np.array(positive, np.int64))


def _curves(
    rows: pl.DataFrame, arms: Sequence[PlannedArm], where: str, known: Prevalences, seed: int
) -> Iterable[Reliability]:
    """Yield the pooled curve of each arm, and after the shift where synthetic cases changed the prevalence."""
    for arm in arms:
        mine = rows.filter(where=where, arm=arm.arm.name)
        corrected = arm.family != "real" and any(a == arm for a, _, _ in known)
        for shifted in (False, True) if corrected else (False,):
            sums: dict[str, np.ndarray] = {}
            for patient, replicate, label, *raw in mine.select("patient", "replicate", "label", *BINS).iter_rows():
                bins, pair = _bins(raw), known.get((arm, replicate, label))
                if shifted and pair is None:
                    continue
                bins = bins.shifted(*pair) if shifted and pair else bins
                sums[patient] = sums.get(patient, 0.0) + np.array(bins.tenths())
            if len(sums) > 1:
                few = mine["replicate"].n_unique() < REPLICATES_TO_CLAIM
                rng = rng_for(seed, "reliability", where)
                points, shares = _points(np.stack([sums[p] for p in sorted(sums)], axis=-1), rng, few)
                yield Reliability(arm.arm.name, arm.n, where, arm.budget, shifted, points, shares)


def _points(sums: np.ndarray, rng: np.random.Generator, few: bool) -> tuple[list[CurvePoint], list[float]]:
    """Return the filled bins of sums (count, predicted, positive), shape (3, 10, P), with intervals over patients."""
    count, predicted, positive = sums
    draws = patient_bootstrap(sums[[0, 2]], rng, RESAMPLES)
    points, shares = [], []
    for tenth in np.flatnonzero((count > 0).sum(axis=1) > 1):
        size, true = draws[:, 0, tenth], draws[:, 1, tenth]
        # A resample that met none of the patients with such voxels says nothing about them.
        low, high = np.quantile((true / np.where(size > 0, size, np.nan))[size > 0], [0.025, 0.975])
        total = count[tenth].sum()
        seen = int((count[tenth] > 0).sum())
        value = positive[tenth].sum() / total
        observed = Estimate(float(value), float(low), float(high), patients=seen, conditional=few)
        points.append(CurvePoint(float(predicted[tenth].sum() / total), observed))
        shares.append(float(total / count.sum()))
    return points, shares
