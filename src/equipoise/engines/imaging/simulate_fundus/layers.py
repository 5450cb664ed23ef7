"""An eye's layers as maps, and the light that each colour of a camera receives from them.

What varies smoothly (pigments, choroid, nerve fibres, disc) is computed on a coarse grid of about `COARSE_UM`; vessels
at full resolution. Spectra are integrated over the camera's bands into tables, once per picture.

References
----------
Choroidal vessels and tessellation: Yan YN et al. Fundus tessellation. Ophthalmology 2015;122:1873.
Nerve fibres: Knighton RW. Light scattering by the retinal nerve fibre layer. Invest Ophthalmol Vis Sci 1992.
Disc: van Norren D, Tiemeijer LF. Spectral reflectance of the human eye. Vision Res 1986;26:313.
Macular pigment by eccentricity: Hammond BR, Wooten BR, Snodderly DM. J Opt Soc Am A 1997;14:1187.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import fft, ndimage

from equipoise.engines.imaging.simulate_fundus import optics
from equipoise.engines.parts.appearance import blur
from equipoise.engines.parts.retina import Landmarks

COARSE_UM = 48.0
NODES = 96
"""Of the tables of blood paths."""
LONGEST_UM = 480.0
"""Path through blood that the tables end at; wider vessels are black already."""
MELANIN_NODES, BLOOD_NODES = 24, 12
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


@dataclass(frozen=True, eq=False)
class Light:
    """Reflectance of an eye in the bands of a camera, media included.

    Parameters
    ----------
    fundus
        Without retinal vessels, float32 ``(B, I, J)``.
    through
        Share of it that vessels let through, float32 ``(B, I, J)``.
    added
        Light that blood and vessel walls send back, float32 ``(B, I, J)``.
    """

    fundus: np.ndarray
    through: np.ndarray
    added: np.ndarray

    def total(self) -> np.ndarray:
        """Return what reaches the camera."""
        light = self.fundus * self.through
        light += self.added
        return np.asarray(light)


def light_of(
    eye: optics.Fundus,
    look: Look,
    landmarks: Landmarks,
    bands: np.ndarray,
    masks: Mapping[str, np.ndarray],
    lumen_um: np.ndarray,
    axis: np.ndarray,
    rng: np.random.Generator,
) -> Light:
    """Return the light from an eye.

    Parameters
    ----------
    eye, look
        Its pigments and patterns.
    landmarks
        Where disc and fovea are.
    bands
        Sensitivities, ``(B, wavelengths)``, rows with the sum 1.
    masks
        ``"disc"`` and ``"cup"`` where they are drawn rather than an ellipse; bool ``(I, J)``.
    lumen_um, axis
        Of arteries and veins, as in `equipoise.engines.parts.retina.Eye`.
    rng
        Of the patterns.
    """
    shape = lumen_um.shape[1:]
    step = max(1, round(COARSE_UM / landmarks.um_per_px))
    coarse = _coarse_fundus(eye, look, landmarks, bands, masks, (shape[0], shape[1]), step, rng)
    seen_through = np.exp(-2 * optics.LN10 * optics.media_density(eye.age))
    weights = bands * eye.reflectance(sheen=0.5)
    weights /= weights.sum(axis=1, keepdims=True)
    path = np.linspace(0, LONGEST_UM, NODES)
    kinds = (optics.ARTERIAL, optics.VENOUS)
    through = np.stack([weights @ optics.vessel_transmission(path, s).T for s in kinds])
    added = np.stack([(bands * seen_through) @ optics.vessel_backscatter(path, s).T for s in kinds])
    glance = look.reflex * (bands @ seen_through)
    light = Light(*(np.empty((len(bands), *shape), np.float32) for _ in range(3)))
    _compose(
        coarse, step, np.ascontiguousarray(lumen_um, np.float32), np.ascontiguousarray(axis, np.float32),
        through.astype(np.float32), added.astype(np.float32), glance.astype(np.float32),
        light.fundus, light.through, light.added,
    )  # fmt: skip
    return light


def _coarse_fundus(
    eye: optics.Fundus,
    look: Look,
    landmarks: Landmarks,
    bands: np.ndarray,
    masks: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    step: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the bands' reflectance without vessels at every ``step``-th pixel and one beyond, ``(B, i, j)``."""
    mm = landmarks.um_per_px / 1000
    x = np.arange(0, shape[0] + step, step, dtype=np.float32)[:, None]
    y = np.arange(0, shape[1] + step, step, dtype=np.float32)[None]
    fx, fy = (x - np.float32(landmarks.fovea[0])) * mm, (y - np.float32(landmarks.fovea[1])) * mm
    fovea = np.hypot(fx, fy)
    dx, dy = (x - np.float32(landmarks.disc.x)) * mm, (y - np.float32(landmarks.disc.y)) * mm
    from_disc = np.hypot(dx, dy)
    inside = _soft(landmarks.disc.distance(x, y) * mm, masks.get("disc"), step, 0.035, mm)
    cup = _soft(landmarks.cup.distance(x, y) * mm, masks.get("cup"), step, 0.09, mm) * inside
    patches = _field(fovea.shape, step * mm, 1.6, rng)
    grain = _field(fovea.shape, step * mm, 0.12, rng)
    macula = np.exp(-((fovea / 2.4) ** 2))
    # Light spreads in the choroid before it comes back, so its vessels look soft.
    spread = SPREAD_MM / (step * mm)
    network = blur(choroid_network(fx, fy, rng)[None, :, :, None], (spread, spread, 0))[0, :, :, 0]
    shows = look.tigroid * (1 - 0.92 * macula) * np.clip(1 + 0.5 * patches, 0.3, 1.6)
    melanin = eye.melanin * (1 + shows * (0.45 - 1.25 * network)) * np.exp(look.mottle * patches)
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
    pigment = pigment * np.exp(0.5 * look.mottle * patches) * (1 - bare)
    fibres = _fibres(dx, dy, from_disc, fovea, look.stripes, rng)
    return _reflected(eye, bands, melanin, blood, pigment, np.exp(-fovea / MACULAR_MM), fibres, inside, cup)


def _reflected(
    eye: optics.Fundus,
    bands: np.ndarray,
    melanin: np.ndarray,
    blood: np.ndarray,
    pigment: np.ndarray,
    macular: np.ndarray,
    fibres: np.ndarray,
    disc: np.ndarray,
    cup: np.ndarray,
) -> np.ndarray:
    """Return reflectance in each band from densities, by tables."""
    through = np.exp(-2 * optics.LN10 * optics.media_density(eye.age))
    m_nodes = np.geomspace(0.02, 4.0, MELANIN_NODES)
    b_nodes = np.geomspace(4.0, 400.0, BLOOD_NODES)
    deep = optics.choroid(*np.meshgrid(m_nodes, b_nodes, indexing="ij")) @ (bands * through).T
    mean = bands * through * optics.choroid(np.array(eye.melanin), np.array(eye.blood_um))
    mean /= mean.sum(axis=1, keepdims=True)
    p_nodes, y_nodes = np.linspace(0, 5, NODES), np.linspace(0, 1, NODES)
    cut = np.exp(-2 * optics.LN10 * p_nodes[:, None] * eye.rpe * optics.melanin_shape()) @ mean.T
    yellow = np.exp(-2 * optics.LN10 * y_nodes[:, None] * eye.macular * optics.macular_shape()) @ mean.T
    shine = eye.sheen * ((bands * through) @ optics.scattering(1.0, optics.SHEEN_POWER))
    receptors = optics.RECEPTORS * (bands @ through)
    rim, pale = (((bands * through) @ s) for s in disc_spectra())
    out = np.empty((len(bands), *melanin.shape), np.float32)
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


def choroid_network(fx: np.ndarray, fy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return where choroidal vessels run, 0 to 1: a network drawn out away from the posterior pole.

    Its lines are where a random field changes its sign; the field is periodic in the angle about the pole.

    Parameters
    ----------
    fx, fy
        Millimetres from the fovea, float32 ``(i, 1)`` and ``(1, j)``.
    rng
        Of the field.
    """
    n = 192
    waves = np.exp(
        -0.5 * ((np.hypot(fft.fftfreq(n, 1 / n)[:, None] / 5, fft.rfftfreq(n, 1 / n)[None] / 21) - 1) / 0.4) ** 2
    )
    spectrum = fft.rfft2(rng.standard_normal((n, n), np.float32)) * waves.astype(np.float32)
    lattice = fft.irfft2(spectrum, (n, n))
    lattice /= lattice.std()
    turn, shift = rng.uniform(-0.25, 0.25, 2)
    centre = rng.normal(0, 0.8, 2)
    out = np.empty((fx.shape[0], fy.shape[1]), np.float32)
    _network(lattice.astype(np.float32), fx[:, 0] - centre[0], fy[0] - centre[1], turn, shift, out)
    return out


def _fibres(
    dx: np.ndarray, dy: np.ndarray, away: np.ndarray, fovea: np.ndarray, stripes: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the thickness of the nerve fibre layer, 1 at the disc's poles, with its striation along the bundles."""
    angle = np.arctan2(dy, np.abs(dx) + 1e-3)
    # Thick above and below the disc, thin towards the macula, none in the fovea.
    thick = np.exp(-np.maximum(away - 0.9, 0) / 3.2) * (0.3 + 0.7 * np.abs(np.sin(angle)) ** 1.5)
    thick = (thick + 0.12) * (1 - 0.93 * np.exp(-((fovea / 1.1) ** 2)))
    if stripes <= 0:
        return np.asarray(thick)
    n = 1024
    line = ndimage.gaussian_filter1d(rng.standard_normal(n), 1.3, mode="wrap")
    line = line / line.std() + ndimage.gaussian_filter1d(rng.standard_normal(n), 8, mode="wrap") * 4
    # Bundles bend around the fovea: the angle at which they left the disc, not the one that they are seen at.
    left = np.arctan2(dy, dx) + 0.1 * np.sign(dy) * np.minimum(away, 4.0)
    at = (left / (2 * np.pi) * n).astype(np.intp) % n
    return np.asarray(thick * np.clip(1 + stripes * line[at] * np.exp(-away / 3.5), 0.05, 3.0))


def _soft(distance: np.ndarray, mask: np.ndarray | None, step: int, edge_mm: float, mm: float) -> np.ndarray:
    """Return a structure's share on the coarse grid with an edge ``edge_mm`` soft: of its mask, or of an outline."""
    if mask is None:
        return np.asarray(1 / (1 + np.exp(np.clip(distance / (0.6 * edge_mm), -30, 30))), np.float32)
    sigma = edge_mm / mm
    soft = blur(mask[None, :, :, None].astype(np.float32), (sigma, sigma, 0))[0, :, :, 0]
    wide = np.pad(soft, ((0, step), (0, step)), mode="edge")
    return np.asarray(wide[::step, ::step][: distance.shape[0], : distance.shape[1]])


def _field(shape: tuple[int, ...], mm: float, length_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field of variance 1 with a correlation length."""
    sigma = length_mm / mm
    coarse = max(1, int(sigma / 3))
    small = [n // coarse + 8 for n in shape]
    drawn = rng.standard_normal(small, np.float32)
    drawn = ndimage.gaussian_filter(drawn, sigma / coarse) if sigma / coarse > 0.3 else drawn
    drawn /= max(float(drawn.std()), 1e-6)
    if coarse == 1:
        return np.asarray(drawn[: shape[0], : shape[1]])
    i, j = (np.arange(n, dtype=np.float32) / coarse + 2 for n in shape)
    return np.asarray(_bilinear(drawn, i, j))


def _bilinear(values: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return values at the grid of two axes of places."""
    a, b = i.astype(np.intp), j.astype(np.intp)
    f, g = (i - a)[:, None], (j - b)[None]
    rows = values[a] * (1 - f) + values[a + 1] * f
    return np.asarray(rows[:, b] * (1 - g) + rows[:, b + 1] * g)


@njit(cache=True, nogil=True, fastmath=True)
def _network(lattice, fx, fy, turn, shift, out):  # type: ignore[no-untyped-def]
    n = lattice.shape[0]
    for i in range(len(fx)):
        for j in range(len(fy)):
            r = np.sqrt(fx[i] ** 2 + fy[j] ** 2) + 0.6
            u = 3.2 * np.log(r) / 6.0 * n + shift * n
            v = (np.arctan2(fy[j], fx[i]) / (2 * np.pi) + turn * np.log(r)) * n
            a, b = int(np.floor(u)), int(np.floor(v))
            f, g = u - a, v - b
            a0, a1, b0, b1 = a % n, (a + 1) % n, b % n, (b + 1) % n
            value = (1 - f) * ((1 - g) * lattice[a0, b0] + g * lattice[a0, b1]) + f * (
                (1 - g) * lattice[a1, b0] + g * lattice[a1, b1]
            )
            near = min(max(1.1 - abs(value) / 0.8, 0.0), 1.0)
            out[i, j] = near * near * (3 - 2 * near)


@njit(cache=True, nogil=True, fastmath=True)
def _look_up(  # type: ignore[no-untyped-def]
    melanin, blood, pigment, macular, fibres, disc, cup, deep, cut, yellow, shine, receptors, rim, pale, out
):
    last = np.float32(cut.shape[1] - 1)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            a = min(int(melanin[i, j]), deep.shape[1] - 2)
            b = min(int(blood[i, j]), deep.shape[2] - 2)
            f, g = melanin[i, j] - a, blood[i, j] - b
            p = min(max(pigment[i, j], np.float32(0)), np.float32(4.99)) * last / np.float32(5)
            y = min(macular[i, j], np.float32(0.9999)) * last
            c, d = int(p), int(y)
            p, y = p - c, y - d
            for k in range(out.shape[0]):
                under = (1 - f) * ((1 - g) * deep[k, a, b] + g * deep[k, a, b + 1]) + f * (
                    (1 - g) * deep[k, a + 1, b] + g * deep[k, a + 1, b + 1]
                )
                under *= (1 - p) * cut[k, c] + p * cut[k, c + 1]
                value = shine[k] * fibres[i, j] + receptors[k] + under
                value *= (1 - y) * yellow[k, d] + y * yellow[k, d + 1]
                head = rim[k] + cup[i, j] * (pale[k] - rim[k])
                out[k, i, j] = value + disc[i, j] * (head - value)


@njit(cache=True, nogil=True, fastmath=True)
def _compose(coarse, step, lumen, axis, through, added, glance, fundus, passed, back):  # type: ignore[no-untyped-def]
    nodes = through.shape[2] - 1
    scale = np.float32(nodes / LONGEST_UM)
    inverse = np.float32(1.0 / step)
    for i in range(fundus.shape[1]):
        u = i * inverse
        a = int(u)
        f = np.float32(u - a)
        for j in range(fundus.shape[2]):
            v = j * inverse
            b = int(v)
            g = np.float32(v - b)
            for k in range(fundus.shape[0]):
                fundus[k, i, j] = (1 - f) * ((1 - g) * coarse[k, a, b] + g * coarse[k, a, b + 1]) + f * (
                    (1 - g) * coarse[k, a + 1, b] + g * coarse[k, a + 1, b + 1]
                )
                passed[k, i, j] = 1.0
                back[k, i, j] = 0.0
            for t in range(1, -1, -1):  # arteries mostly cross above veins
                depth = lumen[t, i, j]
                if depth <= 0:
                    continue
                w = min(depth * scale, np.float32(nodes) - np.float32(0.001))
                c = int(w)
                h = np.float32(w - c)
                bright = axis[t, i, j] * (np.float32(1.0) if t == 0 else np.float32(0.45))
                for k in range(fundus.shape[0]):
                    let = (1 - h) * through[t, k, c] + h * through[t, k, c + 1]
                    passed[k, i, j] *= let
                    own = (1 - h) * added[t, k, c] + h * added[t, k, c + 1]
                    back[k, i, j] = back[k, i, j] * let + own + glance[k] * bright


__all__ = ["Light", "Look", "choroid_network", "disc_spectra", "light_of"]
