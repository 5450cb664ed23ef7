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

from equipoise.engines.anatomy.eye_fundus.growth import STEP_MM, bare_retina, fed, leaves_of


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
    apart = bare_retina()
    trees = []
    widths = (shape.artery_um, shape.artery_um / shape.ratio)
    for kind, width in enumerate(widths):
        at, parent = _trunks(arcs[kind], rng)
        at, parent, apart = fed(at, parent, apart, shape.fovea, shape.free_mm, shape.twigs, rng)
        radius = leaves_of(parent) ** (1 / shape.exponent)
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
    counts = np.maximum(2, np.rint(np.linalg.norm(np.diff(points, axis=0), axis=1) / STEP_MM)).astype(np.intp)
    k = np.repeat(np.arange(1, len(p) - 2), counts)
    first = np.cumsum(counts) - counts
    t = ((np.arange(len(k)) - first[k - 1]) / counts[k - 1])[:, None]
    a, b, c, e = p[k - 1], p[k], p[k + 1], p[k + 2]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - e) * t**2 + (3 * b - a - 3 * c + e) * t**3)
    return np.vstack([curve, points[-1:]])


def _wound(at: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return the nodes moved by a smooth random field, so that vessels wind and still meet where they branch.

    None is moved into the zone without vessels.
    """
    count = 36
    wave = np.exp(rng.uniform(np.log(0.7), np.log(3.5), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    k = 2 * np.pi / wave * np.stack([np.cos(angle), np.sin(angle)])
    phase = (at @ k + rng.uniform(0, 2 * np.pi, count)).astype(np.float32)  # its sine is 20 times as fast
    size = wave**1.3 * rng.standard_normal((2, count))
    size *= 0.075 * shape.tortuosity / np.sqrt((size**2).sum() / 4)
    calm = np.minimum(np.linalg.norm(at, axis=1) / 1.2, 1.0)  # on the disc they hardly wind
    moved = at + calm[:, None] * (np.sin(phase) @ size.T.astype(np.float32)) - shape.fovea
    away = np.linalg.norm(moved, axis=1)
    return np.asarray(shape.fovea + moved * np.maximum(shape.free_mm / np.maximum(away, 1e-9), 1)[:, None])


__all__ = ["Shape", "Tree", "grow_pair"]
