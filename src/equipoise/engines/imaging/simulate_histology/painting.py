"""Concentrations of the stains in every pixel of a piece of tissue: chromatin, cytoplasm, collagen, lumina."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy.special import ndtri

from equipoise.engines.imaging.simulate_histology.looks import Look
from equipoise.engines.parts.appearance import blur, correlated_noise
from equipoise.engines.parts.tissue_scene import EPITHELIAL, EPITHELIUM, LUMEN, TissueScene, smooth_noise

FINE_UM, CLUMP_UM, CLOUD_UM = 0.22, 0.55, 1.9
"""Standard deviations of the grain of chromatin and cytoplasm, of its clumps, and of vacuoles and clouds."""

FIBRE_UM, FIBRE_LENGTH_UM = 0.7, 14.0
"""Pixel of the grid that fibres are drawn on, and how far one is followed."""

MEMBRANE_UM = 0.35
"""Standard deviation of the thickness of a cell's border."""

NUCLEOLUS_UM = (0.45, 1.0)
"""Radius of nucleoli."""


def paint(scene: TissueScene, look: Look, table: np.ndarray, um: float, rng: np.random.Generator) -> np.ndarray:
    """Return concentrations of haematoxylin, eosin and red cells, float32, shape ``(3, I, J)``.

    Parameters
    ----------
    scene
        With a compartment in every pixel.
    look
        Of the section.
    table
        Of the bodies, see `looks.table_of`.
    um
        Size of a pixel.
    """
    shape = scene.body.shape
    grain = np.stack(
        [correlated_noise((1, *shape, 1), (s / um, s / um, 0), rng)[0, :, :, 0] for s in (FINE_UM, CLUMP_UM, CLOUD_UM)]
    )
    cells, gap = nearest_body(scene.body)
    depth = depth_inside(scene.body)
    border = _borders(cells, um)
    tint = np.exp(0.18 * rng.standard_normal(len(scene.kind))).astype(np.float32)
    fibres = streaks(scene.fibres, um, rng)
    levels = np.array(
        [
            look.cytoplasm * look.eosin, look.basophilia * look.haematoxylin, look.collagen * look.eosin, look.clearing,
            look.membrane, float(ndtri(np.clip(look.gaps, 1e-4, 0.95))), look.secretion * look.eosin,
        ],
        np.float32,
    )  # fmt: skip
    slow = np.exp(0.15 * smooth_noise(shape, 45.0, um, rng))
    out = np.empty((3, *shape), np.float32)
    _paint(
        scene.compartment, scene.body, cells, gap * np.float32(um), depth * np.float32(um), border, fibres, grain, slow,
        table, tint, levels, out,
    )  # fmt: skip
    _nucleoli(out[0], out[1], scene, look, table, um, rng)
    return out


def streaks(directions: np.ndarray, um: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise drawn out along directions, mean 0 and standard deviation 1, float32, shape ``(I, J)``.

    Line integral convolution (Cabral B, Leedom LC. SIGGRAPH 1993:263-270): noise is averaged along the stream line
    through each pixel, on a grid of `FIBRE_UM` where pixels are finer.

    Parameters
    ----------
    directions
        Radians, shape ``(I, J)``.
    um
        Size of a pixel.
    """
    ni, nj = directions.shape
    side = max(FIBRE_UM, um)
    coarse = (max(int(ni * um / side), 2), max(int(nj * um / side), 2))
    i, j = (
        np.minimum(((np.arange(c) + 0.5) * n / c).astype(int), n - 1) for c, n in zip(coarse, (ni, nj), strict=True)
    )
    turned = directions[np.ix_(i, j)] + np.float32(0.25) * smooth_noise(coarse, 6.0, side, rng)
    noise = correlated_noise((1, *coarse, 1), (0.7, 0.7, 0), rng)[0, :, :, 0]
    drawn = _follow(noise, np.cos(turned), np.sin(turned), max(int(FIBRE_LENGTH_UM / side / 2), 1))
    drawn = (drawn - drawn.mean()) / max(float(drawn.std()), 1e-6)
    out = np.empty((ni, nj), np.float32)
    _enlarge(drawn.astype(np.float32), out)
    return out


@njit(cache=True, nogil=True)
def _follow(noise, cos, sin, steps):  # type: ignore[no-untyped-def]
    ni, nj = noise.shape
    out = np.empty((ni, nj), np.float32)
    for i in range(ni):
        for j in range(nj):
            total, count = noise[i, j], 1
            for way in (-1.0, 1.0):
                x, y = float(i), float(j)
                di, dj = way * cos[i, j], way * sin[i, j]
                for _ in range(steps):
                    x += di
                    y += dj
                    p, q = int(x + 0.5), int(y + 0.5)
                    if x < 0 or y < 0 or p >= ni or q >= nj:
                        break
                    total += noise[p, q]
                    count += 1
                    ci, cj = cos[p, q], sin[p, q]
                    # A direction has no sign: go on, never back.
                    if ci * di + cj * dj < 0:
                        ci, cj = -ci, -cj
                    di, dj = ci, cj
            out[i, j] = total / math.sqrt(count)
    return out


@njit(cache=True, nogil=True)
def _enlarge(small, out):  # type: ignore[no-untyped-def]
    ni, nj = out.shape
    ri, rj = small.shape[0] / ni, small.shape[1] / nj
    for i in range(ni):
        x = min(max((i + 0.5) * ri - 0.5, 0.0), small.shape[0] - 1.0)
        p = min(int(x), small.shape[0] - 2)
        for j in range(nj):
            y = min(max((j + 0.5) * rj - 0.5, 0.0), small.shape[1] - 1.0)
            q = min(int(y), small.shape[1] - 2)
            f, g = np.float32(x - p), np.float32(y - q)
            top = small[p, q] * (1 - g) + small[p, q + 1] * g
            out[i, j] = top * (1 - f) + (small[p + 1, q] * (1 - g) + small[p + 1, q + 1] * g) * f


def nearest_body(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the nearest body, and its distance in pixels (0 inside); where there is none, 0 and far."""
    at, distance = _nearest(body > 0)
    return body.ravel()[at], distance


def depth_inside(body: np.ndarray) -> np.ndarray:
    """Return how deep in its body each pixel lies, in pixels; 0 outside."""
    edge = body == 0
    for axis in range(2):
        step = np.diff(body, axis=axis) != 0
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        edge[tuple(first)] |= step
        edge[tuple(second)] |= step
    _, distance = _nearest(edge)
    depth: np.ndarray = np.where(body > 0, distance + np.float32(0.5), np.float32(0))
    return depth


@njit(cache=True, nogil=True)
def _nearest(source):  # type: ignore[no-untyped-def]
    """Return index and distance of the nearest source pixel, by two sweeps of vector propagation (Danielsson 1980)."""
    ni, nj = source.shape
    away = ni + nj
    di, dj = np.full((ni, nj), away, np.int32), np.full((ni, nj), away, np.int32)
    for i in range(ni):
        for j in range(nj):
            if source[i, j]:
                di[i, j], dj[i, j] = 0, 0
    for sweep in range(2):
        for n in range(ni):
            i = n if sweep == 0 else ni - 1 - n
            back = i - 1 if sweep == 0 else i + 1
            sign = 1 if sweep == 0 else -1
            if 0 <= back < ni:
                for j in range(nj):
                    for s in range(-1, 2):
                        if 0 <= j + s < nj:
                            a, b = di[back, j + s] + sign, dj[back, j + s] - s
                            if a * a + b * b < di[i, j] ** 2 + dj[i, j] ** 2:
                                di[i, j], dj[i, j] = a, b
            for j in range(1, nj):
                a, b = di[i, j - 1], dj[i, j - 1] + 1
                if a * a + b * b < di[i, j] ** 2 + dj[i, j] ** 2:
                    di[i, j], dj[i, j] = a, b
            for j in range(nj - 2, -1, -1):
                a, b = di[i, j + 1], dj[i, j + 1] - 1
                if a * a + b * b < di[i, j] ** 2 + dj[i, j] ** 2:
                    di[i, j], dj[i, j] = a, b
    at = np.empty((ni, nj), np.int64)
    distance = np.empty((ni, nj), np.float32)
    for i in range(ni):
        for j in range(nj):
            p, q = i - di[i, j], j - dj[i, j]
            inside = 0 <= p < ni and 0 <= q < nj
            at[i, j] = p * nj + q if inside else 0
            distance[i, j] = math.sqrt(di[i, j] ** 2 + dj[i, j] ** 2)
    return at, distance


def _borders(cells: np.ndarray, um: float) -> np.ndarray:
    """Return 1 on the borders of cells, falling off over their thickness; float32, shape ``(I, J)``."""
    line = np.zeros((1, *cells.shape, 1), np.float32)
    line[0, :-1, :, 0] += cells[:-1] != cells[1:]
    line[0, :, :-1, 0] += cells[:, :-1] != cells[:, 1:]
    sigma = max(MEMBRANE_UM / um, 0.6)
    peak = 1 / (math.sqrt(2 * math.pi) * sigma)
    soft: np.ndarray = np.minimum(blur(np.minimum(line, 1), (sigma, sigma, 0))[0, :, :, 0] / np.float32(peak), 1)
    return soft


@njit(cache=True, nogil=True)
def _step(x):  # type: ignore[no-untyped-def]
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


@njit(cache=True, nogil=True)
def _paint(compartment, body, cells, gap, depth, border, fibres, grain, slow, table, tint, levels, out):  # type: ignore[no-untyped-def]
    cytoplasm, basophilia, collagen, clearing, membrane, gaps, secretion = levels
    ni, nj = body.shape
    for i in range(ni):
        for j in range(nj):
            fine, clump, cloud = grain[0, i, j], grain[1, i, j], grain[2, i, j]
            n = body[i, j]
            if n > 0:
                d = depth[i, j]
                rim = math.exp(-(((d - 0.35) / 0.35) ** 2))
                vesicular = table[n, 4]
                body_of = 1 - vesicular * (1 - rim) + table[n, 3] * (0.45 * fine + 0.8 * clump + 0.35 * cloud)
                # A section cuts the round side of a nucleus: it thins out towards its outline.
                h = table[n, 0] * max(body_of, 0.15) * (0.6 + 0.4 * min(d / 0.7, 1.0))
                out[0, i, j] = h
                out[1, i, j] = table[n, 1] * max(1 + 0.2 * cloud, 0.0)
                out[2, i, j] = table[n, 2] * (0.75 + 0.25 * rim + 0.05 * fine)
                continue
            h, e = 0.0, 0.0
            c = cells[i, j]
            where = compartment[i, j]
            if where == LUMEN:
                e = secretion * _step(0.5 + 0.6 * cloud + 2.0 * (slow[i, j] - 1)) * max(1 + 0.3 * fine, 0.0)
            elif where == EPITHELIUM:
                own = tint[c] * slow[i, j]
                e = cytoplasm * own * max(1 + 0.16 * fine + 0.22 * clump + 0.15 * cloud, 0.0)
                h = basophilia * own * max(1 + 0.2 * fine + 0.35 * clump + 0.25 * cloud, 0.0)
                empty = clearing * _step((gap[i, j] - 0.3) / 1.8) * _step(0.75 + 0.55 * cloud + 0.3 * clump)
                e *= 1 - empty
                h *= 1 - empty
                if membrane > 0:
                    e += membrane * 0.35 * cytoplasm * border[i, j] * (1 + empty)
                    h += membrane * 0.06 * border[i, j]
                else:
                    open_ = 1 + membrane * _step(border[i, j] * (0.9 + 0.45 * cloud))
                    e *= open_
                    h *= open_
            else:
                f = fibres[i, j]
                # Bundles part where the tissue was pulled; a little ground substance stays in between.
                dense = 0.12 + 0.88 * _step((f + 0.45 * clump + 0.6 * cloud - 1.4 * gaps) / 2.2 + 0.5)
                thick = max(0.72 + 0.16 * f + 0.10 * clump + 0.12 * cloud + 0.08 * fine, 0.15)
                e = collagen * slow[i, j] * dense * thick
                h = basophilia * dense * max(0.3 + 0.12 * cloud + 0.08 * clump, 0.0)
            if c > 0 and table[c, 5] > 0:
                near = table[c, 5] * (1 - _step(gap[i, j] / 1.3 - 0.2)) * _step(0.45 + 0.7 * cloud + 0.3 * clump)
                e *= 1 - near
                h *= 1 - near
            out[0, i, j], out[1, i, j], out[2, i, j] = h, e, 0.0


def _nucleoli(
    haematoxylin: np.ndarray, eosin: np.ndarray, scene: TissueScene, look: Look, table: np.ndarray, um: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Add round dense bodies within epithelial nuclei."""
    size = np.bincount(scene.body.ravel(), minlength=len(scene.kind))
    chosen = np.flatnonzero((scene.kind == EPITHELIAL) & (size > 0))
    chosen = chosen[chosen > 0]
    number = np.minimum(rng.poisson(look.nucleoli, len(chosen)), 3)
    owner = np.repeat(chosen, number)
    if not len(owner):
        return
    order = np.argsort(scene.body, axis=None, kind="stable")
    start = np.concatenate([[0], np.cumsum(size)])
    at = order[start[owner] + (rng.random(len(owner)) * size[owner]).astype(int)]
    radius = rng.uniform(*NUCLEOLUS_UM, len(owner)) / um
    strength = (0.5 * table[owner, 0] * rng.uniform(0.5, 1.2, len(owner))).astype(np.float32)
    _spots(haematoxylin, eosin, scene.body, owner, at, radius, strength)


@njit(cache=True, nogil=True)
def _spots(haematoxylin, eosin, body, owner, at, radius, strength):  # type: ignore[no-untyped-def]
    ni, nj = body.shape
    for n in range(owner.size):
        ci, cj = at[n] // nj, at[n] % nj
        reach = int(2.5 * radius[n]) + 1
        for i in range(max(ci - reach, 0), min(ci + reach + 1, ni)):
            for j in range(max(cj - reach, 0), min(cj + reach + 1, nj)):
                if body[i, j] == owner[n]:
                    amount = strength[n] * math.exp(-0.5 * ((i - ci) ** 2 + (j - cj) ** 2) / radius[n] ** 2)
                    haematoxylin[i, j] += amount
                    eosin[i, j] += np.float32(0.4) * amount


__all__ = ["depth_inside", "nearest_body", "paint", "streaks"]
