"""A labelled region carved out of another case along its own outline, and set into the same place of the body.

References
----------
Zhang X, Liu C, Ou N, et al. CarveMix: a simple data augmentation method for brain lesion segmentation. NeuroImage
2023;271:120041 (MICCAI 2021). doi:10.1016/j.neuroimage.2023.120041
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from equipoise.engines.augmentation.mixing import Window, paste, paste_labels
from equipoise.engines.augmentation.source import Source, cut

RIM = 2.0
"""Width of the blend, in the finest voxel size: the paper's edge is hard, and a hard edge is a feature to learn."""

UNLIKE = 0.25
"""SD of the difference along the seam, as a part of the image's range, above which the edge would be what one sees."""

FITS = 0.8
"""Share of the carved label that must lie in its organ in the host."""


def carve_in(
    donor: Source,
    host: Source,
    window: Window,
    amount: float,
    channel: int | None,
    organ: int | None,
    counted: Sequence[bool],
    rng: np.random.Generator,
) -> bool:
    """Set a carved region of ``donor`` with its labels into a window of ``host``, in place; return whether one fits.

    Parameters
    ----------
    donor, host
        See `mixing.may_exchange`.
    window
        Of the host.
    amount
        How far the region's edge may lie from the label's, as a part of the label's depth (the largest distance of a
        labelled voxel from the edge): up to that far outside, or half as far inside, with equal chance.
    channel
        The label that is carved along; ``None`` is all of them together.
    organ
        The label that at least 4 of 5 carved voxels must come to lie in, if there is one: two slices of two bodies
        need not be at one height.
    counted
        For each label, whether its instances are numbered.
    rng
        Draws the distance.
    """
    u, labels, first = window
    named = donor.case.labels.array > 0
    mask: np.ndarray = np.asarray(named.any(axis=0) if channel is None else named[channel])
    inward, share = rng.random() < 0.5, rng.random()
    if not mask.any():
        return False
    spacing = np.array(donor.case.image.spacing)
    fine = spacing / spacing.min()
    low, high = (np.array(x) for x in zip(*((int(p.min()), int(p.max()) + 1) for p in np.nonzero(mask)), strict=True))
    rim = [(int(n > 1),) * 2 for n in mask.shape]  # a picture ends along K without a border
    depth = float(ndimage.distance_transform_edt(np.pad(_boxed(mask, low, high), rim), fine).max())
    reach = -0.5 * amount * share * depth if inward else amount * share * depth
    margin = np.where(np.array(mask.shape) > 1, np.ceil((max(reach, 0.0) + RIM) / fine).astype(int) + 1, 0)
    low, high = np.maximum(low - margin, 0), np.minimum(high + margin, mask.shape)
    start, low, high = _placed(low, high, mask.shape, host.case.image.geometry.shape, first, u.shape[1:])
    if (high <= low).any():
        return False
    alpha = carved_share(mask, reach, fine)[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if not (alpha >= 0.5).any():
        return False
    there = tuple(slice(a, a + n) for a, n in zip(start, alpha.shape, strict=True))
    new, theirs = cut(donor, low, high)
    ours = labels[(slice(None), *there)]
    carved = (alpha >= 0.5) & ((theirs[:-1] > 0).any(axis=0) if channel is None else theirs[channel] > 0)
    if organ is not None and carved.any() and (ours[organ][carved] > 0).mean() < FITS:
        return False
    alike = ((ours > 0) == (theirs > 0)).all(axis=0)
    seam = (alpha > 0.02) & (alpha < 0.98)
    if seam.any() and float((u[(slice(None), *there)][:, seam] - new[:, seam]).std(axis=1).mean()) > UNLIKE:
        return False
    paste(u[(slice(None), *there)], new, alpha, alike)
    highest = np.where([*counted, False], labels.max(axis=(1, 2, 3)), 0)
    paste_labels(ours, theirs, alpha, highest)
    return True


def carved_share(mask: np.ndarray, reach: float, spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the share of the carved region at each voxel, float32 in [0, 1].

    Parameters
    ----------
    mask
        The label, bool, shape ``(I, J, K)``, with something in it.
    reach
        Signed distance from the label's edge at which the share is one half; positive is outside.
    spacing
        Voxel size along I, J, K, in the unit of ``reach``.
    """
    if mask.all():
        return np.ones(mask.shape, np.float32)
    outside = ndimage.distance_transform_edt(~mask, spacing)
    signed = np.where(mask, 0.5 - ndimage.distance_transform_edt(mask, spacing), outside - 0.5)
    t = np.clip((reach - signed) / RIM + 0.5, 0, 1)
    share: np.ndarray = (t * t * (3 - 2 * t)).astype(np.float32)
    return share


def _boxed(array: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]


def _placed(
    low: np.ndarray,
    high: np.ndarray,
    theirs: Sequence[int],
    full: Sequence[int],
    first: np.ndarray,
    shape: Sequence[int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the donor's box begins in the window, and the part of the box that lies in it.

    The same place of the body: voxel for voxel between images of one size, else in proportion.
    """
    middle = (low + high - 1) / 2
    scale = np.array([(n - 1) / max(m - 1, 1) for n, m in zip(full, theirs, strict=True)])
    start = np.round(middle * scale - middle).astype(int) + low - first
    before = np.maximum(-start, 0)
    after = np.maximum(start + (high - low) - np.array(shape), 0)
    return start + before, low + before, high - after


__all__ = ["carve_in", "carved_share"]
