"""What can happen to one patch, drawn beforehand: each step is a small record that changes an image and its labels.

Chance and work are apart: a policy draws steps from its stream, then either `apply` does them here in numpy, or
`batched` does the same ones to many patches at once on a device. Acquisition's own steps are in `acquisition_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from equipoise.engines.parts.appearance import CURVE_NODES, blur, coarsen, moments, remap, rescale
from equipoise.engines.parts.warp import smooth_field, warp

Pair = tuple[np.ndarray, np.ndarray]
"""Image, float32, shape ``(C, I, J, K)``, and labels, integers, shape ``(L, I, J, K)``."""

Step = Callable[[np.ndarray, np.ndarray], Pair]
"""Changes a pair; it may work in place on the image, which is the caller's own copy."""


def apply(steps: Iterable[Step | None], image: np.ndarray, labels: np.ndarray) -> Pair:
    """Return the pair after all steps; ``None`` stands for a step that did not happen."""
    for step in steps:
        if step is not None:
            image, labels = step(image, labels)
    return image, labels


def by_channel(values: np.ndarray) -> np.ndarray:
    """Return numbers ``(C,)`` as float32 ``(C, 1, 1, 1)``."""
    return np.asarray(values, np.float32)[:, None, None, None]


def white_noise(noise: np.ndarray | int, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise that is given, or that of a stream of its own whose seed is given; float32."""
    return np.random.default_rng(noise).standard_normal(shape, np.float32) if isinstance(noise, int) else noise


@dataclass(frozen=True, eq=False)
class Mirror:
    """Mirrors along ``axes`` (0, 1, 2 for I, J, K)."""

    axes: tuple[int, ...]

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        axes = tuple(axis + 1 for axis in self.axes)
        return np.ascontiguousarray(np.flip(image, axes)), np.ascontiguousarray(np.flip(labels, axes))


@dataclass(frozen=True, eq=False)
class Move:
    """Sees the patch through an affine map about its centre and a smooth deformation, in one interpolation.

    Parameters
    ----------
    matrix
        3 x 3, output voxels to input voxels.
    nodes, step
        Displacement of control nodes and their distance, as `warp` takes them.
    """

    matrix: np.ndarray
    nodes: np.ndarray | None = None
    step: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        shape = (int(image.shape[1]), int(image.shape[2]), int(image.shape[3]))
        return warp(image, labels, shape, self.matrix, self.offset(shape), self.nodes, self.step)

    def offset(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return what keeps the middle of a patch ``(I, J, K)`` where it is, shape ``(3,)``."""
        centre = (np.array(shape) - 1) / 2
        offset: np.ndarray = centre - self.matrix @ centre
        return offset


@dataclass(frozen=True, eq=False)
class Noise:
    """Adds Gaussian noise of SD ``sd``: ``noise`` is white noise of the image's shape, or the seed of it."""

    sd: float
    noise: np.ndarray | int

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        image += np.float32(self.sd) * white_noise(self.noise, image.shape)
        return image, labels


@dataclass(frozen=True, eq=False)
class Blur:
    """Blurs by a Gaussian of SD ``sigma`` voxels along I, J, K."""

    sigma: tuple[float, float, float]

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        return blur(image, self.sigma), labels


@dataclass(frozen=True, eq=False)
class Sharpen:
    """Adds ``amount`` times the finest detail, below about one voxel."""

    amount: float

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        return image + np.float32(self.amount) * (image - blur(image, (1.0, 1.0, 1.0))), labels


@dataclass(frozen=True, eq=False)
class Shift:
    """Adds ``amount``, shape ``(C,)``: brightness, or a shift of all HU."""

    amount: np.ndarray

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        image += by_channel(self.amount)
        return image, labels


@dataclass(frozen=True, eq=False)
class Gain:
    """Multiplies what a channel has above its minimum by ``factor``, shape ``(C,)``."""

    factor: np.ndarray

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        low, free = moments(image)[:, 2], np.full(len(image), np.inf)
        rescale(image, self.factor, low * (1 - self.factor), -free, free)
        return image, labels


@dataclass(frozen=True, eq=False)
class Contrast:
    """Multiplies the distance from a channel's mean by ``factor``, shape ``(C,)``, within the channel's range."""

    factor: np.ndarray

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        mean, _, low, high = moments(image).T
        rescale(image, self.factor, mean * (1 - self.factor), low, high)
        return image, labels


@dataclass(frozen=True, eq=False)
class LowResolution:
    """Samples on voxels ``factor`` times as large along I, J, K, then interpolates back."""

    factor: tuple[float, float, float]

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        return coarsen(image, self.factor), labels


@dataclass(frozen=True, eq=False)
class Curve:
    """Sends each channel's range through a curve, then gives the channel its mean and SD back.

    Parameters
    ----------
    table
        Shape ``(C, M)``, float32: the curve at M evenly spaced points between minimum and maximum.
    """

    table: np.ndarray

    @classmethod
    def gamma(cls, powers: Iterable[float], inverted: bool) -> Curve:
        """Return grey values to a power per channel; ``inverted`` turns them over before and after."""
        x = np.linspace(0, 1, CURVE_NODES)
        return cls(np.array([1 - (1 - x) ** p if inverted else x**p for p in powers], np.float32))

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        mean, sd, low, high = moments(image).T
        remap(image, low, high, self.table)
        new_mean, new_sd = moments(image).T[:2]
        factor = np.where(new_sd > 0, sd / np.maximum(new_sd, 1e-12), 1.0)
        free = np.full(mean.shape, np.inf)
        rescale(image, factor, mean - factor * new_mean, -free, free)
        return image, labels


@dataclass(frozen=True, eq=False)
class Window:
    """Cuts grey values to a part of their range and spreads that part over it, as a narrower CT window does.

    Parameters
    ----------
    low, high
        Ends of the part, 0 and 1 being the minimum and maximum of all channels.
    """

    low: float
    high: float

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        low, high = float(image.min()), float(image.max())
        factor = 1 / (self.high - self.low)
        shift = low - factor * (low + self.low * (high - low))
        each = np.ones(len(image))
        rescale(image, factor * each, shift * each, low * each, high * each)
        return image, labels


@dataclass(frozen=True, eq=False)
class Shade:
    """Multiplies what a channel has above its minimum by the exponential of a smooth field.

    A receive coil's sensitivity in MRI, the heel effect of an X-ray tube, an uneven stain.

    Parameters
    ----------
    nodes
        Logarithm at the control nodes, float32, shape ``(1, *node_counts(shape, step))``.
    step
        Distance of the nodes in voxels.
    """

    nodes: np.ndarray
    step: tuple[float, ...]

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        low = by_channel(moments(image)[:, 2])
        shape = (int(image.shape[1]), int(image.shape[2]), int(image.shape[3]))
        return (image - low) * np.exp(smooth_field(self.nodes, self.step, shape)) + low, labels


__all__ = [
    "Blur",
    "Contrast",
    "Curve",
    "Gain",
    "LowResolution",
    "Mirror",
    "Move",
    "Noise",
    "Pair",
    "Shade",
    "Sharpen",
    "Shift",
    "Step",
    "Window",
    "apply",
    "by_channel",
    "white_noise",
]
