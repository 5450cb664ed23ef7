"""Plain functions on arrays that say how good a prediction is. Needs numpy and scipy only.

Every function states what it returns when one or both masks are empty, and surface metrics state their convention.
`DIRECTION` and `UNIT` tell a report which way is better and what to print behind the figure; NaN is left out of a mean
and counted, inf is neither averaged nor dropped (see `equipoise.metrics.surface`).
"""

from typing import Literal

from equipoise.metrics.boundary import CONVENTIONS, Convention
from equipoise.metrics.calibration import (
    ReliabilityBins,
    ReliabilityTable,
    brier_score,
    expected_calibration_error,
    reliability_table,
    shift_prevalence,
)
from equipoise.metrics.centreline import centre_line, cl_dice
from equipoise.metrics.detection import Detection, detect, lesions, longest_diameter
from equipoise.metrics.measurement import (
    MeasurementError,
    boundary_offset,
    diameter,
    diameter_error,
    volume,
    volume_error,
)
from equipoise.metrics.overlap import VoxelCounts, dice, iou, precision, recall, voxel_counts
from equipoise.metrics.surface import (
    SurfaceDistances,
    SurfaceMetrics,
    assd,
    hausdorff,
    hd95,
    image_diagonal,
    nsd,
    surface_distances,
    surface_metrics,
)

DIRECTION: dict[str, Literal["higher", "lower"]] = {
    "dice": "higher",
    "iou": "higher",
    "precision": "higher",
    "recall": "higher",
    "nsd": "higher",
    "hd95": "lower",
    "hausdorff": "lower",
    "assd": "lower",
    "cl_dice": "higher",
    "volume_error": "lower",
    "diameter_error": "lower",
    "boundary_offset": "lower",
    "lesion_sensitivity": "higher",
    "lesion_precision": "higher",
    "lesion_f1": "higher",
    "expected_calibration_error": "lower",
    "brier_score": "lower",
}
"""Which way is better. For `SIGNED` metrics it speaks of the size of the figure: nearer to zero is better."""

SIGNED: frozenset[str] = frozenset({"volume_error", "diameter_error", "boundary_offset"})
"""Metrics whose sign says in which direction they err; positive is too large or outside."""

UNIT: dict[str, str] = {
    **dict.fromkeys(DIRECTION, ""),
    "hd95": "mm",
    "hausdorff": "mm",
    "assd": "mm",
    "volume_error": "mm³",
    "diameter_error": "mm",
    "boundary_offset": "mm",
}
"""Unit of each metric; empty for a share or a score. The volume of a 2-D mask is an area in mm²."""

__all__ = [
    "CONVENTIONS",
    "DIRECTION",
    "SIGNED",
    "UNIT",
    "Convention",
    "Detection",
    "MeasurementError",
    "ReliabilityBins",
    "ReliabilityTable",
    "SurfaceDistances",
    "SurfaceMetrics",
    "VoxelCounts",
    "assd",
    "boundary_offset",
    "brier_score",
    "centre_line",
    "cl_dice",
    "detect",
    "diameter",
    "diameter_error",
    "dice",
    "expected_calibration_error",
    "hausdorff",
    "hd95",
    "image_diagonal",
    "iou",
    "lesions",
    "longest_diameter",
    "nsd",
    "precision",
    "recall",
    "reliability_table",
    "shift_prevalence",
    "surface_distances",
    "surface_metrics",
    "volume",
    "volume_error",
    "voxel_counts",
]
