"""From a prediction to rows: one per case and label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.core import Case, LabelMap, Predictor
from equipoise.experiment.plan import MetricPlan
from equipoise.metrics import (
    ReliabilityBins,
    boundary_offset,
    brier_score,
    detect,
    dice,
    image_diagonal,
    lesions,
    longest_diameter,
    surface_metrics,
    volume,
)

Row = dict[str, Any]

DETECTION_RULE = "one to one, intersection over union above 0.1; parts that touch at a corner are one lesion"
"""The convention of every lesion count in the rows: the defaults of `equipoise.metrics.detect`."""


def score_cases(predictor: Predictor, cases: Sequence[Case], metric: MetricPlan, **identity: object) -> list[Row]:
    """Return the rows of a model on some cases; each image is predicted once."""
    rows = []
    for case in cases:
        probability = predictor.probability(case.image)
        predicted = predictor.decide(probability, case.image.geometry)
        rows += score(predicted, probability, case, metric, **identity)
    return rows


def score(
    predicted: LabelMap, probability: np.ndarray, case: Case, metric: MetricPlan, **identity: object
) -> list[Row]:
    """Return one row per label: overlap, surface, size, boundary, lesions and calibration of a prediction.

    Parameters
    ----------
    predicted
        The prediction, on the grid of the truth.
    probability
        Of each label of the prediction, shape ``(L, I, J, K)``.
    case
        Truth; its ignored voxels count in none of the figures.
    metric
        Labels, tolerance and convention.
    identity
        Further columns, the same in every row.

    Raises
    ------
    GeometryMismatchError
        Prediction, probability and truth do not lie on one grid.
    DataError
        The probabilities are none.
    """
    truth = case.labels
    predicted.geometry.require_same(truth.geometry, "prediction and truth", file=case.file)
    counted = ~truth.ignored()
    rows = []
    for name in metric.labels or truth.scheme.names:
        a, b = truth.mask(name) & counted, predicted.mask(name) & counted
        rows.append(
            {
                **identity,
                "case": case.id,
                "patient": case.patient,
                "site": case.site,
                "scanner": case.scanner,
                "label": name,
                **_figures(a, b, truth, metric),
                **_lesions(truth, predicted, name, counted),
                **_calibration(probability[predicted.scheme.channel(name)], a, counted),
            }
        )
    return rows


def _figures(a: np.ndarray, b: np.ndarray, truth: LabelMap, metric: MetricPlan) -> dict[str, float]:
    spacing = truth.spacing
    surface = surface_metrics(a, b, spacing, [metric.tolerance], convention=metric.convention)
    size = volume(a, spacing)
    # A structure that was missed altogether is as far away as the image is large; an infinite distance has no mean.
    far = image_diagonal(a.shape, spacing)
    return {
        "dice": dice(a, b),
        "nsd": surface.nsd[metric.tolerance],
        "hd95": min(surface.hd95, far),
        "assd": min(surface.assd, far),
        "offset": boundary_offset(a, b, spacing),
        "volume": size,
        "volume_error": volume(b, spacing) - size if size else float("nan"),
    }


def _lesions(truth: LabelMap, predicted: LabelMap, name: str, counted: np.ndarray) -> dict[str, float]:
    """Return what was there, found and made up, and how wrong the longest lesion is; NaN where there was none."""
    # Both enter whole: `detect` itself leaves out the lesions that lie mostly where nothing counts.
    a, b = _apart(truth, name), _apart(predicted, name)
    found = detect(a, b, ignore=~counted)
    size, drawn = (longest_diameter(np.where(counted, x, 0), truth.spacing) for x in (a, b))
    return {
        "lesions": found.true_positives + found.false_negatives,
        "found": found.true_positives,
        "false_alarms": found.false_positives,
        "diameter_error": drawn - size if size else float("nan"),
    }


def _apart(labels: LabelMap, name: str) -> np.ndarray:
    """Return lesions by number: the instances where they were counted, else the connected parts of the mask."""
    instances = labels.instances(name)
    return instances if instances.max(initial=0) > 1 else lesions(instances > 0)


def _calibration(probability: np.ndarray, truth: np.ndarray, counted: np.ndarray) -> dict[str, Any]:
    """Return figures over the voxels that count, and the sums that a reliability curve is drawn from."""
    given, came = (probability, truth) if counted.all() else (probability[counted], truth[counted])
    bins = ReliabilityBins.of(given, came)
    return {
        "brier": brier_score(given, came),
        "calibration_error": bins.calibration_error(),
        "bin_count": bins.count.tolist(),
        "bin_predicted": bins.predicted.tolist(),
        "bin_positive": bins.positive.tolist(),
    }
