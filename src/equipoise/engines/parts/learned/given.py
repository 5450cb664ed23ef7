"""What of an image is known before a learned engine makes the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Given:
    """Images of which a part is to stay.

    Parameters
    ----------
    images
        -1 … 1, float32, shape ``(B, C, I, J, K)``.
    keep
        1 where a voxel stays as it is, 0 where it is made anew, between them where both are blended; float32, shape
        ``(B, I, J, K)``.
    passes
        How often each stretch of the way from noise to image is gone, each time from new noise, so that what is made
        answers to what stays.
    """

    images: np.ndarray
    keep: np.ndarray
    passes: int = 1


__all__ = ["Given"]
