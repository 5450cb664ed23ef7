"""Twigs of a vessel tree, one by one, each towards where the retina is farthest from all vessels. Lengths in mm.

A twig leaves the tree where it costs least in length and in turning: constructive optimisation as in Schreiner and
Buxbaum 1993, with the distance to the nearest vessel kept on a map.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy import ndimage

STEP_MM = 0.1
"""Distance of the nodes along a vessel."""
CELL_MM = 0.2
"""Of the map of the distance to the nearest vessel."""
POLE_MM = (2.0, 0.0, 9.5, 8.0)
"""Centre and half axes of the ellipse that the trees feed: all that a 60° camera can show, and a margin."""
CANDIDATES = 10
"""Places tried for each twig, of which the one farthest from vessels is taken."""
TURN_COST = 1.0
"""Price of a turn by 90° in units of the branch's length; 1 gives branchings of about 57°."""
NEAREST_MM = 0.22
"""Branches pass other branches of their own tree no nearer than this."""
X0, Y0 = POLE_MM[0] - POLE_MM[2], POLE_MM[1] - POLE_MM[3]


def bare_retina() -> np.ndarray:
    """Return the map of the squared distance to the nearest vessel where there is none yet, float32."""
    return np.full((int(2 * POLE_MM[2] / CELL_MM) + 1, int(2 * POLE_MM[3] / CELL_MM) + 1), 81.0, np.float32)


def fed(
    at: np.ndarray,
    parent: np.ndarray,
    apart: np.ndarray,
    fovea: tuple[float, float],
    free_mm: float,
    twigs: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a tree with its twigs, and the map of the squared distance to it.

    Parameters
    ----------
    at, parent
        Of the trunks, as in `Tree`.
    apart
        Map of the squared distance to the other tree.
    fovea, free_mm
        Centre and radius of the zone without vessels.
    twigs
        How many are wanted; fewer find a way where it is crowded.
    """
    # The trunks are many nodes on an empty map: one distance transform instead of a flood from each.
    empty = np.ones(apart.shape, bool)
    cells = np.rint((at - [X0, Y0]) / CELL_MM).astype(np.intp)
    empty[tuple(np.clip(cells, 0, np.array(apart.shape) - 1).T)] = False
    own = np.asarray(np.square(CELL_MM * ndimage.distance_transform_edt(empty)), np.float32)
    room = len(at) + 90 * twigs
    nodes, above = np.zeros((room, 2)), np.full(room, -1, np.int64)
    nodes[: len(at)], above[: len(at)] = at, parent
    tries = 2 * twigs
    unit = np.sqrt(rng.random((tries, CANDIDATES)))
    turn = 2 * np.pi * rng.random((tries, CANDIDATES))
    places = np.stack(
        [POLE_MM[0] + POLE_MM[2] * unit * np.cos(turn), POLE_MM[1] + POLE_MM[3] * unit * np.sin(turn)], axis=-1
    )
    bends = rng.standard_normal((tries, 2))
    used = _grow(nodes, above, len(at), own, apart, places, bends, twigs, np.array(fovea), free_mm)
    return nodes[:used], above[:used], own


def leaves_of(parent: np.ndarray) -> np.ndarray:
    """Return the ends that each node feeds."""
    leaves = np.zeros(len(parent))
    _count(parent, leaves)
    return leaves


@njit(cache=True, nogil=True)
def _count(parent, leaves):  # type: ignore[no-untyped-def]
    for n in range(len(parent) - 1, -1, -1):
        if leaves[n] == 0:
            leaves[n] = 1
        if parent[n] >= 0:
            leaves[parent[n]] += leaves[n]


@njit(cache=True, nogil=True)
def _look(field, x, y):  # type: ignore[no-untyped-def]
    i = min(max(int((x - X0) / CELL_MM + 0.5), 0), field.shape[0] - 1)
    j = min(max(int((y - Y0) / CELL_MM + 0.5), 0), field.shape[1] - 1)
    return np.sqrt(field[i, j])


@njit(cache=True, nogil=True, fastmath=True)
def _mark(field, x, y, along):  # type: ignore[no-untyped-def]
    """Lower the map of squared distances where a node is nearer than any other; all of it at once is quickest."""
    for j in range(len(along)):
        along[j] = np.float32(Y0 + j * CELL_MM - y) ** 2
    for i in range(field.shape[0]):
        across = np.float32(X0 + i * CELL_MM - x) ** 2
        row = field[i]
        for j in range(len(along)):
            row[j] = min(row[j], across + along[j])


@njit(cache=True, nogil=True, fastmath=True)
def _cheapest(at, parent, children, used, px, py, fovea):  # type: ignore[no-untyped-def]
    """Return the node that a branch to a place leaves from."""
    best, chosen = 1e9, -1
    over = py - fovea[1] / fovea[0] * px
    for n in range(1, used):
        if children[n] > 1:
            continue
        dx, dy = px - at[n, 0], py - at[n, 1]
        square = dx * dx + dy * dy
        if square >= best * best or square < 0.15**2:
            continue
        # Upper and lower vessels meet at the horizontal raphe through disc and fovea and do not cross it.
        if at[n, 0] > 1.2 and (at[n, 1] - fovea[1] / fovea[0] * at[n, 0]) * over < 0.0:
            continue
        d = np.sqrt(square)
        m = parent[n]
        tx, ty = at[n, 0] - at[m, 0], at[n, 1] - at[m, 1]
        cosine = (tx * dx + ty * dy) / (d * np.sqrt(tx * tx + ty * ty) + 1e-9)
        if cosine < (0.1 if children[n] == 1 else 0.6) or (children[n] == 1 and cosine > 0.94):
            continue
        # Two branches do not leave side by side.
        if children[m] > 1:
            continue
        cost = d * (1 + TURN_COST * (1 - cosine))
        if cost < best:
            best, chosen = cost, n
    return chosen


@njit(cache=True, nogil=True)
def _roomiest(own, apart, places, fovea, free):  # type: ignore[no-untyped-def]
    """Return the place that is farthest from vessels; the third number is 0 if none will do."""
    px, py, most = 0.0, 0.0, 0.0
    for c in range(len(places)):
        x, y = places[c, 0], places[c, 1]
        r = np.sqrt((x - fovea[0]) ** 2 + (y - fovea[1]) ** 2)
        if r < free:
            continue
        # The periphery has wider meshes, the macula narrower ones; arteries and veins take turns.
        wide = min(_look(own, x, y), 0.3 + 1.5 * _look(apart, x, y)) / (0.55 + 0.16 * r)
        if wide > most:
            px, py, most = x, y, wide
    return px, py, most


@njit(cache=True, nogil=True)
def _bent(path, x0, y0, px, py, bends, most):  # type: ignore[no-untyped-def]
    """Write a cubic Bézier curve, bent a little at both ends, to rows 1 and up of a path; return its last row."""
    dx, dy = px - x0, py - y0
    a, b = 0.22 * bends[0], 0.3 * bends[1]
    ax = x0 + 0.35 * (dx * np.cos(a) - dy * np.sin(a))
    ay = y0 + 0.35 * (dx * np.sin(a) + dy * np.cos(a))
    bx = px - 0.35 * (dx * np.cos(b) - dy * np.sin(b))
    by = py - 0.35 * (dx * np.sin(b) + dy * np.cos(b))
    count = min(max(int(1.05 * np.sqrt(dx * dx + dy * dy) / STEP_MM), 2), len(path) - 1)
    if count >= most:
        return 0
    for k in range(1, count + 1):
        s = k / count
        q = 1 - s
        path[k, 0] = q**3 * x0 + 3 * q * q * s * ax + 3 * q * s * s * bx + s**3 * px
        path[k, 1] = q**3 * y0 + 3 * q * q * s * ay + 3 * q * s * s * by + s**3 * py
    return count


@njit(cache=True, nogil=True)
def _passes(path, count, own, x0, y0, fovea, free):  # type: ignore[no-untyped-def]
    """Return whether a path keeps clear of its own tree and of the zone without vessels."""
    for k in range(1, count + 1):
        x, y = path[k, 0], path[k, 1]
        gone = np.sqrt((x - x0) ** 2 + (y - y0) ** 2)
        if gone > 0.6 and _look(own, x, y) < NEAREST_MM:
            return False
        if np.sqrt((x - fovea[0]) ** 2 + (y - fovea[1]) ** 2) < free:
            return False
    return True


@njit(cache=True, nogil=True)
def _grow(at, parent, used, own, apart, places, bends, twigs, fovea, free):  # type: ignore[no-untyped-def]
    """Add twigs to nodes and parents in place; return how many nodes there are."""
    children = np.zeros(len(parent), np.int64)
    for n in range(used):
        if parent[n] >= 0:
            children[parent[n]] += 1
    path, along = np.zeros((400, 2)), np.empty(own.shape[1], np.float32)
    made = 0
    for t in range(len(places)):
        if made >= twigs:
            break
        px, py, most = _roomiest(own, apart, places[t], fovea, free)
        n = _cheapest(at, parent, children, used, px, py, fovea) if most > 0 else -1
        if n < 0:
            continue
        count = _bent(path, at[n, 0], at[n, 1], px, py, bends[t], len(parent) - used)
        if count == 0 or not _passes(path, count, own, at[n, 0], at[n, 1], fovea, free):
            continue
        above = n
        children[n] += 1
        for k in range(1, count + 1):
            at[used, 0], at[used, 1] = path[k, 0], path[k, 1]
            parent[used] = above
            if k < count:
                children[used] = 1
            above = used
            used += 1
            _mark(own, path[k, 0], path[k, 1], along)
        made += 1
    return used


__all__ = ["STEP_MM", "bare_retina", "fed", "leaves_of"]
