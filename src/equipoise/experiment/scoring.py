"""From a prediction to rows: one per case and label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from equipoise.core import Case, LabelMap, Predictor
from equipoise.experiment.plan import MetricPlan
from equipoise.metrics import boundary_offset, dice, image_diagonal, surface_metrics, volume

Row = dict[str, Any]


def score_cases(predictor: Predictor, cases: Sequence[Case], metric: MetricPlan, **identity: object) -> list[Row]:
    """Return the rows of a model on some cases."""
    return [row for case in cases for row in score(predictor.predict(case.image), case, metric, **identity)]


def score(predicted: LabelMap, case: Case, metric: MetricPlan, **identity: object) -> list[Row]:
    """Return one row per label: overlap, surface, volume and boundary figures of a prediction."""
    truth = case.labels
    predicted.geometry.require_same(truth.geometry, "prediction and truth", file=case.file)
    ignored = truth.ignored()
    rows = []
    for name in metric.labels or truth.scheme.names:
        a, b = truth.mask(name) & ~ignored, predicted.mask(name) & ~ignored
        rows.append(
            {
                **identity,
                "case": case.id,
                "patient": case.patient,
                "site": case.site,
                "scanner": case.scanner,
                "label": name,
                **_figures(a, b, truth, metric),
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
