"""Outlines of nodules that several readers drew on CT slices: what lies inside one, and which are about one nodule.

References
----------
Armato SG et al. The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI). Med Phys 2011.
doi:10.1118/1.3528204
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from equipoise.errors import DataError

READERS = 4
"""Radiologists who read every scan; the database does not say which four."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """One closed outline on one slice.

    Parameters
    ----------
    z
        Slice position in mm, as in the DICOM header.
    points
        Corners, int, shape ``(N, 2)``: column and row of the full image, from 0; the first is repeated at the end.
    inclusion
        Whether the inside belongs to the nodule; ``False`` is a hole.
    file
        The slice's file name in the database's copy of the collection.
    """

    z: float
    points: np.ndarray
    inclusion: bool = True
    file: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What one radiologist drew of one nodule.

    Parameters
    ----------
    id
        Row of the database.
    outlines
        In the order of the database.
    ratings
        Name and value of the nine characteristics; texture runs from 1 (ground glass) to 5 (solid), subtlety from
        1 (hardly visible) to 5 (obvious), calcification from 1 (popcorn) to 6 (absent).
    slot
        Which of the scan's anonymous readers, from 0.
    """

    id: int
    outlines: tuple[Outline, ...]
    ratings: tuple[tuple[str, int], ...] = ()
    slot: int = 0

    @property
    def positions(self) -> tuple[float, ...]:
        """The slices that carry an outline, in mm, ascending."""
        return tuple(sorted({o.z for o in self.outlines}))

    def mask(self, z: float, corner: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
        """Return the nodule on one slice, bool, shape ``shape`` (columns, rows), from pixel ``corner`` onwards."""
        if z not in self.positions:
            return np.zeros(shape, bool)
        mask: np.ndarray = self.masks(corner, shape, only=z)[0]
        return mask

    def masks(self, corner: tuple[int, int], shape: tuple[int, int], only: float | None = None) -> np.ndarray:
        """Return the nodule on each of `positions` (or on one), bool, shape ``(positions, *shape)``."""
        positions = self.positions if only is None else (only,)
        outlines = [o for o in self.outlines if o.z in positions]
        parts = interiors([o.points for o in outlines], corner, shape)
        masks = np.zeros((len(positions), *shape), bool)
        for outline, part in zip(outlines, parts, strict=True):
            if outline.inclusion:
                masks[positions.index(outline.z)] |= part
        for outline, part in zip(outlines, parts, strict=True):  # holes last, whatever their order in the file
            if not outline.inclusion:
                masks[positions.index(outline.z)] &= ~part
        return masks

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and last column and row that any outline touches, two int arrays of length 2."""
        points = np.concatenate([o.points for o in self.outlines])
        return points.min(axis=0), points.max(axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Nodule:
    """The reads that are about one nodule.

    Parameters
    ----------
    reads
        At most one per reader, in the order of their slots.
    """

    reads: tuple[Read, ...]

    def rating(self, name: str) -> float:
        """Return the mean rating of the readers who drew it."""
        return float(np.mean([dict(read.ratings)[name] for read in self.reads]))

    @property
    def positions(self) -> tuple[float, ...]:
        """The slices on which anybody outlined it, in mm, ascending."""
        return tuple(sorted({z for read in self.reads for z in read.positions}))


def interiors(outlines: Sequence[np.ndarray], corner: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels strictly inside closed outlines.

    LIDC's readers drew through the first pixels *outside* the nodule, so pixels on the outline do not belong to what it
    encloses (Armato 2011, section II.C); the same holds for the outline of a hole.

    Parameters
    ----------
    outlines
        Corners in pixel indices, int, shape ``(N, 2)`` each; an open outline is closed.
    corner
        Column and row of the grid's first pixel.
    shape
        Columns and rows of the grid; outlines may reach beyond it.

    Returns
    -------
    np.ndarray
        Bool, shape ``(outlines, *shape)``. For a simple outline of area ``A`` with ``B`` pixels on it there are
        ``A - B / 2 + 1`` inside (Pick's theorem). An outline of one or two pixels encloses nothing.

    Raises
    ------
    DataError
        Corners are not whole pixel indices.
    """
    for points in outlines:
        if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iu" or not len(points):
            raise DataError(f"an outline needs whole pixel indices of shape (N, 2), got {points.dtype} {points.shape}")
    grids = np.zeros((len(outlines), *shape), bool)
    if not outlines:
        return grids
    points = np.concatenate(outlines)
    lengths = np.array([len(p) for p in outlines])
    owner = np.repeat(np.arange(len(outlines)), lengths)
    following = np.arange(1, len(points) + 1)
    following[np.cumsum(lengths) - 1] -= lengths  # the last corner is followed by the first
    step = points[following] - points
    low = points.min(axis=0)
    columns, rows = points.max(axis=0) - low + 1
    # Even-odd rule along the columns: between two crossings of a row the parity is odd. An edge crosses the rows from
    # its upper end up to, but not including, its lower end, so that a corner is counted once.
    edge, along = _counted(np.abs(step[:, 1]))
    along = along + (step[edge, 1] < 0)
    row = points[edge, 1] + along * np.sign(step[edge, 1]) - low[1]
    crossing = points[edge, 0] + step[edge, 0] * along / np.abs(step[edge, 1]) - low[0]
    cell = (owner[edge] * (columns + 1) + np.ceil(crossing).astype(np.int64)) * rows + row
    count = np.bincount(cell, minlength=len(outlines) * (columns + 1) * rows)
    inside = np.cumsum(count.reshape(-1, columns + 1, rows), axis=1)[:, :-1] % 2 == 1
    # Pixels that an edge meets: its corners and, on long straight edges, those in between.
    pieces = np.maximum(np.gcd(np.abs(step[:, 0]), np.abs(step[:, 1])), 1)
    edge, along = _counted(pieces)
    met = points[edge] + along[:, None] * (step[edge] // pieces[edge, None]) - low
    inside[owner[edge], met[:, 0], met[:, 1]] = False
    first = np.maximum(low - corner, 0)
    last = np.minimum(low - corner + (columns, rows), shape)
    if (last > first).all():
        a, b = first - low + corner, last - low + corner
        grids[:, first[0] : last[0], first[1] : last[1]] = inside[:, a[0] : b[0], a[1] : b[1]]
    return grids


def _counted(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return every index as often as ``times`` says, and its count from 0 within each."""
    index = np.repeat(np.arange(len(times)), times)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)


def cluster(reads: Collection[Read]) -> tuple[Nodule, ...]:
    """Group the reads of one scan into nodules, and number the readers.

    Agglomerative clustering of the outlined voxels, average linkage on the intersection over union, as long as two
    groups share a voxel and have no more reads together than a scan has readers. On the whole database this gives
    2,670 nodules, 909 of them drawn by all four; the collection's authors count 2,669 and 928 (Armato 2011).

    The database holds the reads of one reader one after the other, without saying where the next reader begins. A new
    reader must have begun where a nodule comes up again, so the slots are the longest runs without a repetition. A
    reader who drew nothing leaves no trace.

    Parameters
    ----------
    reads
        Of one scan.

    Returns
    -------
    tuple of Nodule
        In the order of their first read.
    """
    if not reads:
        return ()
    reads = sorted(reads, key=lambda read: read.id)
    voxels = [_voxels(read) for read in reads]
    near = _close_boxes(reads)
    likeness = np.zeros((len(reads), len(reads)))
    for a, b in np.argwhere(np.triu(near, 1)):
        shared = np.intersect1d(voxels[a], voxels[b], assume_unique=True).size
        likeness[a, b] = likeness[b, a] = shared / max(voxels[a].size + voxels[b].size - shared, 1)
    groups = _merged(likeness)
    nodule_of = {a: k for k, group in enumerate(groups) for a in group}
    slots: list[int] = []
    seen: set[int] = set()
    for a in range(len(reads)):
        slots.append(slots[-1] + (nodule_of[a] in seen) if slots else 0)
        seen = {nodule_of[a]} if nodule_of[a] in seen else seen | {nodule_of[a]}
    return tuple(Nodule(tuple(replace(reads[a], slot=slots[a]) for a in sorted(group))) for group in groups)


def _voxels(read: Read) -> np.ndarray:
    """Return one sorted integer per outlined voxel; equal integers are equal voxels within a scan."""
    low, high = read.box()
    k, i, j = np.nonzero(read.masks((int(low[0]), int(low[1])), (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)))
    heights = np.rint(1000 * np.array(read.positions)).astype(np.int64)
    # 12 bits each for column and row (at most 4,096), the rest for the position in micrometres. Positions, columns and
    # rows ascend, so the integers do.
    voxels: np.ndarray = (heights[k] << 24) + ((i + low[0]) << 12) + (j + low[1])
    return voxels


def _close_boxes(reads: Collection[Read]) -> np.ndarray:
    """Return which pairs of reads have overlapping boxes on the slice plane, bool, square."""
    boxes = [read.box() for read in reads]
    low, high = np.array([b[0] for b in boxes]), np.array([b[1] for b in boxes])
    touch: np.ndarray = np.all((low[:, None] <= high[None]) & (low[None] <= high[:, None]), axis=-1)
    return touch


def _merged(likeness: np.ndarray) -> list[list[int]]:
    """Return groups of at most `READERS` rows, by average linkage on a symmetric likeness with a zero diagonal."""
    groups = [[a] for a in range(len(likeness))]
    total, count = likeness.copy(), np.ones(len(likeness))
    while len(groups) > 1:
        mean = np.triu(total / np.outer(count, count), 1)
        mean[np.add.outer(count, count) > READERS] = 0
        a, b = (int(x) for x in np.unravel_index(np.argmax(mean), mean.shape))
        if mean[a, b] <= 0:
            break
        groups[a] += groups.pop(b)
        count[a] += count[b]
        total[a] += total[b]
        total[:, a] += total[:, b]
        count = np.delete(count, b)
        total = np.delete(np.delete(total, b, axis=0), b, axis=1)
    return groups
