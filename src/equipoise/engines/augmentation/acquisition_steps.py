"""Steps that belong to one way of making images: noise of MRI and ultrasound, k-space errors, stains, illumination.

Grey values of a normalised patch have lost their zero, so each channel's minimum stands for "no signal".

References
----------
Gudbjartsson H, Patz S. The Rician distribution of noisy MRI data. MRM 1995;34:910-914. doi:10.1002/mrm.1910340618

Shaw R, Sudre CH, Varsavsky T, Ourselin S, Cardoso MJ. A k-space model of movement artefacts: application to
segmentation augmentation and artefact removal. IEEE TMI 2020;39:2881-2892. doi:10.1109/TMI.2020.2972547

Wagner RF, Smith SW, Sandrik JM, Lopez H. Statistics of speckle in ultrasound B-scans. IEEE Trans Sonics Ultrason
1983;30:156-163. doi:10.1109/T-SU.1983.31404
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from equipoise.engines.augmentation.stain import DARKEST, restain_light
from equipoise.engines.augmentation.steps import Pair, by_channel, white_noise
from equipoise.engines.parts.appearance import blur, gaussian_taps, moments

DYNAMIC_RANGE = 60 * math.log(10) / 20
"""Nepers from black to white of a B-mode picture: 60 dB."""

CENTRE = 0.005
"""Half-width of the middle of k-space, as a part of its lines, that a ghost leaves alone: it holds the mean."""


@dataclass(frozen=True, eq=False)
class RicianNoise:
    """Noise of SD ``sd`` in both receiver channels of a magnitude image.

    ``noise`` is white noise of shape ``(2, C, I, J, K)``, or the seed of it.
    """

    sd: float
    noise: np.ndarray | int

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        low = by_channel(moments(image)[:, 2])
        real, imaginary = np.float32(self.sd) * white_noise(self.noise, (2, *image.shape))
        return np.hypot(image - low + real, imaginary) + low, labels


@dataclass(frozen=True, eq=False)
class Speckle:
    """A share of fully developed speckle in a log-compressed picture of 60 dB.

    Parameters
    ----------
    share
        From 0 (none) to 1 (Rayleigh-distributed amplitude).
    grain
        SD of the resolution cell along I, J, K in voxels.
    noise
        White noise of shape ``(2, I, J, K)`` (all channels show one echo), or the seed of it.
    """

    share: float
    grain: tuple[float, float, float]
    noise: np.ndarray | int

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        real, imaginary = blur(white_noise(self.noise, (2, *image.shape[1:])), self.grain) * self.unit(image.shape)
        s = np.float32(self.share)
        decibels = np.log(np.maximum(np.hypot(1 - s + s * real, s * imaginary), np.float32(0.05)))
        decibels -= decibels.mean()  # the receiver's gain is set for the same brightness
        _, _, low, high = moments(image).T
        width = by_channel(np.where(high > low, high - low, 1.0))
        # Where nothing echoes there is nothing to interfere.
        echo = np.clip((image - by_channel(low)) / (0.1 * width), 0, 1)
        return image + echo * width * (decibels / np.float32(DYNAMIC_RANGE)), labels

    def unit(self, shape: tuple[int, ...]) -> np.float32:
        """Return what gives the blurred complex noise of a patch ``(C, I, J, K)`` a mean power of 1."""
        kept = 1.0
        for n, s in zip(shape[1:], self.grain, strict=True):
            if s >= 0.1 and n > 1:
                kept *= float((gaussian_taps(min(s, n)).astype(float) ** 2).sum())
        return np.float32(math.sqrt(0.5 / kept))


@dataclass(frozen=True, eq=False)
class Ghost:
    """Copies of the patch along the phase-encoding ``axis``, as periodic motion makes.

    Every ``period``-th line of k-space, its middle apart, is weaker by the share ``amount``.
    """

    axis: int
    period: int
    amount: float

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        low = by_channel(moments(image)[:, 2])
        weight = self.weights(image.shape[self.axis + 1])
        weight = weight.reshape([-1 if a == self.axis + 1 else 1 for a in range(4)])
        lines = np.fft.fft(image - low, axis=self.axis + 1) * weight
        return np.abs(np.fft.ifft(lines, axis=self.axis + 1)).astype(np.float32) + low, labels

    def weights(self, n: int) -> np.ndarray:
        """Return the factor of each of ``n`` lines in the order of `numpy.fft.fft`."""
        middle = np.abs(np.fft.fftfreq(n)) <= CENTRE
        return np.where((np.arange(n) % self.period == 0) & ~middle, 1 - self.amount, 1.0)


@dataclass(frozen=True, eq=False)
class Spike:
    """One wrong sample of k-space: stripes of ``amount`` times the channel's SD over the whole patch.

    Parameters
    ----------
    frequency
        Of the stripes along I, J, K, in periods per voxel.
    phase
        In radians.
    """

    frequency: tuple[float, float, float]
    phase: float
    amount: float

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        _, sd, low, _ = moments(image).T
        i, j, k = (2 * math.pi * f * np.arange(n) for f, n in zip(self.frequency, image.shape[1:], strict=True))
        stripes = np.cos(i[:, None, None] + j[:, None] + k + self.phase).astype(np.float32)
        struck = image - by_channel(low) + by_channel(self.amount * sd) * stripes
        return np.abs(struck) + by_channel(low), labels  # a magnitude image has no negative values


@dataclass(frozen=True, eq=False)
class Illumination:
    """A lamp that lights the middle and one side more: darker with the square of the distance from ``centre``.

    Parameters
    ----------
    centre
        Brightest place along I and J, from -1 to 1 over the patch.
    amount
        Share of light that is lost at a distance of 1.
    slope
        Additional light per unit along I and J.
    """

    centre: tuple[float, float]
    amount: float
    slope: tuple[float, float]

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        low = by_channel(moments(image)[:, 2])
        return (image - low) * self.light(image.shape)[None, :, :, None] + low, labels

    def light(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the light on a patch ``(C, I, J, K)``, float32, shape ``(I, J)``, at least 0.05."""
        x, y = np.linspace(-1, 1, shape[1])[:, None], np.linspace(-1, 1, shape[2])
        far = (x - self.centre[0]) ** 2 + (y - self.centre[1]) ** 2
        light = 1 - self.amount * far / 2 + self.slope[0] * x + self.slope[1] * y
        return np.maximum(light, 0.05).astype(np.float32)


@dataclass(frozen=True, eq=False)
class MixColours:
    """Mixes the colours by ``matrix``, shape ``(C, C)``; rows that sum to 1 leave grey as it is."""

    matrix: np.ndarray

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        mixed = self.matrix.astype(np.float32) @ image.reshape(len(image), -1)
        return mixed.reshape(image.shape), labels


@dataclass(frozen=True, eq=False)
class Restain:
    """Changes the concentrations of the two stains of a colour patch by ``scale`` and ``shift``, shape ``(2,)`` each.

    A channel's maximum is taken for glass and its minimum for 1/20 of the light, since normalisation hides both.
    """

    scale: np.ndarray
    shift: np.ndarray

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> Pair:
        """Return the changed pair."""
        _, _, low, high = moments(image).T
        width = by_channel(np.where(high > low, high - low, 1.0)) / np.float32(1 - DARKEST)
        light = (image - by_channel(low)) / width + np.float32(DARKEST)
        changed = restain_light(light, self.scale, self.shift)
        return (changed - np.float32(DARKEST)) * width + by_channel(low), labels


__all__ = ["Ghost", "Illumination", "MixColours", "Restain", "RicianNoise", "Speckle", "Spike"]
