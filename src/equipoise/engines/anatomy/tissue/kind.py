"""Kind ``tissue``: label maps of glands, stroma and nuclei, for H&E."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from equipoise.core import Case, Geometry, LabelMap, LabelScheme
from equipoise.engines.anatomy.tissue.layout import ARCHITECTURES, Layout, lay_out
from equipoise.engines.anatomy.tissue.learned import Learned, Population, learn_from
from equipoise.engines.anatomy.tissue.nuclei import MEAN_UM, SPREAD, STRETCH, place, shapes
from equipoise.engines.parts.legal import require_one_of, require_range, require_within
from equipoise.engines.parts.tissue_scene import (
    EPITHELIAL,
    EPITHELIUM,
    FIBROBLAST,
    LYMPHOCYTE,
    MEANINGS,
    MITOSIS,
    RED_CELL,
    STROMA,
    Meaning,
    SceneVoxels,
    TissueScene,
    smooth_noise,
)
from equipoise.errors import PlanError

LABELS = (
    "lumen",
    "epithelium",
    "stroma",
    "epithelial nucleus",
    "lymphocyte",
    "fibroblast",
    "mitosis",
    "red cell",
)
BODIES = {
    "epithelial nucleus": EPITHELIAL,
    "lymphocyte": LYMPHOCYTE,
    "fibroblast": FIBROBLAST,
    "mitosis": MITOSIS,
    "red cell": RED_CELL,
}
SIZE = (256, 256, 1)
SECTION_MM = 0.004
"""Thickness of a section, the voxel size along K."""

TRIES = 6
"""Fields that are drawn until one holds a nucleus."""

MARGIN_UM = 9.0
"""Drawn around the field and cut off, so that nuclei are cut by its border."""

OFTEN = (0.4, 0.35, 0.15, 0.1)
"""How often each of `ARCHITECTURES` is drawn."""

SHARE: dict[str, tuple[float, float]] = {"solid": (0.55, 0.95), "stromal": (0.0, 0.15), "lymphoid": (0.0, 0.2)}
"""Of epithelium."""

LYMPHOID = (6000.0, 11000.0)
"""Lymphocytes per mm² of lymphoid tissue."""

COVERED = (0.26, 0.42)
"""Share of solid epithelium that its nuclei cover, from which its area follows where only nuclei are known."""

CELLS_IN_VESSEL = (0.0, 0.7)
"""Share of a vessel's area that red cells fill."""


@dataclass(frozen=True)
class Tissue:
    """A field of view of a section: glands or solid nests in stroma, nuclei of four kinds, capillaries with red cells.

    Every nucleus is an instance. The label map carries the whole scene even where its scheme names nuclei only, so that
    an engine can show tissue around them.

    Parameters
    ----------
    size
        Pixels along I and J, and 1; ``None`` takes a training case's grid, or 256 x 256.
    um_per_px
        Size of a pixel in µm: of the maps drawn, and of training cases whose grid states none.
    architecture
        ``"glandular"``, ``"solid"``, ``"stromal"`` or ``"lymphoid"``; ``None`` draws one per map.
    density_mm2
        Range of epithelial nuclei per mm² of epithelium.
    lymphocytes_mm2, fibroblasts_mm2
        Ranges per mm² of stroma; lymphocytes log-uniform and in crowds.
    mitoses
        Range of mitotic figures, as a share of the epithelial nuclei.
    diameters_um
        ``[smallest, largest]`` mean diameter of a case's bodies by label, instead of the table's.
    labels
        What is annotated, of `MEANINGS`; ``["nucleus"]`` merges the kinds. Training cases decide it where they are
        learned from.
    learn
        Whether `fit` takes grid, labels, and number, size and shape of the nuclei from the training cases, whose
        patients then become parents.

    References
    ----------
    Sizes, with their sources, are in the modules ``layout`` and ``nuclei``.
    """

    kind: ClassVar[str] = "tissue"

    size: tuple[int, int, int] | None = None
    um_per_px: float = 0.25
    architecture: str | None = None
    density_mm2: tuple[float, float] = (4500.0, 9500.0)
    lymphocytes_mm2: tuple[float, float] = (100.0, 3500.0)
    fibroblasts_mm2: tuple[float, float] = (700.0, 2400.0)
    mitoses: tuple[float, float] = (0.0, 0.02)
    diameters_um: Mapping[str, Sequence[float]] = field(default_factory=dict)
    labels: tuple[str, ...] = LABELS
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.size is not None:
            if len(self.size) != 3 or not all(isinstance(n, int) for n in self.size) or self.size[2] != 1:
                raise PlanError(
                    f"tissue.size = {self.size!r} is not possible; legal: [columns, rows, 1]",
                    fix="set size = [256, 256, 1]",
                )
            for axis, n in zip("IJ", self.size, strict=False):
                require_within(f"tissue.size along {axis}", n, 8, 8192, "pixels")
        require_within("tissue.um_per_px", self.um_per_px, 0.05, 5.0, "µm")
        if self.architecture is not None:
            require_one_of("tissue.architecture", self.architecture, ARCHITECTURES)
        for name in ("density_mm2", "lymphocytes_mm2", "fibroblasts_mm2"):
            require_range(f"tissue.{name}", getattr(self, name), 0.0, 30_000.0, "per mm²")
        require_range("tissue.mitoses", self.mitoses, 0.0, 1.0)
        if not isinstance(self.diameters_um, Mapping):
            raise PlanError(
                f"tissue.diameters_um must be a table of label = [smallest, largest] in µm, got {self.diameters_um!r}"
            )
        for name, pair in self.diameters_um.items():
            require_one_of("tissue.diameters_um", name, BODIES)
            require_range(f"tissue.diameters_um.{name}", pair, 1.0, 40.0, "µm")
        if not self.labels:
            raise PlanError("tissue.labels is empty", fix='name what is annotated, such as labels = ["nucleus"]')
        for name in self.labels:
            require_one_of("tissue.labels", name, MEANINGS)

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it was fitted on."""
        return self._learned.parents if self._learned else frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> Tissue:
        """Return an anatomy with the nuclei of the training cases if ``learn`` is on, else itself.

        Raises
        ------
        DataError
            If there is no case.
        LabelError
            If a label is not one that procedural tissue has.
        """
        return replace(self, _learned=learn_from(cases, self.um_per_px)) if self.learn else self

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[LabelMap]:
        """Yield ``n`` label maps; until it has learned, on grids in mm."""
        for _ in range(n):
            (stream,) = rng.spawn(1)
            yield self._one(stream)

    def _one(self, rng: np.random.Generator) -> LabelMap:
        learned = self._learned
        like = learned.populations[int(rng.integers(len(learned.populations)))] if learned else None
        geometry, um = self._grid(like)
        i, j, _ = geometry.shape
        for stream in rng.spawn(TRIES):
            scene = self._scene((i, j), um, like if learned and learned.counts else None, stream)
            if len(scene.kind) > 1:  # else a lumen fills the field, of which nobody takes a picture
                break
        if learned:
            return LabelMap.on(geometry, SceneVoxels(scene, learned.meanings, learned.scheme.exclusive), learned.scheme)
        meanings = tuple(MEANINGS[name] for name in self.labels)
        exclusive = _disjoint(meanings)
        return LabelMap.on(geometry, SceneVoxels(scene, meanings, exclusive), LabelScheme.of(self.labels, exclusive))

    def _grid(self, like: Population | None) -> tuple[Geometry, float]:
        if like is None:
            side = self.um_per_px / 1000
            return Geometry.from_spacing(self.size or SIZE, (side, side, SECTION_MM)), self.um_per_px
        if self.size is None:
            return like.geometry, like.um
        return Geometry(self.size, like.geometry.affine, None, like.geometry.unit), like.um

    def _scene(
        self, shape: tuple[int, int], um: float, like: Population | None, rng: np.random.Generator
    ) -> TissueScene:
        """Draw a larger field, populate it, and cut it to size."""
        margin = math.ceil(MARGIN_UM / um)
        wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        architecture = self.architecture or _architecture(like, rng)
        laying, filling = rng.spawn(2)
        layout = lay_out(architecture, _share(architecture, like, laying), wide, um, laying)
        body, kind = self._bodies(architecture, layout, um, like, filling)
        inner = (slice(margin, -margin), slice(margin, -margin))
        present = np.bincount(body[inner].ravel(), minlength=len(kind)) > 0
        present[0] = True
        renumbered = (np.cumsum(present) - 1).astype(np.int32)
        return TissueScene(
            layout.compartment[inner].copy(),
            renumbered[body[inner]],
            kind[present],
            layout.fibres[inner].copy(),
        )

    def _bodies(
        self, architecture: str, layout: Layout, um: float, like: Population | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Place all bodies; return their numbers ``(I, J)`` and kinds ``(N + 1,)``."""
        body = np.zeros(layout.compartment.shape, np.int32)
        kinds = [0]
        inside, stroma = layout.compartment == EPITHELIUM, layout.compartment == STROMA
        wanted = self._wanted(architecture, inside, stroma, layout.vessels, um, like, rng)
        crowds = np.exp(1.4 * smooth_noise(layout.compartment.shape[:2], 25.0, um, rng))
        even = np.ones_like(crowds)
        allowed = {
            MITOSIS: inside,
            EPITHELIAL: inside,
            LYMPHOCYTE: stroma,
            FIBROBLAST: stroma,
            RED_CELL: layout.vessels,
        }
        liking = {MITOSIS: even, EPITHELIAL: layout.basal, LYMPHOCYTE: crowds, FIBROBLAST: even, RED_CELL: even}
        wobble = {EPITHELIAL: 0.25 if layout.polar else 1.5, FIBROBLAST: 0.2}
        for kind, where in allowed.items():
            number = wanted[kind]
            outlines = self._outlines(kind, number, um, like, rng)
            room = float((where & (liking[kind] > 0.05)).sum()) / max(number, 1)
            apart = (0.8 if kind == EPITHELIAL else 0.5) * math.sqrt(room)
            if kind == LYMPHOCYTE and len(outlines):
                apart = min(apart, 2.0 * float(outlines[:, 0].mean()))
            placed = place(
                body, where, liking[kind], outlines, layout.fibres, wobble.get(kind, 1.5), apart, len(kinds), rng
            )
            kinds += [kind] * placed
        return body, np.array(kinds, np.uint8)

    def _wanted(
        self,
        architecture: str,
        inside: np.ndarray,
        stroma: np.ndarray,
        vessels: np.ndarray,
        um: float,
        like: Population | None,
        rng: np.random.Generator,
    ) -> dict[int, int]:
        """Draw how many bodies of each kind there are."""
        mm2 = um * um * 1e-6
        if like is None:
            cells = rng.uniform(*self.density_mm2) * inside.sum() * mm2
            crowd = LYMPHOID if architecture == "lymphoid" else self.lymphocytes_mm2
            low, high = np.log(np.maximum(crowd, 1e-3))
            few = math.exp(rng.uniform(low, high)) * stroma.sum() * mm2
            spindles = rng.uniform(*self.fibroblasts_mm2) * stroma.sum() * mm2
            spindles *= 0.2 if architecture == "lymphoid" else 1.0
        else:
            near = math.exp(0.1 * rng.standard_normal()) * inside.size * mm2
            cells, few, spindles = (near * like.per_mm2(k) for k in (EPITHELIAL, LYMPHOCYTE, FIBROBLAST))
        dividing = float(rng.uniform(*self.mitoses)) * cells
        reds = rng.uniform(*CELLS_IN_VESSEL) * vessels.sum() * um * um / (math.pi / 4 * np.mean(MEAN_UM[RED_CELL]) ** 2)
        counts = {
            EPITHELIAL: cells - dividing,
            MITOSIS: dividing,
            LYMPHOCYTE: few,
            FIBROBLAST: spindles,
            RED_CELL: reds,
        }
        # A fraction of a nucleus is one by chance, else small fields would never show a mitosis.
        return {kind: int(count + rng.random()) for kind, count in counts.items()}

    def _outlines(
        self, kind: int, number: int, um: float, like: Population | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw outlines in pixels, shape ``(number, 8)``."""
        known = np.flatnonzero(like.kind == kind) if like is not None else np.zeros(0, int)
        if like is not None and len(known) >= 5:
            chosen = known[rng.integers(len(known), size=number)]
            diameters = like.diameter_um[chosen] * np.exp(0.05 * rng.standard_normal(number))
            return shapes(kind, diameters / um, like.stretch[chosen], rng)
        name = next(name for name, body in BODIES.items() if body == kind)
        low, high = self.diameters_um.get(name, MEAN_UM[kind])
        mean = rng.uniform(low, high)
        diameters = mean * np.exp(SPREAD[kind] * rng.standard_normal(number))
        return shapes(kind, diameters / um, rng.uniform(*STRETCH[kind], number), rng)


def _architecture(like: Population | None, rng: np.random.Generator) -> str:
    """Draw one that can hold a training case's nuclei."""
    drawn = ARCHITECTURES[int(rng.choice(len(ARCHITECTURES), p=OFTEN))]
    if like is None or not len(like.kind):
        return drawn
    if (like.kind == LYMPHOCYTE).mean() > 0.6:
        return "lymphoid"
    if (like.kind == EPITHELIAL).mean() < 0.25:
        return "stromal"
    return "glandular" if drawn == "glandular" else "solid"


def _share(architecture: str, like: Population | None, rng: np.random.Generator) -> float:
    """Draw the share of epithelium in nests."""
    drawn = float(rng.uniform(*SHARE.get(architecture, (0.0, 0.0))))
    if like is None or architecture == "glandular" or not len(like.kind):
        return drawn
    cells = like.diameter_um[like.kind == EPITHELIAL]
    covered = float((math.pi / 4 * cells**2).sum()) * 1e-6 / like.area_mm2
    return float(np.clip(covered / rng.uniform(*COVERED), 0.0, 0.97))


def _disjoint(meanings: Sequence[Meaning]) -> bool:
    """Return whether no two labels show the same, so that bodies on compartments are the only overlap."""
    shown = [x for m in meanings for x in (*m.bodies, *(("compartment", c) for c in m.compartments))]
    return len(set(shown)) == len(shown)


__all__ = ["LABELS", "Tissue"]
