"""The smooth hull of one hemisphere and its primary sulci, laid out once on a lattice that every head is folded from.

At each node: how deep it lies below the hull, where on the hull it belongs, how far it is from the nearest primary
sulcus and how deep that reaches, and how far it is from what no sulcus may enter. The skull's cavity and the face are
laid out likewise. All of it is the average head's; what makes a person happens in `cortex`.

References
----------
Ono M, Kubik S, Abernathey CD. Atlas of the Cerebral Sulci. 1990. (courses and depths of the primary sulci)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from scipy import ndimage, spatial

from equipoise.engines.anatomy.head.atlas import (
    BRAINSTEM_PARTS,
    CALLOSUM,
    CAVITY,
    CEREBRUM,
    CORD,
    CORE,
    FACE,
    HYPOTHALAMUS,
    LATERAL_VENTRICLE,
    MEDIAL_BASE,
    OCCIPITAL,
    SULCI,
    TEMPORAL,
    VENTRICLE_BODY,
    VENTRICLE_RISE,
    VENTRICLE_WIDE,
)
from equipoise.engines.anatomy.head.shapes import blend, carve, chain, ellipsoid

LATTICE_MM = 2.0
ORIGIN_MM = (-4.0, -112.0, -56.0)
NODES = (42, 95, 70)
"""Of the hemisphere's lattice: right one, from just beyond the midline."""
HEAD_MM = 3.0
HEAD_ORIGIN_MM = (-3.0, -144.0, -156.0)
HEAD_NODES = (36, 93, 91)
FISSURE_MM = 0.7
"""From the midline to the medial wall."""
SMOOTH_MM = 6.0
"""SD of the blur of the depth before its slope says which way is out: neighbouring sulci then run alike."""
MARGIN_MM = 5.0
"""Sulci keep this far from nuclei, ventricles and callosum."""


@njit(cache=True, nogil=True)
def egg(x, y):  # type: ignore[no-untyped-def]
    """Return x as on an ellipsoid: heads are widest behind the middle and narrower at the brow."""
    t = y + 24.0
    return x * (1.0 + (1.1e-5 if t > 0.0 else 0.6e-5) * t * t)


@njit(cache=True, nogil=True)
def tentorium(x, y):  # type: ignore[no-untyped-def]
    """Return the height of the tent that parts cerebrum and cerebellum."""
    return -1.0 - 0.30 * x - 0.30 * max(-52.0 - y, 0.0)


@njit(cache=True, nogil=True)
def _floor(x, y):  # type: ignore[no-untyped-def]
    """Return how far down the cerebrum reaches beside its temporal lobes: orbits, brainstem, tentorium."""
    back, front = min(max((-24.0 - y) / 18.0, 0.0), 1.0), min(max((y - 4.0) / 14.0, 0.0), 1.0)
    roof_of_orbit = -26.0 + 0.16 * max(x - 6.0, 0.0) + 0.14 * max(y - 36.0, 0.0)
    return -12.0 + (tentorium(x, y) + 12.0) * back + (roof_of_orbit + 12.0) * front


@njit(cache=True, nogil=True)
def brainstem(x, y, z):  # type: ignore[no-untyped-def]
    """Return the distance from midbrain, pons and medulla."""
    stem = blend(ellipsoid(x, y, z, BRAINSTEM_PARTS[0]), ellipsoid(x, y, z, BRAINSTEM_PARTS[1]), 4.0)
    stem = blend(stem, ellipsoid(x, y, z, BRAINSTEM_PARTS[2]), 5.0)
    return blend(stem, chain(x, y, z, CORD), 5.0)


@njit(cache=True, nogil=True)
def lateral_ventricle(x, y, z):  # type: ignore[no-untyped-def]
    """Return the distance from frontal horn, body, atrium and occipital horn."""
    rise = z - VENTRICLE_RISE * (x - 7.0)
    return min(chain(VENTRICLE_WIDE * x, y, rise, VENTRICLE_BODY), chain(x, y, z, LATERAL_VENTRICLE))


@njit(cache=True, nogil=True)
def _hull(x, y, z):  # type: ignore[no-untyped-def]
    """Return the distance from the outer hull of the cerebrum, without the fissure between the hemispheres."""
    main = carve(ellipsoid(egg(x, y), y, z, CEREBRUM), _floor(x, y) - z, 8.0)
    main = blend(main, ellipsoid(x, y, z, TEMPORAL), 9.0)
    base = max(chain(x, y, z, MEDIAL_BASE), tentorium(x, y) - z if y < -40.0 else -50.0)
    main = blend(blend(main, base, 6.0), ellipsoid(x, y, z, HYPOTHALAMUS), 5.0)
    main = blend(main, max(ellipsoid(x, y, z, OCCIPITAL), tentorium(x, y) - z), 5.0)
    return carve(main, 1.2 - brainstem(x, y, z), 3.0) if z < -5.0 else main


@njit(cache=True, nogil=True)
def _middle(y, z):  # type: ignore[no-untyped-def]
    """Return the distance in the midline from callosum, thalami and brainstem, where no fissure parts the sides."""
    core = 21.0 * (np.sqrt(((y + 8.0) / 33.0) ** 2 + ((z - 4.0) / 21.0) ** 2) - 1.0)
    return min(chain(0.0, y, z, CALLOSUM), core)


@njit(cache=True, nogil=True)
def _hemisphere(x, y, z):  # type: ignore[no-untyped-def]
    gap = _middle(y, z)
    beside = x - FISSURE_MM if gap >= 0.0 else np.hypot(max(x - FISSURE_MM, 0.0), gap)
    return max(_hull(x, y, z), -beside)


@njit(cache=True, nogil=True)
def _forbidden(x, y, z):  # type: ignore[no-untyped-def]
    """Return the distance from what sulci keep away from."""
    return min(ellipsoid(x, y, z, CORE), lateral_ventricle(x, y, z), chain(x, y, z, CALLOSUM) - 0.1 * x)


@njit(cache=True, nogil=True)
def _cavity(x, y, z):  # type: ignore[no-untyped-def]
    """Return the distance from the dura."""
    inside = carve(ellipsoid(egg(x, y), y, z, CEREBRUM), _floor(x, y) - 1.0 - z, 8.0)
    for n in range(CAVITY.shape[0]):
        inside = blend(inside, ellipsoid(x, y, z, CAVITY[n]), 10.0)
    inside = blend(inside, ellipsoid(x, y, z, OCCIPITAL) - 1.0, 8.0)
    return blend(inside, chain(x, y, z, CORD) - 4.0, 6.0) - 1.1


@njit(cache=True, nogil=True)
def _face(x, y, z):  # type: ignore[no-untyped-def]
    face = 1e9
    for n in range(FACE.shape[0]):
        face = blend(face, ellipsoid(x, y, z, FACE[n]), 12.0)
    return face


@njit(cache=True, nogil=True)
def _fill_head(origin, mm, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x, y, z = origin[0] + mm * i, origin[1] + mm * j, origin[2] + mm * k
                out[i, j, k, 0] = _cavity(abs(x), y, z)
                out[i, j, k, 1] = _face(abs(x), y, z)


@njit(cache=True, nogil=True)
def _fill_hemisphere(origin, mm, hull, forbidden):  # type: ignore[no-untyped-def]
    for i in range(hull.shape[0]):
        for j in range(hull.shape[1]):
            for k in range(hull.shape[2]):
                x, y, z = origin[0] + mm * i, origin[1] + mm * j, origin[2] + mm * k
                hull[i, j, k] = _hemisphere(x, y, z)
                forbidden[i, j, k] = _forbidden(abs(x), y, z)


@lru_cache(maxsize=1)
def head_space() -> np.ndarray:
    """Return the distances from dura and face in mm, float32 ``(*HEAD_NODES, 2)``, negative inside."""
    out = np.empty((*HEAD_NODES, 2), np.float32)
    _fill_head(np.array(HEAD_ORIGIN_MM), HEAD_MM, out)
    return out


@lru_cache(maxsize=1)
def hemisphere() -> np.ndarray:
    """Return the right hemisphere's lattice, float32 ``(*NODES, 8)``.

    Channels: distance from the hull (negative inside); place on the hull x, y, z; signed distance along the hull from
    the nearest primary sulcus and that sulcus' depth there (0 beyond its ends); distance from forbidden ground; all mm.
    Last the slope of the smoothed depth: 1 below one wall, towards 0 where the walls of a thin lobe are equally far.
    """
    origin = np.array(ORIGIN_MM)
    rough, forbidden = np.empty(NODES), np.empty(NODES)
    _fill_hemisphere(origin, LATTICE_MM, rough, forbidden)
    hull = _true_distance(rough)
    smooth = ndimage.gaussian_filter(hull, SMOOTH_MM / LATTICE_MM)
    outwards = np.stack(np.gradient(smooth, LATTICE_MM))
    place = np.stack(
        np.meshgrid(*(o + LATTICE_MM * np.arange(n) for o, n in zip(origin, NODES, strict=True)), indexing="ij")
    )
    onto = place - hull * outwards
    along, reach = _primary(onto, outwards, hull)
    steep = np.linalg.norm(outwards, axis=0)
    channels = np.stack([hull, *onto, along, reach, forbidden, steep], axis=-1)
    return np.ascontiguousarray(channels, np.float32)


def _true_distance(rough: np.ndarray) -> np.ndarray:
    """Return the distance from the surface of a solid in mm, from values that are exact only next to it."""
    found = np.zeros(rough.shape)
    for solid, sign in ((rough < 0, -1.0), (rough >= 0, 1.0)):
        far, nearest = ndimage.distance_transform_edt(solid, LATTICE_MM, return_indices=True)
        over = np.clip(np.abs(rough[tuple(nearest)]), 0, LATTICE_MM)  # from the surface to the nearest node beyond
        found = np.where(solid, sign * np.maximum(far - over, 0.0), found)
    return np.asarray(ndimage.gaussian_filter(found, 0.6))


def _primary(onto: np.ndarray, outwards: np.ndarray, hull: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signed distance from the nearest primary sulcus on the hull, and its depth, for every node."""
    near = np.abs(hull + 16) < 20
    q, normal = onto[:, near].T, outwards[:, near].T
    nearest, second = np.full(len(q), 99.0), np.full(len(q), 99.0)
    along, reach = np.zeros(len(q)), np.zeros(len(q))
    for deepest, course in SULCI.values():
        point = _on_hull(_dense(course), onto)
        tangent = np.gradient(point, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        ends = np.minimum(np.arange(len(point)), np.arange(len(point))[::-1])
        far, which = spatial.cKDTree(point).query(q)
        away = q - point[which]
        across = np.cross(tangent[which], normal)
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
        beyond = np.abs((away * tangent[which]).sum(axis=1))
        depth = deepest * np.clip(0.4 + ends[which] / 15.0, 0, 1) * np.clip(1 - (beyond - 1.0) / 6.0, 0, 1)
        first = far < nearest
        second = np.where(first, nearest, np.minimum(second, far))
        along, reach = np.where(first, (away * across).sum(axis=1), along), np.where(first, depth, reach)
        nearest = np.minimum(nearest, far)
    # Half-way between two sulci the coordinate jumps from one's to the other's: neither reaches there.
    reach *= np.clip((11.0 - nearest) / 4.0, 0, 1) * np.clip((second - nearest - 1.0) / 4.0, 0, 1)
    out = np.zeros((2, *hull.shape))
    out[0, near], out[1, near] = along, reach
    return out[0], out[1]


def _dense(course: np.ndarray) -> np.ndarray:
    """Return points about 1 mm apart along a course ``(P, 3)``, its corners rounded."""
    legs = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))])
    at = np.linspace(0, legs[-1], max(int(legs[-1]), 2))
    line = np.stack([np.interp(at, legs, course[:, c]) for c in range(3)], axis=1)
    return np.asarray(ndimage.gaussian_filter1d(line, 5.0, axis=0, mode="nearest"))


def _on_hull(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    for _ in range(3):
        index = (points - np.array(ORIGIN_MM)).T / LATTICE_MM
        points = np.stack([ndimage.map_coordinates(c, index, order=1, mode="nearest") for c in onto], axis=1)
    return points


__all__ = [
    "HEAD_MM",
    "HEAD_ORIGIN_MM",
    "LATTICE_MM",
    "MARGIN_MM",
    "ORIGIN_MM",
    "brainstem",
    "head_space",
    "hemisphere",
    "lateral_ventricle",
    "tentorium",
]
