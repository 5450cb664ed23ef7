"""Lesions of the training cases copied to new places, turned and scaled, in tissue where lesions occur.

Where they occur is learned: in which labelled organ (if more than half of what surrounds the lesions is one), in which
sub-labels of the unlabelled tissue, and where in the image. A copy goes only where all of that holds and no lesion is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import LabelMap
from equipoise.engines.augmentation.blending import blend
from equipoise.engines.augmentation.mixing import Window
from equipoise.engines.augmentation.source import Source, cut, labels_of
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.clusters import distances
from equipoise.engines.parts.warp import warp
from equipoise.errors import EngineError

MARGIN = 2
"""Voxels around a lesion that come with it: its rim and halo are part of how it looks."""

RING = 3
"""Voxels around a lesion that tell which tissue it lies in."""

OFTEN = 0.1
"""Share of the rings from which on a sub-label is a tissue where lesions occur."""

TRIES, ENOUGH = 64, 6
"""Places tried, and fitting ones among which the least visible seam is taken."""

UNLIKE = 0.2
"""Difference along the border, root mean square, as a part of the image's range, from which on it is another tissue."""

CUT = 0.1
"""Share of the region's border that may be lesion: there it takes the host's values, and its contrast is lost."""

FEWEST = 4
"""Voxels that a lesion must have to be copied: fewer are a slip of the pen."""

AT_MOST = 128
"""Lesions of one case that are remembered."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """One lesion of the training cases.

    Parameters
    ----------
    source
        Position of its case.
    low
        First voxel of its box.
    mask
        Which voxels of the box are its own, bool, ``(I, J, K)``.
    middle
        Of its box, from 0 to 1 along each axis of the image.
    """

    source: int
    low: np.ndarray
    mask: np.ndarray
    middle: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Lesions:
    """What the training cases taught about one kind of lesion.

    Parameters
    ----------
    channel
        Of its label.
    found
        Every lesion that may be copied.
    organ
        Channel of the label that they lie in, if there is one.
    tissues
        For each sub-label, whether lesions occur in it.
    """

    channel: int
    found: tuple[Lesion, ...]
    organ: int | None
    tissues: np.ndarray


def find_lesions(sources: Sequence[Source], centres: np.ndarray, name: str) -> Lesions:
    """Return the lesions of the training cases, and where they occur.

    Parameters
    ----------
    sources
        Of cases with one label scheme.
    centres
        Of the sub-labels, shape ``(T, C)``.
    name
        The lesion's label.

    Raises
    ------
    LabelError
        The scheme has no such label.
    EngineError
        The cases have a class instead of label maps, or no case shows the lesion.
    """
    scheme = sources[0].case.labels.scheme if isinstance(sources[0].case.truth, LabelMap) else None
    if scheme is None:
        raise EngineError(
            f"lesion {name!r} cannot be copied between cases that have a class and no label map",
            fix="leave `lesion` empty, or annotate where the lesions are",
        )
    channel = scheme.channel(name)
    found: list[Lesion] = []
    inside, rings = np.zeros(len(scheme.labels)), np.zeros(len(centres))
    for number, source in enumerate(sources):
        labels = labels_of(source.case)
        if not (labels[channel] > 0).any():
            continue
        found += _lesions_of(number, labels[channel])
        u, _ = cut(source, np.zeros(3, int), np.array(labels.shape[1:]))
        ring = _grown(labels[channel] > 0, RING) & ~(labels[channel] > 0)
        inside += (labels[:, ring] > 0).sum(axis=1) / max(int(ring.sum()), 1)
        rings += np.bincount(_sub_labels(u, centres)[ring], minlength=len(centres)) / max(int(ring.sum()), 1)
    if not found:
        raise EngineError(
            f"none of the {len(sources)} training cases shows a whole lesion {name!r} that could be copied",
            why="what touches the border of the image is only a part of a lesion",
            fix="name another label as `lesion`, or fit on cases that show it",
        )
    inside[channel] = 0
    shown = len({lesion.source for lesion in found})
    organ = int(inside.argmax()) if inside.max() > 0.5 * shown else None
    return Lesions(channel, tuple(found), organ, rings >= OFTEN * max(rings.sum(), 1e-9))


def copy_in(
    lesions: Lesions,
    sources: Sequence[Source],
    host: Source,
    window: Window,
    centres: np.ndarray,
    zoom: float,
    turn: float,
    counted: Sequence[bool],
    rng: np.random.Generator,
) -> Source | None:
    """Copy one lesion into a window of ``host``, in place; return the case it came from, ``None`` if it fits nowhere.

    Parameters
    ----------
    lesions, sources
        What `find_lesions` learned, and from which cases.
    host, window
        A case and a piece of it; it may have lesions, elsewhere.
    centres
        Of the sub-labels.
    zoom
        The copy is up to ``1 + zoom`` times as large, or as much smaller.
    turn
        Largest angle in degrees, about the K axis.
    counted
        For each label, whether its instances are numbered.
    rng
        Draws the lesion, its size, its angle and its place.
    """
    u, labels, first = window
    lesion = lesions.found[rng.integers(len(lesions.found))]
    factor = math.exp(rng.uniform(-1, 1) * math.log1p(zoom))
    angle = math.radians(rng.uniform(-turn, turn))
    donor = sources[lesion.source]
    new, named = _turned(donor, host, lesion, factor, angle, u.shape[3] == 1)
    region = _grown(named[-1] > 0, MARGIN)
    if not region.any():
        return None  # scaled down to less than a voxel
    tight = _tight(region)
    new, named, region = new[(slice(None), *tight)], named[(slice(None), *tight)], region[tight]
    mask = region & (named[lesions.channel] > 0)  # a neighbour that reaches into the margin is a lesion too
    if lesions.organ is not None:  # what lies beyond the organ stays where it is
        region &= _grown(mask | (named[lesions.organ] > 0), 1)
    if any(n > m for n, m in zip(region.shape, u.shape[1:], strict=True)):
        return None
    organ = labels[lesions.organ] > 0 if lesions.organ is not None else np.ones(u.shape[1:], bool)
    allowed = lesions.tissues[_sub_labels(u, centres)] & organ
    free = ~(_grown(labels[lesions.channel] > 0, MARGIN) | (labels[-1] > 0))
    start = _best_start(lesions, (region, mask), (u, allowed, free, organ), new, host, first, rng)
    if start is None:
        return None
    there = (slice(None), *(slice(a, a + n) for a, n in zip(start, region.shape, strict=True)))
    u[there] = blend(u[there], new, region, host.case.image.spacing)
    highest = int(max(host.case.labels.array[lesions.channel].max(), labels[lesions.channel].max()))
    if host.case.labels.scheme.exclusive:
        labels[there][:-1, mask & region] = 0
    labels[there][lesions.channel, mask & region] = highest + 1 if counted[lesions.channel] else 1
    return donor


def _lesions_of(number: int, channel: np.ndarray) -> list[Lesion]:
    """Return the connected parts of a label, or its instances where they are numbered, that no border cuts."""
    parts = channel if channel.max() > 1 else ndimage.label(channel > 0, np.ones((3, 3, 3)))[0]
    ends = np.array(channel.shape)
    out = []
    for number_of, box in enumerate(ndimage.find_objects(parts.astype(np.int64)), 1):
        if box is None:
            continue
        low, high = np.array([s.start for s in box]), np.array([s.stop for s in box])
        whole = ((ends == 1) | (low > 0) & (high < ends)).all()  # a picture's single slice is no border
        mask = parts[box] == number_of
        if whole and int(mask.sum()) >= FEWEST:
            out.append(Lesion(number, low, mask, (low + high - 1) / 2 / np.maximum(ends - 1, 1)))
    return out[:: -(-len(out) // AT_MOST)] if out else out


def _turned(
    donor: Source, host: Source, lesion: Lesion, factor: float, angle: float, flat: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the piece of the donor around a lesion, turned and scaled, on the host's voxels.

    Labels are ``(L + 2, …)``: the last two channels are what is ignored, and the lesion alone.
    """
    theirs, ours = np.array(donor.case.image.spacing), np.array(host.case.image.spacing)
    size = np.array(lesion.mask.shape) * theirs * factor
    across = math.hypot(size[0], size[1])  # whatever the angle
    half = np.ceil(np.array([across, across, size[2]]) / 2 / ours).astype(int) + MARGIN + 1
    half[2] = 0 if flat else half[2]
    turn = np.eye(3)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix = turn / factor * ours / theirs[:, None]
    reach = np.ceil(np.abs(matrix) @ (half + 1)).astype(int)
    middle = lesion.low + (np.array(lesion.mask.shape) - 1) / 2
    low = np.maximum(np.floor(middle).astype(int) - reach, 0)
    high = np.minimum(np.ceil(middle).astype(int) + reach + 1, donor.case.image.geometry.shape)
    image, labels = cut(donor, low, high)
    alone = np.zeros((1, *labels.shape[1:]), labels.dtype)
    i, j, k = (slice(int(a), int(a) + n) for a, n in zip(lesion.low - low, lesion.mask.shape, strict=True))
    alone[0, i, j, k] = lesion.mask
    shape = (int(2 * half[0] + 1), int(2 * half[1] + 1), int(2 * half[2] + 1))
    return warp(image, np.concatenate([labels, alone]), shape, matrix, middle - low - matrix @ half, mirrored=False)


def _best_start(
    lesions: Lesions,
    outline: tuple[np.ndarray, np.ndarray],
    window: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    new: np.ndarray,
    host: Source,
    first: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Return where the region's box goes so that its border shows least, ``None`` if it fits nowhere."""
    (region, mask), (u, allowed, free, organ) = outline, window
    full, room = np.array(host.case.image.geometry.shape), np.array(u.shape[1:]) - region.shape
    edge = region & ~ndimage.binary_erosion(region, _cross(region.shape), border_value=1)
    if (edge & mask).sum() > CUT * edge.sum():
        return None
    candidates = np.flatnonzero(allowed & free) if lesions.organ is not None else np.zeros(0, int)
    best, where, fitting = math.inf, None, 0
    for _ in range(TRIES):
        if candidates.size and rng.random() < 0.5:  # anywhere in the organ
            middle = np.array(np.unravel_index(candidates[rng.integers(candidates.size)], allowed.shape), float)
        else:
            near = lesions.found[rng.integers(len(lesions.found))].middle + rng.normal(0, 0.06, 3)
            middle = near * (full - 1) - first
        start = np.round(middle).astype(int) - np.array(region.shape) // 2
        if (start < 0).any() or (start > room).any():
            continue
        there = tuple(slice(a, a + n) for a, n in zip(start, region.shape, strict=True))
        inside = free[there][region].all() and organ[there][mask].all()
        if not inside or allowed[there][region].mean() < 0.9:
            continue
        cost = float(np.sqrt(((u[(slice(None), *there)][:, edge] - new[:, edge]) ** 2).mean()))
        if cost > UNLIKE:
            continue
        fitting += 1
        if cost < best:
            best, where = cost, start
        if fitting == ENOUGH:
            break
    return where


def _sub_labels(u: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the nearest sub-label of each voxel of a smoothed normalised image."""
    smooth = blur(u, (1.0, 1.0, 1.0)).reshape(len(u), -1).T
    nearest: np.ndarray = np.concatenate(
        [distances(part, centres).argmin(axis=1) for part in np.array_split(smooth, 16)]
    )
    return nearest.reshape(u.shape[1:])


def _tight(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the box of a mask with one voxel around it, so that its border is in it."""
    found = (np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3))
    return tuple(slice(max(int(p[0]) - 1, 0), int(p[-1]) + 2) for p in found)


def _cross(shape: Sequence[int]) -> np.ndarray:
    """Return the neighbours of a voxel, within the plane for a picture."""
    cross: np.ndarray = ndimage.generate_binary_structure(3, 1)
    if shape[2] == 1:
        cross[:, :, [0, 2]] = False
    return cross


def _grown(mask: np.ndarray, voxels: int) -> np.ndarray:
    grown: np.ndarray = ndimage.binary_dilation(mask, _cross(mask.shape), voxels)
    return grown


__all__ = ["Lesion", "Lesions", "copy_in", "find_lesions"]
