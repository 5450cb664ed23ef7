"""Kind ``breast-and-neck``: label maps of what lies under an ultrasound probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from equipoise.core import Case, Geometry, LabelMap, LabelScheme
from equipoise.engines.anatomy.breast_and_neck import breast, fetal_head, neck
from equipoise.engines.anatomy.breast_and_neck.canvas import Canvas
from equipoise.engines.parts.legal import SPACING_MM, require_one_of, require_range, require_within
from equipoise.errors import PlanError

SCENES = ("breast", "neck", "fetal head")
BLOCK_MM = 38.0
"""Width of a breast or neck that is drawn if no spacing is stated: that of a linear probe."""
HEADS = (1.2, 1.8)
"""Width of the block in lengths of the head, if no spacing is stated: the operator zooms."""


@dataclass(frozen=True)
class BreastAndNeck:
    """A block of soft tissue under the probe: a breast, a neck at the thyroid, or a fetal head in the uterus.

    I runs across the probe and J into the depth, K along the sweep; every voxel is labelled. In ``"fetal head"`` the
    label of that name is the whole head as it is measured, and the others lie in it.

    Parameters
    ----------
    scene
        ``"breast"``, ``"neck"`` or ``"fetal head"``.
    size
        Voxels along I, J, K; K above 1 is a stack of frames.
    spacing
        Of a voxel in mm; ``None`` takes 38 mm across for breast and neck and 1.2 to 1.8 head lengths for the fetal
        head, square pixels, frames 0.5 mm apart.
    lesions
        Kinds that may be drawn, in breast and neck: ``"cyst"``, ``"fibroadenoma"``, ``"carcinoma"`` in the breast,
        ``"nodule"``, ``"cyst"`` in the thyroid; ``None`` is all that the scene has.
    number
        Mean number of lesions in a block (Poisson).
    diameter_mm
        Range of the lesions' diameters, uniform on the logarithm.
    weeks
        Range of gestational ages; the head's size follows from it.

    References
    ----------
    Ranges of layers and organs are in the modules of the scenes, each with its source or marked as assumed.
    """

    kind: ClassVar[str] = "breast-and-neck"

    scene: str = "breast"
    size: tuple[int, int, int] = (256, 256, 1)
    spacing: tuple[float, float, float] | None = None
    lesions: tuple[str, ...] | None = None
    number: float = 1.0
    diameter_mm: tuple[float, float] = (4.0, 16.0)
    weeks: tuple[float, float] = (14.0, 38.0)

    def __post_init__(self) -> None:
        require_one_of("scene", self.scene, SCENES)
        if len(self.size) != 3 or not all(isinstance(n, int) and n >= 1 for n in self.size) or min(self.size[:2]) < 8:
            raise PlanError(
                f"size = {self.size!r} is not possible; legal: three counts, 8 or more along I and J",
                fix="set size = [256, 256, 1] for a picture",
            )
        for axis, step in zip("IJK", self.spacing or (), strict=False):
            require_within(f"spacing along {axis}", step, *SPACING_MM, "mm")
        if self.spacing is not None and len(self.spacing) != 3:
            raise PlanError(f"spacing = {self.spacing!r} is not three numbers", fix="set spacing = [0.15, 0.15, 0.5]")
        for name in self.lesions or ():
            if self.scene == "fetal head":
                raise PlanError("a fetal head is drawn without lesions", fix="leave out `lesions`")
            require_one_of("lesions", name, self._module().LESIONS)
        require_within("number", self.number, 0.0, 20.0, "per block")
        require_range("diameter_mm", self.diameter_mm, 0.2, 100.0, "mm")
        require_range("weeks", self.weeks, 14.0, 39.0, "weeks")

    @property
    def parents(self) -> frozenset[str]:
        """Nobody: it learns nothing."""
        return frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> BreastAndNeck:
        """Return itself: anatomy from the literature learns nothing."""
        return self

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps."""
        for _ in range(n):
            yield self._one(*rng.spawn(1))

    def _module(self) -> ModuleType:
        return {"breast": breast, "neck": neck, "fetal head": fetal_head}[self.scene]

    def _one(self, rng: np.random.Generator) -> LabelMap:
        weeks, zoom = float(rng.uniform(*self.weeks)), float(rng.uniform(*HEADS))
        width = BLOCK_MM if self.scene != "fetal head" else zoom * fetal_head.biparietal_mm(weeks) / fetal_head.INDEX
        spacing = self.spacing or (width / self.size[0], width / self.size[0], 0.5)
        scheme = LabelScheme(self._module().LABELS, exclusive=self.scene != "fetal head")
        canvas = Canvas(self.size, spacing, scheme.names)
        if self.scene == "fetal head":
            whole = fetal_head.draw(canvas, weeks, rng)
            masks = canvas.masks()
            masks[scheme.channel("fetal head")] = whole
        else:
            self._module().draw(canvas, self._lesions(rng), rng)
            masks = canvas.masks()
        return LabelMap.on(Geometry.from_spacing(self.size, spacing), masks, scheme)

    def _lesions(self, rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
        """Draw how many lesions of which kind and size there are."""
        kinds = self._module().LESIONS if self.lesions is None else self.lesions
        drawn: dict[str, list[float]] = {}
        low, high = np.log(self.diameter_mm)
        for _ in range(int(rng.poisson(self.number)) if kinds else 0):
            drawn.setdefault(kinds[int(rng.integers(len(kinds)))], []).append(float(np.exp(rng.uniform(low, high))))
        return {kind: tuple(sizes) for kind, sizes in drawn.items()}


__all__ = ["SCENES", "BreastAndNeck"]
