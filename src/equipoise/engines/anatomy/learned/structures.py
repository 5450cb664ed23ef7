"""The structures that training maps show: labels, instances that keep their meaning, and what occurs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from scipy import ndimage

from equipoise.core import Case, LabelMap, LabelScheme
from equipoise.engines.anatomy.learned.measuring import touch
from equipoise.errors import DataError, GeometryMismatchError, LabelError

FEW = 6
"""Instances of a label that may be told apart, such as the two lungs or the vertebrae of a small field."""

SAME_PLACE = 0.9
"""Share of instances that must lie nearest to their own number's usual place for numbers to name the same thing."""

NEARLY_ALWAYS = 0.9
"""Share of the maps in which two structures touch, from which no gap is left between them."""

LOOKED_AT = 40
"""Maps that are asked which structures touch, at most about."""

ALWAYS_INSIDE = 0.999
"""Share of a label's voxels that lie in another one wherever it lies inside that one; the rest is resampling."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What is modelled as one shape: a label, or one instance of it.

    Parameters
    ----------
    channel
        Of the label in its scheme.
    instance
        Its number; 0 for the whole label.
    """

    channel: int
    instance: int


@dataclass(frozen=True, eq=False)
class Structures:
    """All structures of a set of maps.

    Parameters
    ----------
    scheme
        Of the maps.
    each
        In the order of channels, then instances.
    counted
        Per channel, whether its instances are numbered anew by connected component when a map is drawn.
    present
        Which structures each map shows, bool, shape ``(N, S)``.
    inside
        Pairs of channels of which the first lies inside the second in every map that shows it.
    joined
        Pairs of structures that touch in nearly every map that shows both, where labels exclude one another.
    """

    scheme: LabelScheme
    each: tuple[Structure, ...]
    counted: tuple[bool, ...]
    present: np.ndarray
    inside: tuple[tuple[int, int], ...]
    joined: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, maps: Sequence[LabelMap]) -> Structures:
        """Return the structures of maps with one scheme."""
        scheme = maps[0].scheme
        each: list[Structure] = []
        counted = []
        for channel in range(len(scheme.labels)):
            found = [np.asarray(m.array[channel]) for m in maps]
            most = max(int(f.max()) for f in found)
            named = 1 < most <= FEW and _numbers_name_places(found, most)
            each += [Structure(channel, k) for k in range(1, most + 1)] if named else [Structure(channel, 0)]
            counted.append(most > 1 and not named)
        present = np.array([[_mask(m.array, s).any() for s in each] for m in maps])
        kept: np.ndarray = np.any(present, axis=0)  # an instance number that is skipped in every map names nothing
        each = [s for s, k in zip(each, kept, strict=True) if k]
        return cls(scheme, tuple(each), tuple(counted), present[:, kept], _nested(maps), _joined(maps, each))

    @property
    def anchors(self) -> tuple[int, ...]:
        """Numbers of the structures that every map with any structure shows; all of them if there is none such."""
        always = np.flatnonzero(self.present[self.present.any(axis=1)].all(axis=0))
        return tuple(int(s) for s in (always if len(always) else range(len(self.each))))

    def name(self, number: int) -> str:
        """Return a structure's label, with the instance where there are several."""
        structure = self.each[number]
        label = self.scheme.names[structure.channel]
        return f"{label} {structure.instance}" if structure.instance else label

    def masks(self, array: np.ndarray) -> np.ndarray:
        """Return each structure's mask in a map's array, bool, shape ``(S, I, J, K)``."""
        return np.stack([_mask(array, s) for s in self.each])

    def array(self, fields: np.ndarray, present: np.ndarray, gap: float) -> np.ndarray:
        """Return instance numbers, shape ``(L, I, J, K)``, of signed distances to structures, negative inside.

        Parameters
        ----------
        fields
            Shape ``(S, I, J, K)``.
        present
            Which structures are to be shown, bool, shape ``(S,)``.
        gap
            Distance from both of two that always touch, below which a voxel between them belongs to the nearer.
        """
        fields = np.where(present[:, None, None, None], fields, np.inf)
        shown = fields < 0
        for a, b in self.joined:
            shown[[a, b]] |= (fields[a] < gap) & (fields[b] < gap) & ~shown.any(axis=0)
        rivals = np.zeros(len(self.each)) if self.scheme.exclusive else np.array([s.channel for s in self.each])
        for group in np.unique(rivals):
            members = np.flatnonzero(rivals == group)
            if len(members) > 1:  # where two claim a voxel, it is deeper in one of them
                nearest = members[np.argmin(fields[members], axis=0)]
                shown[members] &= nearest == members[:, None, None, None]
        array = np.zeros((len(self.scheme.labels), *fields.shape[1:]), np.uint16)
        for structure, mask in zip(self.each, shown, strict=True):
            array[structure.channel][mask] = max(structure.instance, 1)
        for inner, outer in self.inside:
            array[inner][array[outer] == 0] = 0
        for channel, counts in enumerate(self.counted):
            if counts:
                array[channel] = ndimage.label(array[channel])[0]
        return array.astype(np.uint8) if array.max() < 256 else array


def require_learnable(cases: Sequence[Case], least: int) -> None:
    """Raise unless the cases' label maps can be learned from together.

    Raises
    ------
    DataError
        Fewer than ``least`` cases, none with a labelled voxel, or flat ones among volumes.
    LabelError
        Schemes differ, or a label is in no map.
    GeometryMismatchError
        Maps in mm are mixed with maps in pixels, or axes point in different directions.
    """
    if len(cases) < least:
        raise DataError(
            f"anatomy 'learned' was given {len(cases)} label map(s) and needs {least} at the least",
            why="one map shows a shape and two a straight line between shapes: neither says how shapes vary",
            fix="add training patients, or use the anatomy `warped`, which deforms a single map",
        )
    first = cases[0]
    for case in cases:
        if case.labels.scheme != first.labels.scheme:
            raise LabelError(
                f"case {case.id!r} has the labels {case.labels.scheme.names}, {first.id!r} {first.labels.scheme.names}",
                file=case.file,
                why="one model learns one set of structures",
                fix="read all cases with one `labels` table",
            )
        _require_alike(case, first)
    shown = np.any([case.labels.masks().any((1, 2, 3)) for case in cases], axis=0)
    if not shown.any():
        raise DataError(
            f"all {len(cases)} label maps are empty",
            fix="check `labels` in the plan: a value that the files do not have marks nothing",
        )
    missing = [name for name, seen in zip(first.labels.scheme.names, shown, strict=True) if not seen]
    if missing:
        raise LabelError(
            f"anatomy 'learned': no training mask contains {', '.join(map(repr, missing))}",
            why="a shape that is never shown cannot be learned, and every drawn map would lack it",
            fix="add cases that show it, or leave the label out of the plan's `labels`",
        )


def _require_alike(case: Case, first: Case) -> None:
    one, other = first.labels.geometry, case.labels.geometry
    if one.ndim != other.ndim:
        raise DataError(
            f"case {case.id!r} is {other.ndim}-D of shape {other.shape}, {first.id!r} {one.ndim}-D of {one.shape}",
            file=case.file,
            why="a slice has no third axis to align with a volume's",
            fix="make two sets of them",
        )
    if one.unit != other.unit:
        raise GeometryMismatchError(
            f"case {case.id!r} is measured in {other.unit}, {first.id!r} in {one.unit}",
            file=case.file,
            why="sizes in pixels and in mm cannot be compared",
            fix="state the spacing of all of them where the data are read: spacing = [x, y] in mm",
        )
    if _directions(case.labels) != _directions(first.labels):
        raise GeometryMismatchError(
            f"the axes of case {case.id!r} point along {_directions(case.labels)}, those of {first.id!r} along "
            f"{_directions(first.labels)} (signed world axes)",
            file=case.file,
            why="left and right, or up and down, would be averaged into one shape",
            fix="reorient all of them to one orientation, such as RAS, before they are read",
        )


def _directions(labels: LabelMap) -> tuple[int, ...]:
    """Return for I, J, K the world axis (1, 2, 3) that each comes nearest to, negative if it runs against it."""
    units = labels.affine[:3, :3] / np.array(labels.spacing)
    if labels.geometry.ndim == 2:
        units = units[:, :2]
    nearest = np.abs(units).argmax(axis=0)
    return tuple(int((k + 1) * np.sign(units[k, axis])) for axis, k in enumerate(nearest))


def _mask(array: np.ndarray, structure: Structure) -> np.ndarray:
    channel = array[structure.channel]
    mask: np.ndarray = channel == structure.instance if structure.instance else channel > 0
    return mask


def _numbers_name_places(found: Sequence[np.ndarray], most: int) -> bool:
    """Whether instance 1 of one map is instance 1 of the next: whether numbers follow places, not the reader's order.

    Each map's instances are given to the mean places of the numbers, in the best order: numbers name places where this
    order is that of the numbers nearly always.
    """
    numbers = np.arange(1, most + 1)
    places = np.full((len(found), most, 3), np.nan)
    for row, instances in zip(places, found, strict=True):
        there = np.intersect1d(np.unique(instances), numbers)
        if len(there):
            row[there - 1] = np.array(ndimage.center_of_mass(instances > 0, instances, there)) / instances.shape
    seen = ~np.isnan(places[..., 0])
    if not seen.any(axis=0).all():
        return False
    usual = np.array([places[seen[:, k], k].mean(axis=0) for k in range(most)])
    right = total = 0
    for row, there in zip(places, seen, strict=True):
        if there.sum() < 2:
            continue
        distance = np.linalg.norm(row[there][:, None] - usual[there][None], axis=-1)
        best = min(permutations(range(len(distance))), key=lambda p: sum(distance[a, b] for a, b in enumerate(p)))
        right += sum(a == b for a, b in enumerate(best))
        total += len(best)
    return total > 0 and right >= SAME_PLACE * total


def _joined(maps: Sequence[LabelMap], each: Sequence[Structure]) -> tuple[tuple[int, int], ...]:
    if not maps[0].scheme.exclusive:
        return ()
    seen, met = np.zeros((2, len(each), len(each)))
    for labels in maps[:: max(len(maps) // LOOKED_AT, 1)]:
        masks = [_mask(labels.array, s) for s in each]
        for a, b in combinations([s for s in range(len(each)) if masks[s].any()], 2):
            seen[a, b] += 1
            met[a, b] += touch(masks[a], masks[b])
    return tuple((int(a), int(b)) for a, b in np.argwhere((seen > 0) & (met >= NEARLY_ALWAYS * seen)))


def _nested(maps: Sequence[LabelMap]) -> tuple[tuple[int, int], ...]:
    scheme = maps[0].scheme
    if scheme.exclusive:
        return ()
    count = len(scheme.labels)
    held = ~np.eye(count, dtype=bool)
    for labels in maps:
        flat = labels.masks().reshape(count, -1).astype(np.float32)
        size = flat.sum(axis=1)
        shared = flat @ flat.T / np.maximum(size, 1)[:, None]
        held &= (shared >= ALWAYS_INSIDE) | (size == 0)[:, None]
    return tuple((int(a), int(b)) for a, b in np.argwhere(held))


__all__ = ["Structure", "Structures", "require_learnable"]
