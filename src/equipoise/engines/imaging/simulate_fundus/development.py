"""From the light on a sensor to a stored picture: noise, tones, sharpening, aperture, JPEG."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numba import njit
from PIL import Image as Picture

from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.normal_table import quick_normal

READ_NOISE = 9.0
"""Electrons."""
SHOULDER = 0.8
"""Linear value above which a film-like shoulder bends the tones, so that a bright disc keeps some drawing."""
SHARPENED_PX = 1.2
"""SD of the blur whose difference sharpening adds."""
BLOCK = 32
"""Side of the blocks in which planes and rows of pixels are exchanged."""


def grain_of(shape: tuple[int, ...], mosaic: bool, rng: np.random.Generator) -> np.ndarray:
    """Return a sensor's noise of variance 1, ``(B, I, J)``.

    That of a mosaic's colours is coarser after interpolation, in red and blue more than in green, and its variance
    smaller.
    """
    grain = quick_normal(shape, rng)
    if not mosaic or shape[0] == 1:
        return grain
    spread = (0.8, 0.55, 0.8)
    return np.concatenate([blur(g[None, :, :, None], (s, s, 0))[..., 0] for g, s in zip(grain, spread, strict=True)])


def developed(
    light: Iterable[np.ndarray], grain: np.ndarray, photons: float, gain: np.ndarray, gamma: float, out: np.ndarray
) -> None:
    """Write the grey values, 0 to 255, of what a sensor makes of light.

    Parameters
    ----------
    light, grain
        Planes of B colours, float32 ``(I, J)``, and noise of variance 1, ``(B, I, J)``.
    photons
        Electrons of a pixel at white, at the colour that is amplified least; one that is amplified more had fewer.
    gain
        From light to linear grey values, ``(B,)``.
    gamma
        Of the tone curve.
    out
        float32 ``(B, I, J)``; may be the light itself.
    """
    nodes = np.linspace(0, 2, 2049)
    bent = np.where(nodes < SHOULDER, nodes, SHOULDER + 0.2 * (1 - np.exp(-(nodes - SHOULDER) / 0.2)))
    table = (255 * bent ** (1 / gamma)).astype(np.float32)
    for seen, noise, factor, grey in zip(light, grain, gain, out, strict=True):
        per = np.float32(photons * gain.min() / factor)
        _develop(seen, noise, np.float32(factor), per, np.float32(READ_NOISE), table, grey)


def finished(
    grey: np.ndarray, sharpening: float, open_: np.ndarray, black: float, quality: int, rng: np.random.Generator
) -> np.ndarray:
    """Return grey values sharpened, cut out by the aperture, and compressed, uint8 ``(B, I, J)``.

    Parameters
    ----------
    grey
        float32 ``(B, I, J)``; changed in place.
    sharpening
        Share of high frequencies that is added again.
    open_
        Share of light that the aperture lets through, float32 ``(I, J)``.
    black
        Grey value outside of it.
    quality
        See `compressed`.
    rng
        Of the noise outside.
    """
    sharp = sharpening > 0.01
    soft = blur(grey[..., None], (SHARPENED_PX, SHARPENED_PX, 0))[..., 0] if sharp else grey
    dark = quick_normal(grey.shape[1:], rng)
    _finish(grey, soft, np.float32(sharpening if sharp else 0.0), open_, dark, np.float32(black))
    return compressed(grey, quality)


def compressed(grey: np.ndarray, quality: int) -> np.ndarray:
    """Return grey values ``(B, I, J)`` from 0 to 255 after JPEG, uint8; above 100 they are only rounded."""
    if quality > 100:
        return np.asarray(np.rint(grey).astype(np.uint8))
    rows = np.empty((*grey.shape[:0:-1], len(grey)), np.uint8)
    _to_rows(np.ascontiguousarray(grey, np.float32), rows)
    stored = io.BytesIO()
    picture = Picture.fromarray(rows if len(grey) == 3 else rows[..., 0])
    picture.save(stored, "jpeg", quality=quality, subsampling=2 if quality < 90 else 0)
    with Picture.open(io.BytesIO(stored.getvalue())) as read:
        back = np.asarray(read)
    out = np.empty(grey.shape, np.uint8)
    _to_planes(back.reshape(rows.shape), out)
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _develop(light, grain, gain, photons, read, table, out):  # type: ignore[no-untyped-def]
    scale, most = np.float32((len(table) - 1) / 2), np.float32(1.9999)
    one = np.float32(1.0) / photons
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            s = max(light[i, j] * gain, np.float32(0.0))
            s += grain[i, j] * np.sqrt(s * photons + read * read) * one
            u = min(max(s, np.float32(0.0)), most) * scale
            a = int(u)
            out[i, j] = table[a] + (u - np.float32(a)) * (table[a + 1] - table[a])


@njit(cache=True, nogil=True, fastmath=True)
def _finish(grey, soft, sharpening, open_, dark, black):  # type: ignore[no-untyped-def]
    """Sharpen a picture, blend it into the dark around it, and keep it between black and white, in place."""
    for k in range(grey.shape[0]):
        for i in range(grey.shape[1]):
            for j in range(grey.shape[2]):
                sharp = grey[k, i, j] + sharpening * (grey[k, i, j] - soft[k, i, j])
                under = black + np.float32(0.5) * dark[i, j]
                value = under + open_[i, j] * (sharp - under)
                grey[k, i, j] = min(max(value, np.float32(0.0)), np.float32(255.0))


@njit(cache=True, nogil=True)
def _to_rows(planes, rows):  # type: ignore[no-untyped-def]
    """Round planes ``(B, I, J)`` to rows of pixels ``(J, I, B)``."""
    for i0 in range(0, planes.shape[1], BLOCK):
        for j0 in range(0, planes.shape[2], BLOCK):
            for i in range(i0, min(i0 + BLOCK, planes.shape[1])):
                for j in range(j0, min(j0 + BLOCK, planes.shape[2])):
                    for k in range(planes.shape[0]):
                        rows[j, i, k] = np.uint8(np.rint(planes[k, i, j]))


@njit(cache=True, nogil=True)
def _to_planes(rows, planes):  # type: ignore[no-untyped-def]
    """Return rows of pixels ``(J, I, B)`` to planes ``(B, I, J)``."""
    for i0 in range(0, planes.shape[1], BLOCK):
        for j0 in range(0, planes.shape[2], BLOCK):
            for i in range(i0, min(i0 + BLOCK, planes.shape[1])):
                for j in range(j0, min(j0 + BLOCK, planes.shape[2])):
                    for k in range(planes.shape[0]):
                        planes[k, i, j] = rows[j, i, k]


__all__ = ["compressed", "developed", "finished", "grain_of"]
