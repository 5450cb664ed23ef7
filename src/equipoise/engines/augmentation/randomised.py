"""Domain randomisation of training patches: a new contrast for each tissue and label, and a new acquisition.

The engine `augmentation` at ``strength = 1`` does the same to whole cases, with tissues learned from all of them; here
each patch's tissues are found in the patch itself, so that nothing has to be fitted and every step sees another look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.core.registry import require_types
from equipoise.engines.augmentation import looks
from equipoise.engines.augmentation.classical import Classical
from equipoise.engines.augmentation.steps import Pair
from equipoise.engines.augmentation.tissue import Tissue, dress_labels, dress_tissue
from equipoise.engines.parts.appearance import blur, moments, rescale
from equipoise.engines.parts.clusters import cluster
from equipoise.errors import PlanError

SAMPLED = 2048
"""Voxels of a patch that its tissues are found from."""

STRETCH = 1.5
"""Most that a patch's new grey values are stretched, against its own range, to give it back its SD."""


@dataclass(frozen=True)
class Randomised:
    """Shapes as in `classical`, but grey values that may come from any scanner.

    Parameters
    ----------
    strength
        From 0 (shapes only) to 1: of everything below.
    clusters
        Tissues that are told apart in what is not labelled.
    contrast
        SD of the change of each tissue's mean, as a part of the patch's range, and of the logarithm of its contrast.
    labels
        SD of the change of each label's contrast, as a part of that contrast.
    acquisition
        Of curve, shading, blur, voxel size and noise; 1 is up to three times the voxel size and noise of a tenth of
        the range.
    share
        Of the patches that are randomised; the others get `classical` with its own parameters.
    flip, spacing
        As in `Classical`.

    Raises
    ------
    PlanError
        A value out of its range.

    References
    ----------
    Billot B, Greve DN, Puonti O, et al. SynthSeg: segmentation of brain MRI scans of any contrast and resolution
    without retraining. Medical Image Analysis 2023;86:102789. doi:10.1016/j.media.2023.102789
    """

    kind: ClassVar[str] = "randomised"

    strength: float = 1.0
    clusters: int = 4
    contrast: float = 0.25
    labels: float = 0.7
    acquisition: float = 1.0
    share: float = 0.5
    flip: tuple[int, ...] = ()
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        require_types(self)
        Classical(flip=self.flip, spacing=self.spacing)  # checks both
        for name in ("strength", "acquisition", "share"):
            if not 0 <= getattr(self, name) <= 1:
                raise PlanError(f"randomised.{name} must be from 0 to 1, got {getattr(self, name)!r}")
        for name in ("contrast", "labels"):
            if not 0 <= getattr(self, name) < math.inf:
                raise PlanError(f"randomised.{name} must be 0 or more, got {getattr(self, name)!r}")
        if self.clusters < 1:
            raise PlanError(f"randomised.clusters must be 1 or more, got {self.clusters}")

    def __call__(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Pair:
        """Return a changed copy of one patch, ``(C, I, J, K)`` and ``(L, I, J, K)``; mean kept, SD not raised much."""
        classical = Classical(flip=self.flip, spacing=self.spacing)
        if rng.random() >= self.share:
            return classical(image, labels, rng)
        shapes = Classical.off()
        moving = {n: getattr(classical, n) for n in ("rotation", "scale", "elastic", "flip", "spacing")}
        moved, named = Classical(**{**vars(shapes), **moving})(image, labels, rng)
        mean, sd, low, high = moments(moved).T
        width = np.where(high > low, high - low, 1.0)
        free = np.full(len(moved), np.inf)
        rescale(moved, 1 / width, -low / width, -free, free)
        moved = self._look(np.ascontiguousarray(moved), named > 0, rng)
        new_mean, new_sd = moments(moved).T[:2]
        # A look that has left the patch flat stays flat: stretched to the old SD it would be nothing but its noise.
        factor = np.minimum(np.where(new_sd > 1e-6, sd / np.maximum(new_sd, 1e-12), 1.0), STRETCH * width)
        rescale(moved, factor, mean - factor * new_mean, -free, free)
        return moved, named

    def _look(self, u: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a patch between 0 and 1 with new grey values."""
        tissue, spread = self._tissues(u, masks, rng), max(float(u.std()), 1e-6)
        s, a = self.strength, self.strength * self.acquisition
        dress_tissue(u, tissue, s * self.contrast, s, rng)
        dress_labels(u, masks, tissue, s * self.labels, rng)
        looks.bend_curves(u, a, 0.5 * a**2, rng)
        u = looks.turn_colours(u, a, rng)
        apart = max(n * x for n, x in zip(u.shape[1:], self.spacing, strict=True)) / 2.5
        looks.shade(u, 0.4 * a * rng.random(), [max(apart / x, 2.0) for x in self.spacing], rng)
        if rng.random() < 0.3:
            u = blur(u, [1.5 * a * rng.random()] * 3)
        if rng.random() < 0.5:
            factor = np.full(3, 1 + 2 * a * rng.random())
            if rng.random() < 0.5:
                factor[np.arange(3) != rng.integers(3 if u.shape[3] > 1 else 2)] = 1
            u = looks.enlarge_voxels(u, factor.tolist())
        calm = min(1.0, float(u.std()) / spread)  # what contrast is left must not drown
        looks.add_grain(u, 0.1 * a * calm * rng.random(), [1.5 * rng.random()] * 3, rng)
        return u

    def _tissues(self, u: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Tissue:
        """Return what the patch itself says about its tissues."""
        flat, named = u.reshape(len(u), -1), masks.reshape(len(masks), -1)
        some = rng.integers(0, flat.shape[1], SAMPLED)
        values, inside = flat[:, some].T, named[:, some].T
        plain = values[~inside.any(axis=1)]
        plain = plain if len(plain) else values
        centres, width = cluster(plain, self.clusters, rng)
        means = [values[i].mean(axis=0) if i.any() else plain.mean(axis=0) for i in inside.T]
        contrast = np.maximum(np.abs(np.array(means) - plain.mean(axis=0)), 0.05).astype(np.float32)
        return Tissue(centres, width, contrast.reshape(len(masks), len(u)), (False,) * len(masks))


__all__ = ["Randomised"]
