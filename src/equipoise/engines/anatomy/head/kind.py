"""Kind ``head``: a procedural head from skin to ventricles, at any age, on any grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from equipoise.core import Case, Geometry, LabelMap
from equipoise.engines.anatomy.head.atlas import LANDMARKS_MM, SCHEME, by_age
from equipoise.engines.anatomy.head.cortex import folding_waves
from equipoise.engines.anatomy.head.hemisphere import head_space, hemisphere
from equipoise.engines.anatomy.head.voxels import paint
from equipoise.engines.parts.legal import SPACING_MM, require_one_of, require_range, require_within
from equipoise.engines.parts.warp import node_counts, smooth_field
from equipoise.errors import PlanError


@dataclass(frozen=True)
class Head:
    """A head: scalp, skull with marrow, CSF, folded cortex, white matter, deep nuclei, ventricles, hindbrain, face.

    The cortex is folded along the primary sulci (central, superior temporal, cingulate, calcarine …), which lie where
    atlases have them, and along deep and shallow ones that are drawn, so that no two heads have the same pattern. The
    lateral fissure with the insula, the fissure between the hemispheres and the leaves of the cerebellum are all there.

    Parameters
    ----------
    size
        Voxels along I, J, K, which are right, anterior, superior; K = 1 is an axial slice.
    spacing
        Of a voxel in mm.
    centre
        What the grid is centred on: ``"head"``, ``"brain"``, ``"hippocampus"`` (right one), ``"left hippocampus"``,
        ``"ventricle"``, ``"basal ganglia"``, ``"cerebellum"``.
    jitter_mm
        Largest shift of the grid from there, along each axis.
    age
        Range in years, 20 to 95. Cortex thins, sulci and ventricles widen, the hippocampus shrinks after 60.
    atrophy
        Range from 0, none beyond age, to 1, severe dementia or hydrocephalus ex vacuo.
    intracranial_ml
        Range of the volume within the skull, mL: 1,150 to 1,800 covers adults of both sexes.
    fold_mm
        Range of the wave length of the folds, twice the width of a gyrus.
    skull_mm, scalp_mm
        Ranges of their thickness.
    tilt_degrees
        Standard deviation of the head's turn about each axis.
    variation_mm
        Standard deviation of the smooth deformation that makes each head another.

    Notes
    -----
    Ranges: cortex about 2.7 mm on gyri and 2.2 mm in sulci, thinning with age (Fischl and Dale 2000); gyrification
    index of a hemisphere near 2.55 (Zilles 1988); sulci to 20 mm and more (Ono 1990), wider with age (Kochunov 2005);
    skull 5 to 9 mm (Lillie 2016); volumes of nuclei, hippocampus and ventricles by age after Potvin 2016 and Fjell and
    Walhovd 2010. A head of 128³ takes about half a second; the first one of a process a second more.

    References
    ----------
    Zilles K, Armstrong E, Schleicher A, Kretschmann HJ. The human pattern of gyrification in the cerebral cortex. Anat
    Embryol 1988;179:173.
    Kochunov P, Mangin JF, Coyle T, et al. Age-related morphology trends of cortical sulci. Hum Brain Mapp 2005;26:210.
    doi:10.1002/hbm.20198
    The others: see `equipoise.engines.anatomy.head.atlas`, `hemisphere` and `cortex`.
    """

    kind: ClassVar[str] = "head"

    size: tuple[int, int, int] = (128, 128, 128)
    spacing: tuple[float, float, float] = (1.7, 1.7, 1.7)
    centre: str = "head"
    jitter_mm: float = 3.0
    age: tuple[float, float] = (20.0, 90.0)
    atrophy: tuple[float, float] = (0.0, 0.4)
    intracranial_ml: tuple[float, float] = (1250.0, 1650.0)
    fold_mm: tuple[float, float] = (18.0, 23.0)
    skull_mm: tuple[float, float] = (5.0, 8.0)
    scalp_mm: tuple[float, float] = (5.0, 8.0)
    tilt_degrees: float = 3.0
    variation_mm: float = 2.0

    def __post_init__(self) -> None:
        if len(self.size) != 3 or not all(isinstance(n, int) and 1 <= n <= 1024 for n in self.size):
            raise PlanError(f"head.size = {self.size!r} is not possible; legal: three counts from 1 to 1024 voxels")
        if len(self.spacing) != 3:
            raise PlanError(f"head.spacing = {self.spacing!r} is not possible; legal: three lengths in mm")
        for s in self.spacing:
            require_within("head.spacing", s, *SPACING_MM, "mm")
        require_one_of("head.centre", self.centre, LANDMARKS_MM)
        require_within("head.jitter_mm", self.jitter_mm, 0, 50, "mm")
        require_range("head.age", self.age, 20, 95, "years")
        require_range("head.atrophy", self.atrophy, 0, 1)
        require_range("head.intracranial_ml", self.intracranial_ml, 1000, 2000, "mL")
        require_range("head.fold_mm", self.fold_mm, 14, 40, "mm")
        require_range("head.skull_mm", self.skull_mm, 3, 12, "mm")
        require_range("head.scalp_mm", self.scalp_mm, 3, 15, "mm")
        require_within("head.tilt_degrees", self.tilt_degrees, 0, 30, "degrees")
        require_within("head.variation_mm", self.variation_mm, 0, 5, "mm")

    @property
    def parents(self) -> frozenset[str]:
        """Nobody: it is drawn from the literature."""
        return frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Head:
        """Return self: a procedural head learns nothing."""
        return self

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps."""
        for _ in range(n):
            yield self._one(*rng.spawn(1))

    def _one(self, rng: np.random.Generator) -> LabelMap:
        pose, person, folds, bends = rng.spawn(4)
        middle = np.array(LANDMARKS_MM[self.centre]) + self.jitter_mm * pose.uniform(-1, 1, 3)
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = middle - 0.5 * (np.array(self.size) - 1) * np.array(self.spacing)
        turn = _rotation(np.radians(self.tilt_degrees) * np.clip(pose.standard_normal(3), -2, 2))
        wanted = person.uniform(*self.intracranial_ml)
        stretch = np.cbrt(wanted / AVERAGE_ML) * np.exp(0.025 * np.clip(person.standard_normal(3), -2, 2))
        matrix = np.diag(1 / stretch) @ turn @ affine[:3, :3]
        offset = np.diag(1 / stretch) @ turn @ (affine[:3, 3] - TURNED_ABOUT_MM) + TURNED_ABOUT_MM
        ages = by_age(person.uniform(*self.age), person.uniform(*self.atrophy))
        ages = {name: value * person.uniform(0.93, 1.07) for name, value in ages.items()}
        bone, scalp = person.uniform(*self.skull_mm), person.uniform(*self.scalp_mm)
        order = ("gap", "width", "thickness", "ventricles", "hippocampus", "nuclei")
        out = np.empty(self.size, np.uint8)
        waves = folding_waves(person.uniform(*self.fold_mm), folds)
        size = np.array([*(ages[name] for name in order), bone, scalp])
        paint(matrix, offset, self._bend(bends), head_space(), hemisphere(), *waves, size, out)
        return LabelMap.from_values(Geometry(self.size, affine), out, SCHEME)

    def _bend(self, rng: np.random.Generator) -> np.ndarray:
        """Return the smooth deformation in mm, float32 ``(3, *size)``: never steep enough to fold tissue."""
        grain = 32.0
        step = tuple(max(grain / s, 1.0) for s in self.spacing)
        nodes = rng.standard_normal((3, *node_counts(self.size, step)), np.float32)
        nodes *= np.float32(1.7 * self.variation_mm)  # what a spline averages away
        np.clip(nodes, -0.4 * grain, 0.4 * grain, out=nodes)
        return smooth_field(nodes, step, self.size)


AVERAGE_ML = 1625.0
"""Volume within the skull of the average head of the atlas."""
TURNED_ABOUT_MM = np.array([0.0, -20.0, 0.0])


def _rotation(angles: np.ndarray) -> np.ndarray:
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        p, q = [a for a in range(3) if a != axis]
        one = np.eye(3)
        one[p, p] = one[q, q] = math.cos(angle)
        one[p, q], one[q, p] = math.sin(angle), -math.sin(angle)
        turn = turn @ one
    return turn
