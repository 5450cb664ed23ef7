"""Which slices of which nodules are shown, and what each reader drew there.

A view has no pixels yet: `equipoise.demo.data` lets the hidden world draw them, `equipoise.demo.lidc_pixels` reads the
real ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from equipoise.core import Annotation, Case, Geometry, Image, LabelMap, LabelScheme, Reader, rng_for
from equipoise.errors import NotEnoughCasesError, PlanError
from equipoise.formats.lidc import LICENCE, Scan, read_scans, series_with_nodules
from equipoise.formats.outlines import Nodule

SCHEME = LabelScheme.of(["nodule"])
MATRIX = 512
"""Columns and rows of every LIDC-IDRI slice."""
SMALLEST_MM = 6.0
"""Smallest nodule section that a view is drawn for: mean over its readers of the diameter of a disc of its area.
Nodules below 6 mm need no follow-up in most patients (Fleischner Society 2017, doi:10.1148/radiol.2017161659), and
their sections of a dozen pixels measure the pixel size rather than the reader."""
ENOUGH_READERS = 3
BATCH = 200
"""Patients read from the database at once; it has no index, so every reading goes through the whole of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One nodule in a view.

    Parameters
    ----------
    nodule
        With the readers' ratings.
    masks
        Reader's slot to what that reader drew in the view, bool, shape ``(size, size)``; never empty.
    """

    nodule: Nodule
    masks: Mapping[int, np.ndarray]

    def mean(self) -> np.ndarray:
        """Return the share of those who drew it that marked each pixel, float, shape ``(size, size)``."""
        mean: np.ndarray = np.mean(list(self.masks.values()), axis=0)
        return mean


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A square piece of one slice.

    Parameters
    ----------
    scan
        The scan it lies in.
    number
        Counts the views of the patient from 0.
    z
        Slice position, mm.
    corner
        First column and row.
    size
        Columns and rows.
    slot
        The reader whose drawing is the training truth.
    nodules
        Those that anybody drew in the view; the first is the one that the view was chosen for.
    """

    scan: Scan
    number: int
    z: float
    corner: tuple[int, int]
    size: int
    slot: int
    nodules: tuple[Drawn, ...]

    @property
    def geometry(self) -> Geometry:
        """The grid: RAS+, so columns run to -x and rows to -y; x and y count from the slice's first pixel."""
        (i, j), s = self.corner, self.scan.spacing
        affine = np.diag([-s, -s, self.scan.thickness, 1.0])
        affine[:3, 3] = (-s * i, -s * j, self.z)
        return Geometry((self.size, self.size, 1), affine)

    def case(
        self, image: Image, pixels: str, site: str | None = None, scanner: str | None = None, file: str | None = None
    ) -> Case:
        """Return the view as a case with these pixels: the truth is one reader's, `Case.reads` has everybody's.

        A reader who drew nothing in the view has no read: the database cannot tell "saw nothing" from "did not read".
        """
        geometry = image.geometry
        target = self.nodules[0]
        slots = sorted({slot for drawn in self.nodules for slot in drawn.masks})
        labels = {slot: LabelMap.on(geometry, self._labels(slot), SCHEME) for slot in slots}
        ratings = {read.slot: read.ratings for read in target.nodule.reads}
        reads = tuple(
            Annotation(
                Reader(f"scan-{self.scan.id}-reader-{slot + 1}", specialty="thoracic radiology"),
                labels[slot],
                ratings=ratings.get(slot, ()),
            )
            for slot in slots
        )
        widths = [_diameter(mask, self.scan.spacing) for mask in target.masks.values()]
        stated: dict[str, str | float] = {
            "diameter_mm": round(float(np.mean(widths)), 2),
            "readers": float(len(target.masks)),
            "subtlety": round(target.nodule.rating("subtlety"), 2),
            "texture": round(target.nodule.rating("texture"), 2),
        }
        return Case(
            id=f"{self.scan.patient}-{self.number}",
            patient=self.scan.patient,
            image=image,
            truth=labels[self.slot],
            site=site,
            scanner=scanner,
            reads=reads,
            licence=LICENCE,
            modality="CT",
            attributes=stated | {"pixels": pixels},
            file=file,
        )

    def _labels(self, slot: int) -> np.ndarray:
        """Return one reader's nodules by number, uint8, shape ``(1, size, size, 1)``."""
        labels = np.zeros((1, self.size, self.size, 1), np.uint8)
        for k, drawn in enumerate(self.nodules, 1):
            if slot in drawn.masks:
                labels[0, drawn.masks[slot], 0] = k
        return labels


def draw_views(
    patients: int | None,
    slices: int,
    size: int,
    seed: int,
    series: Collection[str] | None = None,
    database: str | Path | None = None,
) -> list[View]:
    """Draw views of nodules, patient by patient.

    A patient qualifies with a nodule that at least three readers drew, on a slice where they all did and where it is at
    least `SMALLEST_MM` wide. The reader who gives the training truth is drawn once per scan; only what that reader drew
    is a reason to show a slice, as whoever trains on one reader's work has nothing else to go by.

    Parameters
    ----------
    patients
        How many; ``None`` for all that qualify.
    slices
        Views per patient, on different slices; fewer where there are not so many.
    size
        Columns and rows.
    seed
        Of the draw. A patient's views do not depend on who else is drawn.
    series
        Series UIDs to draw from, ``None`` for all.
    database
        As in `read_scans`.

    Raises
    ------
    PlanError
        A parameter is out of range.
    NotEnoughCasesError
        Fewer patients qualify.
    """
    if slices < 1 or not 32 <= size <= MATRIX or (patients is not None and patients < 1):
        raise PlanError(
            f"patients = {patients}, slices = {slices}, size = {size} cannot be drawn",
            fix=f"patients and slices are at least 1, size is 32 to {MATRIX} pixels",
        )
    known = series_with_nodules(database)
    wanted = set(known) if series is None else set(known) & set(series)
    names = sorted({known[uid] for uid in wanted})
    if patients is not None and patients > len(names):
        raise _too_few(patients, None, len(names))
    order = [str(name) for name in rng_for(seed, "lidc patients").permutation(np.array(names, dtype=object))]
    views: list[View] = []
    found = 0
    for first in range(0, len(order), BATCH):
        batch = reversed(read_scans(order[first : first + BATCH], database))
        scans = {scan.patient: scan for scan in batch if scan.series in wanted}  # the first of a patient's scans stays
        for name in order[first : first + BATCH]:
            if found == patients:
                return views
            drawn = list(_views_of(scans[name], slices, size, rng_for(seed, "lidc view", name)))
            found += bool(drawn)
            views.extend(drawn)
    if found < (patients or 1):
        raise _too_few(patients, found, len(names))
    return views


def _too_few(patients: int | None, found: int | None, there: int) -> NotEnoughCasesError:
    most = there if found is None else found
    count = f"{there} have a nodule" if found is None else f"{found} of {there} have one"
    return NotEnoughCasesError(
        f"{patients or 'all'} patients with a nodule of {SMALLEST_MM:g} mm that {ENOUGH_READERS} readers drew are "
        f"asked for, {count}",
        fix=f"ask for at most {most}" if most else "give the folder of more patients",
    )


def _views_of(scan: Scan, slices: int, size: int, rng: np.random.Generator) -> Iterator[View]:
    """Yield up to ``slices`` views of one scan, nodule after nodule, each on a slice of its own."""
    slots = sorted({read.slot for nodule in scan.nodules for read in nodule.reads})
    for slot in rng.permutation(slots).tolist():
        sections = [list(_sections(scan, nodule, slot, size)) for nodule in scan.nodules]
        lists = [[found[k] for k in rng.permutation(len(found))] for found in sections if found]
        if lists:
            break
    else:
        return
    lists = [lists[k] for k in rng.permutation(len(lists))]
    turns = [section for turn in zip_longest(*lists) for section in turn if section is not None]
    for number, (nodule, z) in enumerate(turns[:slices]):
        yield _view(scan, nodule, z, slot, number, size, rng)


def _sections(scan: Scan, nodule: Nodule, slot: int, size: int) -> Iterator[tuple[Nodule, float]]:
    """Yield the slices of a nodule that a view may show, upwards."""
    if len(nodule.reads) < ENOUGH_READERS or slot not in {read.slot for read in nodule.reads}:
        return
    low, high = _box(nodule)
    if (high - low >= size - 4).any():
        return
    corner, shape = (int(low[0]), int(low[1])), (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    stacks = {read.slot: dict(zip(read.positions, read.masks(corner, shape), strict=True)) for read in nodule.reads}
    for z in nodule.positions:
        masks = {s: stack[z] for s, stack in stacks.items() if z in stack and stack[z].any()}
        wide = np.mean([_diameter(mask, scan.spacing) for mask in masks.values()] or [0.0])
        if slot in masks and len(masks) >= ENOUGH_READERS and wide >= SMALLEST_MM:
            yield nodule, z


def _view(scan: Scan, nodule: Nodule, z: float, slot: int, number: int, size: int, rng: np.random.Generator) -> View:
    """Return a view that holds the whole nodule, at a random place."""
    low, high = _box(nodule)
    first = np.maximum(high + 2 - size, 0)
    last = np.minimum(low - 1, MATRIX - size)
    i, j = (int(rng.integers(a, max(a, b) + 1)) for a, b in zip(first, last, strict=True))
    others = [other for other in scan.nodules if other is not nodule]
    drawn = [_drawn(one, z, (i, j), size) for one in (nodule, *others)]
    return View(scan, number, z, (i, j), size, slot, tuple(d for d in drawn if d.masks))


def _drawn(nodule: Nodule, z: float, corner: tuple[int, int], size: int) -> Drawn:
    masks = {read.slot: read.mask(z, corner, (size, size)) for read in nodule.reads if z in read.positions}
    return Drawn(nodule, {slot: mask for slot, mask in masks.items() if mask.any()})


def _box(nodule: Nodule) -> tuple[np.ndarray, np.ndarray]:
    boxes = [read.box() for read in nodule.reads]
    return np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)


def _diameter(mask: np.ndarray, spacing: float) -> float:
    """Return the diameter in mm of a disc of the mask's area."""
    return 2 * spacing * float(np.sqrt(mask.sum() / np.pi))
