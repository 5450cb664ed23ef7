"""The classical augmentation inside every arm.

Synthetic data must win against training that already has the augmentation anybody would use, so this one runs on every
patch of every arm, and is fast enough that nobody is tempted to switch it off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from equipoise.engines.augmentation.steps import (
    Blur,
    Contrast,
    Curve,
    LowResolution,
    Mirror,
    Move,
    Noise,
    Shift,
    Step,
    apply,
)
from equipoise.engines.parts.warp import SAFE_2D, SAFE_3D, node_counts
from equipoise.errors import DataError, PlanError

ANISOTROPIC = 3.0
"""Ratio of voxel sizes from which a volume turns only within its finely sampled plane, as in nnU-Net."""


@dataclass(frozen=True)
class Classical:
    """Rotation, scale, elastic deformation, flips, contrast, brightness, gamma, noise, blur and low resolution.

    A strength of 0 switches a change off; with all at 0 (`Classical.off`) the patch comes back as it was. Strengths and
    probabilities are nnU-Net's, except that what it leaves to the user is off until the plan allows it (``flip``), that
    elastic deformation, absent in its second version, is mild and present, and that a patch is mirrored at its border
    instead of padded with zeros. The patch is expected with mean 0 and standard deviation (SD) 1.

    Parameters
    ----------
    rotation, p_rotation
        Largest angle in degrees about each axis; in 2-D within the plane, and so in volumes whose slices are more than
        three times as thick as their pixels.
    scale, p_scale
        Zoom by a factor between ``1 / (1 + scale)`` and ``1 + scale``, as likely in as out.
    elastic, p_elastic
        Largest displacement of a control node in mm (px where the image has no mm); held below the limit at which
        tissue would fold.
    elastic_nodes
        Distance of the control nodes, same unit.
    flip, p_flip
        Axes (0, 1, 2 for I, J, K) that may be mirrored. Empty by default: a heart has a side.
    gamma, p_gamma
        Grey values between a channel's minimum and maximum to a power between ``1 / (1 + gamma)`` and ``1 + gamma``;
        mean and SD are kept. In one of four the values are inverted before and after.
    brightness, p_brightness
        Largest shift per channel, in SD.
    contrast, p_contrast
        Factor about the channel's mean between ``1 / (1 + contrast)`` and ``1 + contrast``, clipped to its range.
    noise, p_noise
        Largest SD of additive Gaussian noise, in SD of the image.
    blur, p_blur
        Largest SD of a Gaussian blur in mm (or px); the smallest is half of it.
    low_resolution, p_low_resolution
        Voxels up to ``1 + low_resolution`` times as large, then interpolated back.
    spacing
        Voxel size along I, J, K in mm; ones mean that all lengths above are in voxels.

    Raises
    ------
    PlanError
        A negative strength, a probability outside [0, 1], or an axis that does not exist.

    References
    ----------
    Isensee F, Jaeger PF, Kohl SAA, et al. nnU-Net: a self-configuring method for deep learning-based biomedical image
    segmentation. Nature Methods 2021;18:203-211. doi:10.1038/s41592-020-01008-z (supplementary note 4)
    """

    kind: ClassVar[str] = "classical"

    rotation: float = 30.0
    p_rotation: float = 0.2
    scale: float = 0.4
    p_scale: float = 0.2
    elastic: float = 5.0
    p_elastic: float = 0.2
    elastic_nodes: float = 24.0
    flip: tuple[int, ...] = ()
    p_flip: float = 0.5
    gamma: float = 0.5
    p_gamma: float = 0.4
    brightness: float = 0.25
    p_brightness: float = 0.15
    contrast: float = 0.33
    p_contrast: float = 0.15
    noise: float = 0.3
    p_noise: float = 0.1
    blur: float = 1.0
    p_blur: float = 0.2
    low_resolution: float = 1.0
    p_low_resolution: float = 0.25
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, float | int) and not (math.isfinite(value) and value >= 0):
                raise PlanError(
                    f"augmentation.{name} must be 0 or more, got {value!r}", fix=f"{name} = 0 switches it off"
                )
            if name.startswith("p_") and value > 1:
                raise PlanError(f"augmentation.{name} is a probability, got {value!r}", fix="give a number from 0 to 1")
        if not set(self.flip) <= {0, 1, 2}:
            raise PlanError(f"augmentation.flip names axes 0, 1, 2 (I, J, K), got {self.flip}", fix="flip = [0, 1]")
        if len(self.spacing) != 3 or min(self.spacing) <= 0:
            raise PlanError(f"augmentation.spacing needs three voxel sizes above 0, got {self.spacing}")
        if self.elastic_nodes <= 0:
            raise PlanError("augmentation.elastic_nodes is a distance above 0", fix="elastic = 0 switches it off")

    @classmethod
    def off(cls) -> Classical:
        """Return the augmentation that changes nothing."""
        strengths = (
            "rotation",
            "scale",
            "elastic",
            "gamma",
            "brightness",
            "contrast",
            "noise",
            "blur",
            "low_resolution",
        )
        return cls(**dict.fromkeys(strengths, 0.0))  # type: ignore[arg-type]

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a changed copy of one patch.

        Parameters
        ----------
        image
            Shape ``(C, I, J, K)``, normalised; ``K == 1`` is 2-D.
        labels
            Integers, shape ``(L, I, J, K)``; moved with the image, their values are kept.
        rng
            The stream that decides everything.

        Raises
        ------
        DataError
            The two do not lie on one grid.
        """
        if image.ndim != 4 or labels.ndim != 4 or image.shape[1:] != labels.shape[1:]:
            raise DataError(
                f"image {image.shape} and labels {labels.shape} must be (C, I, J, K) and (L, I, J, K) on one grid",
                fix="cut both with the same indices",
            )
        steps = self.draw(image.shape, rng)
        return apply(steps, np.array(image, np.float32, order="C"), np.array(labels, order="C"))

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Step | None, ...]:
        """Return what happens to a patch of shape ``(C, I, J, K)``, in order; ``None`` for what does not."""
        return (self._mirror(shape, rng), self._move(shape, rng), *self._degrade(shape, rng))

    def _mirror(self, shape: tuple[int, ...], rng: np.random.Generator) -> Step | None:
        turned = tuple(axis for axis in self.flip if shape[axis + 1] > 1 and _happens(self.p_flip, 1, rng))
        return Mirror(turned) if turned else None

    def _move(self, shape: tuple[int, ...], rng: np.random.Generator) -> Step | None:
        """Turn, zoom and bend image and labels together, with one interpolation."""
        grid = (int(shape[1]), int(shape[2]), int(shape[3]))
        matrix = np.eye(3)
        if _happens(self.p_rotation, self.rotation, rng):
            matrix = self._rotation(grid[2] == 1, rng)
        if _happens(self.p_scale, self.scale, rng):
            matrix = matrix / _factor(self.scale, rng)
        step = tuple(max(self.elastic_nodes / s, 2.0) for s in self.spacing)
        nodes = self._bend(grid, step, rng) if _happens(self.p_elastic, self.elastic, rng) else None
        if nodes is None and np.array_equal(matrix, np.eye(3)):
            return None
        return Move(matrix, nodes, step)

    def _rotation(self, flat: bool, rng: np.random.Generator) -> np.ndarray:
        """Return a random rotation in mm, written for voxel indices."""
        spacing = np.array(self.spacing)
        axes = [0, 1, 2]
        if flat:
            axes = [2]
        elif spacing.max() > ANISOTROPIC * spacing.min():
            axes = [int(spacing.argmax())]
        turn = np.eye(3)
        for axis in axes:
            angle = math.radians(rng.uniform(-self.rotation, self.rotation))
            i, j = (a for a in range(3) if a != axis)
            one = np.eye(3)
            one[i, i] = one[j, j] = math.cos(angle)
            one[i, j], one[j, i] = -math.sin(angle), math.sin(angle)
            turn = one @ turn
        moved: np.ndarray = turn * spacing / spacing[:, None]
        return moved

    def _bend(self, shape: tuple[int, int, int], step: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
        """Return control-node displacements in voxels that cannot fold."""
        safe = SAFE_2D if shape[2] == 1 else SAFE_3D
        limit = [min(self.elastic / s, safe * d) for s, d in zip(self.spacing, step, strict=True)]
        limits = np.array(limit, np.float32)[:, None, None, None]
        bent: np.ndarray = limits * (2 * rng.random((3, *node_counts(shape, step)), dtype=np.float32) - 1)
        return bent

    def _degrade(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Step | None, ...]:
        """Return what changes grey values only, in nnU-Net's order."""
        channels = range(shape[0])
        noise = blurred = shift = contrast = coarse = gamma = None
        if _happens(self.p_noise, self.noise, rng):
            noise = Noise(rng.uniform(0, self.noise), rng.standard_normal(shape, dtype=np.float32))
        if _happens(self.p_blur, self.blur, rng):
            sigma = self.blur * rng.uniform(0.5, 1.0)
            i, j, k = self.spacing
            blurred = Blur((sigma / i, sigma / j, sigma / k))
        if _happens(self.p_brightness, self.brightness, rng):
            shift = Shift(rng.uniform(-self.brightness, self.brightness, shape[0]))
        if _happens(self.p_contrast, self.contrast, rng):
            contrast = Contrast(np.array([_factor(self.contrast, rng) for _ in channels]))
        if _happens(self.p_low_resolution, self.low_resolution, rng):
            factor = 1 + rng.uniform(0, self.low_resolution)
            coarse = LowResolution((factor, factor, factor))
        if _happens(self.p_gamma, self.gamma, rng):
            inverted = bool(rng.random() < 0.25)
            gamma = Curve.gamma([_factor(self.gamma, rng) for _ in channels], inverted)
        return noise, blurred, shift, contrast, coarse, gamma


def _happens(probability: float, strength: float, rng: np.random.Generator) -> bool:
    return strength > 0 and probability > 0 and rng.random() < probability


def _factor(strength: float, rng: np.random.Generator) -> float:
    """Return a factor between ``1 / (1 + strength)`` and ``1 + strength``, as often below 1 as above."""
    return math.exp(rng.uniform(-1, 1) * math.log1p(strength))


__all__ = ["Classical"]
