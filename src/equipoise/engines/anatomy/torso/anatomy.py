"""Kind ``torso``: an adult's chest and upper abdomen as a label map, in three dimensions or as an axial slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from equipoise.core import Case, Geometry, LabelMap
from equipoise.engines.anatomy.torso.abdomen import paint_abdomen
from equipoise.engines.anatomy.torso.body import Person, Profiles
from equipoise.engines.anatomy.torso.breasts import paint_breasts
from equipoise.engines.anatomy.torso.canvas import Canvas
from equipoise.engines.anatomy.torso.filling import fill_body
from equipoise.engines.anatomy.torso.organs import paint_chest
from equipoise.engines.anatomy.torso.skeleton import paint_skeleton
from equipoise.engines.anatomy.torso.structures import ABDOMEN, CHANNEL, INSTANCE, MEDIASTINUM, SCHEME, index_of
from equipoise.engines.anatomy.torso.trees import paint_liver_vessels, paint_lung_vessels
from equipoise.engines.parts.legal import require_one_of, require_range, require_within
from equipoise.engines.parts.value_map import ValueMap
from equipoise.errors import PlanError

SEXES = ("any", "female", "male")


@dataclass(frozen=True)
class Torso:
    """Adults from the neck to the second lumbar vertebra: 39 structures, 119 objects, no two in one voxel.

    Every ellipsoid, bent tube and tree lies on profiles of the body along its length. I runs to the patient's left, J
    to the back, K upwards. K = 1 draws one axial slice.

    Parameters
    ----------
    size
        Voxels along I, J, K.
    spacing
        Of a voxel in mm; in a slice the third is its thickness.
    level_mm
        Range of the height of the grid's middle above the eighth thoracic vertebra, uniform: 0 shows the chest; a
        slice at 60 cuts the aortic arch, at -40 the four chambers, at -110 liver and spleen.
    sex
        ``"female"``, ``"male"``, or ``"any"`` for either with equal chance.
    age
        Range in years: kyphosis and depth of the chest, width and course of the aorta.
    bmi
        Range of the body-mass index in kg/m²: fat and width.
    stature_cm
        Range of the body height; a woman's is drawn 12 cm lower.
    breath
        Range of the breathing state, 0 full expiration to 1 full inspiration: the diaphragm moves by 48 mm.
    phase
        Range of the heart's phase, 0 end of diastole, 0.4 end of systole.
    vessel_ends
        Ends of the arteries, and of the veins, of each lung; 0 draws no vessel in lung or liver.
    arms
        ``"down"`` beside the chest, as in frontal films; ``"raised"`` above the head, as in CT and for lateral films.

    Notes
    -----
    128³ takes about 0.1 s on one thread and 256³ 0.4 s, at one byte per voxel. Volumes of organs follow ICRP 89 (lungs
    of men at full inspiration 5 to 7 l, liver 1.2 to 2.0 l, spleen 0.1 to 0.3 l, kidney 0.11 to 0.21 l, pancreas 0.06
    to 0.18 l), the left
    ventricle Maceira (142 ± 21 ml in men at the end of diastole), the aorta Hager. In inspiration the heart is less
    than half as wide as the chest.

    References
    ----------
    ICRP. Basic anatomical and physiological data for use in radiological protection. Publication 89, Ann ICRP 2002.
    Maceira AM et al. Normalized left ventricular systolic and diastolic function by steady state free precession
    cardiovascular magnetic resonance. J Cardiovasc Magn Reson 2006. doi:10.1080/10976640600572889
    Hager A et al. Diameters of the thoracic aorta throughout life as measured with helical computed tomography.
    J Thorac Cardiovasc Surg 2002. doi:10.1067/mtc.2002.122310
    """

    kind: ClassVar[str] = "torso"

    size: tuple[int, int, int] = (176, 120, 168)
    spacing: tuple[float, float, float] = (2.5, 2.5, 2.5)
    level_mm: tuple[float, float] = (-12.0, 8.0)
    sex: Literal["any", "female", "male"] = "any"
    age: tuple[float, float] = (22.0, 82.0)
    bmi: tuple[float, float] = (19.0, 33.0)
    stature_cm: tuple[float, float] = (166.0, 188.0)
    breath: tuple[float, float] = (0.55, 1.0)
    phase: tuple[float, float] = (0.0, 1.0)
    vessel_ends: int = 800
    arms: Literal["down", "raised"] = "down"

    def __post_init__(self) -> None:
        if len(self.size) != 3 or min(self.size) < 1:
            raise PlanError(f"torso.size = {self.size!r} is not possible; legal: three counts of 1 to 1024")
        if len(self.spacing) != 3:
            raise PlanError(f"torso.spacing = {self.spacing!r} is not possible; legal: three lengths of 0.3 to 50 mm")
        for axis, (count, step) in enumerate(zip(self.size, self.spacing, strict=True)):
            require_within(f"torso.size[{axis}]", count, 1, 1024, "voxels")
            require_within(f"torso.spacing[{axis}]", step, 0.3, 50, "mm")
        require_one_of("torso.sex", self.sex, SEXES)
        require_one_of("torso.arms", self.arms, ("down", "raised"))
        require_range("torso.level_mm", self.level_mm, -160, 160, "mm")
        require_range("torso.age", self.age, 18, 100, "years")
        require_range("torso.bmi", self.bmi, 15, 50, "kg/m²")
        require_range("torso.stature_cm", self.stature_cm, 140, 210, "cm")
        require_range("torso.breath", self.breath, 0, 1)
        require_range("torso.phase", self.phase, 0, 1)
        require_within("torso.vessel_ends", self.vessel_ends, 0, 20000)

    @property
    def parents(self) -> frozenset[str]:
        """Nobody: it learns nothing."""
        return frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Torso:
        """Return itself: anatomy from textbooks has no parents."""
        return self

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps."""
        for _ in range(n):
            (stream,) = rng.spawn(1)
            yield self._one(stream)

    def person(self, rng: np.random.Generator) -> Person:
        """Draw a person."""
        female = {"female": True, "male": False}.get(self.sex, bool(rng.random() < 0.5))
        stature = float(rng.uniform(*self.stature_cm)) - (12 if female else 0)
        age, bmi, breath, phase = (float(rng.uniform(*r)) for r in (self.age, self.bmi, self.breath, self.phase))
        who = Person.of(female, age, bmi, stature, breath, phase, rng)
        return replace(who, arms_raised=self.arms == "raised")

    def _one(self, rng: np.random.Generator) -> LabelMap:
        who, place, shape, bones, chest, belly, trees, breasts = rng.spawn(8)
        person = self.person(who)
        level = float(place.uniform(*self.level_mm))
        profiles = Profiles.of(person, shape)
        # Painted in the reference's coordinates: the person's own are these times the scale.
        step = np.array(self.spacing) / person.scale
        middle = np.array([0.0, -4.0, level]) / [1.0, 1.0, person.scale[2]]
        origin = middle - (np.array(self.size) - 1) / 2 * step
        canvas = Canvas(np.zeros(self.size, np.uint8), origin, step)
        fill_body(canvas.values, origin, step, profiles)
        if person.female:
            paint_breasts(canvas, person, profiles, breasts)
        paint_skeleton(canvas, person, profiles, bones)
        paint_chest(canvas, person, profiles, chest)
        paint_abdomen(canvas, person, profiles, belly)
        if self.vessel_ends:
            paint_lung_vessels(canvas, profiles, self.vessel_ends, trees)
            paint_liver_vessels(canvas, profiles, max(self.vessel_ends // 3, 1), trees)
        rest = np.arange(256, dtype=np.uint8)
        rest[[MEDIASTINUM, ABDOMEN]] = index_of("fat")
        voxels = ValueMap(rest[canvas.values], CHANNEL, INSTANCE, len(SCHEME.labels))
        left, back, up = self.spacing
        affine = np.diag([-left, -back, up, 1.0])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(self.size) - 1) / 2) + [0, 0, level]
        return LabelMap.on(Geometry(self.size, affine), voxels, SCHEME)


__all__ = ["Torso"]
