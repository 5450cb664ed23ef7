"""How much surface one voxel corner carries: the area table behind the "deepmind" convention.

A voxel corner is shared by 8 voxels (4 pixels in 2-D); which of them are inside is an 8-bit (4-bit) *neighbour code*.
Marching cubes (Lorensen and Cline 1987, doi:10.1145/37402.37422) puts a small polygon through the cube of those 8 voxel
centres; its area in mm² depends on the code and the voxel size only, so 256 (16) numbers describe every mask.

The table is computed here from geometry. Marching cubes leaves choices open where the answer is ambiguous; to give the
figures of DeepMind's ``surface-distance`` (Nikolov et al. 2021, doi:10.2196/26151) we make the choices it makes:

* on a face with two opposite inside corners, the rarer kind of corner (inside or outside) is cut off by itself;
* a pentagon is a flat trapezium and a flat right triangle;
* where four of eight corners are inside, two families (24 codes each) have no choice that symmetry prefers.
  `_cuts_off_inside` and `_ears` carry the choice that the published table makes in them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int, int]
Vertex = tuple[float, float, float]
Loop = list[Vertex]

_CORNERS: tuple[Corner, ...] = tuple((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1))


def surfel_areas(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Area of the surface piece at a voxel corner, for every neighbour code.

    Parameters
    ----------
    spacing
        Voxel size in mm along the 2 or 3 axes.

    Returns
    -------
    numpy.ndarray
        16 lengths in mm (2-D) or 256 areas in mm² (3-D). The neighbour ``(i, j, k)`` of ``{0, 1}³`` stands for bit
        ``7 - (4 i + 2 j + k)`` of the code (2-D: ``3 - (2 i + j)``).
    """
    return _areas(tuple(float(value) for value in spacing)).copy()


@lru_cache(maxsize=64)
def _areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    if len(spacing) == 2:
        return _contour_lengths(spacing)
    # A triangle with normal n (length = area in a unit cube) has normal n * (s1 s2, s0 s2, s0 s1) after scaling.
    stretch = np.array([spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]])
    return np.array([float(np.linalg.norm(normals * stretch, axis=1).sum()) for normals in _triangle_normals()])


def _contour_lengths(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Length of the marching-squares contour for the 16 codes of four pixels."""
    diagonal = 0.5 * float(np.hypot(spacing[0], spacing[1]))
    lengths = np.zeros(16)
    for code in range(1, 15):
        inside = np.array([[code >> 3 & 1, code >> 2 & 1], [code >> 1 & 1, code & 1]], bool)
        if inside.sum() % 2 == 1:
            lengths[code] = diagonal
        elif inside[0, 0] == inside[1, 1]:
            lengths[code] = 2 * diagonal  # opposite pixels: two corners cut off
        else:
            lengths[code] = spacing[1] if inside[0, 0] == inside[0, 1] else spacing[0]
    return lengths


@lru_cache(maxsize=1)
def _triangle_normals() -> tuple[NDArray[np.float64], ...]:
    """For each of 256 codes, the normals (t, 3) of its triangles in a unit cube; their length is the area."""
    table: list[NDArray[np.float64]] = [np.zeros((1, 3))]
    for code in range(1, 255):
        triangles = [triangle for loop in _loops(code) for triangle in _triangulate(loop, code)]
        corners = np.array(triangles)
        table.append(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2)
    table.append(np.zeros((1, 3)))
    return tuple(table)


def _inside(code: int) -> set[Corner]:
    return {corner for corner in _CORNERS if code >> (7 - (4 * corner[0] + 2 * corner[1] + corner[2])) & 1}


def _neighbours(corner: Corner, among: set[Corner]) -> list[Corner]:
    """Corners of ``among`` that share a cube edge with ``corner``."""
    return [other for other in among if sum(a != b for a, b in zip(corner, other, strict=True)) == 1]


def _middle(a: Corner, b: Corner) -> Vertex:
    return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2)


def _faces() -> list[list[Corner]]:
    """List the six faces of the cube, each as its four corners in cyclic order."""
    faces = []
    for axis, side in itertools.product(range(3), (0, 1)):
        ring = [(0, 0), (0, 1), (1, 1), (1, 0)]
        faces.append([(*uv[:axis], side, *uv[axis:]) for uv in ring])
    return faces  # type: ignore[return-value]  # the splice of two and one number has three


def _loops(code: int) -> list[Loop]:
    """Find the closed polygons between inside and outside corners; their vertices are middles of cube edges."""
    inside = _inside(code)
    joined: dict[Vertex, list[Vertex]] = {}
    for face in _faces():
        edge = [_middle(face[n], face[(n + 1) % 4]) for n in range(4)]
        crossed = [n for n in range(4) if (face[n] in inside) != (face[(n + 1) % 4] in inside)]
        pairs = [tuple(crossed)]
        if len(crossed) == 4:
            lonely = _cuts_off_inside(inside)
            pairs = [((n - 1) % 4, n) for n in range(4) if (face[n] in inside) == lonely]
        for a, b in pairs if crossed else []:
            joined.setdefault(edge[a], []).append(edge[b])
            joined.setdefault(edge[b], []).append(edge[a])
    loops: list[Loop] = []
    while joined:
        loop = [min(joined)]
        following = joined.pop(loop[0])[0]
        while following != loop[0]:
            ways = joined.pop(following)
            loop.append(following)
            following = ways[1] if ways[0] == loop[-2] else ways[0]
        loops.append(loop)
    return loops


def _cuts_off_inside(inside: set[Corner]) -> bool:
    """Whether the inside corners of an ambiguous face are cut off one by one (else the outside ones are).

    The rarer kind is. With four of each, and one inside corner and its outside neighbour both alone among their kind,
    the published table cuts off the one with the larger (number of steps along cube edges from corner (1, 0, 0)) mod 3.
    """
    if len(inside) != 4:
        return len(inside) < 4
    outside = set(_CORNERS) - inside
    alone_in = [corner for corner in inside if not _neighbours(corner, inside)]
    alone_out = [corner for corner in outside if not _neighbours(corner, outside)]
    if len(alone_in) != 1 or len(alone_out) != 1:
        return True

    def rank(corner: Corner) -> int:
        return sum(a != b for a, b in zip(corner, (1, 0, 0), strict=True)) % 3

    return rank(alone_in[0]) > rank(alone_out[0])


def _triangulate(loop: Loop, code: int) -> list[tuple[Vertex, Vertex, Vertex]]:
    """Cut one polygon into triangles."""
    count = len(loop)
    start = 0
    if count == 5:
        # The vertex between two sides of length 1 is the right angle of the flat triangle: fan out from beside it.
        sides = [float(np.linalg.norm(np.subtract(loop[n], loop[n - 1]))) for n in range(5)]
        right_angle = next(n for n in range(5) if sides[n] > 0.9 and sides[(n + 1) % 5] > 0.9)
        start = (right_angle + 1) % 5
    if count == 6 and not _flat(loop):
        ears = _ears(loop, code)
        tips = [n for n in range(6) if loop[n] in ears]
        inner = [n for n in range(6) if n not in tips]
        cut = [(loop[n - 1], loop[n], loop[(n + 1) % 6]) for n in tips]
        return [*cut, (loop[inner[0]], loop[inner[1]], loop[inner[2]])]
    ring = loop[start:] + loop[:start]
    return [(ring[0], ring[n], ring[n + 1]) for n in range(1, count - 1)]


def _flat(loop: Loop) -> bool:
    vertices = np.array(loop)
    return int(np.linalg.matrix_rank(vertices - vertices[0], tol=1e-9)) == 2


def _ears(loop: Loop, code: int) -> set[Vertex]:
    """Vertices of a bent hexagon that become ears around an inner triangle.

    The four inside corners form a chain with a screw sense. One end of the chain's middle link has its free cube edge
    as an ear, which fixes the other two ears. Symmetry prefers neither end; for a left-handed chain the
    published table takes the end where x = y, y = 1 - x or z = x (for a middle link along x, y, z), and the
    other end for a right-handed chain.
    """
    inside = _inside(code)
    link = sorted(corner for corner in inside if len(_neighbours(corner, inside)) == 2)
    steps = [np.subtract(next(o for o in _neighbours(c, inside) if o not in link), c) for c in link]
    left_handed = float(np.linalg.det(np.array([np.subtract(link[1], link[0]), *steps]))) < 0
    axis = next(n for n in range(3) if link[0][n] != link[1][n])
    wanted = (link[0][1], 1 - link[0][0], link[0][0])[axis]
    end = next(corner for corner in link if (corner[axis] == wanted) == left_handed)
    ear = next(_middle(end, out) for out in _neighbours(end, set(_CORNERS) - inside))
    first = loop.index(ear)
    return {loop[(first + step) % 6] for step in (0, 2, 4)}
