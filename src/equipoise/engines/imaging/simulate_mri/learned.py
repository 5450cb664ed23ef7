"""What training images say about a scanner: grey values, noise, resolution, and the tissue that nobody labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from equipoise.core import Case, LabelMap
from equipoise.engines.imaging.simulate_mri.looks import Sublabels
from equipoise.engines.parts.placement import Placement
from equipoise.engines.parts.tissue_model import TissueModel
from equipoise.errors import DataError

SMOOTH = 0.6
"""SD in voxels of the blur before sub-labels are told apart: MR images are sharp, half a voxel of structure counts."""
TEXTURES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.0)
"""Strengths of the texture within sub-labels that are tried."""
CLIFF = 4.0
"""Fall of the power from one frequency to the next but one that only a truncated k-space shows."""
FEW = 4
"""Training cases that the texture is compared on."""
GRAIN = 0.7
"""Share of a real image's finest differences that tissue may make up; the rest is noise, which k-space brings."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How one training image is scaled and how noisy and sharp it is.

    Parameters
    ----------
    low, high
        Grey values that count as 0 and 1, by channel.
    noise
        SD of the noise by channel, in units of ``high - low``.
    resolution
        Share of k-space along I, J, K that holds signal.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    noise: tuple[float, ...]
    resolution: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Learned:
    """What `learn_from` returns: the tissue, how each training image is shown, and how much of the texture is tissue.

    Parameters
    ----------
    tissue
        In grey values of 0 to 1.
    shown
        By training image.
    texture
        Factor on the tissue's texture: what varies within a sub-label is mostly noise, which k-space brings, and
        borders between sub-labels, which the map brings.
    whole_numbers
        Whether the training images hold integers.
    """

    tissue: TissueModel
    shown: tuple[Shown, ...]
    texture: float
    whole_numbers: bool

    @property
    def parents(self) -> frozenset[str]:
        """The training patients."""
        return self.tissue.parents

    def sublabels(self, labels: LabelMap, placement: Placement | None) -> Sublabels:
        """Return the sub-labels under a label map, with the mean grey value of each over the training images."""
        level = np.mean([look.mean.mean(axis=1) for look in self.tissue.looks.values()], axis=0)
        return Sublabels(self.tissue.sublabels(labels, placement), level, self.tissue.region)


def learn_from(cases: Sequence[Case], rng: np.random.Generator, classes: int, inner: int) -> Learned:
    """Return what some training cases say.

    Raises
    ------
    DataError
        If there is no case, an image is constant or holds NaN, or they have different numbers of channels.
    """
    if not cases:
        raise DataError("simulate-mri got no case to learn from", fix="give training cases, or set learn = false")
    channels = {case.image.channels for case in cases}
    if len(channels) > 1:
        raise DataError(
            f"the training images have {sorted(channels)} channels",
            fix="train on images with one number of sequences, in one order",
        )
    shown = {case.id: _shown(case) for case in cases}
    tissue = TissueModel.fit(cases, lambda case: _normal(case, shown[case.id]), rng, classes, inner, SMOOTH)
    texture = _texture_like(cases[:FEW], [shown[case.id] for case in cases[:FEW]], tissue, rng)
    whole = all(np.issubdtype(case.image.voxels.dtype, np.integer) for case in cases)
    return Learned(tissue, tuple(shown.values()), texture, whole)


def _texture_like(
    cases: Sequence[Case], shown: Sequence[Shown], tissue: TissueModel, rng: np.random.Generator
) -> float:
    """Return the strongest texture whose grain is finer than neither the real images' nor their noise allows."""
    allowed = GRAIN * float(np.mean([s.noise for s in shown]))
    seed = int(rng.integers(2**63))
    for strength in TEXTURES[:-1]:
        drawn = np.random.default_rng(seed)  # the same tissue, with less and less texture
        scenes = [tissue.scene(case.labels, None, drawn, strength) for case in cases]
        if np.mean([noise_of(channel) for scene in scenes for channel in scene]) <= allowed:
            return strength
    return TEXTURES[-1]


def _normal(case: Case, shown: Shown) -> np.ndarray:
    low, high = (np.array(x)[:, None, None, None] for x in (shown.low, shown.high))
    return np.asarray((case.image.array - low) / (high - low), np.float32)


def _shown(case: Case) -> Shown:
    image = case.image.array.astype(np.float64)
    if not np.isfinite(image).all():
        raise DataError(f"case {case.id!r} holds NaN or infinite values", file=case.file, fix="repair or leave it out")
    low = np.minimum(np.percentile(image, 0.1, axis=(1, 2, 3)), 0)  # magnitudes start at 0; z-scores do not
    high = np.percentile(image, 99.5, axis=(1, 2, 3))
    if (high <= low).any() or (np.ptp(image, axis=(1, 2, 3)) == 0).any():
        raise DataError(f"case {case.id!r} is constant in a channel", file=case.file, fix="leave it out")
    scaled = (image - low[:, None, None, None]) / (high - low)[:, None, None, None]
    noise = tuple(noise_of(channel) for channel in scaled)
    i, j, k = (acquired_share(scaled[0], axis) for axis in range(3))
    return Shown(tuple(low.tolist()), tuple(high.tolist()), noise, (i, j, k))


def noise_of(image: np.ndarray) -> float:
    """Return the SD of white noise in an image ``(I, J, K)``, from its finest diagonal differences.

    Anatomy is smooth against the checkerboard of the differences along every axis at once; the median is not moved by
    what edges are left. Zeroed background is left out.

    References
    ----------
    Donoho DL, Johnstone IM. Ideal spatial adaptation by wavelet shrinkage. Biometrika 1994;81:425.
    """
    rest, steps = image, 0
    for axis, n in enumerate(image.shape):
        if n > 1:
            rest = np.diff(rest, axis=axis)
            steps += 1
    rest = rest[rest != 0]
    return float(np.median(np.abs(rest)) / 0.6745 / np.sqrt(2.0**steps)) if rest.size else 0.0


def acquired_share(image: np.ndarray, axis: int) -> float:
    """Return how much of k-space holds signal along an axis: less than 1 where the image was zero-filled."""
    n = image.shape[axis]
    if n < 16:
        return 1.0
    window = np.hanning(n + 2)[1:-1].reshape([-1 if a == axis else 1 for a in range(3)])
    power = np.square(np.abs(fft.rfft(image * window, axis=axis))).mean(axis=tuple(a for a in range(3) if a != axis))
    at = np.arange(max(2, int(0.15 * n)), n // 2 - 1)
    drop = power[at - 1] / np.maximum(power[at + 1], 1e-30)
    # Anatomy's spectrum falls slowly at these frequencies, the border of the acquired matrix at once; a magnitude image
    # holds a little power beyond it.
    sharpest = int(drop.argmax()) if len(at) else 0
    return float(at[sharpest] / (n / 2)) if len(at) and drop[sharpest] > CLIFF else 1.0


__all__ = ["Learned", "Shown", "acquired_share", "learn_from", "noise_of"]
