"""From a label map to the signal of every voxel before k-space, and to slices and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_mri.fields import random_field, transmit_field
from equipoise.engines.imaging.simulate_mri.scanners import Acquisition
from equipoise.engines.imaging.simulate_mri.tissues import OUTER, Relaxation
from equipoise.engines.parts.appearance import blur

BINS = 33
"""Values of the transmit field or the off-resonance at which signals are computed; between them they are straight."""
FLIP_SHARES = (0.3, 1.6)
OFF_PPM = 1.2
"""Largest error of the main field, about the sinuses of a shimmed head, in parts per million."""
FATTY = ("fat", "subcutaneous fat", "bone marrow")
FILLING = ("grey matter", "white matter", "grey matter", "cerebrospinal fluid")
"""What unlabelled tissue is drawn as where the label map names no outer border and nothing was learned."""
MIXED = 0.45
"""SD in voxels of the blur of a border: a voxel's signal is the mean over its tissues."""


def enclosed(labels: LabelMap) -> bool:
    """Whether the map names the body's outside, so that what nobody labelled is air."""
    return any(name in OUTER for name in labels.scheme.names)


def filled(index: np.ndarray, first: int, classes: int, spacing: Sequence[float], rng: np.random.Generator) -> int:
    """Divide what nobody labelled (0) into patches of ``classes`` kinds numbered from ``first``, in place.

    Returns
    -------
    int
        How many kinds there are now beside 0.
    """
    shape = (index.shape[0], index.shape[1], index.shape[2])
    grain = 0.12 * max(n * s for n, s in zip(shape, spacing, strict=True))
    fields = np.stack([random_field(shape, spacing, grain, rng) for _ in range(classes)])
    kind = (fields.argmax(axis=0) + first).astype(index.dtype)
    index[:] = np.where(index == 0, kind, index)
    return first + classes - 1


def signal_map(
    index: np.ndarray,
    tissues: Sequence[Relaxation],
    fat: Sequence[bool],
    taken: Acquisition,
    spacing: Sequence[float],
    transmit: float,
    frequency_axis: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the signal at the echo, float32, shape ``(I, J, K)``, relative to the density of free water.

    Parameters
    ----------
    index
        uint8, shape ``(I, J, K)``: index into ``tissues``.
    tissues
        Of each index; index 0 is what has no label.
    fat
        Which of them is shifted along the frequency axis.
    taken
        The acquisition.
    spacing
        mm.
    transmit
        Factor on the inhomogeneity of transmit field and main field; 0 is none.
    frequency_axis
        Of the chemical shift.
    """
    shape = (index.shape[0], index.shape[1], index.shape[2])
    position = _position(shape, spacing, taken, transmit, rng)
    table = _table(tissues, taken)
    water = table * ~np.asarray(fat)[:, None]
    scene = _lookup(index, water, position)
    if any(fat):
        oily = _lookup(index, table - water, position)
        scene += _shifted(oily, taken.fat_shift, frequency_axis)
    mixed: np.ndarray = blur(scene[None], (MIXED,) * 3)[0]
    return mixed


def _position(
    shape: tuple[int, int, int],
    spacing: Sequence[float],
    taken: Acquisition,
    transmit: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return where in the table's bins each voxel lies."""
    if taken.sequence.name == "bssfp":
        hz = OFF_PPM * transmit * 42.577 * taken.tesla * 0.45 * random_field(shape, spacing, 60.0, rng)
        turn = hz * taken.sequence.tr * 1e-3 + 0.5  # a signal repeats after one turn per TR
        return np.asarray((turn - np.floor(turn)) * np.float32(BINS - 1), np.float32)
    share = transmit_field(shape, spacing, taken.tesla, rng) if transmit > 0 else np.ones(shape, np.float32)
    share = 1 + transmit * (share - 1)
    low, high = FLIP_SHARES
    return np.asarray((np.clip(share, low, high) - low) * np.float32((BINS - 1) / (high - low)), np.float32)


def _table(tissues: Sequence[Relaxation], taken: Acquisition) -> np.ndarray:
    """Return the signal of each tissue at each bin, float32 ``(T, BINS)``."""
    sequence = taken.sequence
    t1, t2, t2star, density = (
        np.array([getattr(t, name) for t in tissues])[:, None] for name in ("t1", "t2", "t2star", "density")
    )
    if sequence.name == "bssfp":
        hz = np.linspace(-0.5, 0.5, BINS)[None] / (sequence.tr * 1e-3)
        shown = sequence.signal(t1, t2, t2star, density, off_resonance_hz=hz)
    else:
        shown = sequence.signal(t1, t2, t2star, density, flip_share=np.linspace(*FLIP_SHARES, BINS)[None])
    return np.ascontiguousarray(np.broadcast_to(shown, (len(tissues), BINS)), np.float32)


def _shifted(image: np.ndarray, voxels: float, axis: int) -> np.ndarray:
    whole = int(np.floor(voxels))
    part = np.float32(voxels - whole)
    near = np.roll(image, whole, axis)
    return np.asarray(near + part * (np.roll(near, 1, axis) - near))


@njit(cache=True, nogil=True)
def _lookup(index, table, position):  # type: ignore[no-untyped-def]
    out = np.empty(index.shape, np.float32)
    last = table.shape[1] - 2
    for i in range(index.shape[0]):
        for j in range(index.shape[1]):
            for k in range(index.shape[2]):
                at = position[i, j, k]
                node = min(int(at), last)
                f = at - np.float32(node)
                row = table[index[i, j, k]]
                out[i, j, k] = row[node] + f * (row[node + 1] - row[node])
    return out


def slicing(n: int, voxel: float, thickness: float, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return how slices are made of voxels along one axis, and how they are put back on the voxels.

    Parameters
    ----------
    n, voxel
        Voxels and their size in mm.
    thickness, gap
        Of the slices in mm; slices not thicker than a voxel are the voxels.

    Returns
    -------
    tuple
        Weights ``(S, n)`` of a box of ``thickness``, each row summing to 1, and linear weights ``(n, S)``.
    """
    step = thickness + gap
    if step <= voxel * 1.001:
        return np.eye(n, dtype=np.float32), np.eye(n, dtype=np.float32)
    count = max(1, int(np.ceil(n * voxel / step)))
    centres = (np.arange(count) - (count - 1) / 2) * step + n * voxel / 2
    edges = np.arange(n + 1) * voxel
    low, high = centres[:, None] - thickness / 2, centres[:, None] + thickness / 2
    share = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
    empty = share.sum(axis=1) == 0
    share[empty, np.clip((centres[empty] / voxel).astype(int), 0, n - 1)] = 1.0
    share /= share.sum(axis=1, keepdims=True)
    place = np.clip(((np.arange(n) + 0.5) * voxel - centres[0]) / step, 0, count - 1)
    first = np.minimum(place.astype(int), max(count - 2, 0))
    back = np.zeros((n, count))
    back[np.arange(n), first] += 1 - (place - first)
    back[np.arange(n), np.minimum(first + 1, count - 1)] += place - first
    return share.astype(np.float32), back.astype(np.float32)


def along(matrix: np.ndarray, image: np.ndarray, axis: int) -> np.ndarray:
    """Return a matrix applied along one axis."""
    return np.ascontiguousarray(np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis))


__all__ = ["FATTY", "FILLING", "along", "enclosed", "filled", "signal_map", "slicing"]
