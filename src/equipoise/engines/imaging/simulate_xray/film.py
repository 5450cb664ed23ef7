"""A volume's label map seen by rays: areal densities of materials, and the shadow of every structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from equipoise.core import LabelMap, LabelScheme
from equipoise.engines.imaging.simulate_xray.projection import Beam, LabelRays, View, oriented
from equipoise.engines.imaging.simulate_xray.tissues import CORTEX_MM, mixture, substance_of
from equipoise.engines.parts.spectrum import MATERIALS
from equipoise.engines.parts.value_map import MOST_INDICES, ValueMap, value_map
from equipoise.errors import GeometryMismatchError

_AT_ONCE = 32
"""Columns of the detector whose rays are held at once: 1 to 5 MB."""
LOBES = (
    "right upper lobe", "right middle lobe", "right lower lobe", "left upper lobe", "left lower lobe", "lung vessel",
    "lung", "lungs", "left lung", "right lung",
)  # fmt: skip
HEART = ("myocardium", "left ventricle", "right ventricle", "left atrium", "right atrium", "heart")
_GREAT = ("aorta", "pulmonary artery", "vena cava", "oesophagus", "airway", "trachea")
_BELLY = ("liver", "spleen", "stomach", "soft tissue", "gas", "right kidney", "left kidney", "liver vessel")
_BONES = ("vertebra", "rib", "sternum", "clavicle", "scapula", "humerus", "bone")
GROUPS = (
    "lungs",
    "lungs above the diaphragm",
    "lung fields",
    "heart",
    "cardiac silhouette",
    "cardiomediastinum",
    "bones",
)
"""What may be asked for beside single structures."""


@dataclass(frozen=True, eq=False)
class Shadow:
    """What the rays of a picture met.

    Parameters
    ----------
    areal
        g/cm² of each of `MATERIALS`, float32, shape ``(columns, rows, M)``.
    masks
        Projected instances, uint8, shape ``(L, columns, rows)``: of each structure the object with the longest way.
    lung_mm, bone_mm, belly_mm
        Way through lung, bone, and what lies below the diaphragm.
    """

    areal: np.ndarray
    masks: np.ndarray
    lung_mm: np.ndarray
    bone_mm: np.ndarray
    belly_mm: np.ndarray


def cast(
    labels: LabelMap, view: View, beam: Beam, stated: Mapping[str, str], lung_g_cm3: float, shadow_mm: float,
    device: str = "cpu",
) -> Shadow:  # fmt: skip
    """Return the shadow of a label map.

    Parameters
    ----------
    labels
        Three-dimensional, in mm; every name has a substance.
    view, beam
        The projection.
    stated
        Substances of structures, before the table's.
    lung_g_cm3
        Density of lung.
    shadow_mm
        A structure is seen where a ray runs through it this far.
    device
        Where rays are followed, see `LabelRays.thickness`.
    """
    try:
        objects, overlap = value_map(labels)
    except ValueError as error:
        raise GeometryMismatchError(
            f"simulate-xray can tell {MOST_INDICES} objects in a label map apart, this one has {error}",
            fix="give each structure one instance, or leave structures out",
        ) from error
    names = labels.scheme.names
    turned, spacing, _ = oriented(objects.values, labels.affine, view)
    table, density, groups, shell = _tables(objects, names, stated, lung_g_cm3, min(spacing))
    if shell.any():
        _mark_shells(turned, turned.copy(), shell)
    rays = LabelRays.of(turned, spacing)
    shadow = _reduced(rays, beam, table, density, groups, shadow_mm, device)
    if overlap:
        # What lies under another structure casts a shadow all the same: each structure alone once more.
        for c in range(len(names)):
            alone, _, _ = oriented(np.asarray(labels.array[c]).astype(np.uint8), labels.affine, view)
            count = int(alone.max()) + 1
            own = LabelRays.of(alone, spacing).thickness(beam, max(count, 2), device=device)
            shadow.masks[c] = np.where(own.sum(axis=2) >= shadow_mm, np.argmax(own, axis=2), 0)
    return shadow


def _tables(
    objects: ValueMap, names: tuple[str, ...], stated: Mapping[str, str], lung: float, voxel: float
) -> tuple[ValueMap, np.ndarray, np.ndarray, np.ndarray]:
    """Return objects with bone shells appended, density ``(n, M)``, group ``(n,)``, and each index's shell (or 0)."""
    n = len(objects.channel)
    density = np.zeros((n, len(MATERIALS)))
    groups = np.zeros(n, np.int64)
    bones = []
    for index in range(1, n):
        name = names[objects.channel[index]]
        substance = substance_of(name, stated)
        density[index] = mixture(substance or "soft tissue", lung)
        groups[index] = 1 if name in LOBES else 2 if substance == "marrow" else 3 if name in _BELLY else 0
        if substance == "marrow":
            bones.append(index)
    if not bones or n + len(bones) > MOST_INDICES:
        return objects, density, groups, np.zeros(256, np.uint8)
    shell_of = np.zeros(256, np.uint8)
    shell_of[bones] = np.arange(n, n + len(bones))
    shells = []
    for index in bones:
        share = min(1.0, CORTEX_MM.get(names[objects.channel[index]], 1.0) / voxel)
        cortical = mixture("cortical bone", lung)
        shells.append(share * cortical + (1 - share) * density[index])
    more = ValueMap(
        objects.values, np.concatenate([objects.channel, objects.channel[bones]]),
        np.concatenate([objects.instance, objects.instance[bones]]), objects.channels,
    )  # fmt: skip
    return more, np.vstack([density, shells]), np.concatenate([groups, groups[bones]]), shell_of


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mark_shells(out: np.ndarray, values: np.ndarray, shell: np.ndarray) -> None:
    """Turn the outermost voxels of each bone into its shell."""
    na, nb, nc = values.shape
    for i in range(1, na - 1):
        for j in range(1, nb - 1):
            for k in range(1, nc - 1):
                own = values[i, j, k]
                if shell[own] > 0 and (
                    values[i - 1, j, k] != own
                    or values[i + 1, j, k] != own
                    or values[i, j - 1, k] != own
                    or values[i, j + 1, k] != own
                    or values[i, j, k - 1] != own
                    or values[i, j, k + 1] != own
                ):
                    out[i, j, k] = shell[own]


def _reduced(
    rays: LabelRays, beam: Beam, objects: ValueMap, density: np.ndarray, groups: np.ndarray, shadow_mm: float,
    device: str,
) -> Shadow:  # fmt: skip
    columns, rows = beam.shape
    areal = np.zeros((columns, rows, density.shape[1]), np.float32)
    masks = np.zeros((objects.channels, columns, rows), np.uint8)
    ways = np.zeros((3, columns, rows), np.float32)
    # mm times g/cm³, divided by 10, is g/cm².
    table = (density / 10).astype(np.float32)
    order = np.lexsort((objects.instance, objects.channel))
    at_once = _AT_ONCE if device == "cpu" else columns  # a GPU has room for all, and wants many
    for first in range(0, columns, at_once):
        last = min(first + at_once, columns)
        thickness = rays.thickness(beam, len(objects.channel), (first, last), device)
        _sum_up(
            thickness, table, objects.channel, objects.instance, groups, order, shadow_mm, areal[first:last],
            masks[:, first:last], ways[:, first:last],
        )  # fmt: skip
    return Shadow(areal, masks, *ways)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum_up(
    thickness: np.ndarray, density: np.ndarray, channel: np.ndarray, instance: np.ndarray, groups: np.ndarray,
    order: np.ndarray, shadow_mm: float, areal: np.ndarray, masks: np.ndarray, ways: np.ndarray,
) -> None:  # fmt: skip
    for u in range(thickness.shape[0]):
        for v in range(thickness.shape[1]):
            ray = thickness[u, v]
            now, total, best, who, own, number = -1, 0.0, 0.0, 0, 0.0, 0
            for n in order:
                way = ray[n]
                if n == 0 or way == 0:
                    continue
                for m in range(density.shape[1]):
                    areal[u, v, m] += way * density[n, m]
                if groups[n] > 0:
                    ways[groups[n] - 1, u, v] += way
                if channel[n] != now:
                    if now >= 0 and total >= shadow_mm:
                        masks[now, u, v] = who
                    now, total, best, number = channel[n], 0.0, 0.0, -1
                if instance[n] != number:
                    number, own = instance[n], 0.0
                total += way
                own += way  # a bone is its marrow and its shell: both count for the same object
                if own > best:
                    best, who = own, number
            if now >= 0 and total >= shadow_mm:
                masks[now, u, v] = who


def truth_of(
    shadow: Shadow, names: tuple[str, ...], scheme: LabelScheme, targets: Mapping[str, tuple[str, ...]]
) -> np.ndarray:
    """Return the projected truth under a scheme, uint8, shape ``(L, columns, rows)``.

    Parameters
    ----------
    names
        Structures of the volume, in the order of ``shadow.masks``.
    scheme
        Labels of the truth.
    targets
        What each label is made of: structures or `GROUPS`. A single structure keeps its instances.
    """
    out = np.zeros((len(scheme.labels), *shadow.masks.shape[1:]), np.uint8)
    for c, label in enumerate(scheme.names):
        parts = targets.get(label, (label,))
        if len(parts) == 1 and parts[0] in names:
            out[c] = shadow.masks[names.index(parts[0])]
            continue
        for part in parts:
            out[c] |= _mask(part, shadow, names).astype(np.uint8)
    return out


def _mask(part: str, shadow: Shadow, names: tuple[str, ...]) -> np.ndarray:
    if part in names:
        return np.asarray(shadow.masks[names.index(part)] > 0)
    if part == "lungs":
        return _union(shadow, names, LOBES)
    if part == "heart":
        return _union(shadow, names, HEART)
    if part == "bones":
        return _union(shadow, names, _BONES)
    if part == "cardiac silhouette":
        return _silhouette(shadow, names)
    middle = _cardiomediastinum(shadow, names)
    if part == "cardiomediastinum":
        return middle
    above = shadow.belly_mm < 12
    if part == "lungs above the diaphragm":
        # Before and behind the heart too, but not where only the spine and what lies along it is left.
        # The column of the bodies, without their processes: what stands for 12 % of the rows above each other.
        column = np.ones((1, max(3, shadow.lung_mm.shape[1] // 8)), bool)
        spine = ndimage.binary_opening(_union(shadow, names, ("vertebra", "disc")), column)
        return np.asarray(ndimage.binary_opening((shadow.lung_mm > 25) & above & ~spine, iterations=1))
    # Aerated lung that neither the heart nor the organs below the diaphragm cover.
    fields = (shadow.lung_mm > 12) & ~middle & above
    return np.asarray(ndimage.binary_opening(fields, iterations=1))


def _cardiomediastinum(shadow: Shadow, names: tuple[str, ...]) -> np.ndarray:
    """Return heart and great vessels between the top of the lungs and the diaphragm, without gaps."""
    core = _union(shadow, names, (*HEART, *_GREAT))
    return _filled(core, _union(shadow, names, LOBES), _union(shadow, names, HEART))


def _silhouette(shadow: Shadow, names: tuple[str, ...]) -> np.ndarray:
    """Return the heart with the vessels above it, as readers outline it: up to the aortic arch, without the hila."""
    heart = _union(shadow, names, HEART)
    vessels = _union(shadow, names, ("aorta", "vena cava"))
    rows = np.flatnonzero(heart.any(axis=0))
    if not len(rows):
        return heart
    arch = np.zeros_like(heart)
    # The arch lies above the heart by about three quarters of the heart's height.
    arch[:, max(0, rows[0] - int(0.4 * np.ptp(rows))) : rows[-1] + 1] = True
    return _filled((heart | vessels) & arch, arch, heart)


def _filled(core: np.ndarray, within: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """Return a mask from the top of ``within`` to the bottom of the heart, every row without gaps."""
    top, bottom = np.flatnonzero(within.any(axis=0)), np.flatnonzero(heart.any(axis=0))
    if not len(top):
        return core
    core = core.copy()
    core[:, : top[0]] = False
    core[:, (bottom if len(bottom) else top)[-1] + 1 :] = False
    size = max(2, core.shape[0] // 60)
    core = ndimage.binary_opening(core, iterations=size // 2)
    from_left = np.maximum.accumulate(core, axis=0)
    from_right = np.maximum.accumulate(core[::-1], axis=0)[::-1]
    return np.asarray(from_left & from_right)


def _union(shadow: Shadow, names: tuple[str, ...], parts: tuple[str, ...]) -> np.ndarray:
    out = np.zeros(shadow.masks.shape[1:], bool)
    for part in parts:
        if part in names:
            out |= shadow.masks[names.index(part)] > 0
    return out


__all__ = ["GROUPS", "Shadow", "cast", "truth_of"]
