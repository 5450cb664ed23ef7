from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from equipoise.experiment.arms import PlannedArm
from equipoise.experiment.conclude import headline
from equipoise.experiment.contrasts import Scores, arm_results
from equipoise.experiment.findings import DetectionAndCalibration, Secondary
from equipoise.experiment.reliability import detection_and_calibration, prevalences
from equipoise.experiment.run import Finished
from equipoise.metrics import ReliabilityBins

ROWS = {"sizes": [4], "replicates": 3, "ratios": [1.0], "budgets": ["steps"]}


@pytest.fixture
def finished(finish: Callable[..., Finished]) -> Finished:
    return finish(arms=ROWS)


def told(finished: Finished) -> DetectionAndCalibration:
    scores = Scores(finished)
    return detection_and_calibration(scores, headline(scores, arm_results(scores)))


def named(found: DetectionAndCalibration, metric: str, arm: str = "real") -> Secondary:
    return next(s for s in found.metrics if (s.metric, s.arm) == (metric, arm))


def test_means_are_those_of_the_rows_patient_by_patient(finished: Finished) -> None:
    found = told(finished)
    rows = finished.rows.filter(where="inside", arm="real")
    per_patient = rows.group_by("replicate", "patient").agg(pl.col("brier", "calibration_error").mean())
    assert named(found, "Brier score").mean.value == pytest.approx(per_patient["brier"].mean())
    assert named(found, "calibration error").mean.value == pytest.approx(per_patient["calibration_error"].mean())
    mixed = next(s for s in found.metrics if s.metric == "Brier score" and s.arm.startswith("mixed"))
    gap = finished.rows.filter(where="inside", arm=mixed.arm)["brier"].mean() - rows["brier"].mean()
    assert mixed.difference is not None
    assert mixed.difference.value == pytest.approx(gap)
    assert mixed.difference.low <= mixed.difference.value <= mixed.difference.high


def test_single_blobs_are_no_lesions_and_the_rule_says_so(finished: Finished) -> None:
    # Every toy case has one blob; the toy's noisy predictions have many parts, which must not decide.
    found = told(finished)
    assert found.lesion_labels == []
    assert "here for no label" in found.rule
    assert not {"lesions found", "false alarms"} & {s.metric for s in found.metrics}


def with_rows(finished: Finished, **columns: Any) -> Finished:
    return replace(finished, rows=finished.rows.with_columns(**columns))


def test_sensitivity_and_false_alarms_by_hand(finished: Finished) -> None:
    """Half of the cases with two lesions of which one is found, the others with none: they have no sensitivity."""
    names = sorted(finished.rows.filter(where="inside")["case"].unique())
    several = pl.col("case").is_in(names[::2])
    found = told(
        with_rows(
            finished,
            lesions=pl.when(several).then(2).otherwise(0),
            found=pl.when(several).then(1).otherwise(0),
            false_alarms=pl.when(several).then(0).otherwise(3),
        )
    )
    sensitivity, alarms = named(found, "lesions found").mean, named(found, "false alarms").mean
    assert sensitivity.value == 0.5
    assert (sensitivity.patients, sensitivity.excluded) == (len(names[::2]), len(names[1::2]))
    assert alarms.value == pytest.approx(3 * len(names[1::2]) / len(names))
    assert named(found, "false alarms").unit == "per case"
    assert found.lesion_labels == ["blob"]


def test_the_pooled_curve_has_the_sums_of_all_voxels(finished: Finished) -> None:
    curve = next(c for c in told(finished).reliability if c.arm == "real")
    rows = finished.rows.filter(where="inside", arm="real")
    sums = [np.array(rows[f"bin_{name}"].to_list()).sum(axis=0) for name in ("count", "predicted", "positive")]
    count, predicted, positive = ReliabilityBins(*sums).tenths()
    assert [p.x for p in curve.points] == pytest.approx((predicted / count).tolist())
    assert [p.estimate.value for p in curve.points] == pytest.approx((positive / count).tolist())
    assert sum(curve.shares) == pytest.approx(1)
    assert all(p.estimate.low <= p.estimate.value <= p.estimate.high for p in curve.points)
    assert any(p.estimate.low < p.estimate.high for p in curve.points)


def arms_at(finished: Finished) -> dict[str, PlannedArm]:
    return {a.arm.name: a for a in finished.prepared.arms}


def test_twice_the_prevalence_is_shown_and_most_of_the_harm_is_taken_away(finished: Finished) -> None:
    """The mix's rows are rewritten as those of a calibrated model that was trained at twice the real prevalence."""
    mixed = next(name for name in arms_at(finished) if name.startswith("mixed"))
    rng, real = np.random.default_rng(0), 0.1

    def sums(prevalence: float) -> tuple[dict[str, list[float]], float, float]:
        truth = rng.random(40_000) < real
        log_odds = 1.5 * (rng.standard_normal(truth.size) + 1.5 * truth) - 1.125 + np.log(prevalence / (1 - prevalence))
        probability = 1 / (1 + np.exp(-log_odds))
        bins = ReliabilityBins.of(probability, truth)
        lists = {f"bin_{n}": getattr(bins, n).tolist() for n in ("count", "predicted", "positive")}
        return lists, bins.calibration_error(), float(np.square(probability - truth).mean())

    rows = []
    for row in finished.rows.iter_rows(named=True):
        lists, error, brier = sums(2 * real if row["arm"] == mixed else real)
        rows.append({**row, **lists, "calibration_error": error, "brier": brier})
    trained = {
        at: {**facts, "prevalence": [2 * real if at[0].arm.name == mixed else real]}
        for at, facts in finished.trained.items()
    }
    found = told(replace(finished, rows=pl.DataFrame(rows, infer_schema_length=None), trained=trained))
    plain = named(found, "calibration error", mixed).difference
    corrected = named(found, "calibration error, prevalence corrected", mixed).difference
    assert plain is not None
    assert corrected is not None
    assert plain.low > 0.05
    assert abs(corrected.value) < 0.1 * plain.value
    brier = named(found, "Brier score, prevalence corrected", mixed).difference
    assert brier is not None
    assert abs(brier.value) < 1e-3
    prevalence = next(p for p in found.prevalence if p.arm == mixed)
    assert (prevalence.trained, prevalence.real) == (pytest.approx(0.2), pytest.approx(0.1))
    assert {c.shifted for c in found.reliability if c.arm == "real"} == {False}


def test_the_prevalence_of_the_training_is_recorded_for_every_arm(finished: Finished) -> None:
    arms = list(arms_at(finished).values())
    known = prevalences(Scores(finished), arms)
    assert {a for a, _, _ in known} == set(arms)
    assert all(0 < own < 1 and 0 < real < 1 for own, real in known.values())


def test_a_learner_that_does_not_count_is_shown_as_it_is(finished: Finished) -> None:
    trained = {at: {k: v for k, v in facts.items() if k != "prevalence"} for at, facts in finished.trained.items()}
    found = told(replace(finished, trained=trained))
    assert "does not count the prevalence" in found.message
    assert not [s for s in found.metrics if "corrected" in s.metric]
    assert named(found, "calibration error").mean.value > 0


def test_rows_of_an_earlier_version_end_in_a_clear_message(finished: Finished) -> None:
    old = finished.rows.drop(
        "lesions", "found", "false_alarms", "diameter_error", "brier", "calibration_error", "bin_count",
        "bin_predicted", "bin_positive",
    )  # fmt: skip
    found = told(replace(finished, rows=old))
    assert found.metrics == []
    assert "run the plan in a new workspace" in found.message
