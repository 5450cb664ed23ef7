"""How large the labelled structures of some cases are, as a patch has to see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from equipoise.core.case import Case

MOST_CASES = 16
"""Cases that are measured; the median of more would hardly move, and large volumes take a second each."""

SAMPLES = 64
"""Samples along an axis that a label is measured on: 2 % of its length is far finer than patches differ."""

PIECE = 2.0
"""A structure longer than this many times its thickness is looked at piece by piece: of a vessel tree that spans the
image no pixel needs the far end to be recognised, so a piece this long stands for it."""


def typical_extent(cases: Sequence[Case], ndim: int) -> tuple[float, ...]:
    """Return the extent in voxels, per image axis, of the largest label's typical structure; 0 without any label.

    The extent of a label in a case is the bounding box of the connected component in which it is thickest, but along
    no axis more than `PIECE` times its thickness there, the diameter of the largest ball that fits inside. The box
    alone would take a vessel tree for a structure of the image's size, the thickness alone would miss half of an oval
    organ. A label's typical extent is the median over its cases.

    References
    ----------
    Hildebrand T, Rüegsegger P. A new method for the model-independent assessment of thickness in three-dimensional
    images. J Microsc 1997;185:67. doi:10.1046/j.1365-2818.1997.1340694.x
    """
    labelled = sorted((case for case in cases if case.truth is not None), key=lambda case: case.id)
    chosen = labelled[:: -(-len(labelled) // MOST_CASES)] if labelled else []
    found: dict[int, list[tuple[float, ...]]] = {}
    for case in chosen:
        for index, mask in enumerate(case.labels.masks()):
            if mask.any():
                found.setdefault(index, []).append(_extent(mask, case.labels.spacing)[:ndim])
    typical = [np.median(extents, axis=0) for extents in found.values()]
    return tuple(float(v) for v in np.max(typical, axis=0)) if typical else (0.0,) * ndim


def _extent(mask: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, ...]:
    """Return the extent of one mask, shape ``(I, J, K)``, in voxels along each axis."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    steps = [max(-(-(side.stop - side.start) // SAMPLES), 1) for side in box]
    sampled = mask[box][tuple(slice(step // 2, None, step) for step in steps)]
    if not sampled.any():  # finer than the sampling
        return tuple(float(min(side.stop - side.start, step)) for side, step in zip(box, steps, strict=True))
    sides = np.array(steps) * spacing
    # One voxel of surrounding: what the image's edge cuts off is not taken for deeper than it is seen to be. The third
    # axis of a slice has no surrounding.
    around = [(0, 0) if n == 1 else (1, 1) for n in mask.shape]
    depth = ndimage.distance_transform_edt(np.pad(sampled, around), sampling=sides)
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    # From the middle of a voxel to that of the first one outside: half a voxel too far at either end.
    thickness = 2 * float(depth[deepest]) - min(
        (float(s) for s, (a, _) in zip(sides, around, strict=True) if a), default=0.0
    )
    parts, _ = ndimage.label(np.pad(sampled, around), np.ones((3, 3, 3)))
    own = ndimage.find_objects((parts == parts[deepest]).astype(np.uint8))[0]
    lengths = [(side.stop - side.start) * step for side, step in zip(own, steps, strict=True)]
    return tuple(min(float(n), PIECE * thickness / s) for n, s in zip(lengths, spacing, strict=True))
