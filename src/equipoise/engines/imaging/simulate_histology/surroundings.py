"""The whole scene behind a label map that names only some of it: which nuclei lie in epithelium, where fibres run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equipoise.core import LabelMap
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.nuclear_shapes import instances_of, kinds_by_shape, outlines_of
from equipoise.engines.parts.tissue_scene import (
    ANY,
    EPITHELIAL,
    EPITHELIUM,
    FIBROBLAST,
    LUMEN,
    MITOSIS,
    STROMA,
    UNKNOWN,
    Meaning,
    SceneVoxels,
    TissueScene,
    smooth_noise,
)

CROWD_UM = 8.0
"""Scale on which the density of epithelial nuclei tells epithelium from stroma."""

FOLLOW_UM = 18.0
"""Scale on which fibres follow the fibroblasts that made them."""

DENSE, WANDERS = 0.12, 0.05
"""Share that epithelial nuclei cover from which tissue is taken as epithelium, and how much that border wanders."""

EMPTY, FAR = 0.02, 1.1
"""Share that nuclei cover below which there may be a lumen, and the level of noise above which there is one."""


def scene_of(labels: LabelMap, meanings: Sequence[Meaning | None], um: float, rng: np.random.Generator) -> TissueScene:
    """Return the scene that a label map carries, or a likely one around what it names.

    Parameters
    ----------
    labels
        Of one slice.
    meanings
        What each label shows; ``None`` for one that has no place in tissue.
    um
        Size of a pixel.
    rng
        Of what is not known.
    """
    if isinstance(labels.voxels, SceneVoxels):
        return labels.voxels.scene
    shape = labels.geometry.shape[:2]
    compartment = np.full(shape, UNKNOWN, np.uint8)
    body, kinds = np.zeros(shape, np.int32), [np.zeros(1, np.uint8)]
    along, across = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    count = 0
    for channel, meaning in zip(labels.array, meanings, strict=True):
        if meaning is None:
            continue
        if meaning.compartments:
            compartment[channel[:, :, 0] > 0] = meaning.compartments[0]
            continue
        numbers = instances_of(channel)
        known, diameter, stretch, direction = outlines_of(numbers, um)
        named = ANY not in meaning.bodies
        kind = np.full(len(known), meaning.bodies[0]) if named else kinds_by_shape(diameter, stretch)
        table = np.zeros(int(numbers.max(initial=0)) + 1, np.int32)
        table[known] = count + 1 + np.arange(len(known))
        here = numbers > 0
        body[here] = table[numbers[here]]
        kinds.append(kind.astype(np.uint8))
        weight = np.zeros((2, len(table)), np.float32)
        weight[:, known] = np.where(kind == FIBROBLAST, 1.0, 0.1) * np.stack(
            [np.cos(2 * direction), np.sin(2 * direction)]
        )
        along[here], across[here] = weight[0, numbers[here]], weight[1, numbers[here]]
        count += len(known)
    kind = np.concatenate(kinds)
    _fill(compartment, body, kind, um, rng)
    return TissueScene(compartment, body, kind, _fibres(along, across, um, rng))


def _fill(compartment: np.ndarray, body: np.ndarray, kind: np.ndarray, um: float, rng: np.random.Generator) -> None:
    """Name what is unknown: epithelium around its nuclei, stroma, and lumina where nothing is near."""
    unknown = compartment == UNKNOWN
    if not unknown.any():
        return
    sigma = (CROWD_UM / um,) * 2 + (0.0,)
    lining = np.isin(kind, (EPITHELIAL, MITOSIS, ANY))
    lining[0] = False
    both = np.stack([lining[body], body > 0]).astype(np.float32)[..., None]
    cells, nuclei = blur(both, sigma)[..., 0]
    border = DENSE + WANDERS * smooth_noise(body.shape, 12.0, um, rng)
    hollow = (nuclei < EMPTY) & (smooth_noise(body.shape, 40.0, um, rng) > FAR)
    compartment[unknown] = np.where(hollow, LUMEN, np.where(cells > border, EPITHELIUM, STROMA))[unknown]


def _fibres(along: np.ndarray, across: np.ndarray, um: float, rng: np.random.Generator) -> np.ndarray:
    """Return directions that go with the nuclei near by, and wander elsewhere."""
    sigma = (FOLLOW_UM / um,) * 2 + (0.0,)
    near = blur(np.stack([along, across])[..., None], sigma)[..., 0]
    free = 2 * np.pi * rng.random() + 1.6 * smooth_noise(along.shape, rng.uniform(40, 120), um, rng)
    weak = 0.01
    found: np.ndarray = 0.5 * np.arctan2(near[1] + weak * np.sin(2 * free), near[0] + weak * np.cos(2 * free))
    return found.astype(np.float32)


__all__ = ["scene_of"]
