"""The eye that a label map shows, where the map is all there is: landmarks and blood from its masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from equipoise.core import LabelMap
from equipoise.engines.parts.retina import ARTERY, UM_PER_DEGREE, VEIN, VESSEL, Eye, Field
from equipoise.engines.parts.retina_photograph import landmarks_from


def guessed_eye(labels: LabelMap, masks: np.ndarray, um_per_px: float | None, field_deg: float) -> Eye:
    """Return the eye that a label map shows.

    Parameters
    ----------
    labels, masks
        The map, and bool ``(L, I, J)``.
    um_per_px
        Scale of a map in pixels; without one its field of view has ``field_deg`` degrees.
    """
    shown = Field.within(*masks.shape[1:])
    scale = um_per_px or field_deg * UM_PER_DEGREE / (2 * shown.radius)
    if labels.unit == "mm":
        scale = 1000 * float(np.sqrt(labels.spacing[0] * labels.spacing[1]))
    names = labels.scheme.names
    landmarks = landmarks_from(names, masks, shown, scale)
    lumen, axis = blood_of(names, masks, scale)
    return Eye(
        source="", shape=labels.geometry.shape, landmarks=landmarks, field=shown, lumen_um=lumen, axis=axis,
        exact=False,
    )  # fmt: skip


def blood_of(names: Sequence[str], masks: np.ndarray, um_per_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Return paths through blood in µm and closeness to the axis of labelled vessels, float32 ``(2, I, J)`` each.

    Labels are taken as projections of round vessels. What is called ``vessel`` is half artery and half vein.
    """
    lumen = np.zeros((2, *masks.shape[1:]), np.float32)
    axis = np.zeros_like(lumen)
    for name, parts in ((ARTERY, (0,)), (VEIN, (1,)), (VESSEL, (0, 1))):
        if name not in names:
            continue
        mask = masks[list(names).index(name)]
        depth = np.maximum(ndimage.distance_transform_edt(mask) - 0.5, 0) * mask + 0.25 * mask
        reach = 2 * int(np.ceil(depth.max(initial=0.0))) + 1
        radius = np.maximum(ndimage.maximum_filter(depth, min(reach, 9)), 0.25)
        path = 2 * np.sqrt(np.maximum(2 * radius * depth - depth**2, 0)) * um_per_px
        glance = np.clip((2 * radius * um_per_px - 60) / 40, 0, 1) * np.exp(-0.5 * ((1 - depth / radius) / 0.3) ** 2)
        for part in parts:
            lumen[part] = np.maximum(lumen[part], path / len(parts))
            axis[part] = np.maximum(axis[part], glance * mask / len(parts))
    return lumen, axis


__all__ = ["blood_of", "guessed_eye"]
