"""Grey values of images without lesions on the scale of those with lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from equipoise.engines.imaging.inpainting.grounds import Ground, lesions_in
from equipoise.engines.parts.learned.intensity import Intensity

ENDS = (2.0, 98.0)
"""Percentiles of what is no lesion that are to agree."""


def with_room_for_lesions(intensity: Intensity, grounds: Sequence[Ground], names: tuple[str, ...]) -> Intensity:
    """Return the scale of training images with those of healthy ones widened to what lesions need.

    Where each image has a scale of its own, the brightest tissue of an image becomes 1: a lesion in one, some healthy
    tissue in another. A bright lesion painted on a healthy image's own scale could be no brighter than that tissue.
    Healthy images are therefore laid where the tissue beside lesions lies in the images that have them.

    Parameters
    ----------
    intensity
        Of the training images; returned as it is where they share one scale.
    grounds
        All of them, in order.
    names
        Labels that are lesions.
    """
    if len(intensity.low) == 1 or not any(g.healthy for g in grounds):
        return intensity
    ends = np.array([_ends(ground, names) for ground in grounds])
    low, high = intensity.low[:, :, None], intensity.high[:, :, None]
    sick = np.array([not g.healthy for g in grounds])
    wanted = ((ends - low) * (2 / (high - low)) - 1)[sick].mean(axis=0)
    width = 2 * np.maximum(np.ptp(ends, axis=-1), 1e-12) / np.maximum(np.ptp(wanted, axis=-1), 1e-3)
    start = ends[..., 0] - (wanted[..., 0] + 1) * width / 2
    keep = sick[:, None]
    return replace(
        intensity, low=np.where(keep, intensity.low, start), high=np.where(keep, intensity.high, start + width)
    )


def _ends(ground: Ground, names: tuple[str, ...]) -> np.ndarray:
    """Return the percentiles of what is no lesion, shape ``(C, 2)``."""
    image, beside = ground.case.image.array, ~lesions_in(ground.case.labels, names)
    return np.array([np.percentile(channel[beside] if beside.any() else channel, ENDS) for channel in image])


__all__ = ["with_room_for_lesions"]
