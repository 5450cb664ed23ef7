"""What fundus photographs and vessel masks say about field, disc, fovea and scale.

References
----------
Hoover A, Goldbaum M. Locating the optic nerve in a retinal image using the fuzzy convergence of the blood vessels. IEEE
Trans Med Imaging 2003;22:951. doi:10.1109/TMI.2003.815900 (vessels converge on the disc)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from equipoise.core import Case
from equipoise.engines.parts.retina import (
    ARTERY,
    CUP,
    DISC,
    DISC_RADIUS_MM,
    DISC_TO_FOVEA_MM,
    FOVEA,
    FOVEA_BELOW,
    VEIN,
    VESSEL,
    Ellipse,
    Field,
    Landmarks,
)
from equipoise.errors import DataError

DARK = 0.16
"""What is darker than this share of the picture's bright level lies outside of the field."""
PATCH_OVER_DISC = 1.1
"""The bright patch of the best contrast is wider than the disc: it takes part of its pale surroundings."""
COARSE_PX = 160
"""Longest side of the grid on which discs are searched for."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """What a training case's photograph shows.

    Parameters
    ----------
    colours
        0 to 1, float32 ``(C, I, J)``, C is 1 or 3.
    seen, field
        What is not black around the fundus, bool ``(I, J)``, and its circle.
    vessels
        Where any vessel is labelled, bool ``(I, J)``.
    disc
        Centre and radius of the optic disc as the picture shows it, pixels.
    """

    colours: np.ndarray
    seen: np.ndarray
    field: Field
    vessels: np.ndarray
    disc: tuple[float, float, float]


def photograph_of(case: Case) -> Photograph:
    """Return what a case's photograph shows; `DataError` if it is none."""
    colours = colours_of(case)
    seen = seen_in(colours)
    shown = field_of(seen)
    vessels = vessels_of(case.labels.scheme.names, case.labels.masks()[..., 0])
    return Photograph(colours, seen, shown, vessels, measure_disc(vessels, shown, colours))


def colours_of(case: Case) -> np.ndarray:
    """Return the colours of a photograph from 0 to 1, float32, shape ``(C, I, J)`` with 1 or 3 colours.

    Raises `DataError` on anything else than 8-bit or 0-to-1 pictures with one or three colours.
    """
    array = case.image.array
    values = array[..., 0].astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if (
        array.shape[3] != 1
        or len(values) not in (1, 3)
        or not (np.isfinite([low, high]).all() and 0 <= low < high <= 255)
    ):
        raise DataError(
            f"case {case.id!r} is no fundus photograph: shape {array.shape}, values from {low:.4g} to {high:.4g}",
            file=case.file,
            why="reflectance is read off the colours of a flat picture, from 0 (black) to 255 (white)",
            fix="export the pictures as 8-bit PNG or JPEG, or set learn = false to simulate without fitting",
        )
    return values / np.float32(255.0 if high > 1.0 else 1.0)


def seen_in(colours: np.ndarray) -> np.ndarray:
    """Return the field of view: what is not black around the fundus, bool ``(I, J)``; all, if nothing is black."""
    light = ndimage.gaussian_filter(colours.max(axis=0), 1.0)
    bright = light > DARK * float(np.percentile(light, 80))
    parts, count = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    if not count:
        return np.ones(light.shape, bool)
    largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    seen: np.ndarray = ndimage.binary_fill_holes(parts == largest)
    return seen if seen.mean() > 0.2 else np.ones(light.shape, bool)


def field_of(seen: np.ndarray) -> Field:
    """Return the circle of a field of view, from those parts of its edge that the picture shows."""
    i, j = np.nonzero(seen & ~ndimage.binary_erosion(seen, border_value=1))
    if len(i) < 32:
        return Field((seen.shape[0] - 1) / 2, (seen.shape[1] - 1) / 2, float(np.hypot(*seen.shape)) / 2)
    x, y = i.astype(float), j.astype(float)
    keep = np.ones(len(x), bool)
    for _ in range(3):  # notch and flattened edges are outliers of the circle
        system = np.column_stack([x[keep], y[keep], np.ones(int(keep.sum()))])
        a, b, c = np.linalg.lstsq(system, x[keep] ** 2 + y[keep] ** 2, rcond=None)[0]
        centre, radius = (a / 2, b / 2), float(np.sqrt(max(c + a * a / 4 + b * b / 4, 1.0)))
        off = np.abs(np.hypot(x - centre[0], y - centre[1]) - radius)
        keep = off <= max(2.0, 2 * float(np.median(off)))
    return Field(float(centre[0]), float(centre[1]), radius)


def vessels_of(names: tuple[str, ...], masks: np.ndarray) -> np.ndarray:
    """Return where any vessel is labelled, bool ``(I, J)``, of masks ``(L, I, J)``."""
    rows = [n for n, name in enumerate(names) if name in (ARTERY, VEIN, VESSEL)]
    return np.asarray(masks[rows].any(axis=0)) if rows else np.zeros(masks.shape[1:], bool)


def find_disc(vessels: np.ndarray, field: Field) -> tuple[float, float]:
    """Return where the disc's centre is: where wide vessels crowd."""
    step = max(1, round(max(vessels.shape) / COARSE_PX))
    score = _crowd(vessels, field, step)
    best = np.unravel_index(int(np.argmax(score)), score.shape)
    return float((best[0] + 0.5) * step), float((best[1] + 0.5) * step)


def measure_disc(vessels: np.ndarray, field: Field, colours: np.ndarray) -> tuple[float, float, float]:
    """Return centre and radius of the disc in pixels: a bright round patch where wide vessels crowd.

    Parameters
    ----------
    vessels
        Bool ``(I, J)``.
    field
        Of the picture.
    colours
        ``(C, I, J)``.
    """
    step = max(1, round(max(vessels.shape) / COARSE_PX))
    crowd = _crowd(vessels, field, step)
    light = _pooled(np.log(np.maximum(colours[min(1, len(colours) - 1)], 0.01)), step)
    free = _pooled(1.0 - ndimage.binary_dilation(vessels, iterations=2), step)
    i, j = np.ogrid[: light.shape[0], : light.shape[1]]
    inside = np.hypot((i + 0.5) * step - field.x, (j + 0.5) * step - field.y) < 0.98 * field.radius
    known = inside * free
    # Against a wide surround, so that neither vignetting nor what lies outside looks like an edge.
    even = mean_where(light, known, 0.012 * field.radius / step)
    even = even - mean_where(light, known, 0.3 * field.radius / step)
    smooth = np.where(inside, even, 0)
    best, found = -np.inf, (0.0, 0.0, 0.13 * field.radius)
    for share in np.linspace(0.08, 0.2, 13):
        radius = share * field.radius / step
        reach = int(np.ceil(1.6 * radius))
        far = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
        inner, outer = far <= radius, (far > 1.1 * radius) & (far <= 1.6 * radius)
        patch = signal.fftconvolve(smooth, inner / inner.sum() - outer / outer.sum(), mode="same")
        score = np.where(crowd > 0.25, (0.3 + crowd) * np.minimum(patch, 0.8) * share**0.35, -np.inf)
        at = np.unravel_index(int(np.argmax(score)), score.shape)
        if score[at] > best:
            size = float(radius * step / PATCH_OVER_DISC)
            best, found = float(score[at]), ((at[0] + 0.5) * step, (at[1] + 0.5) * step, size)
    return found


def _crowd(vessels: np.ndarray, field: Field, step: int) -> np.ndarray:
    """Return how much wide vessels crowd, 0 to 1, on a coarse grid; 0 near the field's edge."""
    wide = _pooled(np.square(ndimage.distance_transform_edt(vessels)), step)
    crowd = ndimage.gaussian_filter(wide, 0.07 * field.radius / step)
    i, j = np.ogrid[: crowd.shape[0], : crowd.shape[1]]
    inside = np.hypot((i + 0.5) * step - field.x, (j + 0.5) * step - field.y) < 0.93 * field.radius
    return np.asarray(np.where(inside, crowd, 0) / max(float(crowd[inside].max(initial=0)), 1e-9))


def _pooled(values: np.ndarray, step: int) -> np.ndarray:
    """Return the means of blocks of ``step`` x ``step``; what is left over at the ends is dropped."""
    i, j = (n // step for n in values.shape)
    return np.asarray(values[: i * step, : j * step].reshape(i, step, j, step).mean(axis=(1, 3)))


def mean_where(values: np.ndarray, known: np.ndarray, sigma: float) -> np.ndarray:
    """Return the local mean over what is known, a weight from 0 to 1."""
    usual = float(np.median(values[known > 0])) if known.any() else 0.0
    weight = ndimage.gaussian_filter(known, sigma) + 1e-3
    return np.asarray(usual + ndimage.gaussian_filter((values - usual) * known, sigma) / weight)


def landmarks_from(names: tuple[str, ...], masks: np.ndarray, field: Field, um_per_px: float) -> Landmarks:
    """Return landmarks from labels: those that are labelled as they are, the others where the vessels say.

    Parameters
    ----------
    names, masks
        Labels, and bool ``(L, I, J)``.
    field
        What the picture shows.
    um_per_px
        Scale.
    """
    vessels = vessels_of(names, masks)
    size = 1000 * DISC_RADIUS_MM / um_per_px
    disc = _outline(names, masks, DISC)
    if disc is None:
        disc = Ellipse(
            *(find_disc(vessels, field) if vessels.any() else (field.x - field.radius / 2, field.y)), size, size
        )
    fovea = _outline(names, masks, FOVEA)
    at = (fovea.x, fovea.y) if fovea else _fovea(vessels, disc, field, um_per_px)
    cup = _outline(names, masks, CUP) or Ellipse(disc.x, disc.y, 0.42 * disc.a, 0.42 * disc.b, disc.angle)
    return Landmarks(disc, cup, at, um_per_px)


def _outline(names: tuple[str, ...], masks: np.ndarray, name: str) -> Ellipse | None:
    """Return the ellipse with the moments of a mask."""
    if name not in names or not masks[names.index(name)].any():
        return None
    i, j = np.nonzero(masks[names.index(name)])
    if len(i) < 4:
        return Ellipse(float(i.mean()), float(j.mean()), 1.0, 1.0)
    spread = np.cov(np.stack([i, j]))
    power, axes = np.linalg.eigh(spread)
    a, b = 2 * np.sqrt(np.maximum(power, 0.25))
    return Ellipse(float(i.mean()), float(j.mean()), float(a), float(b), float(np.arctan2(axes[1, 0], axes[0, 0])))


def _fovea(vessels: np.ndarray, disc: Ellipse, field: Field, um_per_px: float) -> tuple[float, float]:
    """Return the fovea's place beside a disc: on the side of the field's centre, or where vessels leave room."""
    away = 1000 * DISC_TO_FOVEA_MM / um_per_px
    shift = (field.x - disc.x) / field.radius
    side = np.sign(shift)
    if abs(shift) < 0.25 and vessels.any():
        i, j = np.nonzero(vessels)
        x, y = i - disc.x, np.abs(j - disc.y)
        ahead = (y < 0.45 * np.abs(x)) & (np.abs(x) > 0.25 * away)
        side = 1.0 if (ahead & (x > 0)).sum() < (ahead & (x < 0)).sum() else -1.0
    side = float(side or 1.0)
    return float(disc.x + side * away), float(disc.y + FOVEA_BELOW * away)


__all__ = [
    "Photograph",
    "colours_of",
    "field_of",
    "find_disc",
    "landmarks_from",
    "mean_where",
    "measure_disc",
    "photograph_of",
    "seen_in",
    "vessels_of",
]
