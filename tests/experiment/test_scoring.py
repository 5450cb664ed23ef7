from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme
from equipoise.errors import DataError
from equipoise.experiment.plan import MetricPlan
from equipoise.experiment.scoring import score, score_cases
from equipoise.metrics import ReliabilityBins

SCHEME = LabelScheme.of(["lesion"])


def labels(mask: np.ndarray, ignore: np.ndarray | None = None) -> LabelMap:
    geometry = Geometry.from_spacing((*mask.shape, 1), (2.0, 2.0, 1.0))
    hidden = None if ignore is None else ignore[None, :, :, None]
    return LabelMap.on(geometry, mask[None, :, :, None].astype(np.uint8), SCHEME, hidden)


def row_of(truth: np.ndarray, probability: np.ndarray, ignore: np.ndarray | None = None) -> dict[str, float]:
    true = labels(truth, ignore)
    case = Case("c", "p", Image.on(true.geometry, np.zeros((1, *true.geometry.shape), np.float32)), true)
    (row,) = score(labels(probability > 0.5), probability[None, :, :, None], case, MetricPlan(), where="inside")
    return row


def squares(*corners: tuple[int, int], size: int = 2) -> np.ndarray:
    mask = np.zeros((12, 12), bool)
    for i, j in corners:
        mask[i : i + size, j : j + size] = True
    return mask


def test_lesions_found_and_made_up_and_the_longest_diameter() -> None:
    truth = squares((0, 0), (0, 8))
    predicted = squares((0, 0), (8, 4)) | squares((8, 8), size=3)
    row = row_of(truth, np.where(predicted, 0.9, 0.1))
    assert (row["lesions"], row["found"], row["false_alarms"]) == (2, 1, 2)
    # Outlines run half-way between pixels, so a square of 2 pixels of 2 mm measures hypot(4, 2), one of 3 hypot(6, 4).
    assert row["diameter_error"] == pytest.approx(math.hypot(6, 4) - math.hypot(4, 2))


def test_brier_calibration_error_and_sums_by_hand() -> None:
    truth = np.zeros((2, 2), bool)
    truth[0, 0] = True
    row = row_of(truth, np.array([[0.75, 0.75], [0.25, 0.05]]))
    # (.25^2 + .75^2 + .25^2 + .05^2) / 4; bins .7 to .8 (mean .75, share .5), .2 to .3 and 0 to .1 (share 0).
    assert row["brier"] == pytest.approx(0.6900 / 4)
    assert row["calibration_error"] == pytest.approx((2 * 0.25 + 0.25 + 0.05) / 4)
    assert (sum(row["bin_count"]), sum(row["bin_positive"])) == (4, 1)
    assert sum(row["bin_predicted"]) == pytest.approx(1.8)


def test_ignored_voxels_count_nowhere() -> None:
    truth, sure = squares((0, 0), (0, 8)), np.where(squares((0, 0), (6, 6)), 0.9, 0.1)
    ignore = np.zeros((12, 12), bool)
    ignore[:, 5:] = True
    row = row_of(truth, sure, ignore)
    assert (row["lesions"], row["found"], row["false_alarms"]) == (1, 1, 0)
    assert row["brier"] == pytest.approx(0.01)
    assert sum(row["bin_count"]) == 12 * 5
    assert row["diameter_error"] == 0


def test_nothing_there_and_nothing_found() -> None:
    empty = np.zeros((12, 12), bool)
    nothing = row_of(empty, np.full((12, 12), 0.1))
    assert (nothing["lesions"], nothing["found"], nothing["false_alarms"]) == (0, 0, 0)
    assert math.isnan(nothing["diameter_error"])
    assert nothing["brier"] == pytest.approx(0.01)
    made_up = row_of(empty, np.where(squares((3, 3)), 0.9, 0.1))
    assert (made_up["lesions"], made_up["false_alarms"]) == (0, 1)
    missed = row_of(squares((3, 3)), np.full((12, 12), 0.1))
    assert (missed["lesions"], missed["found"]) == (1, 0)
    assert missed["diameter_error"] == pytest.approx(-math.hypot(4, 2))


def test_all_ignored_has_no_figure_and_no_error() -> None:
    row = row_of(squares((3, 3)), np.full((12, 12), 0.1), np.ones((12, 12), bool))
    assert all(math.isnan(row[name]) for name in ("brier", "calibration_error", "diameter_error"))
    assert (row["lesions"], sum(row["bin_count"])) == (0, 0)


def test_instances_that_touch_are_lesions_of_their_own() -> None:
    truth = labels(squares((0, 0), (0, 2)))
    numbered = truth.array.copy()
    numbered[0, :, 2:] *= 2
    case = Case(
        "c", "p", Image.on(truth.geometry, np.zeros((1, 12, 12, 1), np.float32)), replace(truth, voxels=numbered)
    )
    probability = np.where(truth.masks(), 0.9, 0.1)
    (row,) = score(truth, probability, case, MetricPlan())
    assert (row["lesions"], row["found"]) == (2, 1)  # one predicted part, matched one to one


def test_an_image_is_predicted_once() -> None:
    class Counting:
        calls = 0

        def probability(self, image: Image) -> np.ndarray:
            self.calls += 1
            return np.full(image.array.shape, 0.7, np.float32)

        def decide(self, probability: np.ndarray, geometry: Geometry) -> LabelMap:
            return LabelMap.on(geometry, (probability > 0.6).astype(np.uint8), SCHEME)

    truth = labels(squares((0, 0)))
    case = Case("c", "p", Image.on(truth.geometry, np.zeros((1, 12, 12, 1), np.float32)), truth)
    model = Counting()
    rows = score_cases(model, [case, case], MetricPlan(), where="inside")
    assert (model.calls, len(rows)) == (2, 2)


def test_what_is_no_probability_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="probabilities must lie"):
        row_of(squares((0, 0)), np.full((12, 12), 3.0))


def test_a_model_trained_at_twice_the_prevalence_is_miscalibrated_and_the_shift_takes_most_of_it_away() -> None:
    rng = np.random.default_rng(5)
    real, doubled = 0.1, 0.2
    truth = rng.random((300, 300)) < real
    feature = rng.standard_normal((300, 300)) + 1.5 * truth

    def posterior(prevalence: float) -> np.ndarray:  # Bayes' rule for two normals 1.5 apart
        return 1 / (1 + np.exp(-(1.5 * feature - 1.125 + math.log(prevalence / (1 - prevalence)))))

    honest, boastful = row_of(truth, posterior(real)), row_of(truth, posterior(doubled))
    bins = ReliabilityBins(*(np.array(boastful[f"bin_{x}"]) for x in ("count", "predicted", "positive")))
    shifted = bins.shifted(doubled, real)
    assert honest["calibration_error"] < 0.005
    assert boastful["calibration_error"] > 0.05
    assert shifted.calibration_error() < 0.1 * boastful["calibration_error"]
    brier = boastful["brier"] + shifted.brier_score() - bins.brier_score()
    assert brier == pytest.approx(honest["brier"], abs=2e-4)
    assert boastful["brier"] > honest["brier"] + 0.003
