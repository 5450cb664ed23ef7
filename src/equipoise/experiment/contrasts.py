"""From rows to means and paired differences, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import polars as pl

from equipoise.core import rng_for
from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.findings import ArmResult, Estimate, Secondary, Stratum, Verdict
from equipoise.experiment.plan import REPLICATES_TO_CLAIM, Plan
from equipoise.experiment.run import Finished
from equipoise.stats import Difference, holm, mean_interval, paired_difference, verdict
from equipoise.stats import Estimate as Measured

RESAMPLES = 4000
PLACES = ("validation", "target validation", "inside", "target")
Where = Literal["validation", "target validation", "inside", "target"]

SECONDARY = {"dice": "", "nsd": "", "hd95": "length", "assd": "length", "offset": "length", "volume_error": "volume"}
"""Metrics of the rows that the report lists, and what their unit is a unit of."""


@dataclass(frozen=True, eq=False)
class Scores:
    """The rows of an experiment as matrices of replicates x patients.

    Parameters
    ----------
    finished
        The experiment.
    """

    finished: Finished
    _tables: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict, repr=False)

    def matrix(self, arm: PlannedArm, where: str, metric: str) -> tuple[np.ndarray, list[str]]:
        """Return the metric, shape (R, P), and the patients; NaN for a patient without it.

        A patient's value is the mean over the patient's cases and labels that have one. The patients are the same in
        every arm at one place.
        """
        table = self._table(where, metric)
        mine = table.filter((pl.col("arm") == arm.arm.name) & (pl.col("n") == arm.n) & (pl.col("budget") == arm.budget))
        patients = sorted(table["patient"].unique().to_list())
        place = {name: i for i, name in enumerate(patients)}
        replicates = self.finished.prepared.plan.arms.replicates
        values = np.full((replicates, len(patients)), np.nan)
        for replicate, patient, value in mine.select("replicate", "patient", metric).iter_rows():
            values[replicate, place[patient]] = np.nan if value is None else value
        return values[~np.isnan(values).all(axis=1)], patients

    def places(self) -> list[str]:
        """Return the places that have rows, in order."""
        there = set(self.finished.rows["where"].unique().to_list())
        return [where for where in PLACES if where in there]

    def real(self, arm: PlannedArm) -> PlannedArm:
        """Return the real-only arm of the same size and budget."""
        return next(
            a for a in self.finished.prepared.arms if a.family == "real" and a.n == arm.n and a.budget == arm.budget
        )

    def mean(self, arm: PlannedArm, where: str, metric: str) -> Measured | None:
        """Return an arm's mean with its interval, or ``None`` where fewer than two patients have the metric."""
        values, _ = self.matrix(arm, where, metric)
        return mean_interval(values, self._rng(where, metric), resamples=RESAMPLES) if _enough(values) else None

    def difference(
        self,
        arm: PlannedArm,
        where: str,
        metric: str,
        only: set[str] | None = None,
        rival: PlannedArm | None = None,
    ) -> Difference | None:
        """Return the paired difference from ``real`` (or another arm), over all patients or only some."""
        a, patients = self.matrix(arm, where, metric)
        b, _ = self.matrix(rival if rival is not None else self.real(arm), where, metric)
        if only is not None:
            keep = np.array([p in only for p in patients], bool)
            a, b = a[:, keep], b[:, keep]
        if a.shape != b.shape or not _enough(a - b):
            return None
        return paired_difference(a, b, self._rng(where, metric), resamples=RESAMPLES)

    def _rng(self, where: str, metric: str) -> np.random.Generator:
        # One stream for all arms at a place: they share the resamples, so that curves over arms can be drawn jointly.
        # A figure before and after a correction shares them too: it differs by the correction and by nothing else.
        return rng_for(self.finished.prepared.plan.seed, "bootstrap", where, metric.removesuffix("_shifted"))

    def _table(self, where: str, metric: str) -> pl.DataFrame:
        if (where, metric) not in self._tables:
            rows = self.finished.rows.filter(pl.col("where") == where)
            finite = pl.when(pl.col(metric).is_finite()).then(pl.col(metric))
            self._tables[where, metric] = rows.group_by(["arm", "n", "budget", "replicate", "patient"]).agg(
                finite.mean().alias(metric)
            )
        return self._tables[where, metric]


def arm_results(scores: Scores) -> list[ArmResult]:
    """Return every arm at every place, Holm-adjusted over the planned contrasts of one place, budget and question."""
    finished = scores.finished
    plan = finished.prepared.plan
    results: list[ArmResult] = []
    run = [arm for arm in finished.prepared.arms if (arm, 0) in finished.trained]
    for where in scores.places():
        found = [(arm, _difference(scores, arm, where)) for arm in run]
        adjusted = _holm(plan, found)
        for arm, difference in found:
            mean = scores.mean(arm, where, plan.metric.primary)
            if mean is None:
                continue
            replicates = np.nanmean(scores.matrix(arm, where, plan.metric.primary)[0], axis=1)
            facts = [finished.trained[arm, r] for r in range(plan.arms.replicates) if (arm, r) in finished.trained]
            results.append(
                ArmResult(
                    arm=arm.arm.name,
                    family=arm.family,
                    engine=arm.arm.engine,
                    ratio=arm.ratio,
                    n=arm.n,
                    budget=arm.budget,
                    where=cast(Where, where),
                    mean=shown(mean, replicates),
                    difference=None if difference is None else shown(difference, _dots(scores, arm, where)),
                    verdict=None if difference is None else _verdict(difference, plan.metric.margin, adjusted.get(arm)),
                    p_holm=adjusted.get(arm),
                    control=arm.arm.control,
                    distinct_synthetic=_mean(facts, "distinct_synthetic"),
                    sampling_weight=_mean(facts, "synthetic_draws") / max(_mean(facts, "draws"), 1.0),
                    steps=round(_mean(facts, "steps")),
                    cpu_seconds=_mean(facts, "cpu_seconds"),
                    loss_weight=_weight(finished, arm),
                )
            )
    return results


def secondary_results(scores: Scores, arms: Sequence[PlannedArm]) -> list[Secondary]:
    """Return the further metrics of some arms at the sealed places."""
    unit = scores.finished.prepared.entries[0].unit
    size = f"{unit}³" if scores.finished.prepared.entries[0].shape[2] > 1 else f"{unit}²"
    found = []
    for where in ("inside", "target"):
        for arm in arms if where in scores.places() else ():
            for metric, what in SECONDARY.items():
                units = {"": "", "length": unit, "volume": size}
                result = secondary(scores, arm, where, metric, metric, units[what])
                if result is not None:
                    found.append(result)
    return found


def secondary(scores: Scores, arm: PlannedArm, where: str, column: str, name: str, unit: str) -> Secondary | None:
    """Return one column of the rows for one arm and place, ``None`` where fewer than two patients have it."""
    mean = scores.mean(arm, where, column)
    if mean is None:
        return None
    difference = None if arm.family == "real" else scores.difference(arm, where, column)
    return Secondary(
        metric=name,
        unit=unit,
        arm=arm.arm.name,
        n=arm.n,
        where=where,
        budget=arm.budget,
        mean=shown(mean),
        difference=None if difference is None else shown(difference),
    )


def strata_results(scores: Scores, arm: PlannedArm, smallest: int = 5) -> list[Stratum]:
    """Return the difference of an arm within sizes of the structure, sites and scanners of the sealed parts."""
    entries = scores.finished.prepared.entries
    metric = scores.finished.prepared.plan.metric.primary
    found = []
    for where in ("inside", "target"):
        if where not in scores.places():
            continue
        _, patients = scores.matrix(arm, where, metric)
        for factor, levels in _levels(entries, set(patients)).items():
            for level, members in levels.items():
                difference = scores.difference(arm, where, metric, members) if len(members) >= smallest else None
                if difference is not None and len(levels) > 1:
                    found.append(Stratum(factor, level, arm.arm.name, arm.n, where, shown(difference)))
    return found


def shown(measured: Measured, replicates: Sequence[float] | np.ndarray = ()) -> Estimate:
    """Return a measured mean in the form that the report shows."""
    return Estimate(
        measured.estimate,
        measured.low,
        measured.high,
        measured.level,
        [float(value) for value in replicates],
        measured.patients,
        measured.excluded,
        measured.replicates < REPLICATES_TO_CLAIM,
    )


def _levels(entries: Sequence[Any], patients: set[str]) -> dict[str, dict[str, set[str]]]:
    """Return factor to level to patients."""
    size: dict[str, float] = {}
    for e in entries:
        if e.patient in patients:
            size[e.patient] = size.get(e.patient, 0.0) + sum(e.foreground.values())
    edges = np.quantile(list(size.values()), [1 / 3, 2 / 3])
    words = ["smallest third", "middle third", "largest third"]
    levels: dict[str, dict[str, set[str]]] = {"size": {word: set() for word in words}, "site": {}, "scanner": {}}
    for patient, value in size.items():
        levels["size"][words[int(np.searchsorted(edges, value))]].add(patient)
    for e in entries:
        if e.patient in patients:
            for factor, level in (("site", e.site), ("scanner", e.scanner)):
                if level:
                    levels[factor].setdefault(level, set()).add(e.patient)
    return levels


def _difference(scores: Scores, arm: PlannedArm, where: str) -> Difference | None:
    if arm.family == "real":
        return None
    return scores.difference(arm, where, scores.finished.prepared.plan.metric.primary)


def _dots(scores: Scores, arm: PlannedArm, where: str) -> np.ndarray:
    metric = scores.finished.prepared.plan.metric.primary
    a, b = scores.matrix(arm, where, metric)[0], scores.matrix(scores.real(arm), where, metric)[0]
    return np.asarray(np.nanmean(a - b, axis=1))


def _holm(plan: Plan, found: Sequence[tuple[PlannedArm, Difference | None]]) -> dict[PlannedArm, float]:
    """Return the adjusted p-value of each arm, over the contrasts that answer one question.

    Questions are: does a mix of an engine that could be bought differ from real; does a control; do duplicates (a check
    of the instrument); do engines of known gap (another one).
    """
    adjusted: dict[PlannedArm, float] = {}
    families: dict[tuple[str, str], list[tuple[PlannedArm, float]]] = {}
    for arm, difference in found:
        if difference is not None:
            families.setdefault((arm.budget, _question(plan, arm)), []).append((arm, difference.p_value))
    for members in families.values():
        values = holm([p for _, p in members])
        adjusted |= {arm: float(p) for (arm, _), p in zip(members, values, strict=True)}
    return adjusted


def _question(plan: Plan, arm: PlannedArm) -> str:
    if arm.family == "duplicate":
        return "duplicate"
    if arm.arm.engine and plan.engines[arm.arm.engine].known_gap:
        return "known gap"
    return "control" if arm.arm.control else "mix"


def _verdict(difference: Difference, margin: float, p_holm: float | None) -> Verdict:
    """Return the word; "better" and "worse" must also survive Holm."""
    word = verdict(difference, margin)
    if word in ("better", "worse") and p_holm is not None and p_holm >= 0.05:
        return "not inferior" if difference.low > -margin else "not proven"
    return word


def _weight(finished: Finished, arm: PlannedArm) -> float | None:
    chosen = [w for (planned, _), w in finished.weights.items() if planned == arm]
    return float(np.mean(chosen)) if chosen else None


def _mean(facts: Sequence[dict[str, Any]], name: str) -> float:
    return float(np.mean([f[name] for f in facts]))


def _enough(values: np.ndarray) -> bool:
    return values.size > 0 and int(np.isfinite(values).all(axis=0).sum()) >= 2
