"""Kind ``head``: a procedural head from skin to ventricles, at any age, on any grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import fft

from equipoise.core import Case, Geometry, LabelMap
from equipoise.engines.anatomy.head.atlas import LANDMARKS_MM, SCHEME, by_age
from equipoise.engines.anatomy.head.voxels import paint
from equipoise.engines.parts.legal import SPACING_MM, require_one_of, require_range, require_within
from equipoise.engines.parts.warp import node_counts, smooth_field
from equipoise.errors import PlanError

LATTICE, LATTICE_MM = 64, 2.5
"""Nodes per axis of the periodic folding field, and their distance."""


@dataclass(frozen=True)
class Head:
    """A head: scalp, skull with marrow, CSF, folded cortex, white matter, deep nuclei, ventricles, hindbrain, face.

    The cortex is folded: sulci are sheets that run inwards from where a band-limited random field on the brain's shell
    changes its sign, so that gyri have a typical width and no two heads the same pattern.

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
    Ranges: cortex 2.2 to 2.9 mm (Fischl and Dale 2000); skull 5 to 9 mm (Lillie 2016); volumes of nuclei, hippocampus
    and ventricles by age after Potvin 2016 and Fjell and Walhovd 2010. A head of 128³ takes about half a second.

    References
    ----------
    See `equipoise.engines.anatomy.head.atlas`. Random waves that fold: Berry MV. Regular and irregular semiclassical
    wavefunctions. J Phys A 1977;10:2083. doi:10.1088/0305-4470/10/12/016
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
        lattice = folding_field(person.uniform(*self.fold_mm), folds)
        paint(matrix, offset, self._bend(bends), *lattice, LATTICE_MM, (*(ages[n] for n in order), bone, scalp), out)
        return LabelMap.from_values(Geometry(self.size, affine), out, SCHEME)

    def _bend(self, rng: np.random.Generator) -> np.ndarray:
        """Return the smooth deformation in mm, float32 ``(3, *size)``: never steep enough to fold tissue."""
        grain = 32.0
        step = tuple(max(grain / s, 1.0) for s in self.spacing)
        nodes = rng.standard_normal((3, *node_counts(self.size, step)), np.float32)
        nodes *= np.float32(1.7 * self.variation_mm)  # what a spline averages away
        np.clip(nodes, -0.4 * grain, 0.4 * grain, out=nodes)
        return smooth_field(nodes, step, self.size)


AVERAGE_ML = 1730.0
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


def folding_field(wave_mm: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a periodic random field of variance 1 with waves of about one length, and its gradient per mm.

    Parameters
    ----------
    wave_mm
        Mean wave length; the band is ± 12 % (SD) wide.

    Returns
    -------
    tuple
        Four float32 arrays ``(LATTICE,) * 3`` with nodes `LATTICE_MM` apart.
    """
    n = LATTICE
    along = 2 * np.pi * fft.fftfreq(n, LATTICE_MM)
    last = 2 * np.pi * fft.rfftfreq(n, LATTICE_MM)
    a, b, c = along[:, None, None], along[None, :, None], last[None, None, :]
    wave = np.sqrt(a**2 + b**2 + c**2)
    middle = 2 * np.pi / wave_mm
    gain = np.exp(-0.5 * ((wave - middle) / (0.12 * middle)) ** 2)
    spectrum = fft.rfftn(rng.standard_normal((n, n, n))) * gain
    field = fft.irfftn(spectrum, (n, n, n))
    scale = 1 / field.std()
    slopes = [fft.irfftn(1j * k * spectrum, (n, n, n)) * scale for k in (a, b, c)]
    value, gx, gy, gz = (np.ascontiguousarray(x, np.float32) for x in (field * scale, *slopes))
    return value, gx, gy, gz


__all__ = ["Head", "folding_field"]
