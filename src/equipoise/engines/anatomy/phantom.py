"""Kind ``phantom``: procedural label maps of lung nodules and, where asked for, of what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Geometry, LabelMap, LabelScheme
from equipoise.engines.parts.attenuation import require
from equipoise.engines.parts.grid import Grid
from equipoise.engines.parts.lung import LungModel
from equipoise.engines.parts.nodule import Nodule, diameters_of, draw_diameter, draw_nodule, paint
from equipoise.errors import DataError, LabelError, PlanError, did_you_mean

SURROUNDINGS = ("vessel", "chest wall", "lung")
ELONGATIONS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.9)
"""Tried against the objects of the training cases."""
SHAPELESS_BELOW, MOST_SHAPES = 12, 50
"""Voxels of an object below which its shape is the grid's, and objects that are compared with drawn ones."""


Seen = tuple[float, tuple[float, float, float]]


@dataclass(frozen=True)
class LearnedShapes:
    """What `Phantom.fit` takes from real label maps.

    Parameters
    ----------
    maps
        Of each training case its grid and, of each object, the logarithm of the diameter in mm and the centre, from
        the grid's centre, as a share of half the grid's extent along I, J, K.
    elongation
        Of the nodules that look as stretched as the objects do; ``None`` where no object is large enough to tell.
    scheme
        Their labels.
    nodule
        Which of the labels is the nodule; the others surround it.
    """

    maps: tuple[tuple[Geometry, tuple[Seen, ...]], ...]
    elongation: float | None
    scheme: LabelScheme
    nodule: str

    def draw(self, rng: np.random.Generator) -> tuple[Geometry, list[tuple[float, np.ndarray]]]:
        """Draw a grid, and diameters in mm and places (see above) as of one training case, or of one of its objects.

        A smoothed bootstrap (Silverman's rule): what lies between those seen is possible.
        """
        everything = [seen for _, found in self.maps for seen in found]
        geometry, found = self.maps[int(rng.integers(len(self.maps)))]
        narrow = 0.9 * len(everything) ** -0.2
        size_sd = narrow * float(np.std([size for size, _ in everything]))
        # Wider, it would fill what lies between two places that are usual.
        place_sd = np.minimum(narrow * np.std([place for _, place in everything], axis=0), 0.1)
        drawn = []
        for size, place in found or [everything[int(rng.integers(len(everything)))]]:
            moved = np.clip(np.array(place) + place_sd * rng.standard_normal(3), -1, 1)
            drawn.append((float(np.exp(size + size_sd * rng.standard_normal())), moved))
        return geometry, drawn


@dataclass(frozen=True)
class Phantom:
    """Nodules as ellipsoids with lobules and spicules, at 3 to 30 mm, in 2-D slices or in volumes.

    Parameters
    ----------
    size
        Voxels along I, J, K; K = 1 draws a slice through the nodule.
    spacing
        Of a voxel in mm; in a slice the third is its thickness.
    structures
        Labels to draw: the first is the nodule, under any name; ``"vessel"``, ``"chest wall"`` and ``"lung"`` may
        follow (extended label map).
    nodules
        Mean number in a map, at least 1 is drawn (1 + Poisson).
    diameter_mm
        Median of the log-normal distribution of diameters.
    diameter_spread
        Standard deviation of the logarithm.
    elongation
        Standard deviation of the logarithm of the half axes.
    lobulation
        Standard deviation of the radius by lobules, as a fraction of it.
    spicules
        Mean number of spicules.
    offset_mm
        Largest distance of the first nodule from the centre, in plane.
    vessels, pleural, wall_mm, fed
        Of the surroundings, where they are drawn: see `LungModel`.
    learn
        Whether `fit` replaces grids, label names, and the nodules' sizes, elongation, numbers and places by those of
        the training cases, whose patients then become parents. Without it the anatomy has no parents.

    References
    ----------
    Hansell DM et al. Fleischner Society: glossary of terms. Radiology 2008. doi:10.1148/radiol.2462070712
    """

    kind: ClassVar[str] = "phantom"

    size: tuple[int, int, int] = (96, 96, 1)
    spacing: tuple[float, float, float] = (0.7, 0.7, 1.25)
    structures: tuple[str, ...] = ("nodule",)
    nodules: float = 1.0
    diameter_mm: float = 9.0
    diameter_spread: float = 0.5
    elongation: float = 0.15
    lobulation: float = 0.08
    spicules: float = 1.5
    offset_mm: float = 6.0
    vessels: float = 600.0
    pleural: float = 0.2
    wall_mm: float = 30.0
    fed: float = 0.35
    learn: bool = True
    _learned: LearnedShapes | None = field(default=None, repr=False, compare=False)
    _parents: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def __post_init__(self) -> None:
        require(len(self.size) == 3 and min(self.size) >= 1, f"size must be three counts of 1 or more, got {self.size}")
        require(min(self.spacing) > 0, f"spacing must be above 0 mm, got {self.spacing}")
        require(self.nodules >= 1, f"nodules must be 1 or more, got {self.nodules}")
        require(self.diameter_mm > 0, f"diameter_mm must be above 0, got {self.diameter_mm}")
        for name in ("diameter_spread", "elongation", "lobulation", "spicules", "offset_mm", "vessels", "wall_mm"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("pleural", "fed"):
            require(0 <= getattr(self, name) <= 1, f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        require(len(self.structures) > 0, "structures must name at least the nodule")
        for name in self.structures[1:]:
            if name not in SURROUNDINGS:
                raise PlanError(f"phantom cannot draw {name!r}.{did_you_mean(name, SURROUNDINGS)}")

    @property
    def parents(self) -> frozenset[str]:
        """The patients that grids, sizes, numbers and places were learned from."""
        return self._parents

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Phantom:
        """Return an anatomy with grids, labels, sizes and places of the cases, or itself if ``learn`` is off.

        Raises
        ------
        DataError
            If there is no case, not one label besides those of the surroundings, or no object.
        LabelError
            If the cases do not share one label scheme.
        """
        if not self.learn:
            return self
        if not cases:
            raise DataError("phantom got no case to learn from", fix="give training cases, or set learn = false")
        scheme = cases[0].labels.scheme
        own = [label for label in scheme.labels if label.name not in SURROUNDINGS]
        if len(own) != 1:
            raise DataError(
                f"phantom draws one kind of object and {', '.join(SURROUNDINGS)}, the cases have labels {scheme.names}",
                fix="train on one label and its surroundings, or give the engine label maps and this anatomy "
                'learn = false: anatomy = { kind = "phantom", learn = false }',
            )
        seen = []
        for case in cases:
            if case.labels.scheme != scheme:
                raise LabelError(
                    f"case {case.id!r} has labels {case.labels.scheme.as_dict()}, the first one {scheme.as_dict()}",
                    file=case.file,
                    fix="use one label scheme for all training cases",
                )
            seen.append((case.labels.geometry, _objects(case.labels, own[0].name)))
        if not any(found for _, found in seen):
            raise DataError("no training label map holds an object", fix="check the masks, or set learn = false")
        elongation = self._elongation_of(cases, own[0].name, rng)
        learned = LearnedShapes(tuple(seen), elongation, scheme, own[0].name)
        return replace(self, _learned=learned, _parents=frozenset().union(*(case.people for case in cases)))

    def _elongation_of(self, cases: Sequence[Case], name: str, rng: np.random.Generator) -> float | None:
        """Return the elongation at which drawn nodules look as stretched, on the mean, as the objects of a label."""
        wanted, shown = [], []
        for mask, voxel in islice(_masks(cases, name, rng), MOST_SHAPES):
            flat = mask.shape[2] == 1
            size = float(mask.sum() * np.prod(voxel[:2] if flat else voxel))
            diameter = float(2 * np.sqrt(size / np.pi) if flat else np.cbrt(6 * size / np.pi))
            i, j, k = (int(np.ceil(4 * diameter / x)) for x in voxel)
            grid = Grid((i, j, 1 if flat else k), voxel)
            seed = int(rng.integers(2**63))  # the same shapes, stretched more and more
            shown.append([self._stretch_drawn(e, diameter, grid, np.random.default_rng(seed)) for e in ELONGATIONS])
            wanted.append(stretch_of(mask, voxel))
        if not wanted:
            return None
        return float(np.interp(np.mean(wanted), np.maximum.accumulate(np.mean(shown, axis=0)), ELONGATIONS))

    def _stretch_drawn(self, elongation: float, diameter: float, grid: Grid, rng: np.random.Generator) -> float:
        """Return the mean stretch of four nodules."""
        shape = (diameter, elongation, self.lobulation, self.spicules)
        drawn = [paint([draw_nodule(np.zeros(3), *shape, rng)], grid) for _ in range(4)]
        return float(np.mean([stretch_of(instances > 0, grid.voxel) for instances in drawn]))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps; every one holds at least one nodule voxel."""
        for _ in range(n):
            yield self._one(*rng.spawn(1))

    def _one(self, rng: np.random.Generator) -> LabelMap:
        if self._learned:
            scheme, nodule = self._learned.scheme, self._learned.nodule
            geometry, like = self._learned.draw(rng)
            grid = Grid(geometry.shape, geometry.spacing)
            drawn = [self._nodule_like(size, place, grid, rng) for size, place in like]
        else:
            scheme, nodule = LabelScheme.of(self.structures, exclusive=len(self.structures) == 1), self.structures[0]
            geometry = Geometry.from_spacing(self.size, self.spacing)
            grid = Grid(geometry.shape, geometry.spacing)
            drawn = [self._nodule(k, grid, rng) for k in range(1 + int(rng.poisson(self.nodules - 1)))]
        masks = {nodule: paint(drawn, grid)}
        if len(scheme.labels) > 1:
            masks |= self._surroundings(masks[nodule], drawn, grid, scheme.exclusive, rng)
        return LabelMap.on(geometry, np.stack([masks[name] for name in scheme.names]), scheme)

    def _nodule_like(self, diameter: float, place: np.ndarray, grid: Grid, rng: np.random.Generator) -> Nodule:
        """Draw a nodule of a learned size at a learned place, its centre and most of it in the picture."""
        known = self._learned.elongation if self._learned else None
        centre = place * grid.half
        if grid.shape[2] == 1:
            centre[2] = 0.0  # what was measured in a slice is the size of the cut, not of what was cut
        inner = np.maximum(grid.half - diameter / 4, 0)
        centre[:2] = np.clip(centre[:2], -inner[:2], inner[:2])
        elongation = self.elongation if known is None else known
        return draw_nodule(centre, diameter, elongation, self.lobulation, self.spicules, rng)

    def _nodule(self, index: int, grid: Grid, rng: np.random.Generator) -> Nodule:
        diameter = draw_diameter(self.diameter_mm, self.diameter_spread, rng)
        angle, away = rng.uniform(0, 2 * np.pi), self.offset_mm * np.sqrt(rng.random())
        # Later ones lie anywhere; all keep their centre, and in a slice a chord of the nodule, in the picture.
        inner = np.maximum(grid.half - diameter / 2, 0)
        place = (
            np.array([away * np.cos(angle), away * np.sin(angle)]) if index == 0 else inner[:2] * rng.uniform(-1, 1, 2)
        )
        place = np.clip(place, -inner[:2], inner[:2])
        depth = inner[2] * rng.uniform(-0.5, 0.5) + (diameter / 4 * rng.uniform(-1, 1) if grid.shape[2] == 1 else 0.0)
        centre = np.array([*place, depth])
        return draw_nodule(centre, diameter, self.elongation, self.lobulation, self.spicules, rng)

    def _surroundings(
        self, instances: np.ndarray, nodules: list[Nodule], grid: Grid, exclusive: bool, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draw what surrounds the nodules; in an exclusive scheme the lung is what nothing else is."""
        model = LungModel(0.0, self.vessels, self.pleural, self.wall_mm, self.fed)
        i, j = np.nonzero(instances.any(axis=2))
        points = np.column_stack([grid.axis(0)[i], grid.axis(1)[j]])
        around = model.draw(grid, points, [(x.center, x.radius) for x in nodules], rng)
        free = instances == 0
        wall = (around.wall > 0.5) & free
        vessel = (around.vessel > 0.5) & ~wall & free
        lung = ~wall & ~vessel & free if exclusive else ~wall
        named = zip(SURROUNDINGS, (vessel, wall, lung), strict=True)
        return {name: mask.astype(np.uint8) for name, mask in named}


def stretch_of(mask: np.ndarray, voxel: tuple[float, float, float]) -> float:
    """Return the logarithm of an object's longest half axis over its shortest, from its second moments.

    Parameters
    ----------
    mask
        Shape ``(I, J, K)``; with K = 1 the two axes in the slice count.
    voxel
        Its size in mm.
    """
    axes = slice(0, 2 if mask.shape[2] == 1 else 3)
    size = np.array(voxel)[axes]
    at = np.argwhere(mask)[:, axes] * size
    # A voxel is a box, not a point: its own variance counts.
    variances = np.linalg.eigvalsh((np.cov(at.T) if len(at) > 1 else 0.0) + np.diag(size**2 / 12))
    return float(0.5 * np.log(variances[-1] / variances[0]))


def _masks(
    cases: Sequence[Case], name: str, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, tuple[float, float, float]]]:
    """Yield masks and voxel sizes of objects that are large enough to have a shape, of the cases in random order."""
    for k in rng.permutation(len(cases)):
        labels = cases[int(k)].labels
        instances = labels.instances(name)
        for box, number in zip(ndimage.find_objects(instances), range(1, int(instances.max()) + 1), strict=True):
            if box is not None and (instances[box] == number).sum() >= SHAPELESS_BELOW:
                yield instances[box] == number, labels.spacing


def _objects(labels: LabelMap, name: str) -> tuple[Seen, ...]:
    """Return the logarithm of the diameter and the place of every object of a label, see `LearnedShapes`."""
    channel = labels.scheme.channel(name)
    alone = LabelMap.on(labels.geometry, labels.array[channel : channel + 1], LabelScheme.of([name]))
    instances = labels.array[channel]
    middle = (np.array(instances.shape) - 1) / 2
    found = []
    for number, diameter in zip(np.unique(instances[instances > 0]), diameters_of(alone), strict=True):
        i, j, k = (np.argwhere(instances == number).mean(axis=0) - middle) / (np.array(instances.shape) / 2)
        found.append((float(np.log(diameter)), (float(i), float(j), float(k))))
    return tuple(found)
