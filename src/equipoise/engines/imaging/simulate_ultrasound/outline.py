"""The outline of real pictures: the fan that they show, what was blacked out, and what the scanner always overlays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage, optimize

from equipoise.engines.imaging.simulate_ultrasound.geometry import STRAIGHT, Sector

COARSE = 72
"""Pixels along the longer side at which an outline is sought."""
DARK = 1.5
"""Grey value up to which a pixel counts as never written; JPEG leaves about 1 around."""
PAPER_SHARE = 0.004
"""Smallest black rectangle in the fan, as a share of the picture, that is taken as blacked out."""
MOST_PAPERS = 4
FIRST_STEPS = np.array([0.15, 0.3, 0.3, 0.3, 0.3, 0.25])
"""Of the search for a fan: x, y and logarithm of the radius as shares of the picture, both angles, depth."""
LOPSIDED = 0.05
"""Share of the picture that may be missed for a fan whose sides differ by a radian: where the picture's border cuts a
side off, only that probes look evenly to both sides tells where it lies."""
FEWEST_FOR_FRAME = 8
"""Pictures from which an overlay is learned: what only some share may name a patient."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What of a picture is image.

    Parameters
    ----------
    sector
        Lengths in pixels.
    boxes
        Blacked-out rectangles ``(i0, i1, j0, j1)`` in pixels.
    """

    sector: Sector
    boxes: tuple[tuple[int, int, int, int], ...]

    def seen(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the pixels that show the patient, bool, shape ``(I, J)``."""
        inside = self.sector.seen(shape, (1.0, 1.0))
        for i0, i1, j0, j1 in self.boxes:
            inside[i0:i1, j0:j1] = False
        return inside


def outline_of(grey: np.ndarray) -> Outline:
    """Return the outline of a picture: the fan or rectangle that holds what is bright and leaves out what is black.

    Parameters
    ----------
    grey
        0 to 255, shape ``(I, J)``.
    """
    shape = grey.shape
    factor = max(1, int(np.ceil(max(shape) / COARSE)))
    calm = ndimage.median_filter(grey, 3)  # letters and dust are no tissue
    lit = _pooled((calm > DARK).astype(np.float32), factor)
    used = np.ones_like(lit)
    sector = _fitted(lit, used, float(factor), shape)
    boxes = _papers(calm <= DARK, sector.seen(shape, (1.0, 1.0)))
    if boxes:
        left = np.ones(shape, np.float32)
        for i0, i1, j0, j1 in boxes:
            left[i0:i1, j0:j1] = 0
        used = _pooled(left, factor)
        sector = _fitted(lit * used, used, float(factor), shape, sector)
    return Outline(sector, tuple(boxes))


def frame_of(pictures: Sequence[np.ndarray], seen: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return what nearly all pictures show outside of their outlines, such as a grey scale; ``None`` without any.

    Parameters
    ----------
    pictures, seen
        Grey values and outlines, each of shape ``(I, J)``; of the most usual shape, at least `FEWEST_FOR_FRAME`.

    Returns
    -------
    np.ndarray or None
        Grey values, float32, shape ``(I, J)``; 0 where nothing is overlaid. A pixel counts where it differs little
        between pictures, so that nothing that one patient's picture says (a name, a date) can be in it.
    """
    shapes = [p.shape for p in pictures]
    usual = max(sorted(set(shapes)), key=shapes.count)
    taken = [(p, s) for p, s in zip(pictures, seen, strict=True) if p.shape == usual]
    if len(taken) < FEWEST_FOR_FRAME:
        return None
    stack = np.array([np.where(s, np.nan, p) for p, s in taken], np.float32)
    often = np.isfinite(stack).mean(axis=0) > 0.5
    low, middle, high = np.nanpercentile(np.where(often, stack, 0), [15, 50, 85], axis=0)
    steady = often & (middle > 6) & (high - low < 0.3 * middle + 6)
    return np.where(steady, middle, 0).astype(np.float32) if steady.sum() >= 8 else None


def _pooled(values: np.ndarray, factor: int) -> np.ndarray:
    i, j = (n // factor * factor for n in values.shape)
    blocks = values[:i, :j].reshape(i // factor, factor, j // factor, factor)
    return np.ascontiguousarray(blocks.mean(axis=(1, 3)))


def _papers(black: np.ndarray, inside: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return black rectangles ``(i0, i1, j0, j1)`` that were laid over tissue: it ends at their straight sides."""
    black, found = black.copy(), []
    for _ in range(MOST_PAPERS):
        i0, i1, j0, j1 = (int(n) for n in _largest_rectangle(black, np.cumsum(np.cumsum(inside, 0), 1)))
        if inside[i0:i1, j0:j1].sum() < PAPER_SHARE * black.size:
            break
        if _ends_straight(black, inside, i0, i1, j0, j1):
            found.append((i0, i1, j0, j1))
        black[i0:i1, j0:j1] = False
    return found


def _ends_straight(black: np.ndarray, inside: np.ndarray, i0: int, i1: int, j0: int, j1: int) -> bool:
    """Whether tissue stands along the sides; a rectangle within fluid touches tissue at a few points only."""
    sides = []
    if i0 >= 3:
        sides.append((black[i0 - 3, j0:j1], inside[i0 - 3, j0:j1]))
    if i1 + 3 <= black.shape[0]:
        sides.append((black[i1 + 2, j0:j1], inside[i1 + 2, j0:j1]))
    if j0 >= 3:
        sides.append((black[i0:i1, j0 - 3], inside[i0:i1, j0 - 3]))
    if j1 + 3 <= black.shape[1]:
        sides.append((black[i0:i1, j1 + 2], inside[i0:i1, j1 + 2]))
    within = sum(int(i.sum()) for _, i in sides)
    lit = sum(int((i & ~b).sum()) for b, i in sides)
    return within >= 12 and lit > 0.65 * within


def _fitted(
    lit: np.ndarray, counted: np.ndarray, factor: float, shape: tuple[int, int], near: Sector | None = None
) -> Sector:
    """Return the fan, or the rectangle, with the best balance of lit pixels in and black pixels out.

    ``near`` is a fan to start from, instead of several usual ones.
    """
    size = (shape[0] / factor, shape[1] / factor)
    starts = [np.array([0.5, 0.03, np.log(r), half, half, 1.0]) for r, half in ((0.25, 0.5), (0.6, 0.45), (1.5, 0.3))]
    if near is not None and not near.straight:
        log = np.log(near.radius / shape[1])
        starts = [np.array([near.x / shape[0], near.y / shape[1], log, -near.left, near.right, near.depth / shape[1]])]
    best, least = starts[0], np.inf
    for start in starts:
        simplex = np.vstack([start, start + np.diag(FIRST_STEPS if near is None else FIRST_STEPS / 4)])
        options = {"initial_simplex": simplex, "maxfev": 700, "xatol": 1e-3, "fatol": 1e-4}
        found = optimize.minimize(_fan_loss, start, (lit, counted, *size), "Nelder-Mead", options=options)
        if found.fun < least:
            best, least = found.x, float(found.fun)
    left, right, top, bottom = _rectangle(lit > 0.5)
    filled = np.zeros(lit.shape, bool)
    filled[left:right, top:bottom] = True
    of_box = float((counted - lit)[filled].sum() + lit[~filled].sum()) / lit.size
    if of_box <= 1.05 * least + 0.002:
        end = float(shape[1]) if bottom >= lit.shape[1] else bottom * factor
        half = max((right - left) / 2 * factor, 1.0)
        return Sector((left + right) / 2 * factor, top * factor, STRAIGHT, -half, half, max(end - top * factor, 1.0))
    s = _sector(best, *size)
    return Sector(s.x * factor, s.y * factor, s.radius * factor, s.left, s.right, s.depth * factor)


def _rectangle(lit: np.ndarray) -> tuple[int, int, int, int]:
    """Return the range of columns and rows that are mostly lit."""
    columns, rows = np.flatnonzero(lit.mean(axis=1) > 0.3), np.flatnonzero(lit.mean(axis=0) > 0.3)
    if not columns.size or not rows.size:
        return 0, lit.shape[0], 0, lit.shape[1]
    return int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1


def _sector(p: np.ndarray, width: float, height: float) -> Sector:
    radius = float(np.exp(np.clip(p[2], -4, 2))) * height
    left, right = (float(np.clip(a, 0.05, 1.4)) for a in p[3:5])
    return Sector(p[0] * width, p[1] * height, radius, -left, right, float(np.clip(p[5], 0.2, 3.0)) * height)


def _fan_loss(p: np.ndarray, lit: np.ndarray, counted: np.ndarray, width: float, height: float) -> float:
    sector = _sector(p, width, height)
    if not -1.5 < p[1] < 0.6:
        return 2.0
    missed = _misfit(lit, counted, sector.x, sector.y, sector.radius, sector.left, sector.right, sector.depth)
    return float(missed / lit.size) + LOPSIDED * (sector.left + sector.right) ** 2


@njit(cache=True, nogil=True)
def _misfit(lit, counted, x, y, radius, left, right, depth):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(lit.shape[0]):
        for j in range(lit.shape[1]):
            u, v = i + 0.5 - x, j + 0.5 - y + radius
            r, angle = np.sqrt(u * u + v * v) - radius, np.arctan2(u, v)
            # A soft rim, one pixel wide, so that the search feels which way to go.
            rim = min(min(r, depth - r), min(angle - left, right - angle) * (r + radius))
            inside = min(max(rim + 0.5, 0.0), 1.0)
            total += inside * (counted[i, j] - lit[i, j]) + (1.0 - inside) * lit[i, j]
    return total


@njit(cache=True, nogil=True)
def _largest_rectangle(black, summed):  # type: ignore[no-untyped-def]
    """Return the all-black rectangle with most pixels of the field of view: every maximal one is looked at once.

    ``summed`` is the running sum of the field of view along both axes.
    """
    ni, nj = black.shape
    best, found = 0, (0, 0, 0, 0)
    height, stack = np.zeros(nj + 1, np.int64), np.zeros(nj + 2, np.int64)
    for i in range(ni):
        for j in range(nj):
            height[j] = height[j] + 1 if black[i, j] else 0
        height[nj] = 0
        depth = 0
        for j in range(nj + 1):
            while depth > 0 and height[stack[depth - 1]] >= height[j]:
                tall = height[stack[depth - 1]]
                depth -= 1
                left = stack[depth - 1] + 1 if depth > 0 else 0
                if tall == 0:
                    continue
                i0 = i - tall + 1
                count = summed[i, j - 1]
                if i0 > 0:
                    count -= summed[i0 - 1, j - 1]
                if left > 0:
                    count -= summed[i, left - 1]
                if i0 > 0 and left > 0:
                    count += summed[i0 - 1, left - 1]
                if count > best:
                    best, found = count, (i0, i + 1, left, j)
            stack[depth] = j
            depth += 1
    return found


__all__ = ["Outline", "frame_of", "outline_of"]
