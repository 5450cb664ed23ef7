"""Random looks of a whole image: grey-value curves, colours, shading, sharpness, voxel size and grain.

Each function takes a normalised image ``u`` (0 and 1 are the ends of its usual range), float32, shape ``(C, I, J, K)``,
and an amount of which 0 means "as it was".

References
----------
Zhou Z, Sodha V, Pang J, et al. Models Genesis. Medical Image Analysis 2021;67:101840. doi:10.1016/j.media.2020.101840
(grey-value curves that need not rise)

Billot B, Greve DN, Puonti O, et al. SynthSeg. Medical Image Analysis 2023;86:102789. doi:10.1016/j.media.2023.102789
(bias field, voxel size)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from equipoise.engines.parts.appearance import CURVE_NODES, blur, coarsen, correlated_noise, remap
from equipoise.engines.parts.warp import node_counts, smooth_field

KNOTS = 6
"""Free points of a random curve."""


def bend_curves(u: np.ndarray, amount: float, folding: float, rng: np.random.Generator) -> None:
    """Send grey values through a smooth random curve per channel, in place.

    Parameters
    ----------
    u
        Image.
    amount
        Share of the random curve against the straight one, in [0, 1]. Half of it is also the share in which channels
        differ.
    folding
        Probability that a curve may fall: two tissues may then swap their order, or look alike.
    rng
        Decides.
    """
    common = random_curve(folding, rng)
    own = np.stack([random_curve(folding, rng) for _ in u])
    straight = np.linspace(0, 1, CURVE_NODES)
    apart = 0.5 * amount
    curves = (1 - amount) * straight + amount * ((1 - apart) * common + apart * own)
    remap(u, np.zeros(len(u)), np.ones(len(u)), curves.astype(np.float32))


def random_curve(folding: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth curve from [0, 1] at `CURVE_NODES` points; with probability ``folding`` it may fall."""
    falls = rng.random() < folding
    rises = np.cumsum(rng.gamma(1.5, size=KNOTS))
    points = rng.random(KNOTS) if falls else (rises - rises[0]) / (rises[-1] - rises[0])
    wide = CURVE_NODES // (KNOTS - 1)
    line = np.interp(np.linspace(0, KNOTS - 1, CURVE_NODES), np.arange(KNOTS), points)
    padded = np.concatenate([2 * line[0] - line[wide:0:-1], line, 2 * line[-1] - line[-2 : -wide - 2 : -1]])
    # A moving mean of one knot distance rounds the corners and keeps a rising curve rising.
    curve: np.ndarray = np.convolve(padded, np.ones(wide) / wide, "same")[wide : wide + CURVE_NODES]
    return curve


def turn_colours(u: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Return a three-colour image with hue (up to 45 degrees), saturation and colour mixing changed; others as is."""
    if len(u) != 3:
        return u
    out: np.ndarray = (colour_matrix(amount, rng) @ u.reshape(3, -1)).reshape(u.shape)
    return out


def colour_matrix(amount: float, rng: np.random.Generator) -> np.ndarray:
    """Return the float32 matrix ``(3, 3)`` of `turn_colours`; its rows sum to 1, so that grey stays grey."""
    angle = math.radians(45) * amount * rng.uniform(-1, 1)
    saturation = math.exp(0.7 * amount * rng.uniform(-1, 1))
    grey = np.full((3, 3), 1 / 3)
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    # Rodrigues' rotation about the grey diagonal, with what is off it stretched by the saturation.
    hue = grey + saturation * (math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * axis)
    mix = np.eye(3) + 0.1 * amount * rng.standard_normal((3, 3))
    matrix: np.ndarray = (mix / mix.sum(axis=1, keepdims=True) @ hue).astype(np.float32)
    return matrix


def shade(u: np.ndarray, amount: float, step: Sequence[float], rng: np.random.Generator) -> None:
    """Multiply by a smooth field, in place: coil sensitivity, vignetting, uneven stain.

    ``amount`` is the SD of the logarithm at the control nodes, ``step`` their distance in voxels along I, J, K.
    """
    nodes = amount * rng.standard_normal((1, *node_counts(u.shape[1:], step)), dtype=np.float32)
    u *= np.exp(smooth_field(nodes, step, u.shape[1:]))


def sharpen(u: np.ndarray, amount: float) -> np.ndarray:
    """Return the image with ``amount`` times its finest detail (below about 1 voxel SD) added."""
    sharp: np.ndarray = u + np.float32(amount) * (u - blur(u, (1.0, 1.0, 1.0)))
    return sharp


def enlarge_voxels(u: np.ndarray, factor: Sequence[float]) -> np.ndarray:
    """Return the image as acquired with voxels ``factor`` times as large along I, J, K.

    The larger voxel averages over a Gaussian whose full width at half maximum is its size, less the voxel's own.
    """
    sigma = [math.sqrt(max(f * f - 1, 0)) / (2 * math.sqrt(2 * math.log(2))) for f in factor]
    return coarsen(blur(u, sigma), factor)


def add_grain(u: np.ndarray, amount: float, sigma: Sequence[float], rng: np.random.Generator) -> None:
    """Add noise with a grain of ``sigma`` voxels along I, J, K and SD ``amount``, in place.

    An image that other changes have left flat (SD below a quarter of its range) gets less, down to a quarter: what
    nobody could see any more would be labelled all the same. Where the noise lies between plain noise and speckle,
    which grows with the signal, is drawn; so is how much the channels have in common.
    """
    speckle, common = rng.random(), rng.random()
    noise = correlated_noise(u.shape, sigma, rng)
    if len(u) > 1:
        shared = noise[:1].copy()
        noise = np.float32(math.sqrt(common)) * shared + np.float32(math.sqrt(1 - common)) * noise
        # The first channel met itself: its variance is (sqrt(c) + sqrt(1 - c))^2 instead of 1.
        noise[0] /= np.float32(math.sqrt(common) + math.sqrt(1 - common))
    weight = np.float32(1 - speckle) + np.float32(2 * speckle) * np.clip(u, 0, 1)
    visible = float(np.clip(4 * u.std(), 0.25, 1))
    u += np.float32(amount * visible) * weight * noise


__all__ = [
    "add_grain",
    "bend_curves",
    "colour_matrix",
    "enlarge_voxels",
    "random_curve",
    "shade",
    "sharpen",
    "turn_colours",
]
