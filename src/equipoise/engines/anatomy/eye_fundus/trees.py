"""Vessel trees of the retina: arcades first, then every twig towards where blood is missing. Lengths in mm.

The origin is the centre of the optic disc, x points to the temporal side, y upwards. Twigs are added one by one where
the retina is farthest from all vessels, each by the branch that costs least in length and in turning; this is
constructive optimisation, which gives few long branches first and many short ones later. Calibres follow from the
number of twigs that a vessel feeds, by Murray's law with a free exponent: ``r0^g = r1^g + r2^g`` at every branching.

References
----------
Murray CD. The physiological principle of minimum work. PNAS 1926;12:207. doi:10.1073/pnas.12.3.207
Schreiner W, Buxbaum PF. Computer-optimization of vascular trees. IEEE Trans Biomed Eng 1993;40:482.
doi:10.1109/10.243413
Zamir M, Medeiros JA, Cunningham TK. Arterial bifurcations in the human retina. J Gen Physiol 1979;74:537.
doi:10.1085/jgp.74.4.537 (angles, exponent)
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree.

    Parameters
    ----------
    at
        Nodes in mm, shape ``(N, 2)``; a node comes after its parent.
    parent
        Index of the node upstream, -1 for the root.
    radius
        Of the vessel that leads to each node, mm.
    """

    at: np.ndarray
    parent: np.ndarray
    radius: np.ndarray

    def branchings(self) -> np.ndarray:
        """Return radii of parent and both daughters at every bifurcation, shape ``(B, 3)``, mm."""
        order = np.argsort(self.parent, kind="stable")
        parents, first, count = np.unique(self.parent[order], return_index=True, return_counts=True)
        two = (count == 2) & (parents >= 0)
        above, one = parents[two], order[first[two]]
        other = order[first[two] + 1]
        return np.column_stack([self.radius[above], self.radius[one], self.radius[other]])

    def tortuosity(self) -> float:
        """Return length over chord of the vessels between branchings, mean over those longer than 0.5 mm."""
        children = np.bincount(self.parent[1:], minlength=len(self.parent))
        found = []
        for tip in np.flatnonzero(children != 1):
            length, node = 0.0, int(tip)
            while self.parent[node] >= 0:
                above = int(self.parent[node])
                length += float(np.linalg.norm(self.at[node] - self.at[above]))
                node = above
                if children[node] != 1:
                    break
            chord = float(np.linalg.norm(self.at[tip] - self.at[node]))
            if length > 0.5 and chord > 0.1:
                found.append(length / chord)
        return float(np.mean(found)) if found else 1.0


@dataclass(frozen=True, eq=False)
class Shape:
    """What decides a pair of trees.

    Parameters
    ----------
    fovea
        Its centre, mm.
    free_mm
        Radius of the zone without vessels about it.
    twigs
        Ends of each tree.
    exponent
        Murray's.
    artery_um, ratio
        Calibre of the widest artery one disc diameter away from the disc's edge, and artery over vein.
    tortuosity
        1 is usual, 0 none.
    """

    fovea: tuple[float, float]
    free_mm: float
    twigs: int
    exponent: float
    artery_um: float
    ratio: float
    tortuosity: float


def grow_pair(shape: Shape, rng: np.random.Generator) -> tuple[Tree, Tree]:
    """Return an arterial and a venous tree that share the retina."""
    arcs = _arcades(shape, rng)
    apart = np.full(_map_shape(), 9.0, np.float32)
    trees = []
    widths = (shape.artery_um, shape.artery_um / shape.ratio)
    for kind, width in enumerate(widths):
        own = np.full(_map_shape(), 9.0, np.float32)
        at, parent = _trunks(arcs[kind], rng)
        at, parent = _fed(at, parent, own, apart, shape, rng)
        apart = own
        leaves = _leaves(parent)
        radius = leaves ** (1 / shape.exponent)
        far = np.abs(np.linalg.norm(at, axis=1) - 2.7) < 0.4
        radius *= 0.5e-3 * width / radius[far].max()
        trees.append(Tree(_wound(at, shape, rng), parent, radius))
    return trees[0], trees[1]


def _arcades(shape: Shape, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Return for arteries and veins the guiding points of superior and inferior, temporal and nasal trunks."""
    d = float(np.hypot(*shape.fovea))
    slope = np.arctan2(shape.fovea[1], shape.fovea[0])
    turn = np.array([[np.cos(slope), -np.sin(slope)], [np.sin(slope), np.cos(slope)]])
    pair: list[list[np.ndarray]] = [[], []]
    for side in (1.0, -1.0):
        open_, reach = rng.uniform(0.62, 0.85), rng.uniform(-0.2, 0.35)
        nasal = rng.uniform(0.75, 1.25)
        common = 0.07 * rng.standard_normal((5, 2))
        # Artery and vein run side by side, change sides now and then, and part towards the periphery.
        lead = rng.uniform(0.04, 0.09) * rng.choice([-1.0, 1.0])
        course = lead * np.array([0.6, 0.8, 1.0, 1.0, 1.2, 1.4])
        course[int(rng.integers(2, 10)) :] *= -1
        for kind in range(2):
            apart = (1 if kind else -1) * course
            own = common + 0.035 * rng.standard_normal((5, 2))
            start = np.array([-0.02, 0.0]) + 0.02 * rng.standard_normal(2)
            temporal = np.array([
                start, [0.03, 0.13], [0.14, 0.34], [0.48, open_ * 0.86], [1.0, open_], [1.6, open_ - 0.35 * reach],
                [2.2, open_ - reach],
            ])  # fmt: skip
            temporal[2:] += own * np.array([1.0, 1.0]) * np.linspace(0.4, 1.6, 5)[:, None]
            temporal[1:, 1] += apart
            nose = np.array([
                [0, 0], [-0.12, 0.22], [-0.45, 0.5 * nasal], [-0.95, 0.8 * nasal], [-1.5, 1.0 * nasal],
            ])  # fmt: skip
            nose[1:, 1] += (1 if kind else -1) * lead * np.array([0.7, 1.5, 2.0, 2.0])
            nose[2:] += 0.06 * rng.standard_normal((3, 2))
            for points in (temporal, nose):
                pair[kind].append((points * [1.0, side] * d) @ turn.T)
    return pair


def _trunks(guides: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and parents of the trunks: one root, one vessel up and one down, each parted into two."""
    at, parent = [np.mean([guides[0][0], guides[2][0]], axis=0)], [-1]
    for temporal, nasal in (guides[:2], guides[2:]):
        path = _spline(temporal)
        first = len(at)
        at += list(path[1:])
        parent += [0, *range(first, first + len(path) - 2)]
        fork = first + int(rng.integers(3, 9))
        start = at[fork]
        rest = nasal[1:] + np.linspace(0.6, 0, len(nasal) - 1)[:, None] * start
        path = _spline(np.vstack([start, rest]))
        second = len(at)
        at += list(path[1:])
        parent += [fork, *range(second, second + len(path) - 2)]
    return np.array(at), np.array(parent)


def _spline(points: np.ndarray) -> np.ndarray:
    """Return a smooth curve through points (Catmull and Rom), nodes about `STEP_MM` apart."""
    p = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    parts = []
    for k in range(1, len(p) - 2):
        count = max(2, round(float(np.linalg.norm(p[k + 1] - p[k])) / STEP_MM))
        t = np.linspace(0, 1, count, endpoint=False)[:, None]
        a, b, c, e = p[k - 1], p[k], p[k + 1], p[k + 2]
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - e) * t**2 + (3 * b - a - 3 * c + e) * t**3))
    return np.vstack([*parts, points[-1:]])


def _fed(
    at: np.ndarray, parent: np.ndarray, own: np.ndarray, apart: np.ndarray, shape: Shape, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tree with its twigs."""
    # The trunks are many nodes on an empty map: one distance transform instead of a flood from each.
    empty = np.ones(own.shape, bool)
    cells = np.rint((at - [X0, Y0]) / CELL_MM).astype(np.intp)
    empty[tuple(np.clip(cells, 0, np.array(own.shape) - 1).T)] = False
    own[:] = CELL_MM * ndimage.distance_transform_edt(empty)
    room = len(at) + 90 * shape.twigs
    nodes, above = np.zeros((room, 2)), np.full(room, -1, np.int64)
    nodes[: len(at)], above[: len(at)] = at, parent
    tries = 2 * shape.twigs
    unit = np.sqrt(rng.random((tries, CANDIDATES)))
    turn = 2 * np.pi * rng.random((tries, CANDIDATES))
    places = np.stack(
        [POLE_MM[0] + POLE_MM[2] * unit * np.cos(turn), POLE_MM[1] + POLE_MM[3] * unit * np.sin(turn)], axis=-1
    )
    bends = rng.standard_normal((tries, 2))
    used = _grow(nodes, above, len(at), own, apart, places, bends, shape.twigs, np.array(shape.fovea), shape.free_mm)
    return nodes[:used], above[:used]


def _leaves(parent: np.ndarray) -> np.ndarray:
    """Return the ends that each node feeds."""
    leaves = np.zeros(len(parent))
    _count(parent, leaves)
    return leaves


def _wound(at: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return the nodes moved by a smooth random field, so that vessels wind and still meet where they branch.

    None is moved into the zone without vessels.
    """
    count = 36
    wave = np.exp(rng.uniform(np.log(0.7), np.log(3.5), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    k = 2 * np.pi / wave * np.stack([np.cos(angle), np.sin(angle)])
    phase = at @ k + rng.uniform(0, 2 * np.pi, count)
    size = wave**1.3 * rng.standard_normal((2, count))
    size *= 0.075 * shape.tortuosity / np.sqrt((size**2).sum() / 4)
    calm = np.minimum(np.linalg.norm(at, axis=1) / 1.2, 1.0)  # on the disc they hardly wind
    moved = at + calm[:, None] * (np.sin(phase) @ size.T) - shape.fovea
    away = np.linalg.norm(moved, axis=1)
    return np.asarray(shape.fovea + moved * np.maximum(shape.free_mm / np.maximum(away, 1e-9), 1)[:, None])


def _map_shape() -> tuple[int, int]:
    return int(2 * POLE_MM[2] / CELL_MM) + 1, int(2 * POLE_MM[3] / CELL_MM) + 1


X0, Y0 = POLE_MM[0] - POLE_MM[2], POLE_MM[1] - POLE_MM[3]


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
    return field[i, j]


@njit(cache=True, nogil=True)
def _mark(field, x, y):  # type: ignore[no-untyped-def]
    """Lower the distance map around a node, as far as it is nearer than any other."""
    i0, j0 = int((x - X0) / CELL_MM + 0.5), int((y - Y0) / CELL_MM + 0.5)
    for ring in range(max(field.shape)):
        changed = False
        for i in range(max(i0 - ring, 0), min(i0 + ring, field.shape[0] - 1) + 1):
            step = 1 if abs(i - i0) == ring else max(2 * ring, 1)
            for j in range(j0 - ring, j0 + ring + 1, step):
                if j < 0 or j >= field.shape[1]:
                    continue
                d = np.sqrt((X0 + i * CELL_MM - x) ** 2 + (Y0 + j * CELL_MM - y) ** 2)
                if d < field[i, j]:
                    field[i, j] = d
                    changed = True
        if ring > 1 and not changed:
            break


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
def _grow(at, parent, used, own, apart, places, bends, twigs, fovea, free):  # type: ignore[no-untyped-def]
    children = np.zeros(len(parent), np.int64)
    for n in range(used):
        if parent[n] >= 0:
            children[parent[n]] += 1
    path = np.zeros((400, 2))
    made = 0
    for t in range(len(places)):
        if made >= twigs:
            break
        px, py, most = 0.0, 0.0, 0.0
        for c in range(places.shape[1]):
            x, y = places[t, c, 0], places[t, c, 1]
            r = np.sqrt((x - fovea[0]) ** 2 + (y - fovea[1]) ** 2)
            if r < free:
                continue
            # The periphery has wider meshes, the macula narrower ones; arteries and veins take turns.
            wide = min(_look(own, x, y), 0.3 + 1.5 * _look(apart, x, y)) / (0.55 + 0.16 * r)
            if wide > most:
                px, py, most = x, y, wide
        if most <= 0:
            continue
        n = _cheapest(at, parent, children, used, px, py, fovea)
        if n < 0:
            continue
        dx, dy = px - at[n, 0], py - at[n, 1]
        d = np.sqrt(dx * dx + dy * dy)
        # A cubic Bézier curve, bent a little at both ends.
        a, b = 0.22 * bends[t, 0], 0.3 * bends[t, 1]
        ax = at[n, 0] + 0.35 * (dx * np.cos(a) - dy * np.sin(a))
        ay = at[n, 1] + 0.35 * (dx * np.sin(a) + dy * np.cos(a))
        bx = px - 0.35 * (dx * np.cos(b) - dy * np.sin(b))
        by = py - 0.35 * (dx * np.sin(b) + dy * np.cos(b))
        count = min(max(int(1.05 * d / STEP_MM), 2), 399)
        free_way = used + count < len(parent)
        for k in range(1, count + 1):
            s = k / count
            q = 1 - s
            x = q**3 * at[n, 0] + 3 * q * q * s * ax + 3 * q * s * s * bx + s**3 * px
            y = q**3 * at[n, 1] + 3 * q * q * s * ay + 3 * q * s * s * by + s**3 * py
            path[k, 0], path[k, 1] = x, y
            gone = np.sqrt((x - at[n, 0]) ** 2 + (y - at[n, 1]) ** 2)
            if gone > 0.6 and _look(own, x, y) < NEAREST_MM:
                free_way = False
            if np.sqrt((x - fovea[0]) ** 2 + (y - fovea[1]) ** 2) < free:
                free_way = False
            if not free_way:
                break
        if not free_way:
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
        for k in range(used - count, used):
            _mark(own, at[k, 0], at[k, 1])
        made += 1
    return used


__all__ = ["Shape", "Tree", "grow_pair"]
