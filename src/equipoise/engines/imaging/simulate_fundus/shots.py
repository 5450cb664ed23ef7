"""One training photograph: its light, the contrasts of its tissues, its sharpness and its noise.

A photograph is taken as ``grey = 255 * linear ** (1 / 2.2)``. The logarithm of the linear value is the sum of a smooth
part, which is illumination and the mean colour, and of a rest, which is what the fundus reflects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from equipoise.core import Case
from equipoise.engines.parts.appearance import blur, correlated_noise
from equipoise.engines.parts.retina import Field
from equipoise.engines.parts.retina_photograph import Photograph, mean_where

GAMMA = 2.2
DEGREE = 4
"""Of the polynomial that is the smooth part."""
DARKEST = 0.004
"""Linear value below which nothing can be told from black."""
WIDEST_REST = 2.5
"""Largest difference from the smooth part, in natural units, that is taken for tissue."""
RIM = 0.955
"""Share of the field's radius within which tissue is read; at the rim lie reflections."""
FINE_PX, FINE_PASSED = 1.4, 0.444
"""Grain of tissue next to the pixel, SD of a Gaussian, and the share of its SD that lies in the second band."""
AROUND = 0.03
"""SD over the field's radius of what vessels are compared with."""
FEWEST = 40
"""Pixels of vessels below which they say nothing."""
BLURS_PX = (0.5, 0.8, 1.2, 1.7, 2.4, 3.4)
GRAINS_PX = (0.0, 0.45, 0.6, 0.8, 1.1, 1.6)
RED_OVER_GREEN = 0.4
"""Least contrast in red of what shines in green, such as the disc."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One training photograph's light and colours. C is the number of its colours, 1 or 3.

    Parameters
    ----------
    field, seen
        Circle and exact shape of what it shows; bool ``(I, J)``.
    black
        Grey value outside, ``(C,)``.
    smooth
        Coefficients of the logarithmic smooth part, ``(C, terms)``.
    spread
        SD of the rest away from vessels and disc, ``(C,)``.
    vessel, disc
        Mean rest on wide vessels and on the disc against what is beside them, ``(C,)``; NaN where there is none.
    blur_px
        SD of the point spread, pixels.
    noise, grain_px
        SD of the noise in grey values ``(C,)``, and of the Gaussian that it is smoothed by along I and J.
    fine
        SD in grey values of the grain of tissue, `FINE_PX` fine, ``(C,)``.
    right
        Whether it shows a right eye.
    """

    field: Field
    seen: np.ndarray
    black: np.ndarray
    smooth: np.ndarray
    spread: np.ndarray
    vessel: np.ndarray
    disc: np.ndarray
    blur_px: float
    noise: np.ndarray
    grain_px: tuple[float, float]
    fine: np.ndarray
    right: bool


def shot_of(case: Case, shown: Photograph, ruler: np.ndarray) -> Shot:
    """Return what a case's photograph says about its light, with the `noise_ruler`."""
    seen, field, vessels = shown.seen, shown.field, shown.vessels
    labelled = case.labels.masks()[..., 0].any(axis=0)
    x0, y0, radius = shown.disc
    i, j = np.ogrid[: seen.shape[0], : seen.shape[1]]
    from_disc = np.hypot(i - x0, j - y0)
    inner = ndimage.binary_erosion(seen, iterations=max(2, round(0.03 * field.radius)), border_value=1)
    tissue = inner & ~ndimage.binary_dilation(labelled, iterations=2) & (from_disc > 1.5 * radius)
    if tissue.sum() < 100:
        tissue = inner if inner.sum() >= 100 else seen
    log = to_linear(shown.colours)
    x, y = (i - field.x) / field.radius, (j - field.y) / field.radius
    smooth = _fitted(log, tissue, np.broadcast_to(x, seen.shape), np.broadcast_to(y, seen.shape))
    rest = log - smooth_part(smooth, x[:, 0].astype(np.float32), y[0].astype(np.float32))
    calm = blur(rest[..., None], (1.2, 1.2, 0))[..., 0]
    head = inner & (from_disc < 0.75 * radius) & ~labelled
    disc = _disc_contrast(calm, head, tissue & (from_disc < 3 * radius), vessels)
    off_disc = vessels & inner & (from_disc > 1.5 * radius)
    contrast = vessel_contrast(rest, off_disc, AROUND * field.radius)
    noise, grain, fine = _noise(255 * shown.colours, tissue, ruler)
    outside = ~ndimage.binary_dilation(seen, iterations=4)
    black = 255 * shown.colours[:, outside].mean(axis=1) if outside.any() else np.zeros(len(log))
    return Shot(
        field, seen, black.astype(np.float32), smooth, calm[:, tissue].std(axis=1), contrast, disc,
        _blur(rest[min(1, len(rest) - 1)], vessels & inner, inner), noise, grain, fine, x0 > field.x,
    )  # fmt: skip


def _disc_contrast(calm: np.ndarray, head: np.ndarray, beside: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Return the mean rest on the disc, ``(C,)``; NaN where nothing tells where it is."""
    if head.sum() <= 20 or beside.sum() <= 20 or not vessels.any():
        return np.full(len(calm), np.nan)
    disc = calm[:, head].mean(axis=1)
    disc[0] = max(disc[0], RED_OVER_GREEN * disc[min(1, len(disc) - 1)])
    return np.asarray(disc)


def to_linear(grey: np.ndarray) -> np.ndarray:
    """Return the logarithm of the linear value of grey values 0 to 1."""
    return np.asarray(np.log(np.maximum(grey**GAMMA, DARKEST)), np.float32)


def to_grey(log_linear: np.ndarray) -> np.ndarray:
    """Return grey values 0 to 255."""
    return np.asarray(255 * np.exp(np.minimum(log_linear, 0.0) / GAMMA), np.float32)


def rest_of(colours: np.ndarray, shot: Shot) -> np.ndarray:
    """Return what a photograph's fundus reflects beside the smooth part, mirrored outside of the field."""
    i, j = np.arange(colours.shape[1], dtype=np.float32), np.arange(colours.shape[2], dtype=np.float32)
    x, y = (i - shot.field.x) / shot.field.radius, (j - shot.field.y) / shot.field.radius
    rest = np.clip(to_linear(colours) - smooth_part(shot.smooth, x, y), -WIDEST_REST, WIDEST_REST)
    inner = ndimage.binary_erosion(shot.seen, iterations=3, border_value=1)
    inner &= np.hypot(x[:, None], y[None]) < RIM
    a, b = np.nonzero(~inner)
    r = np.hypot(x[a], y[b])
    back = np.clip(2 * RIM - r, 0, RIM - 0.01) / np.maximum(r, 1e-3)
    p = np.clip(np.rint(x[a] * back * shot.field.radius + shot.field.x), 0, rest.shape[1] - 1).astype(np.intp)
    q = np.clip(np.rint(y[b] * back * shot.field.radius + shot.field.y), 0, rest.shape[2] - 1).astype(np.intp)
    good = inner[p, q]
    rest[:, a, b] = np.where(good, rest[:, p, q], 0)
    return np.asarray(rest)


def smooth_part(coefficients: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the smooth part at the grid of two axes in radii, float32 ``(C, I, J)``; constant beyond the field."""
    step = 6
    nodes = [np.unique(np.append(np.arange(0, len(axis), step), len(axis) - 1)) for axis in (x, y)]
    few = [axis[n] for axis, n in zip((x, y), nodes, strict=True)]
    r = np.hypot(few[0][:, None], few[1][None])
    within = np.minimum(1.02 / np.maximum(r, 1e-6), 1)
    values = np.einsum("ct,tij->cij", coefficients, _terms(few[0][:, None] * within, few[1][None] * within))
    place = [np.interp(np.arange(len(axis)), n, np.arange(len(n))) for axis, n in zip((x, y), nodes, strict=True)]
    a, b = (np.minimum(p.astype(np.intp), len(n) - 2) for p, n in zip(place, nodes, strict=True))
    f, g = (place[0] - a)[:, None].astype(np.float32), (place[1] - b)[None].astype(np.float32)
    v = values.astype(np.float32)
    rows = v[:, a] * (1 - f) + v[:, a + 1] * f
    return np.asarray(rows[:, :, b] * (1 - g) + rows[:, :, b + 1] * g)


def _fitted(log: np.ndarray, tissue: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coefficients of the smooth part, ``(C, terms)``; what is far off it counts less."""
    every = max(1, int(tissue.sum()) // 20_000)
    a, b = x[tissue][::every], y[tissue][::every]
    terms = _terms(a, b).T
    found = []
    for channel in log:
        values, weight = channel[tissue][::every].astype(float), np.ones(len(a))
        for _ in range(3):
            # A little weight on small coefficients: a field seen in part leaves some of them undetermined.
            system = terms * weight[:, None]
            normal = system.T @ system + 1e-3 * len(a) * np.diag([0.0, *[0.01] * (terms.shape[1] - 1)])
            solved = np.linalg.solve(normal, system.T @ (values * weight))
            off = np.abs(values - terms @ solved)
            weight = 1 / np.maximum(off / max(2 * float(np.median(off)), 1e-3), 1)
        found.append(solved)
    return np.array(found)


def _terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x**p * y**q for p in range(DEGREE + 1) for q in range(DEGREE + 1 - p)])


def vessel_contrast(rest: np.ndarray, vessels: np.ndarray, reach: float) -> np.ndarray:
    """Return the median of the rest on vessels against the mean around each place, ``(C,)``; NaN without vessels.

    Parameters
    ----------
    rest
        ``(C, I, J)``.
    vessels
        Bool ``(I, J)``; of wide ones the inner part counts, where there are some.
    reach
        SD of what is around, pixels.
    """
    deep = ndimage.distance_transform_cdt(vessels, "chessboard") >= 2
    deep = deep if deep.sum() >= FEWEST else vessels
    if deep.sum() < FEWEST:
        return np.full(len(rest), np.nan)
    free = 1.0 - ndimage.binary_dilation(vessels, iterations=2)
    return np.array([np.median((channel - mean_where(channel, free, reach))[deep]) for channel in rest])


def _blur(rest: np.ndarray, vessels: np.ndarray, inner: np.ndarray) -> float:
    """Return the blur in pixels under which the labelled vessels, as cylinders of blood, have the picture's edges."""
    if vessels.sum() < 100:
        return 1.2
    radius = ndimage.distance_transform_edt(vessels)
    drawn = -np.sqrt(radius * np.maximum(radius, 1.0))[None, :, :, None].astype(np.float32)
    edge = ndimage.binary_dilation(vessels, iterations=2) & inner
    seen = _steepness(rest, edge, 1.0)
    sharp = [_steepness(blur(drawn, (s, s, 0))[0, :, :, 0], edge, 1.0) for s in BLURS_PX]
    return float(np.interp(-seen, -np.array(sharp), BLURS_PX))


def _steepness(values: np.ndarray, edge: np.ndarray, smooth: float) -> float:
    """Return how much of the slopes of a picture's vessels lies in fine detail: fine over coarse gradients."""
    fine, coarse = (ndimage.gaussian_gradient_magnitude(values, s)[edge] for s in (smooth, 2.5 * smooth))
    return float(np.median(fine) / max(float(np.median(coarse)), 1e-9))


def _noise(
    grey: np.ndarray, tissue: np.ndarray, ruler: np.ndarray
) -> tuple[np.ndarray, tuple[float, float], np.ndarray]:
    """Return SD ``(C,)`` and grain along I and J of the noise where tissue is calm, and SD of fine grain ``(C,)``."""
    high, band = _bands(grey)
    green = high[min(1, len(high) - 1)]
    busy = ndimage.gaussian_filter(green**2, 4.0)
    calm = tissue & (busy <= np.median(busy[tissue]))
    power = max(float(np.mean(green[calm] ** 2)), 1e-9)
    grains = []
    for axis in range(2):  # a video signal is smoothed along its lines
        together = calm & np.roll(calm, -1, axis)
        alike = float(np.mean((green * np.roll(green, -1, axis))[together])) / power
        grains.append(float(np.interp(alike, ruler[0], GRAINS_PX)))
    mean = float(np.mean(grains))
    kept, passed = (float(np.interp(mean, GRAINS_PX, row)) for row in ruler[1:])
    spread = 1.4826 * np.median(np.abs(high[:, calm]), axis=1) / kept
    seen = 1.4826 * np.median(np.abs(band[:, tissue]), axis=1)
    fine = np.sqrt(np.maximum(seen**2 - (spread * passed) ** 2, 0)) / FINE_PASSED
    return np.asarray(spread, np.float32), (grains[0], grains[1]), np.asarray(fine, np.float32)


def _bands(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies in a picture's finest detail, where noise is, and in the detail next to it."""
    soft = [blur(grey[..., None], (s, s, 0))[..., 0] for s in (1.5, 1.0, 2.5)]
    return grey - soft[0], soft[1] - soft[2]


def noise_ruler(rng: np.random.Generator) -> np.ndarray:
    """Return what noise of known grain and SD 1 shows to the measurement, ``(3, grains)``.

    Likeness of neighbours, SD in the finest detail, and SD in the detail next to it.
    """
    found = []
    for grain in GRAINS_PX:
        field = correlated_noise((1, 128, 128, 1), (grain, grain, 0), rng)[..., 0]
        high, band = (x[0] for x in _bands(field))
        found.append((float((high[1:] * high[:-1]).mean() / (high**2).mean()), float(high.std()), float(band.std())))
    alike, kept, passed = np.array(found).T
    return np.stack([np.maximum.accumulate(alike), kept, passed])


__all__ = [
    "AROUND",
    "FINE_PX",
    "RED_OVER_GREEN",
    "WIDEST_REST",
    "Shot",
    "noise_ruler",
    "rest_of",
    "shot_of",
    "smooth_part",
    "to_grey",
    "vessel_contrast",
]
