"""Kind ``phantom``: procedural label maps of lung nodules and, where asked for, of what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from equipoise.core import Case, Geometry, LabelMap, LabelScheme
from equipoise.engines.parts.attenuation import require
from equipoise.engines.parts.lung import Grid, LungModel
from equipoise.engines.parts.nodule import Nodule, diameters_of, draw_diameter, draw_nodule, paint
from equipoise.errors import DataError, PlanError, did_you_mean

SURROUNDINGS = ("vessel", "chest wall", "lung")


@dataclass(frozen=True)
class LearnedShapes:
    """What `Phantom.fit` takes from real label maps.

    Parameters
    ----------
    log_diameters
        Logarithm of each object's diameter in mm.
    geometries
        One grid of each training case.
    scheme
        Their labels.
    """

    log_diameters: tuple[float, ...]
    geometries: tuple[Geometry, ...]
    scheme: LabelScheme


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
        Whether `fit` replaces grid, label names and sizes by those of the training cases, whose patients then become
        parents. Without it the anatomy has no parents.

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
    _learned: LearnedShapes | None = field(default=None, repr=False)
    _parents: frozenset[str] = field(default=frozenset(), repr=False)

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
        """The patients that sizes and grids were learned from."""
        return self._parents

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Phantom:
        """Return an anatomy with the sizes, the grids and the label name of the cases, or itself if ``learn`` is off.

        Raises
        ------
        DataError
            If no case has a label map with one label, or none of them holds an object.
        """
        if not self.learn:
            return self
        maps = [case.labels for case in cases]
        if not maps or len(maps[0].scheme.labels) != 1:
            raise DataError(
                f"phantom learns from label maps with one label, got {len(maps)} cases"
                + (f" with labels {maps[0].scheme.names}" if maps else ""),
                fix="set anatomy = 'real' to use the training label maps themselves, or learn = false",
            )
        diameters = tuple(float(np.log(d)) for m in maps for d in diameters_of(m))
        if not diameters:
            raise DataError("no training label map holds an object", fix="check the masks, or set learn = false")
        learned = LearnedShapes(diameters, tuple(m.geometry for m in maps), maps[0].scheme)
        return replace(self, _learned=learned, _parents=frozenset().union(*(case.people for case in cases)))

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps; every one holds at least one nodule voxel."""
        for stream in rng.spawn(n):
            yield self._one(stream)

    def _one(self, rng: np.random.Generator) -> LabelMap:
        learned = self._learned
        scheme = learned.scheme if learned else LabelScheme.of(self.structures, exclusive=False)
        if learned:
            geometry = learned.geometries[int(rng.integers(len(learned.geometries)))]
        else:
            geometry = Geometry.from_spacing(self.size, self.spacing)
        grid = Grid(geometry.shape, geometry.spacing)
        drawn = [self._nodule(k, grid, rng) for k in range(1 + int(rng.poisson(self.nodules - 1)))]
        instances = paint(drawn, grid)
        channels = [instances]
        if len(scheme.labels) > 1:
            channels += self._surroundings(scheme.names[1:], instances, drawn, grid, rng)
        return LabelMap.on(geometry, np.stack(channels), scheme)

    def _nodule(self, index: int, grid: Grid, rng: np.random.Generator) -> Nodule:
        if self._learned:  # smoothed bootstrap (Silverman's rule): sizes between those seen are possible
            known = self._learned.log_diameters
            width = 1.06 * float(np.std(known)) * len(known) ** -0.2
            diameter = float(np.exp(rng.choice(known) + width * rng.standard_normal()))
        else:
            diameter = draw_diameter(self.diameter_mm, self.diameter_spread, rng)
        angle, away = rng.uniform(0, 2 * np.pi), self.offset_mm * np.sqrt(rng.random())
        # Later ones lie anywhere; all keep their centre, and in a slice a chord of the nodule, in the picture.
        inner = np.maximum(grid.half - diameter / 2, 0)
        place = (
            np.array([away * np.cos(angle), away * np.sin(angle)]) if index == 0 else inner[:2] * rng.uniform(-1, 1, 2)
        )
        place = np.clip(place, -inner[:2], inner[:2])
        depth = inner[2] * rng.uniform(-0.5, 0.5) + (diameter / 4 * rng.uniform(-1, 1) if grid.shape[2] == 1 else 0.0)
        center = np.array([*place, depth])
        return draw_nodule(center, diameter, self.elongation, self.lobulation, self.spicules, rng)

    def _surroundings(
        self, names: Sequence[str], instances: np.ndarray, nodules: list[Nodule], grid: Grid, rng: np.random.Generator
    ) -> list[np.ndarray]:
        model = LungModel(0.0, self.vessels, self.pleural, self.wall_mm, self.fed)
        i, j = np.nonzero(instances.any(axis=2))
        points = np.column_stack([grid.axis(0)[i], grid.axis(1)[j]])
        around = model.draw(grid, points, [(x.center, x.radius) for x in nodules], rng)
        wall = (around.wall > 0.5) & (instances == 0)
        masks = {"vessel": (around.vessel > 0.5) & ~wall & (instances == 0), "chest wall": wall, "lung": ~wall}
        return [masks[name].astype(np.uint8) for name in names]
