"""The fundus behind its vessels: pigments, choroid, nerve fibres and disc as maps, and what they reflect.

All of it varies smoothly and is computed on a coarse grid of about `COARSE_UM`, by tables of the camera's bands.

References
----------
Disc: van Norren D, Tiemeijer LF. Spectral reflectance of the human eye. Vision Res 1986;26:313.
Macular pigment by eccentricity: Hammond BR, Wooten BR, Snodderly DM. J Opt Soc Am A 1997;14:1187.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from equipoise.engines.imaging.simulate_fundus import optics
from equipoise.engines.imaging.simulate_fundus.layers import Sight
from equipoise.engines.imaging.simulate_fundus.patterns import choroid_network, fibre_thickness, patches
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.retina import Landmarks

COARSE_UM = 48.0
NODES, MELANIN_NODES, BLOOD_NODES = 96, 24, 12
"""Of the tables of densities."""
SPREAD_MM = 0.07
"""SD of the lateral spread of light in the choroid."""
MACULAR_MM = 0.42
"""Eccentricity at which macular pigment has fallen to 1/e."""


@dataclass(frozen=True)
class Look:
    """What is drawn of an eye beside its `Fundus`.

    Parameters
    ----------
    tigroid
        How clearly choroidal vessels shine through, 0 to 1.
    mottle
        SD of the pigment's patchiness.
    crescent
        Strength of the pale crescent beside the disc.
    stripes
        Contrast of the nerve fibres' striation.
    reflex
        Brightness of the light reflex on vessels, reflectance.
    """

    tigroid: float
    mottle: float
    crescent: float
    stripes: float
    reflex: float


def fundus_of(
    sight: Sight,
    look: Look,
    landmarks: Landmarks,
    masks: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the light from an eye without anything in front of it, float32 ``(B, I, J)``.

    Parameters
    ----------
    sight
        Its pigments and the camera.
    look
        Its patterns.
    landmarks
        Where disc and fovea are.
    masks
        ``"disc"`` and ``"cup"`` where they are drawn rather than an ellipse; bool ``(I, J)``.
    shape
        I and J.
    rng
        Of the patterns.
    """
    step = max(1, round(COARSE_UM / landmarks.um_per_px))
    coarse = _coarse_fundus(sight, look, landmarks, masks, shape, step, rng)
    fundus = np.empty((len(coarse), *shape), np.float32)
    _enlarge(coarse, step, fundus)
    return fundus


def _coarse_fundus(
    sight: Sight,
    look: Look,
    landmarks: Landmarks,
    masks: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    step: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the bands' reflectance without vessels at every ``step``-th pixel and one beyond, ``(B, i, j)``."""
    eye, mm = sight.eye, landmarks.um_per_px / 1000
    x = np.arange(0, shape[0] + step, step, dtype=np.float32)[:, None]
    y = np.arange(0, shape[1] + step, step, dtype=np.float32)[None]
    fx, fy = (x - np.float32(landmarks.fovea[0])) * mm, (y - np.float32(landmarks.fovea[1])) * mm
    fovea = np.hypot(fx, fy)
    dx, dy = (x - np.float32(landmarks.disc.x)) * mm, (y - np.float32(landmarks.disc.y)) * mm
    from_disc = np.hypot(dx, dy)
    inside = _soft(landmarks.disc.distance(x, y) * mm, masks.get("disc"), step, 0.035, mm)
    cup = _soft(landmarks.cup.distance(x, y) * mm, masks.get("cup"), step, 0.09, mm) * inside
    patchy = patches(fovea.shape, step * mm, 1.6, rng)
    grain = patches(fovea.shape, step * mm, 0.12, rng)
    macula = np.exp(-((fovea / 2.4) ** 2))
    # Light spreads in the choroid before it comes back, so its vessels look soft.
    spread = SPREAD_MM / (step * mm)
    network = blur(choroid_network(fx, fy, rng)[None, :, :, None], (spread, spread, 0))[0, :, :, 0]
    shows = look.tigroid * (1 - 0.92 * macula) * np.clip(1 + 0.5 * patchy, 0.3, 1.6)
    melanin = eye.melanin * (1 + shows * (0.45 - 1.25 * network)) * np.exp(look.mottle * patchy)
    blood = eye.blood_um * (1 + 0.45 * macula) * (1 + shows * (1.1 * network - 0.35))
    # The crescent: pigment epithelium and choroid stop short of the disc on its temporal side.
    side = np.float32(-1 if landmarks.right else 1)
    beside = np.exp(-((landmarks.disc.distance(x, y) * mm / 0.28) ** 2)) * np.clip(
        0.25 + side * dx / np.maximum(from_disc, 0.3), 0, 1
    )
    bare = np.clip(look.crescent * beside, 0, 0.95)
    melanin = np.clip(melanin * (1 - bare), 0.02, 4.0)
    blood = np.clip(blood * (1 - 0.7 * bare), 4.0, 400.0)
    pigment = (1 + 0.9 * np.exp(-((fovea / 3.0) ** 2)) + 0.8 * np.exp(-((fovea / 0.55) ** 2))) * (1 + 0.08 * grain)
    pigment = pigment * np.exp(0.5 * look.mottle * patchy) * (1 - bare)
    fibres = fibre_thickness(dx, dy, from_disc, fovea, look.stripes, rng)
    return _reflected(sight, melanin, blood, pigment, np.exp(-fovea / MACULAR_MM), fibres, inside, cup)


def _reflected(
    sight: Sight,
    melanin: np.ndarray,
    blood: np.ndarray,
    pigment: np.ndarray,
    macular: np.ndarray,
    fibres: np.ndarray,
    disc: np.ndarray,
    cup: np.ndarray,
) -> np.ndarray:
    """Return reflectance in each band from densities, by tables."""
    eye, media = sight.eye, sight.media
    m_nodes = np.geomspace(0.02, 4.0, MELANIN_NODES)
    b_nodes = np.geomspace(4.0, 400.0, BLOOD_NODES)
    deep = optics.choroid(*np.meshgrid(m_nodes, b_nodes, indexing="ij")) @ media.T
    mean = media * optics.choroid(np.array(eye.melanin), np.array(eye.blood_um))
    mean /= mean.sum(axis=1, keepdims=True)
    p_nodes, y_nodes = np.linspace(0, 5, NODES), np.linspace(0, 1, NODES)
    cut = np.exp(-2 * optics.LN10 * p_nodes[:, None] * eye.rpe * optics.melanin_shape()) @ mean.T
    yellow = np.exp(-2 * optics.LN10 * y_nodes[:, None] * eye.macular * optics.macular_shape()) @ mean.T
    shine = eye.sheen * (media @ optics.scattering(1.0, optics.SHEEN_POWER))
    receptors = optics.RECEPTORS * media.sum(axis=1)
    rim, pale = (media @ s for s in disc_spectra())
    out = np.empty((len(media), *melanin.shape), np.float32)
    scale_m, scale_b = (MELANIN_NODES - 1) / np.log(200.0), (BLOOD_NODES - 1) / np.log(100.0)
    _look_up(
        *(np.ascontiguousarray(a, np.float32) for a in (np.log(melanin / 0.02) * scale_m, np.log(blood / 4) * scale_b)),
        *(np.ascontiguousarray(a, np.float32) for a in (pigment, macular, fibres, disc, cup)),
        np.ascontiguousarray(deep.transpose(2, 0, 1), np.float32),
        *(np.ascontiguousarray(a.T, np.float32) for a in (cut, yellow)),
        *(np.ascontiguousarray(a, np.float32) for a in (shine, receptors, rim, pale)),
        out,
    )  # fmt: skip
    return out


def disc_spectra() -> tuple[np.ndarray, np.ndarray]:
    """Return the reflectance of rim and cup: nerve fibres with much or little blood, on the lamina."""
    blood = optics.blood_per_um(optics.CHOROIDAL)
    rim = optics.turbid_layer(2 * 8.0 * blood, optics.scattering(0.14, 0.3), 0.06)
    cup = optics.turbid_layer(2 * 2.4 * blood, optics.scattering(0.17, 0.3), 0.13)
    return rim, cup


def _soft(distance: np.ndarray, mask: np.ndarray | None, step: int, edge_mm: float, mm: float) -> np.ndarray:
    """Return a structure's share on the coarse grid with an edge ``edge_mm`` soft: of its mask, or of an outline."""
    if mask is None:
        return np.asarray(1 / (1 + np.exp(np.clip(distance / (0.6 * edge_mm), -30, 30))), np.float32)
    sigma = edge_mm / mm
    soft = blur(mask[None, :, :, None].astype(np.float32), (sigma, sigma, 0))[0, :, :, 0]
    wide = np.pad(soft, ((0, step), (0, step)), mode="edge")
    return np.asarray(wide[::step, ::step][: distance.shape[0], : distance.shape[1]])


@njit(cache=True, nogil=True, fastmath=True)
def _look_up(  # type: ignore[no-untyped-def]
    melanin, blood, pigment, macular, fibres, disc, cup, deep, cut, yellow, shine, receptors, rim, pale, out
):
    last, one = np.float32(cut.shape[1] - 1), np.float32(1.0)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            a = min(int(melanin[i, j]), deep.shape[1] - 2)
            b = min(int(blood[i, j]), deep.shape[2] - 2)
            f, g = melanin[i, j] - np.float32(a), blood[i, j] - np.float32(b)
            p = min(max(pigment[i, j], np.float32(0)), np.float32(4.99)) * last / np.float32(5)
            y = min(macular[i, j], np.float32(0.9999)) * last
            c, d = int(p), int(y)
            p, y = p - np.float32(c), y - np.float32(d)
            for k in range(out.shape[0]):
                under = (one - f) * ((one - g) * deep[k, a, b] + g * deep[k, a, b + 1]) + f * (
                    (one - g) * deep[k, a + 1, b] + g * deep[k, a + 1, b + 1]
                )
                under *= (one - p) * cut[k, c] + p * cut[k, c + 1]
                value = shine[k] * fibres[i, j] + receptors[k] + under
                value *= (one - y) * yellow[k, d] + y * yellow[k, d + 1]
                head = rim[k] + cup[i, j] * (pale[k] - rim[k])
                out[k, i, j] = value + disc[i, j] * (head - value)


@njit(cache=True, nogil=True, fastmath=True)
def _enlarge(coarse, step, fundus):  # type: ignore[no-untyped-def]
    """Interpolate between every ``step``-th pixel."""
    share = np.float32(1.0 / step)
    row = np.empty(coarse.shape[2], np.float32)
    for k in range(fundus.shape[0]):
        for i in range(fundus.shape[1]):
            a = i // step
            f = np.float32(i - a * step) * share
            for b in range(len(row)):
                row[b] = (np.float32(1.0) - f) * coarse[k, a, b] + f * coarse[k, a + 1, b]
            for b in range(len(row) - 1):
                slope = (row[b + 1] - row[b]) * share
                for j in range(b * step, min((b + 1) * step, fundus.shape[2])):
                    fundus[k, i, j] = row[b] + np.float32(j - b * step) * slope


__all__ = ["Look", "disc_spectra", "fundus_of"]
