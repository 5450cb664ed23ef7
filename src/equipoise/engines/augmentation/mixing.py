"""A part of another training case, with its labels, set into an image behind a blended seam.

References
----------
Yun S, Han D, Oh SJ, et al. CutMix. ICCV 2019. doi:10.1109/ICCV.2019.00612

Zhang X, Liu C, Ou N, et al. CarveMix: a simple data augmentation method for brain lesion segmentation. NeuroImage
2023;271:120041. doi:10.1016/j.neuroimage.2023.120041
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.augmentation.source import Probe, Source, cut, probe_source, probe_window
from equipoise.engines.parts.warp import node_counts, smooth_field

PLACES = 8
"""Places that a part of another case is tried at; it goes where the seam shows least."""

Window = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A piece of a case: normalised image ``(C, …)``, labels ``(L + 1, …)`` as `cut` returns them, its first voxel."""

SEAM = 4.0
"""Width of the blend, in voxels."""

SEAM_POINTS = 400
"""Voxels of the seam at which two images are compared."""


@dataclass(frozen=True, eq=False)
class Region:
    """Where a part of one image goes in another.

    Parameters
    ----------
    alpha
        Share of the new part, float32 in [0, 1], shape ``(I, J, K)`` of the region's box.
    start, origin
        First voxel of the box in the image, and in the donor.
    """

    alpha: np.ndarray
    start: tuple[int, int, int]
    origin: tuple[int, int, int]

    def inside(self, array: np.ndarray) -> np.ndarray:
        """Return the image's part of an array ``(C, I, J, K)``, as a view."""
        i, j, k = (slice(s, s + n) for s, n in zip(self.start, self.alpha.shape, strict=True))
        return array[:, i, j, k]


def may_exchange(one: Source, other: Source) -> bool:
    """Whether parts may be exchanged: a class holds for its whole image, and a slice has no place in a volume."""
    a, b = one.case, other.case
    return (
        isinstance(a.truth, LabelMap)
        and isinstance(b.truth, LabelMap)
        and a.image.geometry.ndim == b.image.geometry.ndim
    )


def set_in(
    donor: Source,
    host: Source,
    window: Window,
    amount: float,
    counted: Sequence[bool],
    rng: np.random.Generator,
) -> bool:
    """Set a part of ``donor`` into a window of ``host``, in place; return whether one fits.

    Parameters
    ----------
    donor, host
        See `may_exchange`.
    window
        Of the host.
    amount
        Largest mean radius of the part, as a part of the window's shortest side.
    counted
        For each label, whether its instances are numbered.
    rng
        Draws outline and places.
    """
    u, labels, first = window
    full, spacing = host.case.image.geometry.shape, np.array(host.case.image.spacing)
    side = min(n * s for n, s in zip(u.shape[1:], spacing, strict=True) if n > 1)
    radius = rng.uniform(0.5, 1.0) * amount * side / spacing
    theirs = donor.case.image.geometry.shape
    alpha = draw_outline(u.shape[1:], theirs, radius.tolist(), rng)
    if alpha is None:
        return False
    wishes = [_wish(labels, first, full, donor, radius, rng) for _ in range(PLACES)]
    region = best_place(alpha, wishes, probe_window(u, labels), probe_source(donor), (u.shape[1:], theirs))
    new, named = cut(donor, np.array(region.origin), np.add(region.origin, region.alpha.shape))
    alike = ((region.inside(labels) > 0) == (named > 0)).all(axis=0)
    paste(region.inside(u), new, region.alpha, alike)
    highest = np.where([*counted, False], labels.max(axis=(1, 2, 3)), 0)
    paste_labels(region.inside(labels), named, region.alpha, highest)
    return True


def draw_outline(
    shape: Sequence[int], donor: Sequence[int], radius: Sequence[float], rng: np.random.Generator
) -> np.ndarray | None:
    """Return the share of the new part in a smooth random region, or ``None`` where none fits.

    Parameters
    ----------
    shape, donor
        Voxels of the image and of the donor along I, J, K.
    radius
        Mean radius along I, J, K, in voxels; cut to what both images hold.
    rng
        Draws the outline: an ellipsoid whose radius varies smoothly by about a third.

    Returns
    -------
    np.ndarray or None
        float32 in [0, 1], 0 on the border of its box and 1 inside.
    """
    room = [min(r, (min(a, b) - 1) / 2.8) for r, a, b in zip(radius, shape, donor, strict=True)]
    half = [0 if n == 1 else int(1.4 * r) for r, n in zip(room, shape, strict=True)]
    if min(h for h, n in zip(half, shape, strict=True) if n > 1) < 2:
        return None
    box = (2 * half[0] + 1, 2 * half[1] + 1, 2 * half[2] + 1)
    steps = [max(r, 2.0) for r in room]
    uneven = smooth_field(2 * rng.random((1, *node_counts(box, steps)), dtype=np.float32) - 1, steps, box)[0]
    places = [np.arange(-h, h + 1, dtype=np.float32) for h in half]
    axes = [x / max(r, 1.0) for x, r in zip(places, room, strict=True)]
    far = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij", sparse=True)))
    inside = (1 - far + 0.8 * uneven) * min(r for r, n in zip(room, shape, strict=True) if n > 1)
    # The box ends where the outline may not have: a pasted part must never show a straight edge.
    ends = [h - np.abs(x) if h else np.array([np.inf], np.float32) for x, h in zip(places, half, strict=True)]
    edge = np.minimum.reduce(np.broadcast_arrays(*np.meshgrid(*ends, indexing="ij", sparse=True)))
    t = np.clip(np.minimum(inside / SEAM + 0.5, edge / SEAM), 0, 1)
    alpha: np.ndarray = (t * t * (3 - 2 * t)).astype(np.float32)
    return alpha


def best_place(
    alpha: np.ndarray,
    wishes: Sequence[tuple[np.ndarray, np.ndarray]],
    host: Probe,
    donor: Probe,
    shapes: Sequence[Sequence[int]],
) -> Region:
    """Return the region where image and donor agree best along the seam, in grey values and in labels.

    Parameters
    ----------
    alpha
        From `draw_outline`.
    wishes
        Where the middle should lie in the image and in the donor; both are moved inwards as far as needed.
    host, donor
        How to read both at positions.
    shapes
        Voxels of the image and of the donor along I, J, K.
    """
    half = [n // 2 for n in alpha.shape]
    seam = np.argwhere((alpha > 0.02) & (alpha < 0.98)).T
    seam = seam[:, :: max(1, seam.shape[1] // SEAM_POINTS)]
    best, region = np.inf, Region(alpha, *(_fit(np.zeros(3), half, s) for s in shapes))
    for wanted, centre in wishes:
        start, origin = _fit(wanted, half, shapes[0]), _fit(centre, half, shapes[1])
        ours, our_masks = host(seam + np.array(start)[:, None])
        theirs, their_masks = donor(seam + np.array(origin)[:, None])
        # A constant difference is taken away by `paste`; what is left shows as an edge.
        cost = float((ours - theirs).std(axis=1).mean()) + 0.5 * float((our_masks != their_masks).any(axis=0).mean())
        if cost < best:
            best, region = cost, Region(alpha, start, origin)
    return region


def paste(u: np.ndarray, new: np.ndarray, alpha: np.ndarray, alike: np.ndarray) -> None:
    """Blend the donor's part into the image's part ``u``, in place; both ``(C, I, J, K)``.

    The donor is shifted by the mean difference along the seam, channel by channel, so that no step is left there. Only
    where both have the same labels (``alike``, bool, ``(I, J, K)``) does it count: an organ set into another tissue
    must keep its contrast.
    """
    ring = (alpha > 0.02) & (alpha < 0.98) & alike
    for c in range(len(u)):
        shift = float((u[c] - new[c])[ring].mean()) if ring.any() else 0.0
        u[c] += alpha * (new[c] + np.float32(shift) - u[c])


def paste_labels(labels: np.ndarray, new: np.ndarray, alpha: np.ndarray, highest: np.ndarray) -> None:
    """Replace the labels where the donor has the larger share, in place; both ``(L, I, J, K)`` integers.

    Parameters
    ----------
    labels, new
        Parts of the image's and the donor's label map.
    alpha
        Share of the donor.
    highest
        Shape ``(L,)``: the highest instance number in use where instances are counted, else 0. The donor's numbers
        start above it.
    """
    inside = alpha >= 0.5
    raised = np.where(new > 0, new + highest[:, None, None, None], 0)
    labels[:, inside] = raised[:, inside]


def _wish(
    labels: np.ndarray,
    first: np.ndarray,
    full: Sequence[int],
    donor: Source,
    radius: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return where a part may go and where it comes from: about something labelled, to the same place of the body."""
    shape, theirs = np.array(labels.shape[1:]), np.array(donor.case.image.geometry.shape)
    centre = rng.random(3) * (theirs - 1)
    if len(donor.foreground):
        # Plain background fits anywhere: given the choice, it would erase labels and never bring one.
        centre = donor.foreground[rng.integers(len(donor.foreground))] + rng.uniform(-0.5, 0.5, 3) * radius
    wanted = centre / np.maximum(theirs - 1, 1) * (np.array(full) - 1) - first + rng.normal(0, 0.05, 3) * full
    if (wanted < 0).any() or (wanted > shape - 1).any():
        wanted = rng.random(3) * (shape - 1)  # that place is not in this patch
    return wanted, centre


def _fit(middle: np.ndarray, half: Sequence[int], shape: Sequence[int]) -> tuple[int, int, int]:
    i, j, k = (int(np.clip(round(float(m)) - h, 0, n - 1 - 2 * h)) for m, h, n in zip(middle, half, shape, strict=True))
    return i, j, k


__all__ = ["Region", "Window", "best_place", "draw_outline", "may_exchange", "paste", "paste_labels", "set_in"]
