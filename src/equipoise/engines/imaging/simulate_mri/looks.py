"""What is drawn for a picture of random contrast, and how labels go through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.imaging.simulate_mri.fields import draw_bias, within_view
from equipoise.engines.imaging.simulate_mri.randomised import Look, random_contrast
from equipoise.engines.imaging.simulate_mri.randomised_on_device import random_contrast_on
from equipoise.engines.imaging.simulate_mri.scene import enclosed, filled
from equipoise.engines.parts.tissue_model import regions_of
from equipoise.engines.parts.warp import SAFE_2D, SAFE_3D, node_counts

SHAPES = 5
"""Kinds of patches that unlabelled tissue is divided into."""
KNOTS = 4
"""Points of the random curve from usual to random grey values."""
ELASTIC_MM = 5.0
"""SD of the elastic displacement of control nodes at full strength."""


@dataclass(frozen=True, eq=False)
class Sublabels:
    """Learned sub-labels of a label map.

    Parameters
    ----------
    of
        uint8, shape ``(I, J, K)``.
    level
        Usual grey value of each, shape ``(K,)``.
    region
        Label that each belongs to, 0 for unlabelled tissue; shape ``(K,)``.
    """

    of: np.ndarray
    level: np.ndarray
    region: np.ndarray

    def recoloured(self, rng: np.random.Generator) -> np.ndarray:
        """Return random grey values ``(K,)``: a curve of the usual one, moved label by label.

        Sub-labels that look alike are mostly one tissue cut in two; independent values would tear it apart.
        """
        knots = np.linspace(self.level.min(), self.level.max() + 1e-9, KNOTS)
        values = rng.uniform(0.05, 1.0, KNOTS)
        values = 0.05 + 0.95 * (values - values.min()) / np.ptp(values)  # a contrast, whichever
        curve = np.interp(self.level, knots, values)
        moved = rng.uniform(-0.15, 0.15, int(self.region.max()) + 1)
        return np.asarray(np.clip(curve + moved[self.region], 0.02, 1.1))


def draw_look(
    shape: tuple[int, int, int], spacing: Sequence[float], bias: float, warp: float, rng: np.random.Generator
) -> Look:
    """Draw everything but the grey values: after SynthSeg, with voxels up to 6 mm thick.

    Parameters
    ----------
    bias
        Largest coefficient of the bias field's logarithm.
    warp
        Strength of the affine and elastic map, 0 to 1; 0 leaves every voxel in its place.
    """
    space, light, scan = rng.spawn(3)
    flat = shape[2] == 1
    axes = [a for a in range(3) if shape[a] > 1] or [0]
    thick = [1.0, 1.0, 1.0]
    if scan.random() < 0.5:
        axis = int(scan.choice(axes))
        thick[axis] = max(1.0, float(scan.uniform(1.0, 6.0)) / spacing[axis])
    sharp = scan.uniform(0.2, 0.7)
    # A voxel `f` times as large averages: a Gaussian of 0.75 f / 2 (Billot 2023) before it is sampled.
    blur = [max(sharp, 0.375 * f) if f > 1 else sharp for f in thick]
    i, j, k = blur
    p, q, r = thick
    look = Look(
        np.zeros(1),
        np.zeros(1),
        bias=within_view(draw_bias(bias, light), shape, spacing),
        gamma=float(np.exp(0.4 * light.standard_normal())),
        blur=(float(i), float(j), 0.0 if flat else float(k)),
        coarse=(p, q, r),
        noise=float(scan.uniform(0.0, 0.08)),
    )
    return _moved(look, shape, spacing, warp, space) if warp > 0 else look


def _moved(
    look: Look, shape: tuple[int, int, int], spacing: Sequence[float], warp: float, rng: np.random.Generator
) -> Look:
    flat = shape[2] == 1
    turn = np.radians(warp * rng.uniform(-15, 15, 3))
    scale = 1 + warp * rng.uniform(-0.15, 0.15, 3)
    shear = warp * rng.uniform(-0.08, 0.08, (3, 3))
    matrix = np.eye(3)
    for axis in (2,) if flat else (0, 1, 2):
        a, b = [x for x in range(3) if x != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(turn[axis])
        one[a, b], one[b, a] = np.sin(turn[axis]), -np.sin(turn[axis])
        matrix = matrix @ one
    matrix = matrix @ (np.diag(scale) + shear * ~np.eye(3, dtype=bool))
    if flat:
        matrix[2], matrix[:, 2] = (0, 0, 1), (0, 0, 1)
    voxel = np.asarray(spacing)
    matrix = matrix * voxel / voxel[:, None]  # drawn in mm
    middle = (np.asarray(shape) - 1) / 2
    step = tuple(max(24.0 / s, 2.0) for s in spacing)
    nodes = rng.standard_normal((3, *node_counts(shape, step)), np.float32) * np.float32(warp * ELASTIC_MM)
    safe = SAFE_2D if flat else SAFE_3D
    for axis in range(3):
        nodes[axis] = np.clip(nodes[axis] / spacing[axis], -safe * step[axis], safe * step[axis])
    p, q, r = step
    return replace(look, matrix=matrix, offset=middle - matrix @ middle, nodes=nodes, step=(p, q, r))


def shown_through(
    labels: LabelMap,
    learned: Sublabels | None,
    look: Look,
    spacing: Sequence[float],
    scene: np.random.Generator,
    scan: np.random.Generator,
    device: str = "cpu",
) -> tuple[np.ndarray, LabelMap]:
    """Return the picture, float32 ``(I, J, K)``, and the label map as it shows it.

    Parameters
    ----------
    learned
        Sub-labels that get a grey value each; ``None`` takes the labels, and divides what nobody labelled at random
        unless the map names the body's outside.
    look
        Without grey values.
    device
        That the voxels are computed on; ``"cpu"`` needs no torch.
    """
    shape = labels.geometry.shape
    moves = look.nodes is not None
    index = regions_of(labels) if learned is None else learned.of.astype(np.uint8)
    if learned is None and not enclosed(labels):
        filled(index, len(labels.scheme.names) + 1, SHAPES, spacing, scene)
    codes, combination, channels = _combined(index, labels) if moves else (index, np.arange(256), None)
    if codes is None:  # too many instances to be told apart in 8 bits: the map stays in its place
        moves, codes, combination = False, index, np.arange(256)
        look = replace(look, matrix=np.eye(3), offset=np.zeros(3), nodes=None)
    kinds = int(index.max()) + 1
    mean, sd = scene.uniform(0.05, 1.0, kinds), scene.uniform(0.0, 0.08, kinds)
    if learned is not None:
        mean, kinds = learned.recoloured(scene), len(learned.level)
        sd = scene.uniform(0.0, 0.04, kinds)
    elif enclosed(labels):
        mean[0], sd[0] = scene.uniform(0.0, 0.05), scene.uniform(0.0, 0.02)
    of = np.minimum(combination[: int(codes.max()) + 1], kinds - 1)
    paint = random_contrast if device == "cpu" else partial(random_contrast_on, device)
    image, seen = paint(codes, shape, replace(look, mean=mean[of], sd=sd[of]), scan)
    if not moves or channels is None:
        return image, labels
    return image, LabelMap.on(labels.geometry, np.ascontiguousarray(channels[:, seen]), labels.scheme)


def _combined(index: np.ndarray, labels: LabelMap) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Return a code per voxel for what it shows and which labels it has, and what each code stands for.

    Returns
    -------
    tuple
        Codes, uint8 ``(I, J, K)``; index of each code ``(N,)``; instance numbers of each code ``(L, N)``.
    """
    array = labels.array
    if labels.scheme.exclusive and array.max() <= 1:
        count = len(array)
        channels = np.zeros((count, 256), array.dtype)
        channels[np.arange(count), np.arange(1, count + 1)] = 1
        return index, np.arange(256), channels
    key = index.astype(np.int64)
    for channel in array:
        values, place = np.unique(channel, return_inverse=True)
        # Renumbered as it grows, so that the key never leaves 64 bits.
        key = np.unique(key * len(values) + place.reshape(key.shape), return_inverse=True)[1].reshape(key.shape)
    first = np.unique(key, return_index=True)[1]
    if len(first) > 256:
        return None, np.zeros(0, int), None
    return key.astype(np.uint8), index.ravel()[first].astype(int), array.reshape(len(array), -1)[:, first]


__all__ = ["SHAPES", "Sublabels", "draw_look", "shown_through"]
