"""The two libraries whose figures ours must equal, wrapped so that their import warnings stay theirs."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np


def monai_metrics() -> tuple[ModuleType, ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.metrics
        import torch
    return monai.metrics, torch


def deepmind() -> ModuleType:
    import surface_distance

    return surface_distance


def by_monai(
    truth: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float, float, float]:
    """HD95, NSD, ASSD, HD."""
    metrics, torch = monai_metrics()
    pair = {"y_pred": torch.from_numpy(predicted[None, None]), "y": torch.from_numpy(truth[None, None])}
    options = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            float(metrics.compute_hausdorff_distance(**pair, **options, percentile=95)),
            float(metrics.compute_surface_dice(**pair, **options, class_thresholds=[tolerance])),
            float(metrics.compute_average_surface_distance(**pair, **options, symmetric=True)),
            float(metrics.compute_hausdorff_distance(**pair, **options)),
        )


def by_deepmind(
    truth: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float, float, float]:
    """HD95, NSD, ASSD pooled by area, HD."""
    peer = deepmind()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = peer.compute_surface_distances(truth, predicted, spacing)
    here, there = peer.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return (
        float(peer.compute_robust_hausdorff(found, 95)),
        float(peer.compute_surface_dice_at_tolerance(found, tolerance)),
        float((here * areas[0] + there * areas[1]) / sum(areas)),
        float(peer.compute_robust_hausdorff(found, 100)),
    )
